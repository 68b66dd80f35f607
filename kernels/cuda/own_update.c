/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of update.cu. */
#include "own_ops.h"

static int64_t count_of(const struct th_call *call)
{
    return th_shape_count(&call->in[0].shape);
}

/* A thread adds up some vectors before there is a block more. */
static struct th_cuda_grid squares_grid(const struct th_call *call)
{
    return th_own_values(count_of(call), 32);
}

/* Most tensors, of biases and norms, are one block's: the sum itself. */
static thaw_status sum_squares_prepare(struct th_call *call)
{
    unsigned blocks = squares_grid(call).blocks[0];
    call->scratch_bytes = blocks > 1 ? blocks * sizeof(float) : 0;
    return THAW_OK;
}

static thaw_status sum_squares(const struct th_call *call)
{
    const struct th_args_sum_squares *a = (const void *)call->args;
    struct th_cuda_grid grid = squares_grid(call);
    bool one = grid.blocks[0] == 1;
    TRY(th_own_launch(call, TH_K_sum_squares, grid,
        &(struct th_k_sum_squares){a->grad, one ? a->before_ : NULL,
            one ? a->sum : call->scratch, count_of(call)}));
    if (one)
        return THAW_OK;
    return th_own_launch(call, TH_K_sum_all, th_own_blocks(1),
        &(struct th_k_sum_all){call->scratch, a->before_, a->sum, grid.blocks[0], 1});
}

static thaw_status guard(const struct th_call *call)
{
    const struct th_args_guard *a = (const void *)call->args;
    return th_own_launch(call, TH_K_guard, th_own_once(),
        &(struct th_k_guard){a->loss_, a->sum_, a->scalars, call->attr.update.clip});
}

static thaw_status accumulate(const struct th_call *call)
{
    const struct th_args_accumulate *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_accumulate, th_own_values(count, 4),
        &(struct th_k_accumulate){a->total, a->grad, a->scalars, count});
}

static thaw_status hold(const struct th_call *call)
{
    const struct th_args_hold *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_hold, th_own_values(count, 1),
        &(struct th_k_hold){a->value, a->kept, a->scalars, count});
}

static thaw_status sgd(const struct th_call *call)
{
    const struct th_args_sgd *a = (const void *)call->args;
    const struct th_attr_update *t = &call->attr.update;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_sgd, th_own_values(count, 4),
        &(struct th_k_sgd){a->param, a->momentum_, a->grad, a->start_, a->scalars,
            count, t->lr_scale, t->weight_decay, t->momentum, t->nesterov});
}

static thaw_status adamw_prepare(struct th_call *call)
{
    call->scratch_bytes = sizeof(struct th_k_adamw_now);
    return THAW_OK;
}

static thaw_status adamw(const struct th_call *call)
{
    const struct th_args_adamw *a = (const void *)call->args;
    const struct th_attr_update *t = &call->attr.update;
    int64_t count = count_of(call);
    TRY(th_own_launch(call, TH_K_adamw_begin, th_own_once(),
        &(struct th_k_adamw_begin){a->t, call->scratch, a->scalars, t->lr_scale,
            t->weight_decay, t->beta1, t->beta2}));
    return th_own_launch(call, TH_K_adamw, th_own_values(count, 4),
        &(struct th_k_adamw){a->param, a->m, a->v, a->grad, a->start_, call->scratch,
            a->scalars, count, t->beta2, t->eps});
}

static thaw_status ema(const struct th_call *call)
{
    const struct th_args_ema *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_ema, th_own_values(count, 4),
        &(struct th_k_ema){a->average, a->param, a->scalars, count});
}

const struct th_own th_own_sum_squares = {sum_squares_prepare, sum_squares};
const struct th_own th_own_guard = {.run = guard};
const struct th_own th_own_accumulate = {.run = accumulate};
const struct th_own th_own_hold = {.run = hold};
const struct th_own th_own_sgd = {.run = sgd};
const struct th_own th_own_adamw = {adamw_prepare, adamw};
const struct th_own th_own_ema = {.run = ema};
