/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of update.cu. What works on whole tensors takes many of them in a launch,
 * in the order and with the sums that one launch each would have. */
#include "own_ops.h"

static int64_t count_of(const struct th_call *call)
{
    return th_shape_count(&call->in[0].shape);
}

enum { MOST_BLOCKS = 8 * TH_OWN_WAVE }; /* of a launch over several tensors */

/* As many of the calls as one launch takes: how many. They have the same kind of update.
 * each: values that a thread has at the least. */
static int take(
    const struct th_call *const *calls, int n, int each, struct th_k_parts *parts)
{
    const struct th_attr_update *first = &calls[0]->attr.update;
    int t = 0;
    for (; t < n && t < TH_MANY; t++) {
        const struct th_attr_update *a = &calls[t]->attr.update;
        unsigned blocks = th_own_values(count_of(calls[t]), each).blocks[0];
        bool alike = a->momentum == first->momentum && a->nesterov == first->nesterov &&
                     a->beta1 == first->beta1 && a->beta2 == first->beta2 &&
                     a->eps == first->eps;
        if (!alike || (t > 0 && parts->first[t] + blocks > MOST_BLOCKS))
            break;
        parts->first[t + 1] = parts->first[t] + blocks;
    }
    parts->n = t;
    return t;
}

/* Runs one(calls, n), which says how many it took, until all are done. */
static thaw_status in_turn(const struct th_call *const *calls, int n,
    thaw_status (*one)(const struct th_call *const *calls, int n, int *taken))
{
    for (int i = 0, taken = 0; i < n; i += taken)
        TRY(one(calls + i, n - i, &taken));
    return THAW_OK;
}

static struct th_cuda_grid grid_of(const struct th_k_parts *parts)
{
    return th_own_blocks(parts->first[parts->n]);
}

enum { SQUARES = 32 }; /* values that a thread adds up before there is a block more */

static thaw_status sum_squares_prepare(struct th_call *call)
{
    call->scratch_bytes = MOST_BLOCKS * sizeof(float);
    return THAW_OK;
}

/* The sum goes to where the last of them has it. */
static thaw_status squares(const struct th_call *const *calls, int n, int *taken)
{
    const struct th_args_sum_squares *a = (const void *)calls[0]->args;
    struct th_k_sum_squares p = {.before_ = a->before_, .part = calls[0]->scratch};
    *taken = take(calls, n, SQUARES, &p.parts);
    for (int t = 0; t < *taken; t++) {
        a = (const void *)calls[t]->args;
        p.each[t] = (struct th_k_sum_squares_of){a->grad, count_of(calls[t])};
        p.sum = a->sum;
    }
    TRY(th_own_launch(calls[0], TH_K_sum_squares, grid_of(&p.parts), &p));
    return th_own_launch(calls[0], TH_K_sum_squares_end, th_own_blocks(1), &p);
}

static thaw_status sum_squares_all(const struct th_call *const *calls, int n)
{
    return in_turn(calls, n, squares);
}

static thaw_status sum_squares(const struct th_call *call)
{
    return sum_squares_all(&call, 1);
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

static thaw_status sgds(const struct th_call *const *calls, int n, int *taken)
{
    const struct th_args_sgd *a = (const void *)calls[0]->args;
    const struct th_attr_update *u = &calls[0]->attr.update;
    struct th_k_sgd p = {
        .scalars = a->scalars, .momentum = u->momentum, .nesterov = u->nesterov};
    *taken = take(calls, n, 4, &p.parts);
    for (int t = 0; t < *taken; t++) {
        a = (const void *)calls[t]->args;
        u = &calls[t]->attr.update;
        p.each[t] = (struct th_k_sgd_of){a->param, a->momentum_, a->grad, a->start_,
            count_of(calls[t]), u->lr_scale, u->weight_decay};
    }
    return th_own_launch(calls[0], TH_K_sgd, grid_of(&p.parts), &p);
}

static thaw_status sgd_all(const struct th_call *const *calls, int n)
{
    return in_turn(calls, n, sgds);
}

static thaw_status sgd(const struct th_call *call)
{
    return sgd_all(&call, 1);
}

/* For as many tensors as a launch takes. */
static thaw_status adamw_prepare(struct th_call *call)
{
    call->scratch_bytes = TH_MANY * sizeof(struct th_k_adamw_now);
    return THAW_OK;
}

static thaw_status adamws(const struct th_call *const *calls, int n, int *taken)
{
    const struct th_args_adamw *a = (const void *)calls[0]->args;
    const struct th_attr_update *u = &calls[0]->attr.update;
    struct th_k_adamw_now *now = calls[0]->scratch;
    struct th_k_adamw_begin begin = {
        .now = now, .scalars = a->scalars, .beta1 = u->beta1, .beta2 = u->beta2};
    struct th_k_adamw p = {
        .now = now, .scalars = a->scalars, .beta2 = u->beta2, .eps = u->eps};
    begin.n = *taken = take(calls, n, 4, &p.parts);
    for (int t = 0; t < *taken; t++) {
        a = (const void *)calls[t]->args;
        u = &calls[t]->attr.update;
        begin.each[t] =
            (struct th_k_adamw_begin_of){a->t, u->lr_scale, u->weight_decay};
        p.each[t] = (struct th_k_adamw_of){
            a->param, a->m, a->v, a->grad, a->start_, count_of(calls[t])};
    }
    TRY(th_own_launch(calls[0], TH_K_adamw_begin, th_own_blocks(1), &begin));
    return th_own_launch(calls[0], TH_K_adamw, grid_of(&p.parts), &p);
}

static thaw_status adamw_all(const struct th_call *const *calls, int n)
{
    return in_turn(calls, n, adamws);
}

static thaw_status adamw(const struct th_call *call)
{
    return adamw_all(&call, 1);
}

static thaw_status emas(const struct th_call *const *calls, int n, int *taken)
{
    const struct th_args_ema *a = (const void *)calls[0]->args;
    struct th_k_ema p = {.scalars = a->scalars};
    *taken = take(calls, n, 4, &p.parts);
    for (int t = 0; t < *taken; t++) {
        a = (const void *)calls[t]->args;
        p.each[t] = (struct th_k_ema_of){a->average, a->param, count_of(calls[t])};
    }
    return th_own_launch(calls[0], TH_K_ema, grid_of(&p.parts), &p);
}

static thaw_status ema_all(const struct th_call *const *calls, int n)
{
    return in_turn(calls, n, emas);
}

static thaw_status ema(const struct th_call *call)
{
    return ema_all(&call, 1);
}

const struct th_own th_own_sum_squares = {
    .prepare = sum_squares_prepare, .run = sum_squares, .run_all = sum_squares_all};
const struct th_own th_own_guard = {.run = guard};
const struct th_own th_own_accumulate = {.run = accumulate};
const struct th_own th_own_hold = {.run = hold};
const struct th_own th_own_sgd = {.run = sgd, .run_all = sgd_all};
const struct th_own th_own_adamw = {
    .prepare = adamw_prepare, .run = adamw, .run_all = adamw_all};
const struct th_own th_own_ema = {.run = ema, .run_all = ema_all};
