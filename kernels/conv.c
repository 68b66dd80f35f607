/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of conv, conv_dx, conv_dw: two-dimensional cross-correlation with
 * stride, dilation, groups and four paddings.
 *
 *   y[n,o,p,q] = b[o] + sum_{i,r,s} w[o,i,r,s] *
 *                x[n, g*I + i, p*stride + r*dilation - top, q*stride + s*dilation - left]
 *
 * with I = input channels / groups and g the group of o; x is 0 outside the image. */
#include "rule.h"

static thaw_status conv_check(const struct th_attr_conv *a, const struct th_operand *x,
    const struct th_operand *w)
{
    char xs[128], ws[128];
    TRY(th_rule_rank("conv", "x", x, 4));
    TRY(th_rule_rank("conv", "w", w, 4));
    int64_t channels = x->shape.dim[1];
    if (a->groups >= 1 && w->shape.dim[1] * a->groups == channels &&
        w->shape.dim[0] % a->groups == 0)
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "conv: x %s does not fit w %s in %d groups: w has to be [outputs][%lld / "
        "groups]"
        "[h][w], the outputs a multiple of the groups",
        th_shape_text(&x->shape, xs, sizeof xs),
        th_shape_text(&w->shape, ws, sizeof ws), a->groups, (long long)channels);
}

static thaw_status conv_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const struct th_attr_conv *a = &attr->conv;
    const struct th_operand *x = &in[0], *w = &in[1], *b = &in[2], *add = &in[3];
    int64_t oh, ow;
    TRY(conv_check(a, x, w));
    TRY(th_rule_vector("conv", "b", b, w->shape.dim[0]));
    TRY(th_rule_window("conv", x->shape.dim[2], a->pad[0], a->pad[2], w->shape.dim[2],
        a->dilation[0], a->stride[0], &oh));
    TRY(th_rule_window("conv", x->shape.dim[3], a->pad[1], a->pad[3], w->shape.dim[3],
        a->dilation[1], a->stride[1], &ow));
    th_rule_f32(&out[0], TH_SHAPE(x->shape.dim[0], w->shape.dim[0], oh, ow));
    return add->present ? th_rule_same("conv", "add", add, "y", &out[0]) : THAW_OK;
}

/* With L the loss (Goodfellow, Bengio, Courville, "Deep Learning", section 9.5):
 *   dx = dy correlated with w turned round: dL/dx[i,u,v] = sum dy[o,p,q] w[o,i,r,s]
 *   dw[o,i,r,s] = sum_{n,p,q} dy[n,o,p,q] x[n,i, p*stride + r*dilation - top, ...]
 *   db[o] = sum_{n,p,q} dy[n,o,p,q] */
static thaw_status conv_grad(struct th_grad *g)
{
    int x = g->in[0], w = g->in[1], b = g->in[2], dy = g->dout[0];
    if (g->attr->conv.relu || g->in[3] >= 0)
        return th_rule_fused("conv");
    if (g->need[0])
        TRY(th_rule_emit(g, TH_OP_conv_dx, (int[]){dy, w}, x, &g->din[0]));
    if (g->need[1])
        TRY(th_rule_emit(g, TH_OP_conv_dw, (int[]){x, dy}, w, &g->din[1]));
    if (b >= 0 && g->need[2])
        TRY(th_rule_emit(g, TH_OP_bias_grad, (int[]){dy}, b, &g->din[2]));
    return THAW_OK;
}

/* Each output value takes one multiply-add per weight of its filter. */
static int64_t conv_cost(const struct th_operand *y, const struct th_operand *w)
{
    const int64_t *f = w->shape.dim;
    return th_shape_count(&y->shape) * f[1] * f[2] * f[3];
}

static int64_t conv_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr;
    return conv_cost(&out[0], &in[1]);
}

static int64_t conv_dx_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr, (void)out;
    return conv_cost(&in[0], &in[1]);
}

static int64_t conv_dw_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    (void)attr;
    return conv_cost(&in[1], &out[0]);
}

const struct th_op_fn th_rule_conv = {
    .shape = conv_shape, .grad = conv_grad, .macs = conv_macs};
const struct th_op_fn th_rule_conv_dx = {.macs = conv_dx_macs};
const struct th_op_fn th_rule_conv_dw = {.macs = conv_dw_macs};
