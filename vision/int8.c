/* SPDX-License-Identifier: Apache-2.0
 * Owns the calibration of the int8 prefix and its comparison with fp32 (see int8.h). */
#include "int8.h"

#include "mem.h"

#include <math.h>
#include <string.h>

enum { BATCH = 2 }; /* of calibration: all activations are alive at once */

/* ---- Ranges ---- */

struct range {
    const char *name; /* the plan's: the scale's, or the input's */
    int64_t size;     /* values in a run */
    float most;       /* |x| seen */
};

static void observe(struct range *r, const float *x)
{
    float most = r->most;
    for (int64_t i = 0; i < r->size; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    r->most = most;
}

/* 1 where all was zero: any scale is right. */
static float scale_of(const struct range *r)
{
    float levels = strncmp(r->name, "uint8/", 6) ? INT8_MAX : UINT8_MAX;
    return r->most > 0 ? r->most / levels : 1;
}

/* ---- Calibration ---- */

struct ranges {
    struct range *of;
    int n;
    float *host; /* room for the largest value */
};

static void release(struct ranges *r)
{
    th_free(r->of);
    th_free(r->host);
}

/* A range for each value that the plan shows. */
static thaw_status find_ranges(const struct th_plan *plan, struct ranges *r)
{
    const struct th_graph *g = th_plan_graph(plan);
    int64_t largest = 1;
    r->of = th_alloc((size_t)g->n_values, sizeof *r->of);
    if (!r->of)
        return THAW_E_MEMORY;
    for (int i = 0; i < g->n_values; i++) {
        const struct th_value *v = &g->values[i];
        int64_t size = th_shape_count(&v->o.shape);
        if (!v->wanted)
            continue;
        r->of[r->n++] = (struct range){.name = v->name, .size = size};
        largest = size > largest ? size : largest;
    }
    r->host = th_alloc((size_t)largest, sizeof *r->host);
    return r->host ? THAW_OK : THAW_E_MEMORY;
}

static size_t pixels_of(const struct th_network *net)
{
    return th_input_values(&net->model.input);
}

/* Images from..from+n-1 in the plan; a batch that is not full is filled with its first. */
static thaw_status run_images(const struct th_network *net, struct th_plan *plan,
    const struct th_probe *probe, int from, int batch)
{
    size_t pixels = pixels_of(net), bytes = pixels * sizeof(float);
    float *images = th_alloc((size_t)batch, bytes);
    if (!images)
        return THAW_E_MEMORY;
    for (int i = 0; i < batch; i++) {
        int at = from + i < probe->n ? from + i : from;
        memcpy(images + (size_t)i * pixels, probe->images + (size_t)at * pixels, bytes);
    }
    thaw_status status = th_plan_set(plan, "image", images);
    th_free(images);
    return status == THAW_OK ? th_plan_run(plan) : status;
}

static thaw_status observe_all(const struct th_network *net, struct th_plan *plan,
    const struct th_probe *probe, struct ranges *r)
{
    for (int from = 0; from < probe->n; from += BATCH) {
        TRY(run_images(net, plan, probe, from, BATCH));
        for (int i = 0; i < r->n; i++) {
            TRY(th_plan_get(plan, r->of[i].name, r->host));
            observe(&r->of[i], r->host);
        }
    }
    return THAW_OK;
}

static thaw_status put_scale(struct th_store *s, const char *name, float scale)
{
    int id = -1;
    TRY(th_store_add(s, name, TH_SHAPE(1), &id));
    return th_store_put(s, id, &scale);
}

/* An input goes by its own name in the plan. */
static thaw_status put_scales(struct th_store *s, const struct ranges *r)
{
    for (int i = 0; i < s->n; i++)
        if (s->states[i].name && th_is_scale(s->states[i].name))
            th_store_drop(s, i);
    for (int i = 0; i < r->n; i++) {
        const struct range *of = &r->of[i];
        char *name = th_format("%s%s", th_is_scale(of->name) ? "" : "int8/", of->name);
        thaw_status status = name ? put_scale(s, name, scale_of(of)) : THAW_E_MEMORY;
        th_free(name);
        TRY(status);
    }
    return THAW_OK;
}

static struct th_plan_spec observing(
    const struct th_network *net, const struct th_freeze *freeze)
{
    return (struct th_plan_spec){.model = &net->model,
        .freeze = freeze,
        .batch = BATCH,
        .prefix_int8 = true,
        .observe = true};
}

thaw_status th_int8_count(
    struct th_network *net, const struct th_freeze *freeze, int *n)
{
    const struct th_plan_spec spec = observing(net, freeze);
    struct th_plan *plan = NULL;
    struct th_plan_stats stats = {0};
    TRY(th_plan_new(&spec, &net->store, &net->arena, &plan));
    th_plan_stats(plan, &stats);
    *n = stats.n_int8;
    th_plan_free(plan);
    return THAW_OK;
}

/* In an arena of its own: all activations at once are more than training needs. */
thaw_status th_int8_calibrate(struct th_network *net, const struct th_freeze *freeze,
    const struct th_probe *probe, int *n)
{
    const struct th_plan_spec spec = observing(net, freeze);
    struct th_plan *plan = NULL;
    struct th_plan_stats stats = {0};
    struct th_arena arena;
    struct ranges ranges = {0};
    th_arena_init(&arena, net->device);
    thaw_status status = th_plan_new(&spec, &net->store, &arena, &plan);
    if (status == THAW_OK) {
        th_plan_stats(plan, &stats);
        status = find_ranges(plan, &ranges);
    }
    if (status == THAW_OK && probe->n == 0)
        status = th_fail(THAW_E_DATA,
            "--prefix int8: none of the training images that its scales would be taken "
            "from can be read");
    if (status == THAW_OK)
        status = observe_all(net, plan, probe, &ranges);
    if (status == THAW_OK)
        status = put_scales(&net->store, &ranges);
    *n = stats.n_int8;
    release(&ranges);
    if (plan)
        th_plan_free(plan);
    th_arena_release(&arena);
    return status;
}

thaw_status th_int8_copy(const struct th_store *from, struct th_store *to)
{
    for (int i = 0; i < from->n; i++) {
        float scale;
        if (!from->states[i].name || !th_is_scale(from->states[i].name))
            continue;
        TRY(th_store_get(from, i, &scale));
        TRY(put_scale(to, from->states[i].name, scale));
    }
    return THAW_OK;
}

/* ---- Comparison ---- */

/* The part below the cut, twice. */
struct pair {
    struct th_plan *plan[2]; /* fp32, int8 */
    struct th_frontier frontier[2];
    float *features[2]; /* of a batch, one value of the frontier */
};

static thaw_status pair_init(struct pair *p, struct th_network *net,
    const struct th_freeze *freeze, const bool *moving, struct th_arena *arena)
{
    int64_t most = 1;
    for (int k = 0; k < 2; k++) {
        const struct th_plan_spec spec = {.model = &net->model,
            .freeze = freeze,
            .batch = BATCH,
            .side = TH_BELOW,
            .moving = moving,
            .prefix_int8 = k == 1};
        TRY(th_plan_new(&spec, &net->store, arena, &p->plan[k]));
        if (!p->plan[k])
            return THAW_OK;
        th_plan_frontier(p->plan[k], &p->frontier[k]);
    }
    for (int i = 0; i < p->frontier[0].n; i++)
        if (p->frontier[0].values[i] > most)
            most = p->frontier[0].values[i];
    for (int k = 0; k < 2; k++) {
        p->features[k] = th_alloc((size_t)(BATCH * most), sizeof *p->features[k]);
        if (!p->features[k])
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

static void pair_release(struct pair *p)
{
    for (int k = 0; k < 2; k++) {
        if (p->plan[k])
            th_plan_free(p->plan[k]);
        th_free(p->features[k]);
    }
}

/* Sums over an image's features: x x, y y, x y. */
struct products {
    double xx, yy, xy;
};

static void multiply(struct products *p, const float *x, const float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        p->xx += (double)x[i] * (double)x[i];
        p->yy += (double)y[i] * (double)y[i];
        p->xy += (double)x[i] * (double)y[i];
    }
}

/* Both on a batch, one after the other: they share the arena. */
static thaw_status run_pair(struct pair *p, const struct th_network *net,
    const struct th_probe *probe, int from, struct products sums[BATCH])
{
    const struct th_frontier *f = &p->frontier[0];
    for (int i = 0; i < f->n; i++) {
        for (int k = 0; k < 2; k++) {
            TRY(run_images(net, p->plan[k], probe, from, BATCH));
            TRY(th_plan_get(p->plan[k], f->name[i], p->features[k]));
        }
        for (int b = 0; b < BATCH; b++)
            multiply(&sums[b], p->features[0] + b * f->values[i],
                p->features[1] + b * f->values[i], f->values[i]);
    }
    return THAW_OK;
}

static thaw_status compare(struct pair *p, const struct th_network *net,
    const struct th_probe *probe, struct th_int8_likeness *out)
{
    for (int from = 0; from < probe->n; from += BATCH) {
        struct products sums[BATCH] = {0};
        TRY(run_pair(p, net, probe, from, sums));
        for (int b = 0; b < BATCH && from + b < probe->n; b++) {
            double both = sqrt(sums[b].xx * sums[b].yy);
            double cosine = both > 0 ? sums[b].xy / both : 1;
            out->least = cosine < out->least ? cosine : out->least;
            out->mean += cosine / probe->n;
            out->images++;
        }
    }
    return THAW_OK;
}

thaw_status th_int8_compare(struct th_network *net, const struct th_freeze *freeze,
    const struct th_probe *probe, struct th_int8_likeness *out)
{
    struct pair pair = {0};
    struct th_arena arena;
    *out = (struct th_int8_likeness){.least = 1};
    th_arena_init(&arena, net->device);
    bool *moving = th_alloc((size_t)net->model.n_params, sizeof *moving);
    thaw_status status = moving ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; i < net->model.n_params && status == THAW_OK; i++)
        moving[i] = !th_freeze_is_frozen(freeze, &net->model, i);
    if (status == THAW_OK)
        status = pair_init(&pair, net, freeze, moving, &arena);
    if (status == THAW_OK && pair.plan[1])
        status = compare(&pair, net, probe, out);
    pair_release(&pair);
    th_free(moving);
    th_arena_release(&arena);
    return status;
}
