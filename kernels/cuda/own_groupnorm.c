/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of groupnorm.cu. */
#include "own_ops.h"

/* The groups of x. */
static struct th_k_groups groups_of(
    const struct th_call *call, const struct th_operand *x)
{
    const int64_t *d = x->shape.dim;
    int groups = call->attr.norm.groups;
    return (struct th_k_groups){d[0] * groups, (uint32_t)(d[2] * d[3]), (uint32_t)d[1],
        (uint32_t)groups, (uint32_t)(d[1] / groups)};
}

static thaw_status groupnorm(const struct th_call *call)
{
    const struct th_args_groupnorm *a = (const void *)call->args;
    struct th_k_groups g = groups_of(call, &call->in[0]);
    return th_own_launch(call, TH_K_groupnorm_f32, th_own_blocks(g.n),
        &(struct th_k_groupnorm){
            a->x, a->y, a->gamma, a->beta, a->mean, a->rstd, g, call->attr.norm.eps});
}

static thaw_status groupnorm_dx(const struct th_call *call)
{
    const struct th_args_groupnorm_dx *a = (const void *)call->args;
    struct th_k_groups g = groups_of(call, &call->in[0]);
    return th_own_launch(call, TH_K_groupnorm_dx_f32, th_own_blocks(g.n),
        &(struct th_k_groupnorm_dx){a->dy, a->x, a->dx, a->gamma, a->mean, a->rstd, g});
}

static struct th_k_columns pixels(const struct th_call *call)
{
    return th_own_columns(th_own_height(&call->in[0]), th_own_width(&call->in[0]));
}

static thaw_status groupnorm_dw_prepare(struct th_call *call)
{
    struct th_k_columns c = pixels(call);
    call->scratch_bytes = th_own_sums_bytes(&c, 2);
    return THAW_OK;
}

static thaw_status groupnorm_dw(const struct th_call *call)
{
    const struct th_args_groupnorm_dw *a = (const void *)call->args;
    struct th_k_groups g = groups_of(call, &call->in[0]);
    struct th_k_columns c = pixels(call);
    th_own_sums(&c, call, a->dgamma, a->dbeta);
    TRY(th_own_launch(call, TH_K_groupnorm_dw_f32, th_own_column_grid(&c),
        &(struct th_k_groupnorm_dw){
            a->dy, a->x, a->mean, a->rstd, c, g.plane, g.groups, g.each}));
    return th_own_sums_end(&c, call, a->dgamma, a->dbeta);
}

const struct th_own th_own_groupnorm = {.prepare = th_own_fits, .run = groupnorm};
const struct th_own th_own_groupnorm_dx = {.prepare = th_own_fits, .run = groupnorm_dx};
const struct th_own th_own_groupnorm_dw = {
    .prepare = groupnorm_dw_prepare, .run = groupnorm_dw};
