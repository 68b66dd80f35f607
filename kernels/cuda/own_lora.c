/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of weights.cu. Weights are [rows][width], whatever their rank. */
#include "own_ops.h"

static thaw_status linear_fold(const struct th_call *call)
{
    const struct th_args_linear_fold *a = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0];
    return th_own_launch(call, TH_K_linear_fold, th_own_blocks(rows),
        &(struct th_k_linear_fold){a->w, a->b_, a->gamma, a->w_folded, a->b_folded_,
            rows, th_own_sample(&call->in[0])});
}

static thaw_status lora_merge(const struct th_call *call)
{
    const struct th_args_lora_merge *t = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0], width = th_own_sample(&call->in[0]);
    return th_own_launch(call, TH_K_lora_merge, th_own_samples(rows, width, 4),
        &(struct th_k_lora_merge){t->w, t->a, t->b, t->y, rows, width,
            (uint32_t)call->in[1].shape.dim[0], call->attr.lora.scale});
}

static thaw_status lora_da(const struct th_call *call)
{
    const struct th_args_lora_da *t = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0], width = th_own_sample(&call->in[0]);
    int64_t ranks = call->out[0].shape.dim[0];
    return th_own_launch(call, TH_K_lora_da, th_own_samples(ranks, width, 1),
        &(struct th_k_lora_da){
            t->dy, t->b, t->da, rows, width, (uint32_t)ranks, call->attr.lora.scale});
}

static thaw_status lora_db(const struct th_call *call)
{
    const struct th_args_lora_db *t = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0], width = th_own_sample(&call->in[0]);
    int64_t ranks = call->in[1].shape.dim[0];
    return th_own_launch(call, TH_K_lora_db, th_own_rows(rows * ranks),
        &(struct th_k_lora_db){
            t->dy, t->a, t->db, rows, width, (uint32_t)ranks, call->attr.lora.scale});
}

static thaw_status scale_rows(const struct th_call *call)
{
    const struct th_args_scale_rows *a = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0];
    const struct th_attr_lora *t = &call->attr.lora;
    return th_own_launch(call, TH_K_scale_rows, th_own_blocks(rows),
        &(struct th_k_scale_rows){a->x, a->gamma_, a->var_, a->y, rows,
            th_own_sample(&call->in[0]), t->scale, t->eps});
}

const struct th_own th_own_linear_fold = {.run = linear_fold};
const struct th_own th_own_lora_merge = {.run = lora_merge};
const struct th_own th_own_lora_da = {.run = lora_da};
const struct th_own th_own_lora_db = {.run = lora_db};
const struct th_own th_own_scale_rows = {.run = scale_rows};
