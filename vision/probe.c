/* SPDX-License-Identifier: Apache-2.0
 * Owns a probe's images. */
#include "probe.h"

#include "evaluate.h"
#include "mem.h"

thaw_status th_probe_read(struct th_probe_walk *walk, const struct th_network *net,
    int most, float *images, int *got)
{
    const struct th_preprocess preprocess = th_network_preprocess(net);
    const struct th_samples *samples = walk->samples;
    size_t pixels = th_input_values(&net->model.input);
    uint8_t *rgb = th_alloc(pixels, 1);
    thaw_status status = rgb ? THAW_OK : THAW_E_MEMORY;
    int n = samples->n < walk->n ? (int)samples->n : walk->n;
    *got = 0;
    for (; walk->at < n && *got < most && status == THAW_OK; walk->at++) {
        int64_t at =
            walk->at * samples->n / n + (int64_t)(walk->first * (double)samples->n / n);
        status = th_read_input(&preprocess, &samples->sample[at], rgb,
            images + (size_t)*got * pixels, NULL);
        *got += status == THAW_OK;
        if (status != THAW_E_MEMORY)
            status = THAW_OK;
    }
    th_free(rgb);
    return status;
}

thaw_status th_probe_init(struct th_probe *p, const struct th_network *net,
    const struct th_samples *samples, int n, double first)
{
    struct th_probe_walk walk = {.samples = samples, .n = n, .first = first};
    size_t pixels = th_input_values(&net->model.input);
    *p = (struct th_probe){.images = th_alloc((size_t)n, pixels * sizeof *p->images)};
    return p->images ? th_probe_read(&walk, net, n, p->images, &p->n) : THAW_E_MEMORY;
}

void th_probe_release(struct th_probe *p)
{
    th_free(p->images);
    *p = (struct th_probe){0};
}
