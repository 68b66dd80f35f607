/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of token.cu. */
#include "own_ops.h"

static thaw_status tokens(const struct th_call *call)
{
    const struct th_args_tokens *a = (const void *)call->args;
    const int64_t *y = call->out[0].shape.dim, sample = y[1] * y[2];
    int64_t patches = th_own_sample(&call->in[0]);
    int64_t positions = call->in[3].present ? th_own_sample(&call->in[3]) : 0;
    return th_own_launch(call, TH_K_tokens_f32, th_own_samples(y[0], sample, 4),
        &(struct th_k_tokens){a->x, a->y, a->cls_, a->more_, a->pos_, y[0],
            (uint32_t)sample, (uint32_t)y[2], (uint32_t)(call->attr.token.first * y[2]),
            (uint32_t)(sample - patches), (uint32_t)(sample - positions)});
}

static thaw_status tokens_dx(const struct th_call *call)
{
    const struct th_args_tokens_dx *a = (const void *)call->args;
    const int64_t *dy = call->in[0].shape.dim, sample = dy[1] * dy[2];
    int64_t patches = th_own_sample(&call->out[0]);
    return th_own_launch(call, TH_K_tokens_dx_f32, th_own_samples(dy[0], patches, 4),
        &(struct th_k_tokens_dx){a->dy, a->dx, dy[0], (uint32_t)sample, (uint32_t)dy[2],
            (uint32_t)(sample - patches)});
}

/* to[i] = sum over samples of dy[n][first + i] */
static thaw_status sum_samples(const struct th_call *call, const void *dy,
    int64_t first, int64_t columns, float *to)
{
    int64_t n = call->in[0].shape.dim[0];
    struct th_k_columns c = th_own_columns(n, columns);
    th_own_sums(&c, call, to, NULL);
    TRY(th_own_launch(call, TH_K_tokens_dw_f32, th_own_column_grid(&c),
        &(struct th_k_tokens_dw){dy, c, th_own_sample(&call->in[0]), first}));
    return th_own_sums_end(&c, call, to, NULL);
}

static thaw_status tokens_dw_prepare(struct th_call *call)
{
    for (int i = 0; i < 3; i++)
        if (call->out[i].present) {
            struct th_k_columns c = th_own_columns(
                call->in[0].shape.dim[0], th_shape_count(&call->out[i].shape));
            size_t bytes = th_own_sums_bytes(&c, 1);
            if (call->scratch_bytes < bytes)
                call->scratch_bytes = bytes;
        }
    return THAW_OK;
}

static thaw_status tokens_dw(const struct th_call *call)
{
    const struct th_args_tokens_dw *a = (const void *)call->args;
    const int64_t *s = call->in[0].shape.dim, d = s[2];
    int64_t first = call->attr.token.first;
    if (a->dcls_)
        TRY(sum_samples(call, a->dy, 0, d, a->dcls_));
    if (a->dmore_)
        TRY(sum_samples(
            call, a->dy, first * d, th_own_sample(&call->out[1]), a->dmore_));
    if (!a->dpos_)
        return THAW_OK;
    int64_t positions = th_own_sample(&call->out[2]);
    return sum_samples(call, a->dy, s[1] * d - positions, positions, a->dpos_);
}

static thaw_status token_mean(const struct th_call *call)
{
    const struct th_args_token_mean *a = (const void *)call->args;
    const int64_t *s = call->in[0].shape.dim;
    const struct th_attr_token *t = &call->attr.token;
    return th_own_launch(call, TH_K_token_mean_f32, th_own_samples(s[0], s[2], 4),
        &(struct th_k_token_mean){a->x, a->y, s[0], (uint32_t)(s[1] * s[2]),
            (uint32_t)s[2], (uint32_t)(t->first * s[2]), (uint32_t)t->count});
}

static thaw_status token_mean_dx(const struct th_call *call)
{
    const struct th_args_token_mean_dx *a = (const void *)call->args;
    const int64_t *s = call->out[0].shape.dim;
    const struct th_attr_token *t = &call->attr.token;
    return th_own_launch(call, TH_K_token_mean_dx_f32,
        th_own_samples(s[0], s[1] * s[2], 4),
        &(struct th_k_token_mean_dx){a->dy, a->dx, s[0], (uint32_t)(s[1] * s[2]),
            (uint32_t)s[2], (uint32_t)(t->first * s[2]), (uint32_t)t->count});
}

const struct th_own th_own_tokens = {.prepare = th_own_fits, .run = tokens};
const struct th_own th_own_tokens_dx = {.prepare = th_own_fits, .run = tokens_dx};
const struct th_own th_own_tokens_dw = {.prepare = tokens_dw_prepare, .run = tokens_dw};
const struct th_own th_own_token_mean = {.prepare = th_own_fits, .run = token_mean};
const struct th_own th_own_token_mean_dx = {
    .prepare = th_own_fits, .run = token_mean_dx};
