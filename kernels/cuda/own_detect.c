/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of detect.cu. */
#include "own_ops.h"

/* A loss leaves a sum a block in scratch, which one block adds up. */
static struct th_cuda_grid grid_of(const struct th_call *call)
{
    const struct th_operand *x = &call->in[0];
    int64_t each = call->op == TH_OP_box_loss || call->op == TH_OP_box_loss_dx ? 4 : 1;
    return th_own_samples(x->shape.dim[0], th_own_sample(x) / each, 1);
}

static thaw_status loss_prepare(struct th_call *call)
{
    struct th_cuda_grid grid = grid_of(call);
    call->scratch_bytes = sizeof(float) * grid.blocks[0] * grid.blocks[1];
    return th_own_fits(call);
}

static thaw_status sum(const struct th_call *call, float *loss)
{
    int64_t n = (int64_t)(call->scratch_bytes / sizeof(float));
    return th_own_launch(call, TH_K_sum_all, th_own_blocks(1),
        &(struct th_k_sum_all){call->scratch, NULL, loss, n, 1});
}

/* Images, and rows of each, by what has one value a row. */
static int64_t images(const struct th_operand *target)
{
    return target->shape.dim[0];
}

static uint32_t rows(const struct th_operand *target)
{
    return (uint32_t)target->shape.dim[1];
}

static thaw_status focal(const struct th_call *call)
{
    const struct th_args_focal *a = (const void *)call->args;
    const struct th_attr_focal *f = &call->attr.focal;
    TRY(th_own_launch(call, TH_K_focal, grid_of(call),
        &(struct th_k_focal){a->logits, a->weight, a->target, call->scratch,
            images(&call->in[1]), rows(&call->in[1]),
            (uint32_t)call->in[0].shape.dim[2], f->alpha, f->gamma}));
    return sum(call, a->loss);
}

static thaw_status focal_dx(const struct th_call *call)
{
    const struct th_args_focal_dx *a = (const void *)call->args;
    const struct th_attr_focal *f = &call->attr.focal;
    return th_own_launch(call, TH_K_focal_dx, grid_of(call),
        &(struct th_k_focal_dx){a->logits, a->weight, a->target, a->dlogits, a->scalars,
            images(&call->in[1]), rows(&call->in[1]),
            (uint32_t)call->in[0].shape.dim[2], f->alpha, f->gamma});
}

static thaw_status box_loss(const struct th_call *call)
{
    const struct th_args_box_loss *a = (const void *)call->args;
    const struct th_attr_box *t = &call->attr.box;
    TRY(th_own_launch(call, TH_K_box_loss, grid_of(call),
        &(struct th_k_box_loss){
            {a->x, a->box, a->weight, a->target, images(&call->in[2]),
                rows(&call->in[2]), (int32_t)t->kind, t->beta},
            call->scratch}));
    return sum(call, a->loss);
}

static thaw_status box_loss_dx(const struct th_call *call)
{
    const struct th_args_box_loss_dx *a = (const void *)call->args;
    const struct th_attr_box *t = &call->attr.box;
    return th_own_launch(call, TH_K_box_loss_dx, grid_of(call),
        &(struct th_k_box_loss_dx){
            {a->x, a->box, a->weight, a->target, images(&call->in[2]),
                rows(&call->in[2]), (int32_t)t->kind, t->beta},
            a->dx, a->scalars});
}

static thaw_status masked_ce(const struct th_call *call)
{
    const struct th_args_masked_ce *a = (const void *)call->args;
    TRY(th_own_launch(call, TH_K_masked_ce, grid_of(call),
        &(struct th_k_masked_ce){a->logits, a->target, a->weight, call->scratch,
            images(&call->in[1]), rows(&call->in[1])}));
    return sum(call, a->loss);
}

static thaw_status masked_ce_dx(const struct th_call *call)
{
    const struct th_args_masked_ce_dx *a = (const void *)call->args;
    return th_own_launch(call, TH_K_masked_ce_dx, grid_of(call),
        &(struct th_k_masked_ce_dx){a->logits, a->target, a->weight, a->dlogits,
            a->scalars, images(&call->in[1]), rows(&call->in[1])});
}

static thaw_status row_weight(const struct th_call *call)
{
    const struct th_args_row_weight *a = (const void *)call->args;
    const struct th_operand *target = &call->in[0];
    return th_own_launch(call, TH_K_row_weight, th_own_blocks(1),
        &(struct th_k_row_weight){
            a->target, a->weight, images(target), th_shape_count(&target->shape)});
}

static thaw_status row_ce_prepare(struct th_call *call)
{
    call->scratch_bytes = sizeof(float) * (size_t)th_shape_count(&call->in[1].shape);
    return THAW_OK;
}

static thaw_status row_ce(const struct th_call *call)
{
    const struct th_args_row_ce *a = (const void *)call->args;
    int64_t all = th_shape_count(&call->in[1].shape);
    TRY(th_own_launch(call, TH_K_row_ce, th_own_rows(all),
        &(struct th_k_row_ce){a->logits, a->weight, a->target, call->scratch, all,
            rows(&call->in[1]), call->in[0].shape.dim[2]}));
    return sum(call, a->loss);
}

static thaw_status row_ce_dx(const struct th_call *call)
{
    const struct th_args_row_ce_dx *a = (const void *)call->args;
    int64_t all = th_shape_count(&call->in[1].shape);
    return th_own_launch(call, TH_K_row_ce_dx, th_own_rows(all),
        &(struct th_k_row_ce_dx){a->logits, a->weight, a->target, a->dlogits,
            a->scalars, all, rows(&call->in[1]), call->in[0].shape.dim[2]});
}

const struct th_own th_own_focal = {.prepare = loss_prepare, .run = focal};
const struct th_own th_own_focal_dx = {.prepare = th_own_fits, .run = focal_dx};
const struct th_own th_own_box_loss = {.prepare = loss_prepare, .run = box_loss};
const struct th_own th_own_box_loss_dx = {.prepare = th_own_fits, .run = box_loss_dx};
const struct th_own th_own_masked_ce = {.prepare = loss_prepare, .run = masked_ce};
const struct th_own th_own_masked_ce_dx = {.prepare = th_own_fits, .run = masked_ce_dx};
const struct th_own th_own_row_weight = {.run = row_weight};
const struct th_own th_own_row_ce = {.prepare = row_ce_prepare, .run = row_ce};
const struct th_own th_own_row_ce_dx = {.run = row_ce_dx};
