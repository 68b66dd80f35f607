/* SPDX-License-Identifier: Apache-2.0
 * Owns an evaluation plan and the memory around it. */
#include "evaluate.h"

#include "mem.h"

#include <stdio.h>
#include <string.h>

struct scoped {
    char text[64];
};

static struct scoped scoped(const struct th_answer *a, const char *name)
{
    struct scoped s;
    snprintf(s.text, sizeof s.text, "%s%s", a->scope.text, name);
    return s;
}

/* Values of what the plan answers under this name. */
static int64_t count_of(
    const struct th_evaluator *e, const struct th_answer *a, const char *name)
{
    const struct th_graph *g = th_plan_graph(e->plan);
    return th_shape_count(&g->values[th_graph_find(g, scoped(a, name).text)].o.shape);
}

static thaw_status answer_init(const struct th_evaluator *e, struct th_answer *a)
{
    const struct th_model *m = &a->model;
    const struct th_detector *detector = m->head->detector;
    a->logits = th_alloc((size_t)count_of(e, a, "logits"), sizeof *a->logits);
    if (!a->logits)
        return THAW_E_MEMORY;
    if (detector)
        TRY(th_model_reader(m, &a->reader));
    for (int k = 0; detector && k < detector->n_outputs; k++) {
        a->output[k] = th_alloc(
            (size_t)count_of(e, a, detector->output[k].name), sizeof *a->output[k]);
        if (!a->output[k])
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

static void answer_release(struct th_answer *a)
{
    th_free(a->logits);
    for (int k = 0; k < TH_MAX_OUTPUTS; k++)
        th_free(a->output[k]);
    th_reader_release(&a->reader);
}

/* ---- A detector's loss ---- */

static thaw_status loss_init(struct th_evaluator *e)
{
    const struct th_reader *r = &e->answers[0].reader;
    size_t n = (size_t)e->batch;
    e->weight = th_alloc(n, sizeof *e->weight);
    if (!e->weight)
        return THAW_E_MEMORY;
    for (int k = 0; k < r->detector->n_targets; k++) {
        e->target[k] =
            th_alloc(n, th_target_bytes(r->pyramid, &r->detector->target[k]));
        if (!e->target[k])
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

/* Whether place i of the plan's batch is an image that is judged: else it repeats one, to fill
 * the batch, or stands in for one that cannot be read. */
static bool counts(const struct th_batch *b, int64_t i)
{
    return i < b->n && b->occurrence[i] == 0;
}

/* What the loader made of the batch, and nothing of what does not count. */
static void make_targets(
    struct th_evaluator *e, const struct th_batch *b, int64_t *counted)
{
    const struct th_reader *r = &e->answers[0].reader;
    const struct th_detector *d = r->detector;
    int64_t rows = r->pyramid->rows;
    for (int k = 0; k < d->n_targets; k++) {
        size_t bytes = th_target_bytes(r->pyramid, &d->target[k]);
        for (int64_t i = 0; i < e->batch; i++)
            memcpy((char *)e->target[k] + (size_t)i * bytes,
                (const char *)b->part[k] + (size_t)(i % b->n) * bytes, bytes);
    }
    *counted = 0;
    for (int64_t i = 0; i < e->batch; i++) {
        *counted += counts(b, i);
        for (int64_t row = 0; row < rows && !counts(b, i); row++)
            ((int32_t *)e->target[0])[i * rows + row] = -2;
    }
    th_reader_weights(r, e->target[0], e->batch, e->weight);
    float share = d->by_batch ? 1 : (float)e->batch / (float)(*counted + !*counted);
    for (int64_t i = 0; i < e->batch; i++)
        e->weight[i] *= counts(b, i) ? share : 0;
}

static thaw_status set_loss(
    struct th_evaluator *e, const struct th_batch *b, int64_t *counted)
{
    const struct th_detector *d = e->answers[0].reader.detector;
    if (!e->weight)
        return THAW_OK;
    make_targets(e, b, counted);
    for (int k = 0; k < d->n_targets; k++)
        TRY(th_plan_set(e->plan, d->target[k].name, e->target[k]));
    return th_plan_set(e->plan, "weight", e->weight);
}

static thaw_status count_loss(
    const struct th_evaluator *e, int64_t counted, struct th_metrics *m)
{
    float loss;
    if (!e->weight || !counted)
        return THAW_OK;
    TRY(th_plan_get(e->plan, "loss", &loss));
    th_metrics_add_loss(m, (double)loss, counted);
    return THAW_OK;
}

/* ---- The plan ---- */

thaw_status th_evaluator_init_plan(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, const struct th_plan_spec *spec)
{
    size_t n = (size_t)spec->batch;
    const struct th_model *m = spec->model;
    *e = (struct th_evaluator){
        .net = net, .batch = spec->batch, .pixels = th_input_values(&m->input)};
    TRY(th_plan_new(spec, store, &net->arena, &e->plan));
    e->images = th_alloc(n, e->pixels * sizeof *e->images);
    e->answers = th_alloc((size_t)m->n_others + 1, sizeof *e->answers);
    if (!e->images || !e->answers)
        return THAW_E_MEMORY;
    for (int k = 0; k <= m->n_others; k++) {
        struct th_answer *a = &e->answers[e->n_answers++];
        if (k)
            a->scope = th_model_scope(k - 1);
        TRY(th_model_view(k ? m->others[k - 1] : m, m->input.size, &a->model));
        TRY(answer_init(e, a));
    }
    return th_plan_has(e->plan, "loss") ? loss_init(e) : THAW_OK;
}

/* What the plan answers. */
static thaw_status take_answers(struct th_evaluator *e)
{
    for (int i = 0; i < e->n_answers; i++) {
        const struct th_answer *a = &e->answers[i];
        const struct th_detector *d = a->model.head->detector;
        struct scoped name[TH_MAX_OUTPUTS + 1] = {scoped(a, "logits")};
        struct th_fetch out[TH_MAX_OUTPUTS + 1] = {{name[0].text, a->logits}};
        int n = 1;
        for (int k = 0; d && k < d->n_outputs; k++, n++) {
            name[n] = scoped(a, d->output[k].name);
            out[n] = (struct th_fetch){name[n].text, a->output[k]};
        }
        TRY(th_plan_get_all(e->plan, out, n));
    }
    return THAW_OK;
}

void th_evaluator_read(
    struct th_evaluator *e, struct th_answer *a, int64_t i, struct th_size size)
{
    struct th_reader *r = &a->reader;
    const struct th_detector *d = r->detector;
    const float *output[TH_MAX_OUTPUTS];
    for (int k = 0; k < d->n_outputs; k++)
        output[k] = a->output[k] + i * (count_of(e, a, d->output[k].name) / e->batch);
    th_reader_read(r, a->logits + i * (count_of(e, a, "logits") / e->batch), output);
    const struct th_placement place = th_placement_whole(size.w, size.h, r->size);
    for (int k = 0; k < r->n_found; k++)
        th_placement_back(&place, size.w, size.h, r->found[k].box, r->found[k].box);
}

thaw_status th_evaluator_init(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, int bucket, int batch)
{
    struct th_model view;
    const struct th_plan_spec spec = {.model = &view, .mode = TH_EVAL, .batch = batch};
    TRY(th_network_view(net, bucket, &view));
    return th_evaluator_init_plan(e, net, store, &spec);
}

thaw_status th_evaluator_init_above(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, struct th_cut *cut, const struct th_plan_spec *whole)
{
    struct th_plan_spec spec = *whole;
    spec.side = TH_ABOVE;
    TRY(th_evaluator_init_plan(e, net, store, &spec));
    e->cut = cut;
    return THAW_OK;
}

void th_evaluator_release(struct th_evaluator *e)
{
    if (e->plan)
        th_plan_free(e->plan);
    th_free(e->images);
    for (int k = 0; k < e->n_answers; k++)
        answer_release(&e->answers[k]);
    th_free(e->answers);
    for (int k = 0; k < TH_MAX_TARGETS; k++)
        th_free(e->target[k]);
    th_free(e->weight);
    *e = (struct th_evaluator){0};
}

thaw_status th_evaluators_init(struct th_evaluators *all, struct th_network *net,
    struct th_store *store, int batch)
{
    *all = (struct th_evaluators){.n = th_input_sizes(&net->model.input).n};
    for (int k = 0; k < all->n; k++)
        TRY(th_evaluator_init(&all->of[k], net, store, k, batch));
    return THAW_OK;
}

void th_evaluators_release(struct th_evaluators *all)
{
    for (int k = 0; k < all->n; k++)
        th_evaluator_release(&all->of[k]);
    *all = (struct th_evaluators){0};
}

thaw_status th_read_input(const struct th_preprocess *preprocess,
    const struct th_sample *s, uint8_t *rgb, float *out, struct th_size *size)
{
    struct th_image image = {0};
    TRY(th_sample_read(s, &image, NULL));
    if (size)
        *size = (struct th_size){image.w, image.h};
    thaw_status status = th_preprocess_input(preprocess, &image, rgb, out);
    th_image_release(&image);
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
    return take_answers(e);
}

/* While the device works: the images of the next batch, where they are ready. */
static thaw_status send_next(struct th_evaluators *all, struct th_loader *loader)
{
    struct th_batch next;
    all->lot = 0;
    if (!th_plan_can_send(all->of[0].plan) || !th_loader_peek(loader, &next))
        return THAW_OK;
    struct th_evaluator *e = &all->of[next.bucket];
    if (e->cut)
        return THAW_OK;
    const struct th_feed image = {"image", padded(e, next.images, next.n)};
    all->sent = next.index;
    return th_plan_send(e->plan, &image, 1, &all->lot);
}

static thaw_status run_whole(
    struct th_evaluators *all, struct th_loader *loader, const struct th_batch *b)
{
    struct th_evaluator *e = &all->of[b->bucket];
    const struct th_feed image = {.name = "image"};
    if (all->lot && all->sent == b->index)
        TRY(th_plan_take(e->plan, &image, 1, all->lot));
    else
        TRY(th_plan_set(e->plan, "image", padded(e, b->images, b->n)));
    TRY(th_plan_run(e->plan));
    TRY(send_next(all, loader));
    return take_answers(e);
}

static thaw_status run_above(
    struct th_evaluator *e, const struct th_batch *b, bool *again)
{
    TRY(th_cut_run(e->cut, b, b->images, e->events, again));
    if (*again)
        return THAW_OK;
    TRY(th_cut_set(e->cut, e->plan, b->n, e->batch));
    TRY(th_plan_run(e->plan));
    return take_answers(e);
}

thaw_status th_network_metrics(const struct th_network *net, struct th_metrics *m)
{
    const struct th_head *head = net->model.head;
    return head->detector ? th_metrics_init_boxes(m, net->model.n_classes)
                          : th_metrics_init(m, net->model.n_classes, head->many);
}

/* What average precision is made of: everything from this score on, so that it sees how
 * boxes are ordered; a head's own threshold is for people. */
static const float JUDGED_SCORE = 0.05F;

/* An image's objects of classes that the model has, and what was found. */
static thaw_status count_image(struct th_evaluator *e, const struct th_sample *s,
    const int32_t *map, struct th_metrics *m)
{
    const struct th_reader *r = &e->answers[0].reader;
    struct th_object *own = th_alloc((size_t)s->n_objects + 1, sizeof *own);
    int32_t n = 0;
    if (!own)
        return THAW_E_MEMORY;
    for (int32_t k = 0; k < s->n_objects; k++) {
        own[n] = s->objects[k];
        own[n].class = map ? map[own[n].class] : own[n].class;
        n += own[n].class >= 0;
    }
    thaw_status status = th_metrics_add_boxes(m, own, n, r->found, r->n_found);
    th_free(own);
    return status;
}

static thaw_status count_boxes(struct th_evaluator *e, const struct th_batch *b,
    const int32_t *map, struct th_metrics *m)
{
    struct th_answer *a = &e->answers[0];
    a->reader.score = JUDGED_SCORE;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->occurrence[i] > 0)
            continue;
        th_evaluator_read(e, a, i, b->size[i]);
        TRY(count_image(e, b->samples[i], map, m));
        if (e->verdicts)
            e->verdicts[b->ids[i]] = TH_RIGHT;
    }
    return THAW_OK;
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
            status =
                th_metrics_add_many(m, e->answers[0].logits + i * m->n_classes, own, n);
    }
    th_free(own);
    return status;
}

static thaw_status count(struct th_evaluator *e, const struct th_batch *b,
    const int32_t *map, struct th_metrics *m)
{
    if (m->boxes)
        return count_boxes(e, b, map, m);
    if (m->many)
        return count_many(e, b, map, m);
    for (int64_t i = 0; i < b->n; i++) {
        int32_t label = map ? map[b->labels[i]] : b->labels[i];
        bool stands_in = b->occurrence[i] > 0; /* for an image that cannot be read */
        const float *logits = e->answers[0].logits + i * m->n_classes;
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

/* One batch: its answers are counted, or with *again it has to be loaded anew. */
static thaw_status judge(struct th_evaluators *all, struct th_loader *loader,
    const struct th_batch *b, const int32_t *map, struct th_metrics *m, bool *again)
{
    struct th_evaluator *e = &all->of[b->bucket];
    int64_t counted = 0;
    *again = false;
    TRY(set_loss(e, b, &counted));
    TRY(e->cut ? run_above(e, b, again) : run_whole(all, loader, b));
    if (*again)
        return THAW_OK;
    TRY(count(e, b, map, m));
    return count_loss(e, counted, m);
}

/* Now: another plan may use the arena next, as of several they did from one to the other. */
static thaw_status verify(const struct th_evaluators *all)
{
    for (int k = 0; k < all->n; k++)
        TRY(th_plan_verify(all->of[k].plan));
    return THAW_OK;
}

thaw_status th_evaluate(struct th_evaluators *all, struct th_loader *loader,
    const int32_t *map, const atomic_bool *stop, struct th_metrics *m, bool *stopped)
{
    struct th_batch batch;
    bool again = false;
    all->lot = 0;
    th_metrics_reset(m);
    if (all->of[0].mistakes)
        all->of[0].mistakes->n = 0;
    TRY(th_loader_start(loader, 0, 0));
    TRY(th_loader_next(loader, &batch));
    while (batch.n) {
        *stopped = stop && atomic_load(stop);
        if (*stopped)
            return THAW_OK;
        TRY(judge(all, loader, &batch, map, m, &again));
        if (again)
            TRY(th_loader_start(loader, 0, batch.index));
        TRY(th_loader_next(loader, &batch));
    }
    TRY(th_metrics_rank(m));
    return verify(all);
}
