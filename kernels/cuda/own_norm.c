/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of norm.cu, layernorm.cu and sums.cu. */
#include "own_ops.h"

/* ---- BatchNorm ---- */

static struct th_k_columns pixels(const struct th_call *call)
{
    return th_own_columns(th_own_height(&call->in[0]), th_own_width(&call->in[0]));
}

static thaw_status bn_stats_prepare(struct th_call *call)
{
    struct th_k_columns c = pixels(call);
    call->scratch_bytes = 2 * (size_t)c.chunks * (size_t)c.columns * sizeof(float);
    return THAW_OK;
}

static thaw_status bn_stats(const struct th_call *call)
{
    const struct th_args_bn_stats *a = (const void *)call->args;
    struct th_k_columns c = pixels(call);
    float *means = call->scratch, *m2s = means + c.chunks * c.columns;
    TRY(th_own_launch(call, TH_K_bn_stats_f32, th_own_column_grid(&c),
        &(struct th_k_bn_stats){a->x, means, m2s, c}));
    return th_own_launch(call, TH_K_bn_stats_end, th_own_values(c.columns, 1),
        &(struct th_k_bn_stats_end){means, m2s, a->mean, a->var, c});
}

static thaw_status bn_apply(const struct th_call *call)
{
    const struct th_args_bn_apply *a = (const void *)call->args;
    int64_t count = th_shape_count(&call->in[0].shape);
    return th_own_launch(call, TH_K_bn_apply_f32, th_own_values(count, 4),
        &(struct th_k_bn_apply){a->x, a->add_, a->y, a->mean, a->var, a->gamma, a->beta,
            a->mask_, count, th_own_width(&call->in[0]), call->attr.norm.eps,
            call->attr.norm.relu});
}

static thaw_status bn_update(const struct th_call *call)
{
    const struct th_args_bn_update *a = (const void *)call->args;
    int64_t count = th_shape_count(&call->in[0].shape);
    double n = (double)call->attr.norm.count;
    return th_own_launch(call, TH_K_bn_update, th_own_values(count, 1),
        &(struct th_k_bn_update){a->mean, a->var, a->running_mean, a->running_var,
            a->scalars, count, call->attr.norm.momentum, (float)(n / (n - 1))});
}

static thaw_status two_sums_prepare(struct th_call *call)
{
    struct th_k_columns c = pixels(call);
    call->scratch_bytes = th_own_sums_bytes(&c, 2);
    return THAW_OK;
}

static thaw_status bn_reduce(const struct th_call *call)
{
    const struct th_args_bn_reduce *a = (const void *)call->args;
    struct th_k_columns c = pixels(call);
    th_own_sums(&c, call, a->dgamma, a->dbeta);
    TRY(th_own_launch(call, TH_K_bn_reduce_f32, th_own_column_grid(&c),
        &(struct th_k_bn_reduce){
            a->dy, a->x, a->mean, a->var, a->mask_, c, call->attr.norm.eps}));
    return th_own_sums_end(&c, call, a->dgamma, a->dbeta);
}

static thaw_status bn_dx_batch(const struct th_call *call)
{
    const struct th_args_bn_dx_batch *a = (const void *)call->args;
    int64_t count = th_shape_count(&call->in[0].shape);
    return th_own_launch(call, TH_K_bn_dx_batch_f32, th_own_values(count, 4),
        &(struct th_k_bn_dx_batch){a->dy, a->x, a->dx, a->mean, a->var, a->gamma,
            a->dgamma, a->dbeta, a->mask_, count, th_own_width(&call->in[0]),
            call->attr.norm.eps, (float)th_own_height(&call->in[0])});
}

static thaw_status bn_dx_running(const struct th_call *call)
{
    const struct th_args_bn_dx_running *a = (const void *)call->args;
    int64_t count = th_shape_count(&call->in[0].shape);
    return th_own_launch(call, TH_K_bn_dx_running_f32, th_own_values(count, 4),
        &(struct th_k_bn_dx_running){a->dy, a->dx, a->var, a->gamma, a->mask_, count,
            th_own_width(&call->in[0]), call->attr.norm.eps});
}

static thaw_status bn_fold(const struct th_call *call)
{
    const struct th_args_bn_fold *a = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0];
    return th_own_launch(call, TH_K_bn_fold, th_own_blocks(rows),
        &(struct th_k_bn_fold){a->w, a->b_, a->gamma, a->beta, a->mean, a->var,
            a->w_folded, a->b_folded, rows, th_own_sample(&call->in[0]),
            call->attr.norm.eps});
}

/* ---- LayerNorm ---- */

static thaw_status layernorm(const struct th_call *call)
{
    const struct th_args_layernorm *a = (const void *)call->args;
    int64_t rows = th_own_height(&call->in[0]);
    return th_own_launch(call, TH_K_layernorm_f32, th_own_rows(rows),
        &(struct th_k_layernorm){a->x, a->y, a->gamma, a->beta, a->mean, a->rstd, rows,
            th_own_width(&call->in[0]), call->attr.norm.eps});
}

static thaw_status layernorm_dx(const struct th_call *call)
{
    const struct th_args_layernorm_dx *a = (const void *)call->args;
    int64_t rows = th_own_height(&call->in[0]);
    return th_own_launch(call, TH_K_layernorm_dx_f32, th_own_rows(rows),
        &(struct th_k_layernorm_dx){a->dy, a->x, a->dx, a->gamma, a->mean, a->rstd,
            rows, th_own_width(&call->in[0])});
}

static thaw_status layernorm_dw(const struct th_call *call)
{
    const struct th_args_layernorm_dw *a = (const void *)call->args;
    struct th_k_columns c = pixels(call);
    th_own_sums(&c, call, a->dgamma, a->dbeta);
    TRY(th_own_launch(call, TH_K_layernorm_dw_f32, th_own_column_grid(&c),
        &(struct th_k_layernorm_dw){a->dy, a->x, a->mean, a->rstd, c}));
    return th_own_sums_end(&c, call, a->dgamma, a->dbeta);
}

/* ---- unit length ---- */

static thaw_status l2norm(const struct th_call *call)
{
    const struct th_args_l2norm *a = (const void *)call->args;
    int64_t rows = th_own_height(&call->in[0]);
    return th_own_launch(call, TH_K_l2norm_f32, th_own_rows(rows),
        &(struct th_k_l2norm){
            a->x, a->y, a->scale_, a->rnorm, rows, th_own_width(&call->in[0])});
}

static thaw_status l2norm_dx(const struct th_call *call)
{
    const struct th_args_l2norm_dx *a = (const void *)call->args;
    int64_t rows = th_own_height(&call->in[1]);
    return th_own_launch(call, TH_K_l2norm_dx_f32, th_own_rows(rows),
        &(struct th_k_l2norm_dx){
            a->dy, a->x, a->dx, a->scale_, a->rnorm, rows, th_own_width(&call->in[1])});
}

static thaw_status l2norm_dw_prepare(struct th_call *call)
{
    call->scratch_bytes =
        th_own_rows(th_own_height(&call->in[0])).blocks[0] * sizeof(float);
    return THAW_OK;
}

static thaw_status l2norm_dw(const struct th_call *call)
{
    const struct th_args_l2norm_dw *a = (const void *)call->args;
    int64_t rows = th_own_height(&call->in[0]);
    struct th_cuda_grid grid = th_own_rows(rows);
    TRY(th_own_launch(call, TH_K_l2norm_dw_f32, grid,
        &(struct th_k_l2norm_dw){
            a->dy, a->x, a->rnorm, call->scratch, rows, th_own_width(&call->in[0])}));
    return th_own_launch(call, TH_K_sum_all, th_own_blocks(1),
        &(struct th_k_sum_all){call->scratch, NULL, a->dscale, grid.blocks[0], 1});
}

/* ---- sums of rows ---- */

static thaw_status bias_grad_prepare(struct th_call *call)
{
    struct th_k_columns c = pixels(call);
    call->scratch_bytes = th_own_sums_bytes(&c, 1);
    return THAW_OK;
}

static thaw_status bias_grad(const struct th_call *call)
{
    const struct th_args_bias_grad *a = (const void *)call->args;
    struct th_k_columns c = pixels(call);
    th_own_sums(&c, call, a->db, NULL);
    TRY(th_own_launch(call, TH_K_bias_grad_f32, th_own_column_grid(&c),
        &(struct th_k_bias_grad){a->dy, c}));
    return th_own_sums_end(&c, call, a->db, NULL);
}

const struct th_own th_own_bn_stats = {.prepare = bn_stats_prepare, .run = bn_stats};
const struct th_own th_own_bn_apply = {.run = bn_apply};
const struct th_own th_own_bn_update = {.run = bn_update};
const struct th_own th_own_bn_reduce = {.prepare = two_sums_prepare, .run = bn_reduce};
const struct th_own th_own_bn_dx_batch = {.run = bn_dx_batch};
const struct th_own th_own_bn_dx_running = {.run = bn_dx_running};
const struct th_own th_own_bn_fold = {.run = bn_fold};
const struct th_own th_own_layernorm = {.run = layernorm};
const struct th_own th_own_layernorm_dx = {.run = layernorm_dx};
const struct th_own th_own_layernorm_dw = {
    .prepare = two_sums_prepare, .run = layernorm_dw};
const struct th_own th_own_l2norm = {.run = l2norm};
const struct th_own th_own_l2norm_dx = {.run = l2norm_dx};
const struct th_own th_own_l2norm_dw = {.prepare = l2norm_dw_prepare, .run = l2norm_dw};
const struct th_own th_own_bias_grad = {.prepare = bias_grad_prepare, .run = bias_grad};
