/* SPDX-License-Identifier: Apache-2.0
 * Owns the kernels of feature pyramids: places of b channels, copied and added. Formulas:
 * kernels/pyramid.c. */
#include "lanes.h"

/* y = x + add, or y = x, of one place. */
TH_INLINE void place_add(const float *x, const float *add, float *y, int b)
{
    for (int j = 0; j < b; j++)
        y[j] = add ? x[j] + add[j] : x[j];
}

/* The first of `to` places that shows i of `from`. */
TH_INLINE int64_t first_of(int64_t i, int64_t from, int64_t to)
{
    return (i * to + from - 1) / from;
}

/* ---- upsample ---- */

/* A line of y: a value of x as often as it is shown. */
TH_INLINE void upsample_line(
    const float *x, int64_t from, const float *add, float *y, int64_t to, int b)
{
    for (int64_t v = 0, q = 0; v < from; v++)
        for (int64_t end = first_of(v + 1, from, to); q < end; q++)
            place_add(x + v * b, add ? add + q * b : NULL, y + q * b, b);
}

static void upsample_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_upsample *a = (const void *)call->args;
    const int64_t *from = call->in[0].shape.dim, *to = call->out[0].shape.dim;
    struct planes s = planes_of(&call->in[0]), t = planes_of(&call->out[0]);
    int64_t line = to[3] * s.b;
    for (int64_t p = 0; p < to[2]; p++) {
        int64_t u = p * from[2] / to[2], at = plane * t.size + p * line;
        const float *x = (const float *)a->x + plane * s.size + u * from[3] * s.b;
        const float *add = a->add_ ? (const float *)a->add_ + at : NULL;
        float *y = (float *)a->y + at;
        if (s.b == 16) /* as constants they are vectors */
            upsample_line(x, from[3], add, y, to[3], 16);
        else if (s.b == 8)
            upsample_line(x, from[3], add, y, to[3], 8);
        else
            upsample_line(x, from[3], add, y, to[3], s.b);
    }
}

TH_OWN(upsample)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, upsample_plane);
    return THAW_OK;
}

/* A line of dx: lines [first,end) of dy summed by what they show. */
TH_INLINE void upsample_dx_line(const float *dy, int64_t first, int64_t end, int64_t to,
    float *dx, int64_t from, int b)
{
    for (int64_t v = 0, q = 0, next; v < from; v++, q = next) {
        float sum[TH_GROUP] = {0};
        next = first_of(v + 1, from, to);
        for (int64_t p = first; p < end; p++)
            for (const float *at = dy + (p * to + q) * b, *stop = at + (next - q) * b;
                 at < stop; at += b)
                place_add(sum, at, sum, b);
        memcpy(dx + v * b, sum, sizeof(float) * (size_t)b);
    }
}

static void upsample_dx_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_upsample_dx *a = (const void *)call->args;
    const int64_t *to = call->in[0].shape.dim, *from = call->out[0].shape.dim;
    struct planes s = planes_of(&call->out[0]), t = planes_of(&call->in[0]);
    const float *dy = (const float *)a->dy + plane * t.size;
    for (int64_t u = 0; u < from[2]; u++) {
        int64_t first = first_of(u, from[2], to[2]),
                end = first_of(u + 1, from[2], to[2]);
        float *dx = (float *)a->dx + plane * s.size + u * from[3] * s.b;
        if (s.b == 16)
            upsample_dx_line(dy, first, end, to[3], dx, from[3], 16);
        else if (s.b == 8)
            upsample_dx_line(dy, first, end, to[3], dx, from[3], 8);
        else
            upsample_dx_line(dy, first, end, to[3], dx, from[3], s.b);
    }
}

TH_OWN(upsample_dx)
{
    struct planes s = planes_of(&call->out[0]);
    th_parallel(call, s.n * s.blocks, upsample_dx_plane);
    return THAW_OK;
}

/* ---- map_rows: all channels of a place lie side by side in the rows ---- */

/* A plane's places, which in the rows lie `channels` values apart; `into` the rows. */
TH_INLINE void move_places(float *x, float *rows, struct planes s, int b, bool into)
{
    int64_t places = s.size / b;
    for (int64_t i = 0; i < places; i++)
        if (into)
            memcpy(rows + i * s.channels, x + i * b, sizeof(float) * (size_t)b);
        else
            memcpy(x + i * b, rows + i * s.channels, sizeof(float) * (size_t)b);
}

/* `rows` are those of the plane's image and map. */
TH_INLINE void move_plane(
    float *x, float *rows, struct planes s, int64_t plane, bool into)
{
    x += plane * s.size;
    rows += plane % s.blocks * s.b;
    if (s.b == 16)
        move_places(x, rows, s, 16, into);
    else if (s.b == 8)
        move_places(x, rows, s, 8, into);
    else if (s.b == 1)
        move_places(x, rows, s, 1, into);
    else
        move_places(x, rows, s, s.b, into);
}

/* One block of an image's channels, in all maps. */
static void map_rows_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_map_rows *a = (const void *)call->args;
    int64_t images = call->in[0].shape.dim[0];
    int64_t image = th_shape_count(&call->out[0].shape) / images;
    float *rows = a->y;
    rows += plane / planes_of(&call->in[0]).blocks * image;
    for (int i = 0; i < TH_MAX_IN; i++) {
        if (!call->args[i])
            continue;
        move_plane(call->args[i], rows, planes_of(&call->in[i]), plane, true);
        rows += th_shape_count(&call->in[i].shape) / images;
    }
}

TH_OWN(map_rows)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, map_rows_plane);
    return THAW_OK;
}

static void map_rows_dx_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_map_rows_dx *a = (const void *)call->args;
    struct planes s = planes_of(&call->out[0]);
    int64_t image = th_shape_count(&call->in[0].shape) / s.n;
    float *rows = a->dy;
    rows += plane / s.blocks * image + call->attr.rows.first * call->attr.rows.width;
    move_plane(a->dx, rows, s, plane, false);
}

TH_OWN(map_rows_dx)
{
    struct planes s = planes_of(&call->out[0]);
    th_parallel(call, s.n * s.blocks, map_rows_dx_plane);
    return THAW_OK;
}
