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

/* Batches of n images, and what is left; adds to *seen how many there were. */
static thaw_status run(struct th_calibration *c, struct th_probe_walk *walk, int n,
    float *images, int *seen)
{
    struct th_plan *plan = NULL;
    thaw_status status = THAW_OK;
    int got = n, planned = 0;
    while (status == THAW_OK && got == n) {
        status = th_probe_read(walk, c->net, n, images, &got);
        if (status == THAW_OK && got && got != planned) {
            th_plan_free(plan);
            plan = NULL;
            status = th_calibration_plan(c, planned = got, &plan);
        }
        if (status == THAW_OK && got)
            status = th_calibration_run(c, plan, images, got);
        *seen += got;
    }
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

static thaw_status measure(struct th_calibration *c, const struct th_samples *samples,
    int batch, struct th_bn_place *place, struct th_bn_distance *out)
{
    struct th_probe_walk walk = {.samples = samples, .n = probe_size(samples->n)};
    int levels = 0, seen = 0, n = batch < LARGEST_BATCH ? batch : LARGEST_BATCH;
    n = n < walk.n ? n : walk.n;
    TRY(th_bn_places(&c->net->model, place, &levels));
    float *images =
        th_alloc((size_t)n, th_input_values(&c->net->model.input) * sizeof *images);
    thaw_status status = images ? run(c, &walk, n, images, &seen) : THAW_E_MEMORY;
    th_free(images);
    return status == THAW_OK && seen > 0 ? average(c, place, out) : status;
}

thaw_status th_gap_measure(struct th_network *net, const struct th_samples *samples,
    int batch, struct th_bn_distance *out)
{
    int n = net->model.n_bns;
    struct th_calibration c = {0};
    *out = (struct th_bn_distance){(double)NAN, (double)NAN};
    if (n == 0 || samples->n == 0)
        return THAW_OK;
    struct th_bn_place *place = th_alloc((size_t)n, sizeof *place);
    bool *every = th_alloc((size_t)n, sizeof *every);
    thaw_status status = place && every ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; i < n && status == THAW_OK; i++)
        every[i] = true;
    if (status == THAW_OK)
        status = th_calibration_init(&c, net, every);
    if (status == THAW_OK)
        status = measure(&c, samples, batch, place, out);
    th_calibration_release(&c);
    th_free(place);
    th_free(every);
    return status;
}
