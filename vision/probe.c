/* SPDX-License-Identifier: Apache-2.0
 * Owns a probe's images. */
#include "probe.h"

#include "evaluate.h"
#include "mem.h"

thaw_status th_probe_init(struct th_probe *p, const struct th_network *net,
    const struct th_samples *samples, int n, double first)
{
    const struct th_preprocess preprocess = th_network_preprocess(net);
    size_t pixels = th_input_values(&net->model.input);
    n = samples->n < n ? (int)samples->n : n;
    *p = (struct th_probe){0};
    uint8_t *rgb = th_alloc(pixels, 1);
    p->images = th_alloc((size_t)n, pixels * sizeof *p->images);
    thaw_status status = rgb && p->images ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; i < n && status == THAW_OK; i++) {
        int64_t at = i * samples->n / n + (int64_t)(first * (double)samples->n / n);
        const struct th_sample *s = &samples->sample[at];
        status =
            th_read_input(&preprocess, s, rgb, p->images + (size_t)p->n * pixels, NULL);
        p->n += status == THAW_OK;
        if (status != THAW_E_MEMORY)
            status = THAW_OK;
    }
    th_free(rgb);
    return status;
}

void th_probe_release(struct th_probe *p)
{
    th_free(p->images);
    *p = (struct th_probe){0};
}
