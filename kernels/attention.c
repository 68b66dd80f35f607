/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of attention: all heads of one self-attention.
 *
 * qkv is [n][t][3d] as timm packs it: q, k, v after one another, each [heads][e] with
 * e = d/heads. Per sample and head (Vaswani et al. 2017, equation 1):
 *   s = q k^T / sqrt e, p = softmax_rows(s), y = p v; y is [n][t][d].
 * Instead of p, [t][t], each row's lse = log sum_j exp s_j is kept, [n][heads][t]: the
 * gradient makes p again as exp(s - lse) (Dao et al. 2022, arXiv:2205.14135). */
#include "rule.h"

static thaw_status attention_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    char text[128];
    int heads = attr->attention.heads;
    const struct th_shape *s = &in[0].shape;
    TRY(th_rule_rank("attention", "qkv", &in[0], 3));
    if (heads < 1 || s->dim[2] % (3 * heads) != 0)
        return th_fail(THAW_E_USAGE,
            "attention: qkv %s does not split into q, k and v of %d heads",
            th_shape_text(s, text, sizeof text), heads);
    th_rule_f32(&out[0], TH_SHAPE(s->dim[0], s->dim[1], s->dim[2] / 3));
    th_rule_f32(&out[1], TH_SHAPE(s->dim[0], heads, s->dim[1]));
    return THAW_OK;
}

/* dv = p^T dy; dp = dy v^T; ds = p * (dp - sum_row(dp*p)) / sqrt e, where
 * sum_row(dp*p) = sum_c dy*y; dq = ds k; dk = ds^T q (Dao et al. 2022, appendix B.2). */
static thaw_status attention_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    TRY(th_rule_saved("attention", "lse", g->out[1]));
    return th_rule_emit(g, TH_OP_attention_dx,
        (int[]){g->dout[0], g->in[0], g->out[0], g->out[1]}, g->in[0], &g->din[0]);
}

/* One [t][t][e] product per head. */
static int64_t product_macs(const struct th_shape *qkv)
{
    return qkv->dim[0] * qkv->dim[1] * qkv->dim[1] * (qkv->dim[2] / 3);
}

static int64_t attention_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return 2 * product_macs(&in[0].shape);
}

static int64_t attention_dx_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return 5 * product_macs(&in[1].shape); /* the scores again */
}

const struct th_op_fn th_rule_attention = {
    .shape = attention_shape, .grad = attention_grad, .macs = attention_macs};
const struct th_op_fn th_rule_attention_dx = {.macs = attention_dx_macs};
