/* SPDX-License-Identifier: Apache-2.0
 * Owns the average over BatchNorms. */
#include "gap.h"

#include "mem.h"

#include <math.h>
#include <string.h>

enum { SHARE = 50, LEAST = 16, MOST = 64 };

static int probe_size(int64_t n)
{
    int64_t size = n / SHARE;
    size = size < LEAST ? LEAST : size > MOST ? MOST : size;
    return (int)(size < n ? size : n);
}

/* Nothing is folded here, so a run of n images takes more memory than training's n with a
 * frozen network. */
enum { LARGEST_BATCH = 16 };

thaw_status th_gap_init(struct th_gap *g, const struct th_network *net,
    const struct th_dataset *d, int batch)
{
    const struct th_samples *train = &d->split[TH_SPLIT_TRAIN];
    int n = probe_size(train->n);
    int most = batch < LARGEST_BATCH ? batch : LARGEST_BATCH;
    *g = (struct th_gap){.batch = most < n ? most : n};
    if (net->model.n_bns == 0)
        return THAW_OK;
    return th_probe_init(&g->probe, net, train, n, 0);
}

void th_gap_release(struct th_gap *g)
{
    th_probe_release(&g->probe);
    *g = (struct th_gap){0};
}

/* ---- Measuring ---- */

/* Batches of n images from image `from` on, as many as there are. */
static thaw_status run(
    struct th_calibration *c, const struct th_gap *g, int from, int n)
{
    size_t pixels = th_input_values(&c->net->model.input);
    struct th_plan *plan = NULL;
    TRY(th_calibration_plan(c, n, &plan));
    thaw_status status = THAW_OK;
    for (int i = from; i + n <= g->probe.n && status == THAW_OK; i += n)
        status = th_calibration_run(c, plan, g->probe.images + (size_t)i * pixels, n);
    th_plan_free(plan);
    return status;
}

static thaw_status average(const struct th_calibration *c,
    const struct th_bn_place *place, struct th_bn_distance *out)
{
    int n = c->net->model.n_bns;
    *out = (struct th_bn_distance){0};
    for (int i = 0; i < n; i++) {
        struct th_bn_distance d;
        TRY(th_calibration_distance(c, i, place[i].eps, &d));
        out->shift += d.shift / n;
        out->scale += d.scale / n;
    }
    return THAW_OK;
}

static thaw_status measure(const struct th_gap *g, struct th_calibration *c,
    struct th_bn_place *place, struct th_bn_distance *out)
{
    int rest = g->probe.n % g->batch, levels = 0;
    TRY(th_bn_places(&c->net->model, place, &levels));
    if (g->probe.n >= g->batch)
        TRY(run(c, g, 0, g->batch));
    if (rest)
        TRY(run(c, g, g->probe.n - rest, rest));
    return average(c, place, out);
}

thaw_status th_gap_measure(
    const struct th_gap *g, struct th_network *net, struct th_bn_distance *out)
{
    int n = net->model.n_bns;
    struct th_calibration c = {0};
    *out = (struct th_bn_distance){(double)NAN, (double)NAN};
    if (n == 0 || g->probe.n == 0)
        return THAW_OK;
    struct th_bn_place *place = th_alloc((size_t)n, sizeof *place);
    bool *every = th_alloc((size_t)n, sizeof *every);
    thaw_status status = place && every ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; i < n && status == THAW_OK; i++)
        every[i] = true;
    if (status == THAW_OK)
        status = th_calibration_init(&c, net, every);
    if (status == THAW_OK)
        status = measure(g, &c, place, out);
    th_calibration_release(&c);
    th_free(place);
    th_free(every);
    return status;
}
