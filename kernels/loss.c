/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of softmax_ce: cross-entropy of a softmax against soft targets.
 *
 *   loss = (1/n) sum_r -sum_k target[r,k] log p[r,k],  p = softmax of each row
 *
 * A row of targets need not sum to 1: its sum is the sample's weight. */
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
