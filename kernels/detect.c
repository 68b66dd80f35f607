/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of the losses of dense detectors. Predictions are rows [n][a][k]; `target`
 * says of each row which class it is to be: from 0 on, -1 none, -2 the row counts nowhere.
 * Each image has a weight w (one over its objects, or over those of the batch):
 *
 *   loss = sum_i w[i] sum_rows l(row)
 *
 * focal, over all rows but those of -2 and all classes (Lin et al. 2017, arXiv:1708.02002,
 * equation 5); z = x where the class is the row's, else -x, p = sigmoid(z):
 *
 *   l = alpha' (1-p)^gamma log(1 + exp(-z)), alpha' = alpha for the row's class, else 1-alpha
 *   dl/dz = -alpha' (1-p)^gamma (1-p + gamma p log(1 + exp(-z)))
 *
 * box_loss, over rows with a class; x and box [n][a][4] in one code, relative to the row's
 * place, in whatever unit:
 *
 *   GIOU_SIDES    left, top, right, bottom of the place: FCOS (arXiv:1904.01355, equation 1)
 *   GIOU_DELTAS   centre, and the logarithms of width and height, at most log(1000/16):
 *                 R-CNN (arXiv:1311.2524, appendix C)
 *     l = 1 - I/(U + e) + (C - U)/(C + e): intersection, union, the smallest box around both
 *     (Rezatofighi et al. 2019, arXiv:1902.09630); e = 1e-7. Both codes are affine in each
 *     axis, under which l does not change, so that nobody has to know the place.
 *   SMOOTH_L1     l = sum_4 d < beta ? d^2/(2 beta) : d - beta/2, d = |x - box|
 *
 * masked_ce, over rows whose target t is not below 0 (it is within 0..1):
 *
 *   l = log(1 + exp(x)) - t x
 *
 * row_ce, softmax cross-entropy over rows but those of -2; logits [n][a][1 + classes], those
 * of -1, the background, first; t = 1 + target:
 *
 *   l = log(sum_k exp(x_k)) - x_t,  dl/dx_k = p_k - (k = t)
 *
 * row_weight, of every image: one over the rows of the batch that are not -2. */
#include "rule.h"

/* target [n][a] of this type, and weight [n]. */
static thaw_status check_rows(const char *op, const struct th_operand *x,
    const struct th_operand *target, enum th_dtype dtype,
    const struct th_operand *weight)
{
    char a[128], b[128];
    const int64_t *d = x->shape.dim;
    TRY(th_rule_vector(op, "weight", weight, d[0]));
    if (target->dtype != dtype || target->shape.rank != 2 ||
        target->shape.dim[0] != d[0] || target->shape.dim[1] != d[1])
        return th_fail(THAW_E_USAGE, "%s: target is %s %s for rows of %s", op,
            th_dtype_name(target->dtype), th_shape_text(&target->shape, a, sizeof a),
            th_shape_text(&x->shape, b, sizeof b));
    return THAW_OK;
}

static thaw_status focal_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("focal", "logits", &in[0], 3));
    TRY(check_rows("focal", &in[0], &in[1], TH_I32, &in[2]));
    th_rule_f32(&out[0], TH_SHAPE(1));
    return THAW_OK;
}

static thaw_status box_loss_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("box_loss", "x", &in[0], 3));
    TRY(th_rule_same("box_loss", "box", &in[1], "x", &in[0]));
    TRY(check_rows("box_loss", &in[0], &in[2], TH_I32, &in[3]));
    if (in[0].shape.dim[2] != 4)
        return th_fail(THAW_E_USAGE, "box_loss: rows of four values are boxes");
    th_rule_f32(&out[0], TH_SHAPE(1));
    return THAW_OK;
}

static thaw_status masked_ce_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    if (th_shape_count(&in[0].shape) != th_shape_count(&in[1].shape))
        return th_fail(THAW_E_USAGE, "masked_ce: a logit for each target");
    TRY(check_rows("masked_ce", &in[0], &in[1], TH_F32, &in[2]));
    th_rule_f32(&out[0], TH_SHAPE(1));
    return THAW_OK;
}

static thaw_status row_ce_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("row_ce", "logits", &in[0], 3));
    TRY(check_rows("row_ce", &in[0], &in[1], TH_I32, &in[2]));
    th_rule_f32(&out[0], TH_SHAPE(1));
    return THAW_OK;
}

static thaw_status row_weight_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    if (in[0].dtype != TH_I32 || in[0].shape.rank != 2)
        return th_fail(THAW_E_USAGE, "row_weight: a target for each row");
    th_rule_f32(&out[0], TH_SHAPE(in[0].shape.dim[0]));
    return THAW_OK;
}

/* OP_dx reads what OP does, and the scalars; it is the root, so its own gradient is 1. */
static thaw_status loss_grad(struct th_grad *g, enum th_op dx, int n_in)
{
    int in[TH_MAX_IN];
    for (int i = 1; i < n_in; i++)
        if (g->need[i])
            return th_fail(THAW_E_FAIL, "%s: targets and weights have no gradient",
                th_op_rule(dx)->name);
    if (!g->need[0])
        return THAW_OK;
    for (int i = 0; i < n_in; i++)
        in[i] = g->in[i];
    in[n_in] = g->scalars;
    return th_rule_emit(g, dx, in, g->in[0], &g->din[0]);
}

static thaw_status focal_grad(struct th_grad *g)
{
    return loss_grad(g, TH_OP_focal_dx, 3);
}

static thaw_status box_loss_grad(struct th_grad *g)
{
    return loss_grad(g, TH_OP_box_loss_dx, 4);
}

static thaw_status masked_ce_grad(struct th_grad *g)
{
    return loss_grad(g, TH_OP_masked_ce_dx, 3);
}

static thaw_status row_ce_grad(struct th_grad *g)
{
    return loss_grad(g, TH_OP_row_ce_dx, 3);
}

const struct th_op_fn th_rule_focal = {.shape = focal_shape, .grad = focal_grad};
const struct th_op_fn th_rule_focal_dx = {0};
const struct th_op_fn th_rule_box_loss = {
    .shape = box_loss_shape, .grad = box_loss_grad};
const struct th_op_fn th_rule_box_loss_dx = {0};
const struct th_op_fn th_rule_masked_ce = {
    .shape = masked_ce_shape, .grad = masked_ce_grad};
const struct th_op_fn th_rule_masked_ce_dx = {0};
const struct th_op_fn th_rule_row_weight = {
    .shape = row_weight_shape, .detached = true};
const struct th_op_fn th_rule_row_ce = {.shape = row_ce_shape, .grad = row_ce_grad};
const struct th_op_fn th_rule_row_ce_dx = {0};
