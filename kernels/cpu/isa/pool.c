/* SPDX-License-Identifier: Apache-2.0
 * Owns pooling over planes. A pixel is b values, one per channel of the block; the loops
 * over them have a fixed count in each of the three copies (b = 1, 8, 16) that the
 * compiler makes of every function marked TH_INLINE. Gradients are gathered: each input
 * pixel asks the windows that it is in, and is written once.
 *
 * Floats are chosen by bytes through their bits: gcc 12.2 vectorises such a loop with
 * masked loads of the wrong half (16 floats, -O3 -mavx2), even where ?: has a variable. */
#include "lanes.h"

#include <math.h>

/* One part: an image's channel block. */
struct pool {
    int64_t h, w, oh, ow; /* of x and y */
    const struct th_attr_pool *t;
};

static struct pool pool_of(
    const struct th_call *call, const struct th_operand *x, const struct th_operand *y)
{
    return (struct pool){x->shape.dim[2], x->shape.dim[3], y->shape.dim[2],
        y->shape.dim[3], &call->attr.pool};
}

/* Positions begin <= i < end. */
struct range {
    int64_t begin, end;
};

/* Positions of an input axis that the window of output p covers. */
TH_INLINE struct range covered(
    const struct th_attr_pool *t, int axis, int64_t p, int64_t size)
{
    int64_t from = p * t->stride[axis] - t->pad[axis], to = from + t->kernel[axis];
    return (struct range){from < 0 ? 0 : from, to > size ? size : to};
}

/* Outputs whose window covers position u of an input axis. */
TH_INLINE struct range covering(
    const struct th_attr_pool *t, int axis, int64_t u, int64_t outputs)
{
    int64_t last = u + t->pad[axis], first = last - t->kernel[axis] + 1;
    int64_t begin = first > 0 ? (first + t->stride[axis] - 1) / t->stride[axis] : 0;
    int64_t end = last / t->stride[axis] + 1;
    return (struct range){begin, end > outputs ? outputs : end};
}

/* Place of input (u,v) in the window of output (p,q): what `index` holds. */
TH_INLINE int32_t place_in_window(
    const struct th_attr_pool *t, int64_t u, int64_t v, int64_t p, int64_t q)
{
    int64_t r = u - (p * t->stride[0] - t->pad[0]);
    int64_t s = v - (q * t->stride[1] - t->pad[1]);
    return (int32_t)(r * t->kernel[1] + s);
}

/* Max ------------------------------------------------------------------------------- */

/* The best of each channel so far, and its place in the window. */
struct best {
    float value[TH_GROUP], place[TH_GROUP];
};

/* The first of equals is the best; NaN beats all. In vectors where b fills them. */
TH_INLINE void max_step(struct best *r, const float *x, float place, const int b)
{
    int whole = b / TH_LANES * TH_LANES;
    for (int l = 0; l < whole; l += TH_LANES) {
        th_vf best = vf_load(r->value + l), where = vf_load(r->place + l);
        vf_better(vf_load(x + l), place, &best, &where);
        vf_store(r->value + l, best);
        vf_store(r->place + l, where);
    }
    for (int l = whole; l < b; l++)
        if ((x[l] > r->value[l]) | (x[l] != x[l])) {
            r->value[l] = x[l];
            r->place[l] = place;
        }
}

TH_INLINE void max_pixel(const struct pool *d, const float *restrict x, int64_t p,
    int64_t q, const int b, float *restrict y, uint8_t *restrict index)
{
    struct range rows = covered(d->t, 0, p, d->h), columns = covered(d->t, 1, q, d->w);
    float first = (float)place_in_window(d->t, rows.begin, columns.begin, p, q);
    struct best r;
    for (int l = 0; l < b; l++) {
        r.value[l] = -INFINITY;
        r.place[l] = first;
    }
    for (int64_t u = rows.begin; u < rows.end; u++) {
        float place = (float)place_in_window(d->t, u, columns.begin, p, q);
        for (int64_t v = columns.begin; v < columns.end; v++, place++)
            max_step(&r, x + (u * d->w + v) * b, place, b);
    }
    memcpy(y, r.value, sizeof *y * (size_t)b);
    if (index)
        for (int l = 0; l < b; l++)
            index[l] = (uint8_t)(int)r.place[l];
}

TH_INLINE void max_plane(
    const struct pool *d, const float *x, const int b, float *y, uint8_t *index)
{
    for (int64_t p = 0; p < d->oh; p++)
        for (int64_t q = 0; q < d->ow; q++) {
            int64_t at = (p * d->ow + q) * b;
            max_pixel(d, x, p, q, b, y + at, index ? index + at : NULL);
        }
}

static void maxpool_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_maxpool *a = (const void *)call->args;
    struct planes in = planes_of(&call->in[0]), out = planes_of(&call->out[0]);
    struct pool d = pool_of(call, &call->in[0], &call->out[0]);
    const float *x = (const float *)a->x + plane * in.size;
    float *y = (float *)a->y + plane * out.size;
    uint8_t *index = a->index_ ? (uint8_t *)a->index_ + plane * out.size : NULL;
    if (in.b == 16)
        max_plane(&d, x, 16, y, index);
    else if (in.b == 8)
        max_plane(&d, x, 8, y, index);
    else
        max_plane(&d, x, 1, y, index);
}

TH_OWN(maxpool)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, maxpool_part);
    return THAW_OK;
}

/* sum += dy where index is `place` */
TH_INLINE void keep_equal(
    float *sum, const float *dy, const uint8_t *index, int32_t place, const int b)
{
    int whole = b / TH_LANES * TH_LANES;
    for (int l = 0; l < whole; l += TH_LANES)
        *(th_vf_unaligned *)(sum + l) +=
            vf_keep_equal(*(const th_vf_unaligned *)(dy + l), index + l, place);
    for (int l = whole; l < b; l++) {
        int32_t bits;
        float kept;
        memcpy(&bits, dy + l, sizeof bits);
        bits &= -(index[l] == place);
        memcpy(&kept, &bits, sizeof kept);
        sum[l] += kept;
    }
}

TH_INLINE void max_dx_pixel(const struct pool *d, const float *restrict dy,
    const uint8_t *restrict index, int64_t u, int64_t v, const int b,
    float *restrict dx)
{
    struct range rows = covering(d->t, 0, u, d->oh);
    struct range columns = covering(d->t, 1, v, d->ow);
    float sum[TH_GROUP];
    for (int l = 0; l < b; l++)
        sum[l] = 0;
    for (int64_t p = rows.begin; p < rows.end; p++)
        for (int64_t q = columns.begin; q < columns.end; q++) {
            int64_t at = (p * d->ow + q) * b;
            int32_t place = place_in_window(d->t, u, v, p, q);
            keep_equal(sum, dy + at, index + at, place, b);
        }
    for (int l = 0; l < b; l++)
        dx[l] = sum[l];
}

TH_INLINE void max_dx_plane(
    const struct pool *d, const float *dy, const uint8_t *index, const int b, float *dx)
{
    for (int64_t u = 0; u < d->h; u++)
        for (int64_t v = 0; v < d->w; v++)
            max_dx_pixel(d, dy, index, u, v, b, dx + (u * d->w + v) * b);
}

static void maxpool_dx_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_maxpool_dx *a = (const void *)call->args;
    struct planes in = planes_of(&call->in[0]), out = planes_of(&call->out[0]);
    struct pool d = pool_of(call, &call->out[0], &call->in[0]);
    const float *dy = (const float *)a->dy + plane * in.size;
    const uint8_t *index = (const uint8_t *)a->index + plane * in.size;
    float *dx = (float *)a->dx + plane * out.size;
    if (in.b == 16)
        max_dx_plane(&d, dy, index, 16, dx);
    else if (in.b == 8)
        max_dx_plane(&d, dy, index, 8, dx);
    else
        max_dx_plane(&d, dy, index, 1, dx);
}

TH_OWN(maxpool_dx)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, maxpool_dx_part);
    return THAW_OK;
}

/* Average --------------------------------------------------------------------------- */

/* y[l] = sum over rows and columns of x, times scale; x has `width` pixels a row. */
TH_INLINE void sum_pixels(const float *restrict x, int64_t width, struct range rows,
    struct range columns, const int b, float scale, float *restrict y)
{
    float sum[TH_GROUP];
    for (int l = 0; l < b; l++)
        sum[l] = 0;
    for (int64_t u = rows.begin; u < rows.end; u++)
        for (int64_t v = columns.begin; v < columns.end; v++)
            for (int l = 0; l < b; l++)
                sum[l] += x[(u * width + v) * b + l];
    for (int l = 0; l < b; l++)
        y[l] = sum[l] * scale;
}

TH_INLINE void avg_plane(const struct pool *d, const float *x, const int b, float *y)
{
    float scale = 1.0f / (float)(d->t->kernel[0] * d->t->kernel[1]);
    for (int64_t p = 0; p < d->oh; p++)
        for (int64_t q = 0; q < d->ow; q++)
            sum_pixels(x, d->w, covered(d->t, 0, p, d->h), covered(d->t, 1, q, d->w), b,
                scale, y + (p * d->ow + q) * b);
}

static void avgpool_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_avgpool *a = (const void *)call->args;
    struct planes in = planes_of(&call->in[0]), out = planes_of(&call->out[0]);
    struct pool d = pool_of(call, &call->in[0], &call->out[0]);
    const float *x = (const float *)a->x + plane * in.size;
    float *y = (float *)a->y + plane * out.size;
    if (in.b == 16)
        avg_plane(&d, x, 16, y);
    else if (in.b == 8)
        avg_plane(&d, x, 8, y);
    else
        avg_plane(&d, x, 1, y);
}

TH_OWN(avgpool)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, avgpool_part);
    return THAW_OK;
}

TH_INLINE void avg_dx_plane(
    const struct pool *d, const float *dy, const int b, float *dx)
{
    float scale = 1.0f / (float)(d->t->kernel[0] * d->t->kernel[1]);
    for (int64_t u = 0; u < d->h; u++)
        for (int64_t v = 0; v < d->w; v++)
            sum_pixels(dy, d->ow, covering(d->t, 0, u, d->oh),
                covering(d->t, 1, v, d->ow), b, scale, dx + (u * d->w + v) * b);
}

static void avgpool_dx_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_avgpool_dx *a = (const void *)call->args;
    struct planes in = planes_of(&call->in[0]), out = planes_of(&call->out[0]);
    struct pool d = pool_of(call, &call->out[0], &call->in[0]);
    const float *dy = (const float *)a->dy + plane * in.size;
    float *dx = (float *)a->dx + plane * out.size;
    if (in.b == 16)
        avg_dx_plane(&d, dy, 16, dx);
    else if (in.b == 8)
        avg_dx_plane(&d, dy, 8, dx);
    else
        avg_dx_plane(&d, dy, 1, dx);
}

TH_OWN(avgpool_dx)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, avgpool_dx_part);
    return THAW_OK;
}

/* Global average: y is [n][c], a plane's channels are neighbours in it. */

static void gap_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_gap *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    const float *x = (const float *)a->x + plane * s.size;
    float *y = (float *)a->y + plane * s.b;
    float lanes[TH_GROUP], scale = (float)s.b / (float)s.size;
    v16 sum = v_all(0);
    for (int64_t i = 0; i < s.size; i += TH_GROUP) {
        int n = s.size - i < TH_GROUP ? (int)(s.size - i) : TH_GROUP;
        sum = v_add(sum, v_load_n(x + i, n, v_all(0)));
    }
    v_store(lanes, sum);
    for (int c = 0; c < s.b; c++) {
        float all = 0;
        for (int l = c; l < TH_GROUP; l += s.b)
            all += lanes[l];
        y[c] = all * scale;
    }
}

TH_OWN(gap)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, gap_part);
    return THAW_OK;
}

static void gap_dx_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_gap_dx *a = (const void *)call->args;
    struct planes s = planes_of(&call->out[0]);
    const float *dy = (const float *)a->dy + plane * s.b;
    float *dx = (float *)a->dx + plane * s.size;
    float lanes[TH_GROUP], scale = (float)s.b / (float)s.size;
    for (int l = 0; l < TH_GROUP; l++)
        lanes[l] = dy[l % s.b] * scale;
    v16 value = v_load(lanes);
    for (int64_t i = 0; i < s.size; i += TH_GROUP)
        v_store_n(dx + i, s.size - i < TH_GROUP ? (int)(s.size - i) : TH_GROUP, value);
}

TH_OWN(gap_dx)
{
    struct planes s = planes_of(&call->out[0]);
    th_parallel(call, s.n * s.blocks, gap_dx_part);
    return THAW_OK;
}
