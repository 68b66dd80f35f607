/* SPDX-License-Identifier: Apache-2.0
 * Owns the GroupNorm kernels. Formulas: kernels/groupnorm.c.
 *
 * A part is a unit: the fewest channels of a sample that are whole groups and whole planes.
 * It is read for its sums and, out of the second cache, for the affine pass. */
#include "plane.h"

#include <math.h>

struct units {
    struct planes s;
    int64_t groups, each; /* in a sample; channels of one */
    int64_t planes, n;    /* planes of a unit; units, of all samples */
};

TH_INLINE struct units units_of(const struct th_call *call, const struct th_operand *x)
{
    struct units u = {.s = planes_of(x), .groups = call->attr.norm.groups};
    u.each = u.s.channels / u.groups;
    u.planes = 1;
    while (u.planes * u.s.b % u.each != 0)
        u.planes++;
    u.n = u.s.n * u.s.blocks / u.planes;
    return u;
}

/* The group, of all samples, that channel c of all samples is in. */
TH_INLINE int64_t group_at(struct units u, int64_t c)
{
    return c / u.each;
}

/* What a plane's channels have by group, over its lanes. */
TH_INLINE v16 v_groups(const float *p, struct units u, int64_t plane)
{
    float lanes[TH_GROUP];
    for (int i = 0; i < TH_GROUP; i++)
        lanes[i] = p[group_at(u, plane * u.s.b + i % u.s.b)];
    return v_load(lanes);
}

static void groupnorm_unit(const struct th_call *call, int64_t i)
{
    const struct th_args_groupnorm *a = (const void *)call->args;
    struct units u = units_of(call, &call->in[0]);
    struct planes s = u.s;
    struct moments *channels = call->scratch; /* [n][channels] */
    float *mean = a->mean, *rstd = a->rstd;
    int64_t from = i * u.planes, end = from + u.planes;
    for (int64_t p = from; p < end; p++)
        plane_moments((const float *)a->x + p * s.size, s, channels + p * s.b);
    for (int64_t g = group_at(u, from * s.b); g < group_at(u, end * s.b); g++) {
        struct moments all = {0};
        for (int64_t c = g * u.each; c < (g + 1) * u.each; c++)
            merge(&all, channels[c]);
        mean[g] = (float)all.mean;
        rstd[g] = (float)(1 / sqrt(all.m2 / all.n + (double)call->attr.norm.eps));
    }
    for (int64_t p = from; p < end; p++) {
        struct apply apply = {.x = a->x,
            .y = a->y,
            .mean = v_groups(mean, u, p),
            .scale = v_mul(v_channels(a->gamma, s, p), v_groups(rstd, u, p)),
            .beta = v_channels(a->beta, s, p)};
        apply_plane(apply, p * s.size, s.size);
    }
}

TH_OWN(groupnorm)
{
    th_parallel(call, units_of(call, &call->in[0]).n, groupnorm_unit);
    return THAW_OK;
}

/* Behind the channels' sums, of each group: dx = gamma*rstd*dy + (x-mean)*slope + offset,
 * slope = -rstd^3*M(u*(x-mean)), offset = -rstd*M(u). [2][n][groups] */
static void group_dx(const struct th_call *call, struct units u, int64_t g)
{
    const struct th_args_groupnorm_dx *a = (const void *)call->args;
    struct sums *channels = call->scratch;
    const float *gamma = a->gamma;
    double rstd = (double)((const float *)a->rstd)[g];
    double share = -rstd / (double)(u.each * (u.s.size / u.s.b));
    struct sums all = {0};
    for (int64_t c = g * u.each; c < (g + 1) * u.each; c++) {
        all.dy += (double)gamma[c % u.s.channels] * channels[c].dy;
        all.dyx += (double)gamma[c % u.s.channels] * channels[c].dyx;
    }
    float *slopes = (float *)(channels + u.s.n * u.s.channels);
    slopes[g] = (float)(share * rstd * rstd * all.dyx);
    slopes[u.s.n * u.groups + g] = (float)(share * all.dy);
}

static void groupnorm_dx_unit(const struct th_call *call, int64_t i)
{
    const struct th_args_groupnorm_dx *a = (const void *)call->args;
    struct units u = units_of(call, &call->in[0]);
    struct planes s = u.s;
    struct sums *channels = call->scratch; /* [n][channels] */
    const float *slopes = (const float *)(channels + s.n * s.channels);
    int64_t from = i * u.planes, end = from + u.planes;
    for (int64_t p = from; p < end; p++) {
        struct reduce r = {.dy = a->dy, .x = a->x, .mean = v_groups(a->mean, u, p)};
        reduce_plane(&r, s, p, channels + p * s.b);
    }
    for (int64_t g = group_at(u, from * s.b); g < group_at(u, end * s.b); g++)
        group_dx(call, u, g);
    for (int64_t p = from; p < end; p++) {
        struct affine affine = {.dy = a->dy,
            .x = a->x,
            .dx = a->dx,
            .slope = v_mul(v_channels(a->gamma, s, p), v_groups(a->rstd, u, p)),
            .mean = v_groups(a->mean, u, p),
            .x_slope = v_groups(slopes, u, p),
            .offset = v_groups(slopes + s.n * u.groups, u, p)};
        affine_plane(affine, p * s.size, s.size);
    }
}

TH_OWN(groupnorm_dx)
{
    th_parallel(call, units_of(call, &call->in[0]).n, groupnorm_dx_unit);
    return THAW_OK;
}

static void groupnorm_dw_plane(const struct th_call *call, int64_t p)
{
    const struct th_args_groupnorm_dw *a = (const void *)call->args;
    struct units u = units_of(call, &call->in[0]);
    struct reduce r = {.dy = a->dy, .x = a->x, .mean = v_groups(a->mean, u, p)};
    reduce_plane(&r, u.s, p, (struct sums *)call->scratch + p * u.s.b);
}

TH_OWN(groupnorm_dw)
{
    const struct th_args_groupnorm_dw *a = (const void *)call->args;
    struct units u = units_of(call, &call->in[0]);
    const struct sums *channels = call->scratch;
    const float *rstd = a->rstd;
    th_parallel(call, u.s.n * u.s.blocks, groupnorm_dw_plane);
    for (int64_t c = 0; c < u.s.channels; c++) {
        struct sums all = {0};
        for (int64_t at = c; at < u.s.n * u.s.channels; at += u.s.channels) {
            all.dy += channels[at].dy;
            all.dyx += channels[at].dyx * (double)rstd[group_at(u, at)];
        }
        ((float *)a->dgamma)[c] = (float)all.dyx;
        ((float *)a->dbeta)[c] = (float)all.dy;
    }
    return THAW_OK;
}
