/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of GroupNorm (Wu and He 2018, arXiv:1803.08494): the channels of a sample
 * in groups of neighbours, each with its own mean and deviation.
 *
 *   y = gamma*h + beta, h = (x - mean)*rstd, rstd = 1/sqrt(var + eps), mean and var (biased)
 *   over the group's channels and h, w; gamma and beta [c]; mean and rstd [n][groups]
 *   u = dy*gamma: dx = rstd*(u - M(u) - h*M(u*h)), M the mean over the group
 *   dgamma = S(dy*h), dbeta = S(dy), S the sum over n, h, w */
#include "rule.h"

static thaw_status groupnorm_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const int64_t *d = in[0].shape.dim;
    int groups = attr->norm.groups;
    TRY(th_rule_rank("groupnorm", "x", &in[0], 4));
    TRY(th_rule_vector("groupnorm", "gamma", &in[1], d[1]));
    TRY(th_rule_vector("groupnorm", "beta", &in[2], d[1]));
    if (groups < 1 || d[1] % groups)
        return th_fail(THAW_E_USAGE,
            "groupnorm: %lld channels do not divide into %d groups", (long long)d[1],
            groups);
    th_rule_f32(&out[0], in[0].shape);
    th_rule_f32(&out[1], TH_SHAPE(d[0], groups));
    th_rule_f32(&out[2], TH_SHAPE(d[0], groups));
    return THAW_OK;
}

static thaw_status groupnorm_grad(struct th_grad *g)
{
    int x = g->in[0], gamma = g->in[1], beta = g->in[2], dy = g->dout[0];
    int mean = g->out[1], rstd = g->out[2], sums[2];
    TRY(th_rule_saved("groupnorm", "mean", mean));
    TRY(th_rule_saved("groupnorm", "rstd", rstd));
    if (g->need[0])
        TRY(th_rule_emit(
            g, TH_OP_groupnorm_dx, (int[]){dy, x, gamma, mean, rstd}, x, &g->din[0]));
    if (!g->need[1] && !g->need[2])
        return THAW_OK;
    TRY(g->emit(g, TH_OP_groupnorm_dw, g->attr, (int[]){dy, x, mean, rstd},
        (int[]){gamma, beta}, sums));
    if (g->need[1])
        g->din[1] = sums[0];
    if (g->need[2])
        g->din[2] = sums[1];
    return THAW_OK;
}

const struct th_op_fn th_rule_groupnorm = {
    .shape = groupnorm_shape, .grad = groupnorm_grad};
const struct th_op_fn th_rule_groupnorm_dx = {0};
const struct th_op_fn th_rule_groupnorm_dw = {0};
