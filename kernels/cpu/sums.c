/* SPDX-License-Identifier: Apache-2.0
 * Owns the preparation of own kernels that sum over parts: room for the partial sums.
 * Their layout is that of cpu/isa/. */
#include "cpu.h"

/* [n][channels], of struct moments (three doubles) */
static thaw_status bn_stats_prepare(struct th_call *call)
{
    const int64_t *d = call->in[0].shape.dim;
    call->scratch_bytes = 3 * sizeof(double) * (size_t)(d[0] * d[1]);
    return THAW_OK;
}

/* [n][channels], of struct sums (two doubles) */
static thaw_status bn_reduce_prepare(struct th_call *call)
{
    const int64_t *d = call->in[0].shape.dim;
    call->scratch_bytes = 2 * sizeof(double) * (size_t)(d[0] * d[1]);
    return THAW_OK;
}

/* [n][channels] of struct sums, and for dx [2][n][groups] of floats */
static thaw_status groupnorm_dx_prepare(struct th_call *call)
{
    const int64_t *d = call->in[0].shape.dim;
    TRY(bn_reduce_prepare(call));
    call->scratch_bytes +=
        2 * sizeof(float) * (size_t)d[0] * (size_t)call->attr.norm.groups;
    return THAW_OK;
}

/* [n][channels] of an activation, [parts][outputs] of a matrix, doubles */
static thaw_status bias_grad_prepare(struct th_call *call)
{
    const struct th_shape *s = &call->in[0].shape;
    int64_t outputs = call->out[0].shape.dim[0], rows = th_shape_count(s) / outputs;
    int64_t n = s->rank == 4 ? s->dim[0] : th_parts(rows, TH_BIAS_ROWS);
    call->scratch_bytes = sizeof(double) * (size_t)(n * outputs);
    return THAW_OK;
}

/* [parts][2][width], floats */
static thaw_status layernorm_dw_prepare(struct th_call *call)
{
    int64_t width = call->out[0].shape.dim[0];
    int64_t rows = th_shape_count(&call->in[0].shape) / width;
    call->scratch_bytes =
        2 * sizeof(float) * (size_t)(th_parts(rows, TH_LAYERNORM_ROWS) * width);
    return THAW_OK;
}

static thaw_status sum_squares_prepare(struct th_call *call)
{
    int64_t count = th_shape_count(&call->in[0].shape);
    call->scratch_bytes = sizeof(double) * (size_t)th_parts(count, TH_FLAT_PART);
    return THAW_OK;
}

/* [n][parts], doubles */
static thaw_status focal_prepare(struct th_call *call)
{
    const int64_t *d = call->in[0].shape.dim;
    call->scratch_bytes =
        sizeof(double) * (size_t)(d[0] * th_parts(d[1], th_focal_rows(d[2])));
    return THAW_OK;
}

const struct th_kernel th_cpu_bn_stats = {
    .prepare = bn_stats_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_bn_reduce = {
    .prepare = bn_reduce_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_bias_grad = {
    .prepare = bias_grad_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_layernorm_dw = {
    .prepare = layernorm_dw_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_sum_squares = {
    .prepare = sum_squares_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_groupnorm = {
    .prepare = bn_stats_prepare, .run = th_cpu_run_own, .in_place = true};
const struct th_kernel th_cpu_groupnorm_dx = {
    .prepare = groupnorm_dx_prepare, .run = th_cpu_run_own, .in_place = true};
const struct th_kernel th_cpu_groupnorm_dw = {
    .prepare = bn_reduce_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_focal = {.prepare = focal_prepare, .run = th_cpu_run_own};
