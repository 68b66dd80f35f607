/* SPDX-License-Identifier: Apache-2.0
 * Owns the BatchNorm kernels. Formulas: kernels/norm.c; CUDA and CPU agree on them. */
#include "plane.h"

#include <math.h>

/* Statistics ------------------------------------------------------------------------ */

static void bn_stats_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_bn_stats *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    struct moments *partial = call->scratch; /* [n][channels] */
    plane_moments((const float *)a->x + plane * s.size, s, partial + plane * s.b);
}

static void bn_stats_channels(const struct th_call *call, int64_t block)
{
    const struct th_args_bn_stats *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    const struct moments *partial = call->scratch;
    float *mean = a->mean, *var = a->var;
    for (int64_t c = block * s.b; c < (block + 1) * s.b; c++) {
        struct moments all = {0};
        for (int64_t n = 0; n < s.n; n++)
            merge(&all, partial[n * s.channels + c]);
        mean[c] = (float)all.mean;
        var[c] = (float)(all.m2 / all.n);
    }
}

TH_OWN(bn_stats)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, bn_stats_plane);
    th_parallel(call, s.blocks, bn_stats_channels);
    return THAW_OK;
}

/* Applying -------------------------------------------------------------------------- */

/* 1/sqrt(var+eps) over the lanes of a plane. */
TH_INLINE v16 inverse_deviation(
    const float *var, float eps, struct planes s, int64_t plane)
{
    float lanes[TH_GROUP];
    const float *first = var + plane % s.blocks * s.b;
    for (int i = 0; i < TH_GROUP; i++)
        lanes[i] = 1.0f / sqrtf(first[i % s.b] + eps);
    return v_load(lanes);
}

static void bn_apply_part(const struct th_call *call, int64_t part)
{
    const struct th_args_bn_apply *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    struct apply apply = {.x = a->x,
        .add = a->add_,
        .y = a->y,
        .mask = a->mask_,
        .relu = call->attr.norm.relu};
    int64_t each = planes_in_part(s), end = (part + 1) * each;
    for (int64_t i = part * each; i < end && i < s.n * s.blocks; i++) {
        apply.mean = v_channels(a->mean, s, i);
        apply.scale = v_mul(v_channels(a->gamma, s, i),
            inverse_deviation(a->var, call->attr.norm.eps, s, i));
        apply.beta = v_channels(a->beta, s, i);
        apply_plane(apply, i * s.size, s.size);
    }
}

/* Parts of one or a few planes each. */
static int64_t parts_of(struct planes s)
{
    int64_t each = planes_in_part(s);
    return (s.n * s.blocks + each - 1) / each;
}

TH_OWN(bn_apply)
{
    th_parallel(call, parts_of(planes_of(&call->in[0])), bn_apply_part);
    return THAW_OK;
}

TH_OWN(bn_update)
{
    const struct th_args_bn_update *a = (const void *)call->args;
    const struct th_scalars *scalars = a->scalars;
    const float *mean = a->mean, *var = a->var;
    float *running_mean = a->running_mean, *running_var = a->running_var;
    float m = call->attr.norm.momentum;
    float bessel = (float)call->attr.norm.count / (float)(call->attr.norm.count - 1);
    if (scalars->skip != 0)
        return THAW_OK;
    for (int64_t c = 0; c < th_shape_count(&call->in[0].shape); c++) {
        running_mean[c] = (1 - m) * running_mean[c] + m * mean[c];
        running_var[c] = (1 - m) * running_var[c] + m * (var[c] * bessel);
    }
    return THAW_OK;
}

/* w' = w*gamma*i, b' = (b-mean)*gamma*i + beta; part o is one output channel. */
static void bn_fold_channel(const struct th_call *call, int64_t o)
{
    const struct th_args_bn_fold *a = (const void *)call->args;
    int64_t n = th_shape_count(&call->in[0].shape) / call->in[0].shape.dim[0];
    const float *w = (const float *)a->w + o * n, *b = a->b_, *mean = a->mean;
    const float *var = a->var, *gamma = a->gamma, *beta = a->beta;
    float *folded = (float *)a->w_folded + o * n, *b_folded = a->b_folded;
    float scale = gamma[o] * (1.0f / sqrtf(var[o] + call->attr.norm.eps));
    for (int64_t i = 0; i < n; i++)
        folded[i] = w[i] * scale;
    b_folded[o] = ((b ? b[o] : 0) - mean[o]) * scale + beta[o];
}

TH_OWN(bn_fold)
{
    th_parallel(call, call->in[0].shape.dim[0], bn_fold_channel);
    return THAW_OK;
}

/* Gradients ------------------------------------------------------------------------- */

static void bn_reduce_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_bn_reduce *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    struct sums *partial =
        (struct sums *)call->scratch + plane * s.b; /* [n][channels] */
    struct reduce r = {a->dy, a->x, a->mask_, v_channels(a->mean, s, plane)};
    reduce_plane(&r, s, plane, partial);
}

static void bn_reduce_channels(const struct th_call *call, int64_t block)
{
    const struct th_args_bn_reduce *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    const struct sums *partial = call->scratch;
    const float *var = a->var;
    float *dgamma = a->dgamma, *dbeta = a->dbeta;
    for (int64_t c = block * s.b; c < (block + 1) * s.b; c++) {
        struct sums all = {0};
        for (int64_t n = 0; n < s.n; n++) {
            all.dy += partial[n * s.channels + c].dy;
            all.dyx += partial[n * s.channels + c].dyx;
        }
        dbeta[c] = (float)all.dy;
        dgamma[c] =
            (float)(all.dyx / sqrt((double)var[c] + (double)call->attr.norm.eps));
    }
}

TH_OWN(bn_reduce)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, bn_reduce_plane);
    th_parallel(call, s.blocks, bn_reduce_channels);
    return THAW_OK;
}

/* dx = g*i*(dy - dbeta/N - (x-mean)*i*i*S(dy*(x-mean))/N), dgamma = i*S(dy*(x-mean)) */
static void bn_dx_batch_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_bn_dx_batch *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    v16 i = inverse_deviation(a->var, call->attr.norm.eps, s, plane);
    v16 slope = v_mul(v_channels(a->gamma, s, plane), i);
    v16 share = v_mul(slope, v_all(-1.0f / (float)(s.n * (s.size / s.b))));
    struct affine affine = {.dy = a->dy,
        .x = a->x,
        .mask = a->mask_,
        .dx = a->dx,
        .slope = slope,
        .mean = v_channels(a->mean, s, plane),
        .x_slope = v_mul(v_mul(share, i), v_channels(a->dgamma, s, plane)),
        .offset = v_mul(share, v_channels(a->dbeta, s, plane))};
    affine_plane(affine, plane * s.size, s.size);
}

TH_OWN(bn_dx_batch)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, bn_dx_batch_part);
    return THAW_OK;
}

static void bn_dx_running_part(const struct th_call *call, int64_t plane)
{
    const struct th_args_bn_dx_running *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    struct affine affine = {.dy = a->dy,
        .mask = a->mask_,
        .dx = a->dx,
        .slope = v_mul(v_channels(a->gamma, s, plane),
            inverse_deviation(a->var, call->attr.norm.eps, s, plane))};
    affine_plane(affine, plane * s.size, s.size);
}

TH_OWN(bn_dx_running)
{
    struct planes s = planes_of(&call->in[0]);
    th_parallel(call, s.n * s.blocks, bn_dx_running_part);
    return THAW_OK;
}
