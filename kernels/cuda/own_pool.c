/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of pool.cu. */
#include "own_ops.h"

static thaw_status gap_dx(const struct th_call *call)
{
    const struct th_args_gap_dx *a = (const void *)call->args;
    const int64_t *d = call->out[0].shape.dim, sample = th_own_sample(&call->out[0]);
    return th_own_launch(call, TH_K_gap_dx_f32, th_own_samples(d[0], sample, 4),
        &(struct th_k_gap_dx){a->dy, a->dx, d[0], (uint32_t)sample, (uint32_t)d[1],
            (float)(d[2] * d[3])});
}

static thaw_status gmp(const struct th_call *call)
{
    const struct th_args_gmp *a = (const void *)call->args;
    const int64_t *d = call->in[0].shape.dim;
    return th_own_launch(call, TH_K_gmp_f32, th_own_samples(d[0], d[1], 4),
        &(struct th_k_gmp){a->x, a->y, a->index_, d[0],
            (uint32_t)th_own_sample(&call->in[0]), (uint32_t)(d[2] * d[3]),
            (uint32_t)d[1]});
}

static thaw_status gmp_dx(const struct th_call *call)
{
    const struct th_args_gmp_dx *a = (const void *)call->args;
    const int64_t *d = call->out[0].shape.dim, sample = th_own_sample(&call->out[0]);
    return th_own_launch(call, TH_K_gmp_dx_f32, th_own_samples(d[0], sample, 4),
        &(struct th_k_gmp_dx){
            a->dy, a->dx, a->index, d[0], (uint32_t)sample, (uint32_t)d[1]});
}

const struct th_own th_own_gap_dx = {.prepare = th_own_fits, .run = gap_dx};
const struct th_own th_own_gmp = {.prepare = th_own_fits, .run = gmp};
const struct th_own th_own_gmp_dx = {.prepare = th_own_fits, .run = gmp_dx};
