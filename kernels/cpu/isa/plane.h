/* SPDX-License-Identifier: Apache-2.0
 * What BatchNorm and GroupNorm do with a plane: moments and sums of its channels, and affine
 * passes over it.
 *
 * Nothing here subtracts large sums: variances are sums of squared deviations from a
 * nearby mean (Chan, Golub, LeVeque 1983), and gradients work with x - mean. Memory is
 * read once: a slice of a plane stays in the first cache for the second look. Values are
 * summed in float over a slice and in double beyond it. */
#ifndef TH_PLANE_H
#define TH_PLANE_H

#include "lanes.h"

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
TH_INLINE void plane_moments(const float *x, struct planes s, struct moments *out)
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

/* y = (x-mean)*scale + beta, + add, ReLU -------------------------------------------- */

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

TH_INLINE void apply_plane(struct apply a, int64_t from, int64_t size)
{
    int64_t full = from + size / TH_GROUP * TH_GROUP, end = from + size;
    for (int64_t i = from; i < full; i += TH_GROUP)
        apply_group(&a, i, TH_GROUP);
    if (full < end)
        apply_group(&a, full, (int)(end - full));
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

/* Sums of one plane's channels into out[b]. */
TH_INLINE void reduce_plane(
    const struct reduce *r, struct planes s, int64_t plane, struct sums *out)
{
    int64_t end = (plane + 1) * s.size;
    memset(out, 0, sizeof *out * (size_t)s.b);
    for (int64_t i = plane * s.size; i < end; i += SLICE)
        reduce_slice(r, i, end - i < SLICE ? end : i + SLICE, s.b, out);
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

TH_INLINE void affine_plane(struct affine a, int64_t from, int64_t size)
{
    int64_t full = from + size / TH_GROUP * TH_GROUP, end = from + size;
    for (int64_t i = from; i < full; i += TH_GROUP)
        affine_group(&a, i, TH_GROUP);
    if (full < end)
        affine_group(&a, full, (int)(end - full));
}

#endif
