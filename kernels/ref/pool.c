/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of max, average and global average pooling. Formulas:
 * kernels/pool.c. Gradients are gathered: each input value asks the windows it is in. */
#include "ref.h"

#include <math.h>

/* Positions of axis `axis` that the window of output p covers inside 0..size-1, as
 * begin <= i < end, relative to the window's start. */
struct range {
    int64_t start, begin, end;
};

static struct range covered(
    const struct th_attr_pool *t, int axis, int64_t p, int64_t size)
{
    int64_t start = p * t->stride[axis] - t->pad[axis];
    struct range r = {start, start < 0 ? -start : 0, t->kernel[axis]};
    if (start + r.end > size)
        r.end = size - start;
    return r;
}

/* Outputs whose window covers input position u. */
static struct range covering(
    const struct th_attr_pool *t, int axis, int64_t u, int64_t outputs)
{
    int64_t last = u + t->pad[axis], first = last - t->kernel[axis] + 1;
    struct range r = {0, 0, last / t->stride[axis] + 1};
    if (first > 0)
        r.begin = (first + t->stride[axis] - 1) / t->stride[axis];
    if (r.end > outputs)
        r.end = outputs;
    return r;
}

/* Largest value of the window of y[n,c,p,q], the first of equals; NaN beats all. */
static float largest(const struct th_call *call, int64_t n, int64_t c, int64_t p,
    int64_t q, uint8_t *index)
{
    const struct th_args_maxpool *a = (const void *)call->args;
    const struct th_attr_pool *t = &call->attr.pool;
    const struct th_operand *x = &call->in[0];
    struct range v = covered(t, 0, p, x->shape.dim[2]);
    struct range h = covered(t, 1, q, x->shape.dim[3]);
    float best = -INFINITY;
    *index = (uint8_t)(v.begin * t->kernel[1] + h.begin);
    for (int64_t r = v.begin; r < v.end; r++)
        for (int64_t s = h.begin; s < h.end; s++) {
            int64_t at = th_ref_at(x, n, c, v.start + r, h.start + s);
            float value = ((const float *)a->x)[at];
            if (!(value > best || isnan(value)))
                continue;
            best = value;
            *index = (uint8_t)(r * t->kernel[1] + s);
        }
    return best;
}

thaw_status th_ref_maxpool(const struct th_call *call)
{
    const struct th_args_maxpool *a = (const void *)call->args;
    const int64_t *d = call->out[0].shape.dim;
    float *y = a->y;
    uint8_t *index = a->index_;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], p = i / d[3], q = i % d[3];
            int64_t at = th_ref_at(&call->out[0], n, c, p, q);
            uint8_t position;
            y[at] = largest(call, n, c, p, q, &position);
            if (index != NULL)
                index[at] = position;
        }
    return THAW_OK;
}

/* Gradient of x[n,c,u,v]: dy of the windows that chose it. */
static double gather_max(
    const struct th_call *call, int64_t n, int64_t c, int64_t u, int64_t v)
{
    const struct th_args_maxpool_dx *a = (const void *)call->args;
    const struct th_attr_pool *t = &call->attr.pool;
    const struct th_operand *dy = &call->in[0];
    struct range rows = covering(t, 0, u, dy->shape.dim[2]);
    struct range columns = covering(t, 1, v, dy->shape.dim[3]);
    double sum = 0;
    for (int64_t p = rows.begin; p < rows.end; p++)
        for (int64_t q = columns.begin; q < columns.end; q++) {
            int64_t r = u - (p * t->stride[0] - t->pad[0]);
            int64_t s = v - (q * t->stride[1] - t->pad[1]);
            int64_t at = th_ref_at(dy, n, c, p, q);
            if (((const uint8_t *)a->index)[at] == r * t->kernel[1] + s)
                sum += (double)((const float *)a->dy)[at];
        }
    return sum;
}

thaw_status th_ref_maxpool_dx(const struct th_call *call)
{
    const struct th_args_maxpool_dx *a = (const void *)call->args;
    const int64_t *d = call->out[0].shape.dim;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], u = i / d[3], v = i % d[3];
            int64_t at = th_ref_at(&call->out[0], n, c, u, v);
            dx[at] = (float)gather_max(call, n, c, u, v);
        }
    return THAW_OK;
}

/* Sum of v[n,c] over rows and columns of a plane, offsets included. */
static double sum_part(const struct th_operand *o, const float *v, int64_t n, int64_t c,
    struct range rows, struct range columns)
{
    double sum = 0;
    for (int64_t r = rows.begin; r < rows.end; r++)
        for (int64_t s = columns.begin; s < columns.end; s++)
            sum += (double)v[th_ref_at(o, n, c, rows.start + r, columns.start + s)];
    return sum;
}

thaw_status th_ref_avgpool(const struct th_call *call)
{
    const struct th_args_avgpool *a = (const void *)call->args;
    const struct th_attr_pool *t = &call->attr.pool;
    const int64_t *x = call->in[0].shape.dim, *d = call->out[0].shape.dim;
    double size = t->kernel[0] * t->kernel[1];
    float *y = a->y;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], p = i / d[3], q = i % d[3];
            double sum = sum_part(&call->in[0], a->x, n, c, covered(t, 0, p, x[2]),
                covered(t, 1, q, x[3]));
            y[th_ref_at(&call->out[0], n, c, p, q)] = (float)(sum / size);
        }
    return THAW_OK;
}

thaw_status th_ref_avgpool_dx(const struct th_call *call)
{
    const struct th_args_avgpool_dx *a = (const void *)call->args;
    const struct th_attr_pool *t = &call->attr.pool;
    const int64_t *dy = call->in[0].shape.dim, *d = call->out[0].shape.dim;
    double size = t->kernel[0] * t->kernel[1];
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], u = i / d[3], v = i % d[3];
            double sum = sum_part(&call->in[0], a->dy, n, c, covering(t, 0, u, dy[2]),
                covering(t, 1, v, dy[3]));
            dx[th_ref_at(&call->out[0], n, c, u, v)] = (float)(sum / size);
        }
    return THAW_OK;
}

thaw_status th_ref_gap(const struct th_call *call)
{
    const struct th_args_gap *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const int64_t *d = o->shape.dim;
    float *y = a->y;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++) {
        double sum = sum_part(o, a->x, m / d[1], m % d[1], (struct range){0, 0, d[2]},
            (struct range){0, 0, d[3]});
        y[m] = (float)(sum / (double)th_ref_plane(o));
    }
    return THAW_OK;
}

thaw_status th_ref_gap_dx(const struct th_call *call)
{
    const struct th_args_gap_dx *a = (const void *)call->args;
    const struct th_operand *o = &call->out[0];
    const int64_t *d = o->shape.dim, plane = th_ref_plane(o);
    const float *dy = a->dy;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++) {
        float *to = dx + th_ref_at(o, m / d[1], m % d[1], 0, 0);
        for (int64_t i = 0; i < plane; i++)
            to[i * th_ref_step(o)] = (float)((double)dy[m] / (double)plane);
    }
    return THAW_OK;
}

/* index: row * w + column, whatever the channel block. */
thaw_status th_ref_gmp(const struct th_call *call)
{
    const struct th_args_gmp *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const int64_t *d = o->shape.dim, plane = th_ref_plane(o), step = th_ref_step(o);
    float *y = a->y;
    int32_t *index = a->index_;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++) {
        const float *x = (const float *)a->x + th_ref_at(o, m / d[1], m % d[1], 0, 0);
        int64_t best = 0;
        for (int64_t i = 1; i < plane; i++)
            if (x[i * step] > x[best * step] || isnan(x[i * step]))
                best = i;
        y[m] = x[best * step];
        if (index)
            index[m] = (int32_t)best;
    }
    return THAW_OK;
}

thaw_status th_ref_gmp_dx(const struct th_call *call)
{
    const struct th_args_gmp_dx *a = (const void *)call->args;
    const struct th_operand *o = &call->out[0];
    const int64_t *d = o->shape.dim, plane = th_ref_plane(o), step = th_ref_step(o);
    const float *dy = a->dy;
    const int32_t *index = a->index;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++) {
        float *to = dx + th_ref_at(o, m / d[1], m % d[1], 0, 0);
        for (int64_t i = 0; i < plane; i++)
            to[i * step] = i == index[m] ? dy[m] : 0;
    }
    return THAW_OK;
}
