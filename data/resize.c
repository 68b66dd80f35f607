/* SPDX-License-Identifier: Apache-2.0
 * Owns the resize. Separable: horizontal, then vertical, with 8-bit pixels between and
 * 22-bit fixed-point weights, as Pillow's src/libImaging/Resample.c computes, so that
 * the same file gives the same pixels as in a PyTorch pipeline. A pass whose extent does
 * not change is left out. Only the rows and columns of the wanted part are computed, and
 * only those that they need are read. The inner loops are resize_*.c's.
 *
 * All that a resize needs is cut out of one block: sizes first, then pointers. */
#include "resize.h"

#include "error.h"
#include "mem.h"
#include "resize_pass.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = TH_RESIZE_CHANNELS, QUAD = 4 };

/* One axis: n_src pixels become n_dst, of which [from, from + n) are wanted. */
struct axis {
    int n_src, n_dst, from, n;
    enum th_filter filter;
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

/* How far an output pixel of an axis sees. */
struct sight {
    double scale, stretch,
        support; /* source pixels an output; of the kernel; its reach */
};

static struct sight sight_of(const struct axis *axis)
{
    double scale = (double)axis->n_src / axis->n_dst;
    double stretch = scale < 1.0 ? 1.0 : scale;
    return (struct sight){
        scale, stretch, (axis->filter == TH_BICUBIC ? 2.0 : 1.0) * stretch};
}

static double centre_of(const struct axis *axis, const struct sight *s, int i)
{
    return (axis->from + i + 0.5) * s->scale;
}

/* Output i sees the source pixels [from, to). */
static void span(
    const struct axis *axis, const struct sight *s, int i, int *from, int *to)
{
    double centre = centre_of(axis, s, i);
    *from = (int)(centre - s->support + 0.5);
    *to = (int)(centre + s->support + 0.5);
    *from = *from < 0 ? 0 : *from;
    *to = *to > axis->n_src ? axis->n_src : *to;
}

static bool is_copied(const struct axis *axis)
{
    return axis->n_src == axis->n_dst;
}

/* The source pixels [first, first + n) that the axis's outputs see. */
static void axis_reads(const struct axis *axis, int *first, int *n)
{
    struct sight s = sight_of(axis);
    int unused, end;
    *first = axis->from;
    *n = axis->n;
    if (is_copied(axis))
        return;
    span(axis, &s, 0, first, &unused);
    span(axis, &s, axis->n - 1, &unused, &end);
    *n = end - *first;
}

/* ---- weights ---- */

static struct th_resize_taps taps_of(const struct axis *axis)
{
    struct th_resize_taps k = {.n = axis->n};
    k.padded = (axis->n + QUAD - 1) / QUAD * QUAD;
    k.stride = (int)ceil(sight_of(axis).support) * 2 + 1;
    k.n_pairs = (k.stride + 1) / 2; /* at most */
    return k;
}

/* Memory that is being cut up; without any, how much it takes is counted. */
struct sheet {
    uint8_t *memory;
    size_t used;
};

static void *cut(struct sheet *sheet, size_t n, size_t size)
{
    void *p = sheet->memory ? sheet->memory + sheet->used : NULL;
    sheet->used += th_align_up(n * size);
    return p;
}

/* The arrays of what taps_of said. */
static void cut_taps(struct th_resize_taps *k, struct sheet *at)
{
    size_t n = (size_t)k->padded;
    k->first = cut(at, n, sizeof *k->first);
    k->count = cut(at, n, sizeof *k->count);
    k->weight = cut(at, n * (size_t)k->stride, sizeof *k->weight);
    k->pair = cut(at, n * (size_t)k->n_pairs * 2, sizeof *k->pair);
}

/* The weights of output i, as doubles into exact[stride] and as Pillow rounds them. */
static void weigh(struct th_resize_taps *k, const struct axis *axis,
    const struct sight *s, int i, double *exact)
{
    double (*kernel)(double) = axis->filter == TH_BICUBIC ? cubic : triangle;
    double centre = centre_of(axis, s, i), sum = 0.0;
    int32_t *weight = k->weight + (size_t)i * (size_t)k->stride;
    for (int j = 0; j < k->count[i]; j++)
        sum += exact[j] = kernel((j + k->first[i] - centre + 0.5) * (1.0 / s->stretch));
    for (int j = 0; j < k->count[i]; j++) {
        double w = (sum != 0.0 ? exact[j] / sum : exact[j]) * (1 << TH_WEIGHT_BITS);
        weight[j] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
}

/* Output i's weights in pairs, low and high parts. */
static void pair_up(struct th_resize_taps *k, int i)
{
    const int32_t *weight = k->weight + (size_t)i * (size_t)k->stride;
    int32_t *pair = k->pair + (size_t)i * (size_t)k->n_pairs * 2;
    for (int j = 0; j < 2 * k->n_pairs; j += 2, pair += 2) {
        uint32_t low = 0, high = 0;
        for (int t = 0; t < 2 && j + t < k->count[i]; t++) {
            int32_t w = weight[j + t];
            low |= ((uint32_t)w & ((1u << TH_LOW_BITS) - 1)) << 16 * t;
            high |= ((uint32_t)(w >> TH_LOW_BITS) & 0xFFFF) << 16 * t;
        }
        pair[0] = (int32_t)low;
        pair[1] = (int32_t)high;
    }
}

/* Fill the arrays; source indices count from `base` on. */
static void fill_taps(
    struct th_resize_taps *k, const struct axis *axis, int base, double *exact)
{
    struct sight s = sight_of(axis);
    int most = 0;
    for (int i = 0; i < k->padded; i++) {
        int to;
        span(axis, &s, i < k->n ? i : k->n - 1, &k->first[i], &to);
        k->count[i] = to - k->first[i];
        most = k->count[i] > most ? k->count[i] : most;
    }
    k->n_pairs = (most + 1) / 2;
    for (int i = 0; i < k->padded; i++) {
        if (i < k->n)
            weigh(k, axis, &s, i, exact);
        else
            memcpy(k->weight + (size_t)i * (size_t)k->stride,
                k->weight + (size_t)(k->n - 1) * (size_t)k->stride,
                (size_t)k->count[i] * sizeof *k->weight);
        pair_up(k, i);
    }
    for (int i = 0; i < k->padded; i++)
        k->first[i] -= base;
}

/* ---- the two passes ---- */

/* Pixels on their way through the two passes. */
struct lines {
    const uint8_t *first; /* of row 0 */
    size_t step;          /* bytes from row to row */
};

struct destination {
    uint8_t *rgb;
    size_t row_bytes;
};

/* A resize under way. */
struct work {
    const struct th_resize *r;
    const struct th_resize_pass *pass;
    struct axis ax, ay;
    struct th_resize_taps x, y;
    struct th_box reads; /* of the picture */
    double *exact;       /* [largest stride] */
    uint8_t *between;    /* [reads.h][between_step] */
    size_t between_step;
    uint8_t *spare; /* [2][spare_bytes], for lines behind which memory ends */
    size_t spare_bytes;
};

static void cut_work(struct work *w, struct sheet *at)
{
    size_t stride = (size_t)(w->x.stride > w->y.stride ? w->x.stride : w->y.stride);
    cut_taps(&w->x, at);
    cut_taps(&w->y, at);
    w->exact = cut(at, stride, sizeof *w->exact);
    w->spare = cut(at, 2, w->spare_bytes);
    w->between = cut(at, (size_t)w->reads.h, w->between_step);
}

static thaw_status work_init(
    struct work *w, const struct th_resize *r, struct th_resizer *resizer)
{
    struct sheet count = {0}, sheet = {0};
    w->r = r;
    w->pass = resizer->pass ? resizer->pass : th_resize_fastest();
    w->ax = (struct axis){r->from.w, r->w, r->part.x, r->part.w, r->filter};
    w->ay = (struct axis){r->from.h, r->h, r->part.y, r->part.h, r->filter};
    w->x = taps_of(&w->ax);
    w->y = taps_of(&w->ay);
    /* A line as long as `across` may read and write; see th_resize_taps_reach, _room. */
    w->spare_bytes =
        th_align_up(((size_t)w->reads.w + 2 * (size_t)w->x.n_pairs) * CHANNELS + 8);
    w->between_step = th_align_up(th_resize_taps_room(&w->x));
    cut_work(w, &count);
    if (!(sheet.memory = th_block_take(&resizer->memory, count.used)))
        return THAW_E_MEMORY;
    cut_work(w, &sheet);
    if (!is_copied(&w->ax))
        fill_taps(&w->x, &w->ax, w->reads.x - r->from.x, w->exact);
    if (!is_copied(&w->ay))
        fill_taps(&w->y, &w->ay, w->reads.y - r->from.y, w->exact);
    return THAW_OK;
}

/* A source line that may be read as far as th_resize_taps_reach says. */
static const uint8_t *line_at(
    struct work *w, const struct lines *lines, const uint8_t *end, int y)
{
    const uint8_t *line = lines->first + (size_t)y * lines->step;
    if ((size_t)(end - line) >= th_resize_taps_reach(&w->x))
        return line;
    uint8_t *copy = w->spare + (size_t)(y & 1) * w->spare_bytes;
    memcpy(copy, line, (size_t)w->reads.w * CHANNELS);
    return copy;
}

/* Horizontal pass over the rows that are read, two at a time; memory ends at `end`. */
static void pass_across(struct work *w, struct lines *lines, const uint8_t *end)
{
    if (is_copied(&w->ax))
        return;
    for (int y = 0; y < w->reads.h; y += 2) {
        int second = y + 1 < w->reads.h ? y + 1 : y;
        const uint8_t *const src[2] = {
            line_at(w, lines, end, y), line_at(w, lines, end, second)};
        uint8_t *const dst[2] = {w->between + (size_t)y * w->between_step,
            w->between + (size_t)second * w->between_step};
        w->pass->across(&w->x, src, dst);
    }
    *lines = (struct lines){w->between, w->between_step};
}

static void pass_down(struct work *w, struct lines lines, struct destination dst)
{
    size_t row = (size_t)w->r->part.w * CHANNELS;
    for (int i = 0; i < w->r->part.h; i++) {
        uint8_t *to = dst.rgb + (size_t)i * dst.row_bytes;
        if (is_copied(&w->ay))
            memcpy(to, lines.first + (size_t)i * lines.step, row);
        else
            w->pass->down(&w->y, i, lines.first + (size_t)w->y.first[i] * lines.step,
                lines.step, to, row);
    }
}

/* ---- */

static bool sticks_out(const struct th_box *box, int w, int h)
{
    return box->x < 0 || box->y < 0 || box->w < 1 || box->h < 1 || box->w > w ||
           box->h > h || box->x > w - box->w || box->y > h - box->h;
}

thaw_status th_resize_reads(const struct th_resize *r, int w, int h, struct th_box *box)
{
    if (sticks_out(&r->from, w, h) || sticks_out(&r->part, r->w, r->h))
        return th_fail(THAW_E_USAGE,
            "cannot resize %dx%d at %d,%d of a %dx%d image to %dx%d: extents start at "
            "1 and lie within the image",
            r->from.w, r->from.h, r->from.x, r->from.y, w, h, r->w, r->h);
    const struct axis x = {r->from.w, r->w, r->part.x, r->part.w, r->filter};
    const struct axis y = {r->from.h, r->h, r->part.y, r->part.h, r->filter};
    axis_reads(&x, &box->x, &box->w);
    axis_reads(&y, &box->y, &box->h);
    box->x += r->from.x;
    box->y += r->from.y;
    return THAW_OK;
}

thaw_status th_picture_resize(struct th_resizer *resizer, const struct th_picture *src,
    const struct th_resize *r, uint8_t *dst, size_t dst_row_bytes)
{
    struct work w = {0};
    TRY(th_resize_reads(r, src->w, src->h, &w.reads));
    struct th_box there = w.reads;
    there.x -= src->x;
    there.y -= src->y;
    if (sticks_out(&there, src->held.w, src->held.h))
        return th_fail(THAW_E_USAGE, "cannot resize pixels that were not decoded");
    TRY(work_init(&w, r, resizer));
    size_t step = (size_t)src->held.w * CHANNELS;
    struct lines lines = {
        src->held.rgb + (size_t)there.y * step + (size_t)there.x * CHANNELS, step};
    pass_across(&w, &lines, src->held.rgb + (size_t)src->held.h * step);
    pass_down(&w, lines, (struct destination){dst, dst_row_bytes});
    return THAW_OK;
}

thaw_status th_image_resize_part(const struct th_image *src, const struct th_resize *r,
    uint8_t *dst, size_t dst_row_bytes)
{
    struct th_resizer resizer = {0};
    const struct th_picture whole = th_picture_of(src);
    thaw_status status = th_picture_resize(&resizer, &whole, r, dst, dst_row_bytes);
    th_block_release(&resizer.memory);
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
