/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of the int8 prefix. Formulas: kernels/quant.c. Sums are taken
 * in whole numbers and have no rounding; what follows them is in floats, step by step. */
#include "ref.h"

#include <math.h>

enum { LARGEST_WEIGHT = 127 }; /* -128 is left out: the range is symmetric */

/* Value i of a u8 or i8 tensor. */
static int32_t whole_at(const struct th_operand *o, const void *x, int64_t i)
{
    return o->dtype == TH_I8 ? ((const int8_t *)x)[i] : ((const uint8_t *)x)[i];
}

/* v as value i of a tensor of any of the three types. */
static void put(const struct th_operand *o, void *y, int64_t i, float v)
{
    float least = o->dtype == TH_I8 ? INT8_MIN : 0;
    float most = o->dtype == TH_I8 ? INT8_MAX : UINT8_MAX;
    if (o->dtype == TH_F32) {
        ((float *)y)[i] = v;
        return;
    }
    v = rintf(v);
    v = v > least ? v : least; /* NaN becomes the least */
    v = v < most ? v : most;
    if (o->dtype == TH_I8)
        ((int8_t *)y)[i] = (int8_t)v;
    else
        ((uint8_t *)y)[i] = (uint8_t)v;
}

thaw_status th_ref_quantize(const struct th_call *call)
{
    const struct th_args_quantize *a = (const void *)call->args;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = x->shape.dim;
    float inverse = 1 / *(const float *)a->scale;
    const float *from = a->x;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], p = i / d[3], q = i % d[3];
            put(y, a->y, th_ref_at(y, n, c, p, q),
                from[th_ref_at(x, n, c, p, q)] * inverse);
        }
    return THAW_OK;
}

thaw_status th_ref_dequantize(const struct th_call *call)
{
    const struct th_args_dequantize *a = (const void *)call->args;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = x->shape.dim;
    float scale = *(const float *)a->scale, *to = a->y;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], p = i / d[3], q = i % d[3];
            to[th_ref_at(y, n, c, p, q)] =
                scale * (float)whole_at(x, a->x, th_ref_at(x, n, c, p, q));
        }
    return THAW_OK;
}

/* The filter's scale; 1 for one that is zero. */
static float filter_scale(const float *w, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    return most > 0 ? most / LARGEST_WEIGHT : 1;
}

thaw_status th_ref_conv_q_weights(const struct th_call *call)
{
    const struct th_args_conv_q_weights *a = (const void *)call->args;
    const int64_t *d = call->in[0].shape.dim;
    int64_t outputs = d[0], size = d[1] * d[2] * d[3];
    const float *x_scale = a->x_scale, *add = a->add_scale_, *y = a->y_scale_;
    const float *w = a->w, *bias = a->b_;
    int8_t *wq = a->wq;
    float *affine = a->affine, *rescale = a->rescale_;
    double to = add ? (double)*add : y ? (double)*y : 1;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < outputs; o++) {
        float s = filter_scale(w + o * size, size);
        double unit = (double)*x_scale * (double)s;
        for (int64_t i = o * size; i < (o + 1) * size; i++)
            put(&call->out[0], wq, i, w[i] / s);
        affine[o] = (float)(unit / to);
        affine[outputs + o] = bias ? (float)((double)bias[o] / unit) : 0;
    }
    if (rescale)
        *rescale = (float)(to / (y ? (double)*y : 1));
    return THAW_OK;
}

/* The filter of output o at y[n,o,p,q]. */
static int64_t sum_at(
    const struct th_call *call, int64_t n, int64_t o, int64_t p, int64_t q)
{
    const struct th_args_conv_q *a = (const void *)call->args;
    const struct th_attr_conv *t = &call->attr.conv;
    const struct th_operand *x = &call->in[0];
    const int64_t *d = x->shape.dim, *w = call->in[1].shape.dim;
    const int8_t *filter = (const int8_t *)a->w + o * w[1] * w[2] * w[3];
    int64_t first = o / (w[0] / t->groups) * w[1], sum = 0;
    for (int64_t r = 0; r < w[2]; r++)
        for (int64_t s = 0; s < w[3]; s++) {
            int64_t u = p * t->stride[0] + r * t->dilation[0] - t->pad[0];
            int64_t v = q * t->stride[1] + s * t->dilation[1] - t->pad[1];
            if (u < 0 || u >= d[2] || v < 0 || v >= d[3])
                continue;
            for (int64_t i = 0; i < w[1]; i++)
                sum += whole_at(x, a->x, th_ref_at(x, n, first + i, u, v)) *
                       filter[(i * w[2] + r) * w[3] + s];
        }
    return sum;
}

thaw_status th_ref_conv_q(const struct th_call *call)
{
    const struct th_args_conv_q *a = (const void *)call->args;
    const struct th_operand *y = &call->out[0], *add = &call->in[4];
    const int64_t *d = y->shape.dim;
    const float *affine = a->affine, *rescale = a->rescale_;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], o = m % d[1], p = i / d[3], q = i % d[3];
            float v = (float)sum_at(call, n, o, p, q) + affine[d[1] + o];
            v *= affine[o];
            if (a->add_)
                v += (float)whole_at(add, a->add_, th_ref_at(add, n, o, p, q));
            if (rescale)
                v *= *rescale;
            if (call->attr.conv.relu && v < 0)
                v = 0;
            put(y, a->y, th_ref_at(y, n, o, p, q), v);
        }
    return THAW_OK;
}

/* The largest value in the window of y[n,c,p,q]. */
static int32_t largest(
    const struct th_call *call, int64_t n, int64_t c, int64_t p, int64_t q)
{
    const struct th_args_maxpool_q *a = (const void *)call->args;
    const struct th_attr_pool *t = &call->attr.pool;
    const struct th_operand *x = &call->in[0];
    const int64_t *d = x->shape.dim;
    int32_t best = INT32_MIN;
    for (int64_t r = 0; r < t->kernel[0]; r++)
        for (int64_t s = 0; s < t->kernel[1]; s++) {
            int64_t u = p * t->stride[0] + r - t->pad[0];
            int64_t v = q * t->stride[1] + s - t->pad[1];
            if (u < 0 || u >= d[2] || v < 0 || v >= d[3])
                continue;
            int32_t value = whole_at(x, a->x, th_ref_at(x, n, c, u, v));
            best = value > best ? value : best;
        }
    return best;
}

thaw_status th_ref_maxpool_q(const struct th_call *call)
{
    const struct th_args_maxpool_q *a = (const void *)call->args;
    const struct th_operand *y = &call->out[0];
    const int64_t *d = y->shape.dim;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], p = i / d[3], q = i % d[3];
            put(y, a->y, th_ref_at(y, n, c, p, q), (float)largest(call, n, c, p, q));
        }
    return THAW_OK;
}
