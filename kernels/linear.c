/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of linear, linear_dx, linear_dw, linear_fold and bias_grad.
 *
 *   y[r,o] = b[o] + sum_i x[r,i] w[o,i],  r over all axes but the last. */
#include "rule.h"

static thaw_status linear_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    const struct th_operand *x = &in[0], *w = &in[1];
    char xs[128], ws[128];
    TRY(th_rule_rank("linear", "w", w, 2));
    int last = x->shape.rank - 1;
    if (last < 1 || x->dtype != TH_F32 || x->shape.dim[last] != w->shape.dim[1])
        return th_fail(THAW_E_USAGE,
            "linear: x %s does not fit w %s: x has to be f32 of rank 2 or more, its "
            "last "
            "axis the second of w",
            th_shape_text(&x->shape, xs, sizeof xs),
            th_shape_text(&w->shape, ws, sizeof ws));
    TRY(th_rule_vector("linear", "b", &in[2], w->shape.dim[0]));
    struct th_shape s = x->shape;
    s.dim[last] = w->shape.dim[0];
    th_rule_f32(&out[0], s);
    return THAW_OK;
}

/* dx = dy w; dw = dy^T x; db = sum_r dy (Magnus & Neudecker, "Matrix Differential
 * Calculus", d tr(A^T X W^T)). */
static thaw_status linear_grad(struct th_grad *g)
{
    int x = g->in[0], w = g->in[1], b = g->in[2], dy = g->dout[0];
    if (g->need[0])
        TRY(th_rule_emit(g, TH_OP_linear_dx, (int[]){dy, w}, x, &g->din[0]));
    if (g->need[1])
        TRY(th_rule_emit(g, TH_OP_linear_dw, (int[]){x, dy}, w, &g->din[1]));
    if (b >= 0 && g->need[2])
        TRY(th_rule_emit(g, TH_OP_bias_grad, (int[]){dy}, b, &g->din[2]));
    return THAW_OK;
}

/* Each value of y takes part in as many multiply-adds as x has features; this is the
 * count of all three products. */
static int64_t linear_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return th_shape_count(&in[0].shape) * in[1].shape.dim[0];
}

static int64_t linear_dx_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return th_shape_count(&in[0].shape) * in[1].shape.dim[1];
}

static int64_t linear_dw_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr;
    return th_shape_count(&in[0].shape) * out[0].shape.dim[0];
}

/* What a LayerScale behind a linear layer makes of it: w'[o,i] = gamma[o] w[o,i],
 * b'[o] = gamma[o] b[o]. */
static thaw_status linear_fold_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("linear_fold", "w", &in[0], 2));
    TRY(th_rule_vector("linear_fold", "b", &in[1], in[0].shape.dim[0]));
    TRY(th_rule_vector("linear_fold", "gamma", &in[2], in[0].shape.dim[0]));
    th_rule_f32(&out[0], in[0].shape);
    th_rule_f32(&out[1], in[2].shape);
    return THAW_OK;
}

const struct th_op_fn th_rule_linear = {
    .shape = linear_shape, .grad = linear_grad, .macs = linear_macs};
const struct th_op_fn th_rule_linear_dx = {.macs = linear_dx_macs};
const struct th_op_fn th_rule_linear_dw = {.macs = linear_dw_macs};
/* dw = gamma dw_folded by rows; only an adapter of w asks for it. */
static thaw_status linear_fold_grad(struct th_grad *g)
{
    union th_attr attr = {.lora = {.scale = 1}};
    if (!g->need[0])
        return THAW_OK;
    return g->emit(g, TH_OP_scale_rows, &attr, (int[]){g->dout[0], g->in[2], -1},
        &g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_linear_fold = {
    .shape = linear_fold_shape, .grad = linear_fold_grad};
const struct th_op_fn th_rule_bias_grad = {0};
