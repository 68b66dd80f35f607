/* SPDX-License-Identifier: Apache-2.0
 * Owns the resize. Separable: horizontal, then vertical, with 8-bit pixels between and
 * 22-bit fixed-point weights, as Pillow's src/libImaging/Resample.c computes, so that
 * the same file gives the same pixels as in a PyTorch pipeline. A pass whose extent does
 * not change is left out. Does not crop. */
#include "resize.h"

#include "error.h"
#include "mem.h"

#include <math.h>
#include <string.h>

enum { PRECISION_BITS = 22, CHANNELS = 3 };

/* For each of n outputs: its first source index, how many, and their weights. */
struct weights {
    int n, stride;
    int *first, *count; /* [n] */
    int32_t *weight;    /* [n][stride] */
};

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys, "Cubic convolution interpolation", 1981, with a = -0.5. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void weights_release(struct weights *k)
{
    th_free(k->first);
    th_free(k->count);
    th_free(k->weight);
}

static thaw_status weights_init(
    struct weights *k, int n_src, int n_dst, enum th_filter filter)
{
    double (*kernel)(double) = filter == TH_BICUBIC ? cubic : triangle;
    double scale = (double)n_src / n_dst;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = (filter == TH_BICUBIC ? 2.0 : 1.0) * stretch;
    *k = (struct weights){.n = n_dst, .stride = (int)ceil(support) * 2 + 1};
    k->first = th_alloc((size_t)n_dst, sizeof *k->first);
    k->count = th_alloc((size_t)n_dst, sizeof *k->count);
    k->weight = th_alloc((size_t)n_dst * (size_t)k->stride, sizeof *k->weight);
    double *exact = th_alloc((size_t)k->stride, sizeof *exact);
    if (!k->first || !k->count || !k->weight || !exact) {
        th_free(exact);
        weights_release(k);
        return THAW_E_MEMORY;
    }
    for (int i = 0; i < n_dst; i++) {
        double centre = (i + 0.5) * scale, sum = 0.0;
        int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
        from = from < 0 ? 0 : from;
        to = to > n_src ? n_src : to;
        for (int j = 0; j < to - from; j++)
            sum += exact[j] = kernel((j + from - centre + 0.5) * (1.0 / stretch));
        for (int j = 0; j < to - from; j++) {
            double w = (sum != 0.0 ? exact[j] / sum : exact[j]) * (1 << PRECISION_BITS);
            k->weight[(size_t)i * (size_t)k->stride + (size_t)j] =
                (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        k->first[i] = from;
        k->count[i] = to - from;
    }
    th_free(exact);
    return THAW_OK;
}

/* One pass along an axis. A line's neighbours lie `step` bytes apart. */
static void resample(const struct weights *k, const uint8_t *src, size_t src_step,
    uint8_t *dst, size_t dst_step, size_t n_bytes)
{
    for (int i = 0; i < k->n; i++) {
        const int32_t *w = k->weight + (size_t)i * (size_t)k->stride;
        const uint8_t *from = src + (size_t)k->first[i] * src_step;
        for (size_t b = 0; b < n_bytes; b++) {
            int32_t sum = 1 << (PRECISION_BITS - 1);
            for (int j = 0; j < k->count[i]; j++)
                sum += from[(size_t)j * src_step + b] * w[j];
            sum >>= PRECISION_BITS;
            dst[(size_t)i * dst_step + b] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
    }
}

static thaw_status resize_rows(
    const struct th_image *src, enum th_filter filter, int w, uint8_t *dst)
{
    struct weights k;
    TRY(weights_init(&k, src->w, w, filter));
    for (size_t y = 0; y < (size_t)src->h; y++)
        resample(&k, src->rgb + y * (size_t)src->w * CHANNELS, CHANNELS,
            dst + y * (size_t)w * CHANNELS, CHANNELS, CHANNELS);
    weights_release(&k);
    return THAW_OK;
}

thaw_status th_image_resize(
    const struct th_image *src, enum th_filter filter, struct th_image *dst)
{
    if (src->w < 1 || src->h < 1 || dst->w < 1 || dst->h < 1)
        return th_fail(THAW_E_USAGE, "cannot resize %dx%d to %dx%d: extents start at 1",
            src->w, src->h, dst->w, dst->h);
    size_t row = (size_t)dst->w * CHANNELS;
    uint8_t *between = NULL;
    const uint8_t *lines = src->rgb;
    struct weights k = {0};
    thaw_status status = THAW_OK;
    if (src->w != dst->w) {
        between = th_alloc((size_t)src->h, row);
        if (!between)
            return THAW_E_MEMORY;
        status = resize_rows(src, filter, dst->w, between);
        lines = between;
    }
    if (status == THAW_OK && src->h == dst->h)
        memcpy(dst->rgb, lines, (size_t)dst->h * row);
    else if (status == THAW_OK && !(status = weights_init(&k, src->h, dst->h, filter))) {
        resample(&k, lines, row, dst->rgb, row, row);
        weights_release(&k);
    }
    th_free(between);
    return status;
}
