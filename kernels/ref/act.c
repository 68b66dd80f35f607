/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of relu, gelu, dropout, drop_path. Formulas: kernels/act.c. */
#include "ref.h"

#include "rng.h"

#include <math.h>

static const double SQRT_HALF = 0.70710678118654752440;      /* 1/sqrt(2) */
static const double NORMAL_DENSITY = 0.39894228040143267794; /* 1/sqrt(2 pi) */
static const double SQRT_2_PI = 0.79788456080286535588;      /* sqrt(2/pi) */
static const double CUBIC = 0.044715, QUICK = 1.702;         /* kernels/act.c */

thaw_status th_ref_relu(const struct th_call *call)
{
    const struct th_args_relu *a = (const void *)call->args;
    const float *x = a->x;
    float *y = a->y;
    uint8_t *mask = a->mask_;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i0 = 0; i0 < count; i0 += 8) {
        unsigned bits = 0;
        for (int64_t i = i0; i < i0 + 8 && i < count; i++) {
            y[i] = x[i] <= 0 ? 0 : x[i]; /* NaN stays NaN */
            bits |= (unsigned)(y[i] > 0) << (i - i0);
        }
        if (mask != NULL)
            mask[i0 / 8] = (uint8_t)bits;
    }
    return THAW_OK;
}

thaw_status th_ref_relu_dx(const struct th_call *call)
{
    const struct th_args_relu_dx *a = (const void *)call->args;
    const float *dy = a->dy, *add = a->add_;
    float *dx = a->dx;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        dx[i] = th_ref_bit(a->mask, i) ? dy[i] + (add ? add[i] : 0) : 0;
    return THAW_OK;
}

/* f(v) of one kind; *slope: its derivative. */
static double gelu(enum th_gelu kind, double v, double *slope)
{
    double below;
    if (kind == TH_GELU_QUICK) {
        below = 1 / (1 + exp(-QUICK * v));
        *slope = below * (1 + QUICK * v * (1 - below));
    } else if (kind == TH_GELU_TANH) {
        double t = tanh(SQRT_2_PI * (v + CUBIC * v * v * v));
        below = 0.5 * (1 + t);
        *slope = below + 0.5 * v * (1 - t * t) * SQRT_2_PI * (1 + 3 * CUBIC * v * v);
    } else {
        below = 0.5 * (1 + erf(v * SQRT_HALF));
        *slope = below + v * NORMAL_DENSITY * exp(-0.5 * v * v);
    }
    return v * below;
}

thaw_status th_ref_gelu(const struct th_call *call)
{
    const struct th_args_gelu *a = (const void *)call->args;
    const float *x = a->x;
    float *y = a->y;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        double slope;
        y[i] = (float)gelu(call->attr.act.kind, (double)x[i], &slope);
    }
    return THAW_OK;
}

thaw_status th_ref_gelu_dx(const struct th_call *call)
{
    const struct th_args_gelu_dx *a = (const void *)call->args;
    const float *dy = a->dy, *x = a->x;
    float *dx = a->dx;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        double slope;
        gelu(call->attr.act.kind, (double)x[i], &slope);
        dx[i] = (float)((double)dy[i] * slope);
    }
    return THAW_OK;
}

static uint64_t key_of(const int32_t *keys, int64_t sample)
{
    return (uint32_t)keys[sample * 2] | (uint64_t)(uint32_t)keys[sample * 2 + 1] << 32;
}

/* to = from where the draw keeps it, scaled; to may be from. Value i of a sample takes
 * draw i of the sample's key in row-major order, whatever the layout. */
static void drop(
    const struct th_call *call, const float *from, const int32_t *keys, float *to)
{
    const struct th_operand *o = &call->in[0];
    const struct th_attr_dropout *t = &call->attr.dropout;
    int64_t count = th_shape_count(&o->shape), sample = count / o->shape.dim[0];
    float scale = (float)(1 / (1 - (double)t->p));
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        uint64_t key = key_of(keys, i / sample);
        uint64_t element = (uint64_t)(th_ref_canonical(o, i) % sample);
        float r = th_rng_uniform(th_rng_mix(key, t->layer), element);
        to[i] = r >= t->p ? from[i] * scale : 0;
    }
}

thaw_status th_ref_dropout(const struct th_call *call)
{
    const struct th_args_dropout *a = (const void *)call->args;
    drop(call, a->x, a->keys, a->y);
    return THAW_OK;
}

thaw_status th_ref_dropout_dx(const struct th_call *call)
{
    const struct th_args_dropout_dx *a = (const void *)call->args;
    drop(call, a->dy, a->keys, a->dx);
    return THAW_OK;
}

/* to = from of samples whose draw keeps them, scaled, else 0; to may be from. */
static void drop_samples(
    const struct th_call *call, const float *from, const int32_t *keys, float *to)
{
    const struct th_operand *o = &call->in[0];
    const struct th_attr_dropout *t = &call->attr.dropout;
    int64_t count = th_shape_count(&o->shape), sample = count / o->shape.dim[0];
    float scale = (float)(1 / (1 - (double)t->p));
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t n = 0; n < o->shape.dim[0]; n++) {
        float r = th_rng_uniform(th_rng_mix(key_of(keys, n), t->layer), 0);
        for (int64_t i = n * sample; i < (n + 1) * sample; i++)
            to[i] = r >= t->p ? from[i] * scale : 0;
    }
}

thaw_status th_ref_drop_path(const struct th_call *call)
{
    const struct th_args_drop_path *a = (const void *)call->args;
    drop_samples(call, a->x, a->keys, a->y);
    return THAW_OK;
}

thaw_status th_ref_drop_path_dx(const struct th_call *call)
{
    const struct th_args_drop_path_dx *a = (const void *)call->args;
    drop_samples(call, a->dy, a->keys, a->dx);
    return THAW_OK;
}
