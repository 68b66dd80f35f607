/* SPDX-License-Identifier: Apache-2.0
 * Owns an evaluation plan and the memory around it. */
#include "evaluate.h"

#include "mem.h"

#include <string.h>

static thaw_status init(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, const struct th_plan_spec *spec)
{
    size_t n = (size_t)spec->batch, side = (size_t)net->model.input.size;
    *e = (struct th_evaluator){
        .net = net, .batch = spec->batch, .pixels = 3 * side * side};
    e->images = th_alloc(n, e->pixels * sizeof *e->images);
    e->logits = th_alloc(n * (size_t)net->model.n_classes, sizeof *e->logits);
    if (!e->images || !e->logits)
        return THAW_E_MEMORY;
    return th_plan_new(spec, store, &net->arena, &e->plan);
}

thaw_status th_evaluator_init(
    struct th_evaluator *e, struct th_network *net, struct th_store *store, int batch)
{
    return th_evaluator_init_int8(e, net, store, batch, NULL);
}

thaw_status th_evaluator_init_int8(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, int batch, const struct th_freeze *freeze)
{
    const struct th_plan_spec spec = {.model = &net->model,
        .mode = TH_EVAL,
        .batch = batch,
        .freeze = freeze,
        .prefix_int8 = freeze != NULL};
    return init(e, net, store, &spec);
}

thaw_status th_evaluator_init_above(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, struct th_cut *cut, const struct th_plan_spec *whole)
{
    struct th_plan_spec spec = *whole;
    spec.side = TH_ABOVE;
    TRY(init(e, net, store, &spec));
    e->cut = cut;
    return THAW_OK;
}

void th_evaluator_release(struct th_evaluator *e)
{
    if (e->plan)
        th_plan_free(e->plan);
    th_free(e->images);
    th_free(e->logits);
    *e = (struct th_evaluator){0};
}

thaw_status th_read_input(const struct th_preprocess *preprocess,
    const struct th_sample *s, uint8_t *rgb, float *out)
{
    struct th_image image = {0};
    TRY(th_sample_read(s, &image, NULL));
    thaw_status status = th_preprocess_pixels(preprocess, &image, rgb);
    th_image_release(&image);
    if (status == THAW_OK)
        th_preprocess_normalise(preprocess, rgb, false, out);
    return status;
}

static const float *padded(struct th_evaluator *e, const float *images, int64_t n)
{
    if (n == e->batch)
        return images;
    for (int64_t i = 0; i < e->batch; i++)
        memcpy(e->images + (size_t)i * e->pixels, images + (size_t)(i % n) * e->pixels,
            e->pixels * sizeof *images);
    return e->images;
}

thaw_status th_evaluator_run(struct th_evaluator *e, const float *images, int64_t n)
{
    TRY(th_plan_set(e->plan, "image", padded(e, images, n)));
    TRY(th_plan_run(e->plan));
    return th_plan_get(e->plan, "logits", e->logits);
}

static thaw_status run_above(
    struct th_evaluator *e, const struct th_batch *b, bool *again)
{
    TRY(th_cut_run(e->cut, b, b->images, e->events, again));
    if (*again)
        return THAW_OK;
    TRY(th_cut_set(e->cut, e->plan, b->n, e->batch));
    TRY(th_plan_run(e->plan));
    return th_plan_get(e->plan, "logits", e->logits);
}

/* Classes that the model does not have count for nothing. */
static thaw_status count_many(const struct th_evaluator *e, const struct th_batch *b,
    const int32_t *map, struct th_metrics *m)
{
    int32_t *own = th_alloc((size_t)m->n_classes, sizeof *own);
    thaw_status status = own ? THAW_OK : THAW_E_MEMORY;
    for (int64_t i = 0; i < b->n && status == THAW_OK; i++) {
        const int32_t *class;
        int32_t n = 0;
        for (int32_t k = th_sample_classes(b->samples[i], &class); k > 0; k--)
            if (!map || map[class[k - 1]] >= 0)
                own[n++] = map ? map[class[k - 1]] : class[k - 1];
        if (b->occurrence[i] == 0) /* else it stands in for one that cannot be read */
            status = th_metrics_add_many(m, e->logits + i * m->n_classes, own, n);
    }
    th_free(own);
    return status;
}

static thaw_status count(const struct th_evaluator *e, const struct th_batch *b,
    const int32_t *map, struct th_metrics *m)
{
    if (m->many)
        return count_many(e, b, map, m);
    for (int64_t i = 0; i < b->n; i++) {
        int32_t label = map ? map[b->labels[i]] : b->labels[i];
        bool stands_in = b->occurrence[i] > 0; /* for an image that cannot be read */
        const float *logits = e->logits + i * m->n_classes;
        if (label < 0 || stands_in)
            continue;
        th_metrics_add(m, logits, label);
        if (e->verdicts)
            e->verdicts[b->ids[i]] =
                th_argmax(logits, m->n_classes) == label ? TH_RIGHT : TH_WRONG;
        if (e->mistakes)
            th_mistakes_add(e->mistakes, logits, m->n_classes, label, b->ids[i]);
    }
    return THAW_OK;
}

thaw_status th_evaluate(struct th_evaluator *e, struct th_loader *loader,
    const int32_t *map, const atomic_bool *stop, struct th_metrics *m, bool *stopped)
{
    struct th_batch batch;
    bool again = false;
    th_metrics_reset(m);
    if (e->mistakes)
        e->mistakes->n = 0;
    TRY(th_loader_start(loader, 0, 0));
    TRY(th_loader_next(loader, &batch));
    while (batch.n) {
        *stopped = stop && atomic_load(stop);
        if (*stopped)
            return THAW_OK;
        TRY(e->cut ? run_above(e, &batch, &again)
                   : th_evaluator_run(e, batch.images, batch.n));
        if (again)
            TRY(th_loader_start(loader, 0, batch.index));
        else
            TRY(count(e, &batch, map, m));
        TRY(th_loader_next(loader, &batch));
    }
    TRY(th_metrics_rank(m));
    return th_plan_verify(e->plan); /* now: another plan may use the arena next */
}
