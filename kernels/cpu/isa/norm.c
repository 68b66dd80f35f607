/* SPDX-License-Identifier: Apache-2.0
 * Owns the BatchNorm kernels. Formulas: kernels/norm.c; CUDA and CPU agree on them.
 *
 * Nothing here subtracts large sums: variances are sums of squared deviations from a
 * nearby mean (Chan, Golub, LeVeque 1983), and gradients work with x - mean. Memory is
 * read once: a slice of a plane stays in the first cache for the second look. Values are
 * summed in float over a slice and in double beyond it. */
#include "lanes.h"

#include <math.h>

enum { SLICE = 4096 }; /* floats: half of a first-level cache of 32 KiB */

/* Number, mean and sum of squared deviations of some values. */
struct moments {
    double n, mean, m2;
};

TH_INLINE void merge(struct moments *a, struct moments b)
{
    if (b.n == 0)
        return;
    double n = a->n + b.n, delta = b.mean - a->mean;
    a->mean += delta * (b.n / n);
    a->m2 += b.m2 + delta * delta * (a->n * b.n / n);
    a->n = n;
}

/* Statistics ------------------------------------------------------------------------ */

/* Moments of each lane over full groups. */
struct lane_moments {
    double n, mean[TH_GROUP], m2[TH_GROUP];
};

/* Moments of `count` groups: deviations from `near` sum to d, their squares to dd. */
TH_INLINE void lane_merge(struct lane_moments *a, int64_t count, const float *near,
    const float *d, const float *dd)
{
    double size = (double)count, n = a->n + size, share = size / n, both = a->n * share;
    for (int i = 0; i < TH_GROUP; i++) {
        double off = (double)d[i] / size, delta = (double)near[i] + off - a->mean[i];
        a->mean[i] += delta * share;
        a->m2[i] += (double)dd[i] - (double)d[i] * off + delta * delta * both;
    }
    a->n = n;
}

TH_INLINE v16 sum_groups(const float *x, int64_t n)
{
    v16 s[4] = {v_all(0), v_all(0), v_all(0), v_all(0)};
    int64_t i = 0;
    for (; i + 4 * TH_GROUP <= n; i += 4 * TH_GROUP)
        for (int k = 0; k < 4; k++)
            s[k] = v_add(s[k], v_load(x + i + k * TH_GROUP));
    for (; i < n; i += TH_GROUP)
        s[0] = v_add(s[0], v_load(x + i));
    return v_add(v_add(s[0], s[1]), v_add(s[2], s[3]));
}

/* Sums of x - near and of its square. */
TH_INLINE void sum_deviations(const float *x, int64_t n, v16 near, v16 *d, v16 *dd)
{
    v16 s[2] = {v_all(0), v_all(0)}, ss[2] = {v_all(0), v_all(0)};
    int64_t i = 0;
    for (; i + 2 * TH_GROUP <= n; i += 2 * TH_GROUP)
        for (int k = 0; k < 2; k++) {
            v16 e = v_sub(v_load(x + i + k * TH_GROUP), near);
            s[k] = v_add(s[k], e);
            ss[k] = v_add(ss[k], v_mul(e, e));
        }
    for (; i < n; i += TH_GROUP) {
        v16 e = v_sub(v_load(x + i), near);
        s[0] = v_add(s[0], e);
        ss[0] = v_add(ss[0], v_mul(e, e));
    }
    *d = v_add(s[0], s[1]);
    *dd = v_add(ss[0], ss[1]);
}

/* Moments of one plane's channels into out[b]. */
static void plane_moments(const float *x, struct planes s, struct moments *out)
{
    struct lane_moments all = {0};
    float near[TH_GROUP], d[TH_GROUP], dd[TH_GROUP];
    int64_t full = s.size / TH_GROUP * TH_GROUP;
    for (int64_t i = 0; i < full; i += SLICE) {
        int64_t n = full - i < SLICE ? full - i : SLICE, groups = n / TH_GROUP;
        v16 mean = v_mul(sum_groups(x + i, n), v_all(1.0f / (float)groups)), sum,
            squares;
        sum_deviations(x + i, n, mean, &sum, &squares);
        v_store(near, mean);
        v_store(d, sum);
        v_store(dd, squares);
        lane_merge(&all, groups, near, d, dd);
    }
    memset(out, 0, sizeof *out * (size_t)s.b);
    for (int i = 0; i < TH_GROUP; i++)
        merge(&out[i % s.b], (struct moments){all.n, all.mean[i], all.m2[i]});
    for (int64_t i = full; i < s.size; i++)
        merge(&out[(i - full) % s.b], (struct moments){1, (double)x[i], 0});
}

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

struct apply {
    const float *x, *add;
    float *y;
    uint8_t *mask;
    bool relu;
    v16 mean, scale, beta;
};

/* n <= 16 values from `at` on. */
TH_INLINE void apply_group(const struct apply *a, int64_t at, int n)
{
    v16 zero = v_all(0);
    v16 y = v_mul(v_sub(v_load_n(a->x + at, n, zero), a->mean), a->scale);
    y = v_add(y, a->beta);
    if (a->add)
        y = v_add(y, v_load_n(a->add + at, n, zero));
    if (a->relu)
        y = v_max(zero, y);
    if (a->mask)
        bits_write(a->mask, at, n, v_positive(y));
    v_store_n(a->y + at, n, y);
}

static void apply_plane(struct apply a, int64_t from, int64_t size)
{
    int64_t full = from + size / TH_GROUP * TH_GROUP, end = from + size;
    for (int64_t i = from; i < full; i += TH_GROUP)
        apply_group(&a, i, TH_GROUP);
    if (full < end)
        apply_group(&a, full, (int)(end - full));
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

/* S(dy) and S(dy*(x-mean)) of some values of a channel. */
struct sums {
    double dy, dyx;
};

struct reduce {
    const float *dy, *x;
    const uint8_t *mask;
    v16 mean;
};

TH_INLINE void reduce_group(
    const struct reduce *r, int64_t at, int n, v16 *sum, v16 *product)
{
    v16 dy = v_load_n(r->dy + at, n, v_all(0));
    if (r->mask)
        dy = v_keep(dy, bits_read(r->mask, at, n));
    v16 x = v_sub(v_load_n(r->x + at, n, r->mean), r->mean);
    *sum = v_add(*sum, dy);
    *product = v_add(*product, v_mul(dy, x));
}

/* Sums of one slice, added to the channels' */
TH_INLINE void reduce_slice(
    const struct reduce *r, int64_t from, int64_t end, int b, struct sums *out)
{
    v16 sum[2] = {v_all(0), v_all(0)}, product[2] = {v_all(0), v_all(0)};
    float dy[TH_GROUP], dyx[TH_GROUP];
    int64_t i = from;
    for (; i + 2 * TH_GROUP <= end; i += 2 * TH_GROUP) {
        reduce_group(r, i, TH_GROUP, &sum[0], &product[0]);
        reduce_group(r, i + TH_GROUP, TH_GROUP, &sum[1], &product[1]);
    }
    for (; i < end; i += TH_GROUP)
        reduce_group(
            r, i, end - i < TH_GROUP ? (int)(end - i) : TH_GROUP, &sum[0], &product[0]);
    v_store(dy, v_add(sum[0], sum[1]));
    v_store(dyx, v_add(product[0], product[1]));
    for (int l = 0; l < TH_GROUP; l++) {
        out[l % b].dy += (double)dy[l];
        out[l % b].dyx += (double)dyx[l];
    }
}

static void bn_reduce_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_bn_reduce *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    struct sums *partial =
        (struct sums *)call->scratch + plane * s.b; /* [n][channels] */
    struct reduce r = {a->dy, a->x, a->mask_, v_channels(a->mean, s, plane)};
    int64_t end = (plane + 1) * s.size;
    memset(partial, 0, sizeof *partial * (size_t)s.b);
    for (int64_t i = plane * s.size; i < end; i += SLICE)
        reduce_slice(&r, i, end - i < SLICE ? end : i + SLICE, s.b, partial);
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

/* dx = slope*dy + (x-mean)*x_slope + offset */
struct affine {
    const float *dy, *x; /* x NULL: only slope*dy */
    const uint8_t *mask;
    float *dx;
    v16 slope, mean, x_slope, offset;
};

TH_INLINE void affine_group(const struct affine *a, int64_t at, int n)
{
    v16 dy = v_load_n(a->dy + at, n, v_all(0));
    if (a->mask)
        dy = v_keep(dy, bits_read(a->mask, at, n));
    v16 dx = v_mul(dy, a->slope);
    if (a->x) {
        v16 x = v_sub(v_load_n(a->x + at, n, v_all(0)), a->mean);
        dx = v_add(v_add(dx, a->offset), v_mul(x, a->x_slope));
    }
    v_store_n(a->dx + at, n, dx);
}

static void affine_plane(struct affine a, int64_t from, int64_t size)
{
    int64_t full = from + size / TH_GROUP * TH_GROUP, end = from + size;
    for (int64_t i = from; i < full; i += TH_GROUP)
        affine_group(&a, i, TH_GROUP);
    if (full < end)
        affine_group(&a, full, (int)(end - full));
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
