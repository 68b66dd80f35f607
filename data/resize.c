/* SPDX-License-Identifier: Apache-2.0
 * Owns the resize. Separable: horizontal, then vertical, with 8-bit pixels between and
 * 22-bit fixed-point weights, as Pillow's src/libImaging/Resample.c computes, so that
 * the same file gives the same pixels as in a PyTorch pipeline. A pass whose extent does
 * not change is left out. Only the rows and columns of the wanted part are computed. */
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

/* One axis: n_src pixels become n_dst, of which [from, from + n) are wanted. */
struct axis {
    int n_src, n_dst, from, n;
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
    struct weights *k, const struct axis *axis, enum th_filter filter)
{
    double (*kernel)(double) = filter == TH_BICUBIC ? cubic : triangle;
    double scale = (double)axis->n_src / axis->n_dst;
    double stretch = scale < 1.0 ? 1.0 : scale;
    double support = (filter == TH_BICUBIC ? 2.0 : 1.0) * stretch;
    *k = (struct weights){.n = axis->n, .stride = (int)ceil(support) * 2 + 1};
    k->first = th_alloc((size_t)k->n, sizeof *k->first);
    k->count = th_alloc((size_t)k->n, sizeof *k->count);
    k->weight = th_alloc((size_t)k->n * (size_t)k->stride, sizeof *k->weight);
    double *exact = th_alloc((size_t)k->stride, sizeof *exact);
    if (!k->first || !k->count || !k->weight || !exact) {
        th_free(exact);
        weights_release(k);
        return THAW_E_MEMORY;
    }
    for (int i = 0; i < k->n; i++) {
        double centre = (axis->from + i + 0.5) * scale, sum = 0.0;
        int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
        from = from < 0 ? 0 : from;
        to = to > axis->n_src ? axis->n_src : to;
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

static inline uint8_t rounded(int32_t sum)
{
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* One row: dst[k->n][3] from src[..][3]. */
static void resample_row(const struct weights *k, const uint8_t *src, uint8_t *dst)
{
    for (int i = 0; i < k->n; i++, dst += CHANNELS) {
        const int32_t *w = k->weight + (size_t)i * (size_t)k->stride;
        const uint8_t *p = src + (size_t)k->first[i] * CHANNELS;
        int32_t r = 1 << (PRECISION_BITS - 1), g = r, b = r;
        for (int j = 0, n = k->count[i]; j < n; j++, p += CHANNELS) {
            r += p[0] * w[j];
            g += p[1] * w[j];
            b += p[2] * w[j];
        }
        dst[0] = rounded(r);
        dst[1] = rounded(g);
        dst[2] = rounded(b);
    }
}

/* Output row i of the vertical pass. Sums of a strip of bytes stay in the first-level
 * cache while the source rows go by. */
static void resample_column(const struct weights *k, int i, const uint8_t *src,
    size_t src_step, uint8_t *dst, size_t n_bytes)
{
    enum { STRIP = 256 };
    const int32_t *w = k->weight + (size_t)i * (size_t)k->stride;
    src += (size_t)k->first[i] * src_step;
    for (size_t at = 0; at < n_bytes; at += STRIP) {
        size_t n = n_bytes - at < STRIP ? n_bytes - at : STRIP;
        int32_t sum[STRIP];
        for (size_t b = 0; b < n; b++)
            sum[b] = 1 << (PRECISION_BITS - 1);
        for (int j = 0; j < k->count[i]; j++) {
            const uint8_t *p = src + (size_t)j * src_step + at;
            for (size_t b = 0; b < n; b++)
                sum[b] += p[b] * w[j];
        }
        for (size_t b = 0; b < n; b++)
            dst[at + b] = rounded(sum[b]);
    }
}

static bool sticks_out(const struct th_box *box, int w, int h)
{
    return box->x < 0 || box->y < 0 || box->w < 1 || box->h < 1 || box->w > w ||
           box->h > h || box->x > w - box->w || box->y > h - box->h;
}

/* Pixels on their way through the two passes. */
struct lines {
    const uint8_t *first; /* of row 0 */
    size_t step;          /* bytes from row to row */
};

struct destination {
    uint8_t *rgb;
    size_t row_bytes;
};

/* The first and the number of box rows that the vertical pass will read. */
static void rows_needed(
    const struct th_resize *r, const struct weights *ky, int *y, int *n)
{
    *y = r->part.y;
    *n = r->part.h;
    if (ky->n) {
        *y = ky->first[0];
        *n = ky->first[ky->n - 1] + ky->count[ky->n - 1] - *y;
    }
}

/* Horizontal pass over rows [y, y + n) of the box: afterwards `lines` are those rows, cut
 * to the part's columns. *owned, NULL before, is what they lie in if they were computed. */
static thaw_status pass_rows(
    const struct th_resize *r, int y, int n, struct lines *lines, uint8_t **owned)
{
    lines->first += (size_t)y * lines->step;
    if (r->from.w == r->w) {
        lines->first += (size_t)r->part.x * CHANNELS;
        return THAW_OK;
    }
    struct weights k;
    const struct axis x = {r->from.w, r->w, r->part.x, r->part.w};
    size_t row = (size_t)r->part.w * CHANNELS;
    if (!(*owned = th_alloc((size_t)n, row)))
        return THAW_E_MEMORY;
    TRY(weights_init(&k, &x, r->filter));
    for (int i = 0; i < n; i++)
        resample_row(
            &k, lines->first + (size_t)i * lines->step, *owned + (size_t)i * row);
    weights_release(&k);
    *lines = (struct lines){*owned, row};
    return THAW_OK;
}

/* Vertical pass; line 0 is row y of the box. Without weights the rows are copied. */
static void pass_columns(const struct th_resize *r, struct weights *k, int y,
    struct lines lines, struct destination dst)
{
    size_t row = (size_t)r->part.w * CHANNELS;
    for (int i = 0; i < r->part.h; i++) {
        uint8_t *to = dst.rgb + (size_t)i * dst.row_bytes;
        if (k->n) {
            k->first[i] -= y;
            resample_column(k, i, lines.first, lines.step, to, row);
        } else {
            memcpy(to, lines.first + (size_t)i * lines.step, row);
        }
    }
}

static thaw_status check(const struct th_image *src, const struct th_resize *r)
{
    if (!sticks_out(&r->from, src->w, src->h) && !sticks_out(&r->part, r->w, r->h))
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "cannot resize %dx%d at %d,%d of a %dx%d image to %dx%d: extents start at 1 "
        "and lie "
        "within the image",
        r->from.w, r->from.h, r->from.x, r->from.y, src->w, src->h, r->w, r->h);
}

thaw_status th_image_resize_part(const struct th_image *src, const struct th_resize *r,
    uint8_t *dst, size_t dst_row_bytes)
{
    TRY(check(src, r));
    size_t step = (size_t)src->w * CHANNELS;
    struct lines lines = {
        src->rgb + (size_t)r->from.y * step + (size_t)r->from.x * CHANNELS, step};
    const struct axis axis = {r->from.h, r->h, r->part.y, r->part.h};
    struct weights ky = {0};
    uint8_t *between = NULL;
    int y, n;
    if (r->from.h != r->h)
        TRY(weights_init(&ky, &axis, r->filter));
    rows_needed(r, &ky, &y, &n);
    thaw_status status = pass_rows(r, y, n, &lines, &between);
    if (status == THAW_OK)
        pass_columns(r, &ky, y, lines, (struct destination){dst, dst_row_bytes});
    weights_release(&ky);
    th_free(between);
    return status;
}

thaw_status th_image_resize(
    const struct th_image *src, enum th_filter filter, struct th_image *dst)
{
    const struct th_resize r = {.from = {0, 0, src->w, src->h},
        .w = dst->w,
        .h = dst->h,
        .part = {0, 0, dst->w, dst->h},
        .filter = filter};
    return th_image_resize_part(src, &r, dst->rgb, (size_t)dst->w * CHANNELS);
}
