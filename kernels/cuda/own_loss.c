/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of loss.cu. */
#include "own_ops.h"

static thaw_status mean_of(
    const struct th_call *call, int64_t n, int64_t divisor, float *loss)
{
    return th_own_launch(call, TH_K_sum_all, th_own_blocks(1),
        &(struct th_k_sum_all){call->scratch, NULL, loss, n, (float)divisor});
}

static thaw_status softmax_ce_prepare(struct th_call *call)
{
    call->scratch_bytes = (size_t)call->in[0].shape.dim[0] * sizeof(float);
    return THAW_OK;
}

static thaw_status softmax_ce(const struct th_call *call)
{
    const struct th_args_softmax_ce *a = (const void *)call->args;
    int64_t n = call->in[0].shape.dim[0], k = call->in[0].shape.dim[1];
    TRY(th_own_launch(call, TH_K_softmax_ce, th_own_rows(n),
        &(struct th_k_softmax_ce){a->logits, a->target, a->p, call->scratch, n, k}));
    return mean_of(call, n, n, a->loss);
}

static thaw_status softmax_ce_dx(const struct th_call *call)
{
    const struct th_args_softmax_ce_dx *a = (const void *)call->args;
    int64_t n = call->in[0].shape.dim[0], k = call->in[0].shape.dim[1];
    return th_own_launch(call, TH_K_softmax_ce_dx, th_own_rows(n),
        &(struct th_k_softmax_ce_dx){a->p, a->target, a->dlogits, a->scalars, n, k});
}

static struct th_cuda_grid sigmoid_grid(const struct th_call *call)
{
    return th_own_values(th_shape_count(&call->in[0].shape), 1);
}

static thaw_status sigmoid_ce_prepare(struct th_call *call)
{
    call->scratch_bytes = sigmoid_grid(call).blocks[0] * sizeof(float);
    return THAW_OK;
}

static thaw_status sigmoid_ce(const struct th_call *call)
{
    const struct th_args_sigmoid_ce *a = (const void *)call->args;
    int64_t n = th_shape_count(&call->in[0].shape);
    struct th_cuda_grid grid = sigmoid_grid(call);
    TRY(th_own_launch(call, TH_K_sigmoid_ce, grid,
        &(struct th_k_sigmoid_ce){a->logits, a->target, a->pos_weight, a->p,
            call->scratch, n, (uint32_t)call->in[0].shape.dim[1]}));
    return mean_of(call, grid.blocks[0], n, a->loss);
}

static thaw_status sigmoid_ce_dx(const struct th_call *call)
{
    const struct th_args_sigmoid_ce_dx *a = (const void *)call->args;
    return th_own_launch(call, TH_K_sigmoid_ce_dx, sigmoid_grid(call),
        &(struct th_k_sigmoid_ce_dx){a->p, a->target, a->pos_weight, a->dlogits,
            a->scalars, th_shape_count(&call->in[0].shape),
            (uint32_t)call->in[0].shape.dim[1]});
}

const struct th_own th_own_softmax_ce = {
    .prepare = softmax_ce_prepare, .run = softmax_ce};
const struct th_own th_own_softmax_ce_dx = {.run = softmax_ce_dx};
const struct th_own th_own_sigmoid_ce = {
    .prepare = sigmoid_ce_prepare, .run = sigmoid_ce};
const struct th_own th_own_sigmoid_ce_dx = {.run = sigmoid_ce_dx};
