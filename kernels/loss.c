/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of the losses.
 *
 * softmax_ce, cross-entropy of a softmax against soft targets:
 *
 *   loss = (1/n) sum_r -sum_k target[r,k] log p[r,k],  p = softmax of each row
 *
 * A row of targets need not sum to 1: its sum is the sample's weight.
 *
 * sigmoid_ce, each class a yes or no of its own (torch.nn.BCEWithLogitsLoss):
 *
 *   loss = (1/nk) sum_r,k -(w[k] t[r,k] log p[r,k] + (1 - t[r,k]) log(1 - p[r,k])),
 *
 * t the target in [0,1], p the sigmoid of the logit, w[k] pos_weight. */
#include "rule.h"

static thaw_status softmax_ce_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("softmax_ce", "logits", &in[0], 2));
    TRY(th_rule_rank("softmax_ce", "target", &in[1], 2));
    TRY(th_rule_same("softmax_ce", "target", &in[1], "logits", &in[0]));
    th_rule_f32(&out[0], TH_SHAPE(1));
    th_rule_f32(&out[1], in[0].shape);
    return THAW_OK;
}

/* dlogits = (p*w - target)/n * loss_scale, w the sum of the target's row; the loss is
 * the root, so its own gradient is 1 (Bishop, "Pattern Recognition", equation 4.109). */
static thaw_status softmax_ce_grad(struct th_grad *g)
{
    if (g->dout[1] >= 0)
        return th_fail(THAW_E_FAIL,
            "softmax_ce: its output p has no gradient: build a loss on the logits");
    if (g->need[1])
        return th_fail(THAW_E_FAIL, "softmax_ce: its target has no gradient");
    if (!g->need[0])
        return THAW_OK;
    TRY(th_rule_saved("softmax_ce", "p", g->out[1]));
    return th_rule_emit(g, TH_OP_softmax_ce_dx,
        (int[]){g->out[1], g->in[1], g->scalars}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_softmax_ce = {
    .shape = softmax_ce_shape, .grad = softmax_ce_grad};
const struct th_op_fn th_rule_softmax_ce_dx = {0};

static thaw_status sigmoid_ce_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("sigmoid_ce", "logits", &in[0], 2));
    TRY(th_rule_rank("sigmoid_ce", "target", &in[1], 2));
    TRY(th_rule_same("sigmoid_ce", "target", &in[1], "logits", &in[0]));
    struct th_operand weights = in[2];
    weights.shape = TH_SHAPE(in[0].shape.dim[1]);
    TRY(th_rule_same("sigmoid_ce", "pos_weight", &in[2], "one a class", &weights));
    th_rule_f32(&out[0], TH_SHAPE(1));
    th_rule_f32(&out[1], in[0].shape);
    return THAW_OK;
}

/* dlogits = ((w t + 1 - t) p - w t) / nk * loss_scale: d log p = 1 - p,
 * d log(1 - p) = -p (Bishop, "Pattern Recognition", equation 4.88). */
static thaw_status sigmoid_ce_grad(struct th_grad *g)
{
    if (g->dout[1] >= 0)
        return th_fail(THAW_E_FAIL,
            "sigmoid_ce: its output p has no gradient: build a loss on the logits");
    if (g->need[1] || g->need[2])
        return th_fail(
            THAW_E_FAIL, "sigmoid_ce: its target and weights have no gradient");
    if (!g->need[0])
        return THAW_OK;
    TRY(th_rule_saved("sigmoid_ce", "p", g->out[1]));
    return th_rule_emit(g, TH_OP_sigmoid_ce_dx,
        (int[]){g->out[1], g->in[1], g->in[2], g->scalars}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_sigmoid_ce = {
    .shape = sigmoid_ce_shape, .grad = sigmoid_ce_grad};
const struct th_op_fn th_rule_sigmoid_ce_dx = {0};
