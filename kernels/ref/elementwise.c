/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of add, scale, shortcut_a, reorder, view. Formulas:
 * kernels/elementwise.c. */
#include "ref.h"

#include <string.h>

thaw_status th_ref_add(const struct th_call *call)
{
    const struct th_args_add *t = (const void *)call->args;
    const float *a = t->a, *b = t->b;
    float *y = t->y;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        y[i] = a[i] + b[i];
    return THAW_OK;
}

thaw_status th_ref_scale(const struct th_call *call)
{
    const struct th_args_scale *a = (const void *)call->args;
    const float *x = a->x;
    float *y = a->y, factor = call->attr.scale.factor;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        y[i] = factor * x[i];
    return THAW_OK;
}

/* Channel of x that y's channel c shows, -1 where it is zero. */
static int64_t shown(
    const struct th_attr_shortcut *t, const struct th_operand *x, int64_t c)
{
    return c < t->front || c - t->front >= x->shape.dim[1] ? -1 : c - t->front;
}

thaw_status th_ref_shortcut_a(const struct th_call *call)
{
    const struct th_args_shortcut_a *a = (const void *)call->args;
    const struct th_attr_shortcut *t = &call->attr.shortcut;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = y->shape.dim;
    const float *from = a->x;
    float *to = a->y;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], p = i / d[3], q = i % d[3], c = shown(t, x, m % d[1]);
            to[th_ref_at(y, n, m % d[1], p, q)] =
                c < 0 ? 0 : from[th_ref_at(x, n, c, p * t->stride, q * t->stride)];
        }
    return THAW_OK;
}

thaw_status th_ref_shortcut_a_dx(const struct th_call *call)
{
    const struct th_args_shortcut_a_dx *a = (const void *)call->args;
    const struct th_attr_shortcut *t = &call->attr.shortcut;
    const struct th_operand *dy = &call->in[0], *dx = &call->out[0];
    const int64_t *d = dx->shape.dim;
    const float *from = a->dy;
    float *to = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], u = i / d[3], v = i % d[3];
            bool seen = u % t->stride == 0 && v % t->stride == 0;
            to[th_ref_at(dx, n, c, u, v)] = !seen ? 0
                                                  : from[th_ref_at(dy, n, t->front + c,
                                                        u / t->stride, v / t->stride)];
        }
    return THAW_OK;
}

/* Place in `from` of the value that is at `place` of `to`. */
static int64_t moved(
    const struct th_operand *from, const struct th_operand *to, int64_t place)
{
    int64_t i = th_ref_canonical(to, place), b = th_ref_step(from);
    if (b == 1)
        return i;
    int64_t plane = th_ref_plane(from), block = plane * b;
    return i / block * block + i % plane * b + i / plane % b;
}

static void move_bits(const struct th_call *call, const uint8_t *from, uint8_t *to)
{
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i0 = 0; i0 < count; i0 += 8) {
        unsigned bits = 0;
        for (int64_t i = i0; i < i0 + 8 && i < count; i++) {
            int64_t at = moved(&call->in[0], &call->out[0], i);
            bits |= (unsigned)th_ref_bit(from, at) << (i - i0);
        }
        to[i0 / 8] = (uint8_t)bits;
    }
}

/* Between fp32 and bf16. */
static void convert(const struct th_call *call, const void *x, void *y)
{
    int64_t count = th_shape_count(&call->in[0].shape);
    bool narrows = call->out[0].dtype == TH_BF16;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        int64_t at = moved(&call->in[0], &call->out[0], i);
        if (narrows)
            ((uint16_t *)y)[i] = th_bf16_of(((const float *)x)[at]);
        else
            ((float *)y)[i] = th_bf16_value(((const uint16_t *)x)[at]);
    }
}

/* Any type; between any two blocks that divide the channels. */
thaw_status th_ref_reorder(const struct th_call *call)
{
    const struct th_args_reorder *a = (const void *)call->args;
    const char *from = a->x;
    char *to = a->y;
    int64_t count = th_shape_count(&call->in[0].shape);
    int64_t size = (int64_t)th_dtype_bytes(call->in[0].dtype, 1);
    if (call->in[0].dtype == TH_BIT) {
        move_bits(call, a->x, a->y);
        return THAW_OK;
    }
    if (call->in[0].dtype != call->out[0].dtype) {
        convert(call, a->x, a->y);
        return THAW_OK;
    }
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        memcpy(to + i * size, from + moved(&call->in[0], &call->out[0], i) * size,
            (size_t)size);
    return THAW_OK;
}

thaw_status th_ref_view(const struct th_call *call)
{
    const struct th_args_view *a = (const void *)call->args;
    if (a->y != a->x)
        memcpy(a->y, a->x, th_operand_bytes(&call->in[0]));
    return THAW_OK;
}

thaw_status th_ref_concat(const struct th_call *call)
{
    const struct th_args_concat *a = (const void *)call->args;
    int64_t n = call->in[0].shape.dim[0];
    int64_t p = call->in[0].shape.dim[1], q = call->in[1].shape.dim[1];
    float *y = a->y;
    for (int64_t r = 0; r < n; r++) {
        memcpy(y + r * (p + q), (const float *)a->a + r * p, (size_t)p * sizeof *y);
        memcpy(y + r * (p + q) + p, (const float *)a->b + r * q, (size_t)q * sizeof *y);
    }
    return THAW_OK;
}

/* Where one part is not wanted, the other says what its width is. */
thaw_status th_ref_concat_dx(const struct th_call *call)
{
    const struct th_args_concat_dx *a = (const void *)call->args;
    int64_t n = call->in[0].shape.dim[0], width = call->in[0].shape.dim[1];
    int64_t q = a->db_ ? call->out[1].shape.dim[1] : width - call->out[0].shape.dim[1];
    int64_t p = width - q;
    const float *dy = a->dy;
    for (int64_t r = 0; r < n; r++) {
        const float *row = dy + r * width;
        if (a->da_)
            memcpy((float *)a->da_ + r * p, row, (size_t)p * sizeof *row);
        if (a->db_)
            memcpy((float *)a->db_ + r * q, row + p, (size_t)q * sizeof *row);
    }
    return THAW_OK;
}
