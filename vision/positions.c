/* SPDX-License-Identifier: Apache-2.0
 * Owns the resampling of position embeddings.
 *
 * Bicubic with a = -1/2 and a support that grows with the step, as Pillow's (Keys 1981);
 * samples sit in the middle of their cells, weights beyond the edge are left out and the
 * rest scaled to sum 1. In double, so that it agrees with torch to fp32's rounding. */
#include "positions.h"

#include <math.h>
#include <string.h>

/* The filter at distance x, in cells. */
static double cubic(double x)
{
    x = fabs(x);
    if (x < 1)
        return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/* Cells [first, last) of the old axis that cell i of the new one is made from. */
struct window {
    int64_t first, last;
    double centre, sharpness, sum;
};

static double weight(const struct window *w, int64_t j)
{
    return cubic(((double)j - w->centre + 0.5) * w->sharpness);
}

static struct window window_of(int64_t i, int64_t from, int64_t to)
{
    double step = (double)from / (double)to, wide = step > 1 ? step : 1;
    struct window w = {.centre = step * ((double)i + 0.5), .sharpness = 1 / wide};
    double first = w.centre - 2 * wide + 0.5, last = w.centre + 2 * wide + 0.5;
    w.first = first > 0 ? (int64_t)first : 0;
    w.last = last < (double)from ? (int64_t)last : from;
    for (int64_t j = w.first; j < w.last; j++)
        w.sum += weight(&w, j);
    return w;
}

/* One row of the new grid, d values: the sum over the windows of both axes, a chunk of
 * values at a time so that a weight is computed once for many. */
static void resample(const float *grid, int64_t width, int64_t d,
    const struct window *y, const struct window *x, float *to)
{
    enum { CHUNK = 64 };
    for (int64_t c0 = 0; c0 < d; c0 += CHUNK) {
        double sum[CHUNK] = {0}, total = x->sum * y->sum;
        int64_t n = d - c0 < CHUNK ? d - c0 : CHUNK;
        for (int64_t i = y->first; i < y->last; i++)
            for (int64_t j = x->first; j < x->last; j++) {
                double share = weight(y, i) * weight(x, j) / total;
                const float *from = grid + (i * width + j) * d + c0;
                for (int64_t c = 0; c < n; c++)
                    sum[c] += share * (double)from[c];
            }
        for (int64_t c = 0; c < n; c++)
            to[c0 + c] = (float)sum[c];
    }
}

/* The places behind `before`, in rows and columns; none where the rows are no such grid. */
static struct th_size grid_of(const struct th_positions *p)
{
    const int64_t rows = p->shape->dim[1] - p->before, w = p->input.w, h = p->input.h;
    struct th_size grid = {0, 0};
    if (rows < 1 || rows > INT32_MAX || w < 1 || h < 1)
        return grid;
    int64_t wide = llround(sqrt((double)rows * (double)w / (double)h));
    if (wide > 0 && rows % wide == 0 && wide * h == rows / wide * w)
        grid = (struct th_size){(int)wide, (int)(rows / wide)};
    return grid;
}

bool th_positions_refit(const struct th_positions *from, const float *values,
    const struct th_positions *grid, float *to)
{
    const int64_t *a = from->shape->dim, *b = grid->shape->dim;
    if (from->shape->rank != 3 || grid->shape->rank != 3 || a[0] != 1 || b[0] != 1 ||
        a[2] != b[2])
        return false;
    const struct th_size old = grid_of(from), new = grid_of(grid);
    const int64_t d = b[2], before = from->before;
    if (!old.w || !new.w)
        return false;
    if (!to)
        return true;
    memcpy(to, values, (size_t)(before * d) * sizeof *to);
    for (int64_t i = 0; i < new.h; i++) {
        struct window y = window_of(i, old.h, new.h);
        for (int64_t j = 0; j < new.w; j++) {
            struct window x = window_of(j, old.w, new.w);
            resample(values + before * d, old.w, d, &y, &x,
                to + (before + i * new.w + j) * d);
        }
    }
    return true;
}
