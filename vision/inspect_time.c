/* SPDX-License-Identifier: Apache-2.0
 * Owns the timing of a plan's steps for `thaw inspect --time`: the least of some runs on
 * random images, at a learning rate of 0; the model's values are put back afterwards. */
#include "inspect_time.h"

#include "mem.h"
#include "report.h"
#include "rng.h"

#include <string.h>

/* ---- Inputs ---- */

/* Normal numbers; of what is not a float, and of targets, something valid: zeros, and
 * class 0 for every image. */
static void fill_input(const struct th_value *v, float *x)
{
    int64_t count = th_shape_count(&v->o.shape);
    int64_t row = v->o.shape.rank ? count / v->o.shape.dim[0] : 1;
    bool image = v->o.dtype == TH_F32 && v->o.shape.rank == 4;
    for (int64_t i = 0; v->o.dtype == TH_F32 && i < count; i++)
        x[i] = image ? th_rng_normal(1, (uint64_t)i) : i % row == 0 ? 1.0F : 0.0F;
}

thaw_status th_inspect_inputs(struct th_plan *plan)
{
    const struct th_graph *g = th_plan_graph(plan);
    for (int i = 0; i < g->n_values; i++) {
        const struct th_value *v = &g->values[i];
        if (v->kind != TH_VALUE_INPUT)
            continue;
        float *x = th_alloc(th_operand_bytes(&v->o), 1);
        if (!x)
            return THAW_E_MEMORY;
        fill_input(v, x);
        thaw_status status = th_plan_set(plan, v->name, x);
        th_free(x);
        TRY(status);
    }
    return THAW_OK;
}

/* ---- Runs ---- */

struct watch {
    double *least, last;
};

static void note(void *context, int step)
{
    struct watch *w = context;
    double now = th_seconds(), took = now - w->last;
    if (took < w->least[step])
        w->least[step] = took;
    w->last = now;
}

static thaw_status time_runs(struct th_plan *plan, int runs, double *least)
{
    struct th_plan_stats stats;
    th_plan_stats(plan, &stats);
    for (int r = 0; r <= runs; r++) { /* the first touches new memory */
        for (int i = 0; r < 2 && i < stats.n_steps; i++)
            least[i] = 1e9;
        TRY(th_inspect_inputs(plan));
        struct watch w = {least, th_seconds()};
        TRY(th_plan_run_watched(plan, note, &w));
    }
    for (int i = 0; i < stats.n_steps; i++)
        least[i] = least[i] < 1e9 ? least[i] : 0;
    return THAW_OK;
}

thaw_status th_inspect_time(
    struct th_plan *plan, struct th_store *store, int runs, double *seconds)
{
    const struct th_scalars still = {.loss_scale = 1, .clip = 1};
    int scalars = th_store_find(store, "scalars"), n = store->n;
    float **kept = th_alloc((size_t)n, sizeof *kept);
    thaw_status status = kept ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; i < n && status == THAW_OK; i++) {
        kept[i] = th_alloc(store->states[i].bytes, 1);
        status = kept[i] ? th_store_get(store, i, kept[i]) : THAW_E_MEMORY;
    }
    if (status == THAW_OK && scalars >= 0)
        status = th_store_put(store, scalars, (const float *)&still);
    if (status == THAW_OK)
        status = time_runs(plan, runs, seconds);
    for (int i = 0; kept && i < n; i++) {
        if (kept[i] && status == THAW_OK)
            status = th_store_put(store, i, kept[i]);
        th_free(kept[i]);
    }
    th_free(kept);
    return status;
}
