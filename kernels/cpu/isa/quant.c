/* SPDX-License-Identifier: Apache-2.0
 * Owns quantize, dequantize and maxpool_q for any channel block. A part is an image's
 * channel block of the real side, or an image; whole numbers mostly have their channels
 * last, so the innermost loops run along channels wherever these are neighbours. */
#include "lanes.h"

#include <math.h>

static int64_t block_of(const struct th_operand *o)
{
    return o->block > 1 ? o->block : 1;
}

/* Where channel c of pixel p of image n is: at + p * step, and its block's other channels
 * behind it. */
struct run_of {
    int64_t at, step;
};

static struct run_of channel(const struct th_operand *o, int64_t n, int64_t c)
{
    const int64_t *d = o->shape.dim, b = block_of(o), plane = d[2] * d[3];
    return (struct run_of){(n * (d[1] / b) + c / b) * plane * b + c % b, b};
}

/* Channels from c on that are neighbours on both sides. */
static int64_t neighbours(
    const struct th_operand *a, const struct th_operand *b, int64_t c)
{
    int64_t left_a = block_of(a) - c % block_of(a);
    int64_t left_b = block_of(b) - c % block_of(b);
    return left_a < left_b ? left_a : left_b;
}

/* The nearest whole number, ties to even, within least..most; NaN is `least`. */
TH_INLINE float nearest(float v, float least, float most)
{
    v = rintf(v);
    v = v > least ? v : least;
    return v < most ? v : most;
}

TH_INLINE void quantize_u8(const float *restrict x, int64_t n, int64_t step,
    float inverse, uint8_t *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (uint8_t)(int)nearest(x[i * step] * inverse, 0, UINT8_MAX);
}

TH_INLINE void quantize_i8(
    const float *restrict x, int64_t n, int64_t step, float inverse, int8_t *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (int8_t)(int)nearest(x[i * step] * inverse, INT8_MIN, INT8_MAX);
}

/* n values that lie `step` apart, to neighbours; a step of 1 gets a copy of its own. */
static void quantize_dense(
    const struct th_call *call, int64_t from, int64_t n, int64_t step, void *y)
{
    const struct th_args_quantize *a = (const void *)call->args;
    const float *x = (const float *)a->x + from;
    float inverse = 1 / *(const float *)a->scale;
    if (call->out[0].dtype == TH_I8 && step == 1)
        quantize_i8(x, n, 1, inverse, y);
    else if (call->out[0].dtype == TH_I8)
        quantize_i8(x, n, step, inverse, y);
    else if (step == 1)
        quantize_u8(x, n, 1, inverse, y);
    else
        quantize_u8(x, n, step, inverse, y);
}

/* One channel of an image, by way of the stack, so that only whole bytes are scattered. */
static void quantize_channel(
    const struct th_call *call, struct run_of from, struct run_of to, int64_t n)
{
    const struct th_args_quantize *a = (const void *)call->args;
    uint8_t dense[512], *y = (uint8_t *)a->y + to.at;
    for (int64_t i = 0; i < n; i += (int64_t)sizeof dense) {
        int64_t left = n - i, most = (int64_t)sizeof dense;
        int64_t count = left < most ? left : most;
        quantize_dense(call, from.at + i * from.step, count, from.step, dense);
        for (int64_t k = 0; k < count; k++)
            y[(i + k) * to.step] = dense[k];
    }
}

/* One image. */
static void quantize_part(const struct th_call *call, int64_t n)
{
    uint8_t *y_at = ((const struct th_args_quantize *)(const void *)call->args)->y;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = x->shape.dim, plane = d[2] * d[3];
    for (int64_t c = 0; c < d[1];) {
        int64_t lanes = neighbours(x, y, c);
        struct run_of from = channel(x, n, c), to = channel(y, n, c);
        if (lanes == 1)
            quantize_channel(call, from, to, plane);
        for (int64_t p = 0; lanes > 1 && p < plane; p++)
            quantize_dense(
                call, from.at + p * from.step, lanes, 1, y_at + to.at + p * to.step);
        c += lanes;
    }
}

TH_OWN(quantize)
{
    th_parallel(call, call->in[0].shape.dim[0], quantize_part);
    return THAW_OK;
}

TH_INLINE void dequantize_row(const struct th_call *call, int64_t from, int64_t to,
    int64_t n, int64_t x_step, int64_t y_step)
{
    const struct th_args_dequantize *a = (const void *)call->args;
    const uint8_t *restrict u = (const uint8_t *)a->x + from;
    const int8_t *restrict i8 = (const int8_t *)a->x + from;
    float *restrict y = (float *)a->y + to, scale = *(const float *)a->scale;
    if (call->in[0].dtype == TH_I8)
        for (int64_t i = 0; i < n; i++)
            y[i * y_step] = scale * (float)i8[i * x_step];
    else
        for (int64_t i = 0; i < n; i++)
            y[i * y_step] = scale * (float)u[i * x_step];
}

static void dequantize_part(const struct th_call *call, int64_t n)
{
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = x->shape.dim, plane = d[2] * d[3];
    for (int64_t c = 0; c < d[1];) {
        int64_t lanes = neighbours(x, y, c);
        struct run_of from = channel(x, n, c), to = channel(y, n, c);
        if (lanes == 1)
            dequantize_row(call, from.at, to.at, plane, from.step, to.step);
        for (int64_t p = 0; lanes > 1 && p < plane; p++)
            dequantize_row(
                call, from.at + p * from.step, to.at + p * to.step, lanes, 1, 1);
        c += lanes;
    }
}

TH_OWN(dequantize)
{
    th_parallel(call, call->in[0].shape.dim[0], dequantize_part);
    return THAW_OK;
}

/* Max pooling of whole numbers ------------------------------------------------------- */

TH_INLINE void larger_u8(const uint8_t *restrict x, int64_t n, uint8_t *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

TH_INLINE void larger_i8(const int8_t *restrict x, int64_t n, int8_t *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

/* Positions begin <= i < end of an input axis that the window of output p covers. */
static void covered(const struct th_attr_pool *t, int axis, int64_t p, int64_t size,
    int64_t *begin, int64_t *end)
{
    int64_t from = p * t->stride[axis] - t->pad[axis], to = from + t->kernel[axis];
    *begin = from < 0 ? 0 : from;
    *end = to > size ? size : to;
}

/* One row of outputs of one channel block; x and y have the same block. */
static void max_row(
    const struct th_call *call, const uint8_t *x, int64_t b, int64_t p, uint8_t *y)
{
    const struct th_attr_pool *t = &call->attr.pool;
    const int64_t *d = call->in[0].shape.dim, width = call->out[0].shape.dim[3];
    bool is_signed = call->in[0].dtype == TH_I8;
    int64_t top, bottom, left, right;
    covered(t, 0, p, d[2], &top, &bottom);
    for (int64_t q = 0; q < width; q++, y += b) {
        covered(t, 1, q, d[3], &left, &right);
        memcpy(y, x + (top * d[3] + left) * b, (size_t)b);
        for (int64_t u = top; u < bottom; u++)
            for (int64_t v = left; v < right; v++) {
                const uint8_t *from = x + (u * d[3] + v) * b;
                if (is_signed)
                    larger_i8((const int8_t *)from, b, (int8_t *)y);
                else
                    larger_u8(from, b, y);
            }
    }
}

/* One channel block of one image. */
static void maxpool_q_part(const struct th_call *call, int64_t part)
{
    const struct th_args_maxpool_q *a = (const void *)call->args;
    const int64_t *d = call->in[0].shape.dim, *e = call->out[0].shape.dim;
    int64_t b = block_of(&call->in[0]);
    const uint8_t *x = (const uint8_t *)a->x + part * d[2] * d[3] * b;
    uint8_t *y = (uint8_t *)a->y + part * e[2] * e[3] * b;
    for (int64_t p = 0; p < e[2]; p++)
        max_row(call, x, b, p, y + p * e[3] * b);
}

TH_OWN(maxpool_q)
{
    const int64_t *d = call->in[0].shape.dim;
    th_parallel(call, d[0] * (d[1] / block_of(&call->in[0])), maxpool_q_part);
    return THAW_OK;
}
