/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of what makes tokens and reads them: tokens, token_mean, layerscale
 * (Dosovitskiy et al. 2020, arXiv:2010.11929, equations 1 and 4). */
#include "rule.h"

/* [1][tokens][d], where present. */
static thaw_status check_row(
    const char *name, const struct th_operand *o, int64_t tokens, int64_t d)
{
    char text[128];
    if (!o->present)
        return THAW_OK;
    TRY(th_rule_rank("tokens", name, o, 3));
    const int64_t *s = o->shape.dim;
    if (s[0] == 1 && s[2] == d && (tokens < 0 || s[1] == tokens))
        return THAW_OK;
    return th_fail(THAW_E_USAGE, "tokens: %s is %s, it has to be [1][%s][%lld]", name,
        th_shape_text(&o->shape, text, sizeof text), tokens == 1 ? "1" : "tokens",
        (long long)d);
}

/* x [n][d][h][w], cls [1][1][d], more [1][m][d], pos [1][p][d]:
 *   y[n][t][d] = cat(cls, more, x as [n][h*w][d]) + pos,
 * with p = t, or p = h*w: then only the patches have positions. */
static thaw_status tokens_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    TRY(th_rule_rank("tokens", "x", &in[0], 4));
    const int64_t *x = in[0].shape.dim;
    int64_t patches = x[2] * x[3], d = x[1];
    TRY(check_row("cls", &in[1], 1, d));
    TRY(check_row("more", &in[2], -1, d));
    TRY(check_row("pos", &in[3], -1, d));
    if (attr->token.first != (in[1].present ? 1 : 0))
        return th_fail(THAW_E_USAGE, "tokens: first is %d, with%s a class token",
            attr->token.first, in[1].present ? "" : "out");
    int64_t t = attr->token.first + (in[2].present ? in[2].shape.dim[1] : 0) + patches;
    int64_t p = in[3].present ? in[3].shape.dim[1] : t;
    if (p != t && p != patches)
        return th_fail(THAW_E_USAGE,
            "tokens: %lld positions for %lld tokens, %lld of them patches: there has "
            "to be one for each token, or for each patch",
            (long long)p, (long long)t, (long long)patches);
    th_rule_f32(&out[0], TH_SHAPE(x[0], t, d));
    return THAW_OK;
}

/* dx: dy of the patches, turned back; dcls, dmore, dpos: their rows of dy, summed over n. */
static thaw_status tokens_grad(struct th_grad *g)
{
    if (g->need[0])
        TRY(th_rule_emit(g, TH_OP_tokens_dx, g->dout, g->in[0], &g->din[0]));
    int like[3], out[3];
    bool any = false;
    for (int i = 0; i < 3; i++) {
        like[i] = g->need[1 + i] ? g->in[1 + i] : -1;
        any = any || like[i] >= 0;
    }
    if (!any)
        return THAW_OK;
    TRY(g->emit(g, TH_OP_tokens_dw, g->attr, g->dout, like, out));
    for (int i = 0; i < 3; i++)
        if (like[i] >= 0)
            g->din[1 + i] = out[i];
    return THAW_OK;
}

/* x [n][t][d]: y[n][d] = mean of tokens first .. first+count-1. */
static thaw_status token_mean_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    TRY(th_rule_rank("token_mean", "x", &in[0], 3));
    const int64_t *x = in[0].shape.dim;
    int first = attr->token.first, count = attr->token.count;
    if (first < 0 || count < 1 || count > x[1] || first > x[1] - count)
        return th_fail(THAW_E_USAGE, "token_mean: %d tokens from %d on, of %lld", count,
            first, (long long)x[1]);
    th_rule_f32(&out[0], TH_SHAPE(x[0], x[2]));
    return THAW_OK;
}

/* dx = dy/count at the tokens that were read, else 0. */
static thaw_status token_mean_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_token_mean_dx, g->dout, g->in[0], &g->din[0]);
}

static thaw_status layerscale_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    char text[128];
    const struct th_shape *s = &in[0].shape;
    if (s->rank < 2 || in[0].dtype != TH_F32)
        return th_fail(THAW_E_USAGE,
            "layerscale: x is %s %s, it has to be f32 of rank 2 or more",
            th_dtype_name(in[0].dtype), th_shape_text(s, text, sizeof text));
    TRY(th_rule_vector("layerscale", "gamma", &in[1], s->dim[s->rank - 1]));
    th_rule_f32(&out[0], *s);
    return THAW_OK;
}

/* y = gamma*x along the last axis: dx = gamma*dy, dgamma = sum over rows of dy*x
 * (Touvron et al. 2021, arXiv:2103.17239, equation 4). */
static thaw_status layerscale_grad(struct th_grad *g)
{
    int x = g->in[0], gamma = g->in[1], dy = g->dout[0];
    if (g->need[0])
        TRY(th_rule_emit(g, TH_OP_layerscale_dx, (int[]){dy, gamma}, x, &g->din[0]));
    if (g->need[1])
        TRY(th_rule_emit(g, TH_OP_layerscale_dw, (int[]){dy, x}, gamma, &g->din[1]));
    return THAW_OK;
}

const struct th_op_fn th_rule_tokens = {.shape = tokens_shape, .grad = tokens_grad};
const struct th_op_fn th_rule_tokens_dx = {0};
const struct th_op_fn th_rule_tokens_dw = {0};
const struct th_op_fn th_rule_token_mean = {
    .shape = token_mean_shape, .grad = token_mean_grad};
const struct th_op_fn th_rule_token_mean_dx = {0};
const struct th_op_fn th_rule_layerscale = {
    .shape = layerscale_shape, .grad = layerscale_grad};
const struct th_op_fn th_rule_layerscale_dx = {0};
const struct th_op_fn th_rule_layerscale_dw = {0};
