/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of low-rank adapters (Hu et al. 2021, arXiv:2106.09685, equation 3):
 *
 *   y[o,k] = w[o,k] + scale * sum_r b[o,r] a[r,k]
 *
 * w is a layer's weight [o][i] or [o][i][h][w], seen as [o][k] with k over all but the first
 * axis; a [r][i...] has w's other axes, b is [o][r] (of a convolution [o][r][1][1]): for a
 * convolution this is the weight of `a` followed by the 1x1 convolution `b`. */
#include "rule.h"

/* a: one row for each of r ranks, otherwise as w; b: [o][r], then ones. */
static bool fits(
    const struct th_shape *w, const struct th_shape *a, const struct th_shape *b)
{
    bool same = a->rank == w->rank && b->rank == w->rank && b->rank >= 2 &&
                b->dim[0] == w->dim[0] && b->dim[1] == a->dim[0];
    for (int i = 1; same && i < w->rank; i++)
        same = a->dim[i] == w->dim[i] && (i < 2 || b->dim[i] == 1);
    return same;
}

static thaw_status lora_merge_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    char w[128], a[128], b[128];
    if (!fits(&in[0].shape, &in[1].shape, &in[2].shape))
        return th_fail(THAW_E_USAGE,
            "lora_merge: a %s and b %s do not fit w %s: a has to be [r] and w's other "
            "axes, b [outputs of w][r]",
            th_shape_text(&in[1].shape, a, sizeof a),
            th_shape_text(&in[2].shape, b, sizeof b),
            th_shape_text(&in[0].shape, w, sizeof w));
    th_rule_f32(&out[0], in[0].shape);
    return THAW_OK;
}

/* dw = dy; da = scale * b^T dy; db = scale * dy a^T (Magnus & Neudecker, "Matrix
 * Differential Calculus", d tr(C^T B A)). */
static thaw_status lora_merge_grad(struct th_grad *g)
{
    int a = g->in[1], b = g->in[2], dy = g->dout[0];
    if (g->need[0])
        g->din[0] = dy;
    if (g->need[1])
        TRY(th_rule_emit(g, TH_OP_lora_da, (int[]){dy, b}, a, &g->din[1]));
    if (g->need[2])
        TRY(th_rule_emit(g, TH_OP_lora_db, (int[]){dy, a}, b, &g->din[2]));
    return THAW_OK;
}

/* y[o,...] = scale * x[o,...], and where they are given times gamma[o] / sqrt(var[o] +
 * eps): the factor by which a BatchNorm on running statistics scales its output. */
static thaw_status scale_rows_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_vector("scale_rows", "gamma", &in[1], in[0].shape.dim[0]));
    TRY(th_rule_vector("scale_rows", "var", &in[2], in[0].shape.dim[0]));
    th_rule_f32(&out[0], in[0].shape);
    return THAW_OK;
}

static thaw_status scale_rows_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_scale_rows, (int[]){g->dout[0], g->in[1], g->in[2]},
        g->in[0], &g->din[0]);
}

/* Of either gradient, and of the merge: ranks times the weights. */
static int64_t by_rank(const struct th_operand *w, const struct th_operand *b)
{
    return th_shape_count(&w->shape) * b->shape.dim[1];
}

static int64_t lora_merge_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return by_rank(&in[0], &in[2]);
}

static int64_t lora_da_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return by_rank(&in[0], &in[1]);
}

static int64_t lora_db_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr;
    return by_rank(&in[0], &out[0]);
}

const struct th_op_fn th_rule_lora_merge = {
    .shape = lora_merge_shape, .grad = lora_merge_grad, .macs = lora_merge_macs};
const struct th_op_fn th_rule_lora_da = {.macs = lora_da_macs};
const struct th_op_fn th_rule_lora_db = {.macs = lora_db_macs};
const struct th_op_fn th_rule_scale_rows = {
    .shape = scale_rows_shape, .grad = scale_rows_grad};
