/* SPDX-License-Identifier: Apache-2.0
 * Owns pooling. An index is the position of the maximum in its window; averages count the
 * padding. */
#include "dnn.h"

#include <math.h>

/* One position of a window, for all channels of one output. */
struct place {
    const float *x; /* of channel 0; NULL: padding */
    int64_t xs, ys, is;
    float *y, *index;
    int64_t channels;
};

static float *at(const struct dnn_view *v, int64_t n, int64_t h, int64_t w)
{
    return v->v ? v->v + n * v->stride[0] + h * v->stride[2] + w * v->stride[3] : NULL;
}

/* The k-th position of the window of output (h, w); NULL: padding. */
static float *window_at(const struct dnn_window *v, const struct dnn_view *x, int64_t n,
    int64_t h, int64_t w, int64_t k)
{
    int64_t row = h * v->stride[0] + k / v->size[1] - v->before[0];
    int64_t column = w * v->stride[1] + k % v->size[1] - v->before[1];
    bool inside = row >= 0 && column >= 0 && row < x->dim[2] && column < x->dim[3];
    return inside ? at(x, n, row, column) : NULL;
}

static void take_maximum(const struct place *p, int64_t k)
{
    for (int64_t c = 0; c < p->channels; c++) {
        float x = p->x[c * p->xs], *y = &p->y[c * p->ys];
        if (!(x > *y))
            continue;
        *y = x;
        if (p->index)
            p->index[c * p->is] = (float)k;
    }
}

void dnn_pool(int mode, const struct dnn_window *v, struct dnn_view x,
    struct dnn_view y, struct dnn_view index)
{
    bool max = mode == CUDNN_RESAMPLE_MAXPOOL;
    int64_t outputs = y.dim[0] * y.dim[2] * y.dim[3], window = v->size[0] * v->size[1];
    for (int64_t i = 0; i < outputs; i++) {
        int64_t n = i / (y.dim[2] * y.dim[3]), h = i / y.dim[3] % y.dim[2],
                w = i % y.dim[3];
        struct place p = {.xs = x.stride[1],
            .ys = y.stride[1],
            .is = index.stride[1],
            .y = at(&y, n, h, w),
            .index = at(&index, n, h, w),
            .channels = y.dim[1]};
        for (int64_t c = 0; c < p.channels; c++)
            p.y[c * p.ys] = max ? -INFINITY : 0;
        for (int64_t k = 0; k < window; k++) {
            p.x = window_at(v, &x, n, h, w, k);
            if (p.x && max)
                take_maximum(&p, k);
            else if (p.x)
                for (int64_t c = 0; c < p.channels; c++)
                    p.y[c * p.ys] += p.x[c * p.xs];
        }
        for (int64_t c = 0; !max && c < p.channels; c++)
            p.y[c * p.ys] /= (float)window;
    }
}

static void zero(struct dnn_view *v)
{
    for (int64_t i = 0; i < v->dim[0] * v->dim[2] * v->dim[3]; i++) {
        float *p = at(
            v, i / (v->dim[2] * v->dim[3]), i / v->dim[3] % v->dim[2], i % v->dim[3]);
        for (int64_t c = 0; c < v->dim[1]; c++)
            p[c * v->stride[1]] = 0;
    }
}

void dnn_pool_dx(int mode, const struct dnn_window *v, struct dnn_view dx,
    struct dnn_view dy, struct dnn_view index)
{
    bool max = mode == CUDNN_RESAMPLE_MAXPOOL;
    int64_t window = v->size[0] * v->size[1];
    zero(&dx);
    for (int64_t i = 0; i < dy.dim[0] * dy.dim[2] * dy.dim[3]; i++) {
        int64_t n = i / (dy.dim[2] * dy.dim[3]), h = i / dy.dim[3] % dy.dim[2],
                w = i % dy.dim[3];
        const float *from = at(&dy, n, h, w), *chosen = at(&index, n, h, w);
        for (int64_t k = 0; k < window; k++) {
            float *to = window_at(v, &dx, n, h, w, k);
            for (int64_t c = 0; to && c < dx.dim[1]; c++) {
                float d = from[c * dy.stride[1]];
                if (!max)
                    to[c * dx.stride[1]] += d / (float)window;
                else if ((int64_t)chosen[c * index.stride[1]] == k)
                    to[c * dx.stride[1]] += d;
            }
        }
    }
}
