/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of relu, gelu, dropout, drop_path and their gradients: element by element. */
#include "rule.h"

static thaw_status relu_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    th_rule_f32(&out[0], in[0].shape);
    out[1].shape = in[0].shape;
    out[1].dtype = TH_BIT;
    return THAW_OK;
}

/* y = max(0, x); dx = dy + add where y > 0, else 0 (0 at x = 0, as PyTorch), where `add`
 * is a second gradient of y that the planner fuses. One bit a value. */
static thaw_status relu_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    TRY(th_rule_saved("relu", "mask", g->out[1]));
    return th_rule_emit(
        g, TH_OP_relu_dx, (int[]){g->dout[0], g->out[1], -1}, g->in[0], &g->din[0]);
}

static thaw_status gelu_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    if ((int)attr->act.kind < TH_GELU_ERF || attr->act.kind > TH_GELU_QUICK)
        return th_fail(THAW_E_USAGE, "gelu: there is no kind %d", (int)attr->act.kind);
    return th_rule_shape_as_input(attr, in, out);
}

/* Hendrycks & Gimpel, arXiv:1606.08415, section 2. By attr.act.kind:
 *   erf    y = x*P(x), P the normal distribution function (1 + erf(x/sqrt 2))/2;
 *          dx = dy*(P(x) + x*p(x)), p the density
 *   tanh   y = x*(1 + t)/2, t = tanh(u), u = sqrt(2/pi)*(x + 0.044715*x^3);
 *          dx = dy*((1 + t)/2 + x*(1 - t^2)/2*u'), u' = sqrt(2/pi)*(1 + 0.134145*x^2)
 *   quick  y = x*s, s = 1/(1 + exp(-1.702*x)) (OpenAI's CLIP);
 *          dx = dy*s*(1 + 1.702*x*(1 - s)) */
static thaw_status gelu_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(
        g, TH_OP_gelu_dx, (int[]){g->dout[0], g->in[0]}, g->in[0], &g->din[0]);
}

static thaw_status random_shape(const char *op, const union th_attr *attr,
    const struct th_operand *in, struct th_operand *out)
{
    char xs[128], ks[128];
    const struct th_operand *x = &in[0], *keys = &in[1];
    float p = attr->dropout.p;
    if (!(p >= 0 && p < 1))
        return th_fail(THAW_E_USAGE,
            "%s: probability %g, it has to be at least 0 and below 1", op, (double)p);
    if (x->shape.rank < 1 || keys->dtype != TH_I32 || keys->shape.rank != 2 ||
        keys->shape.dim[0] != x->shape.dim[0] || keys->shape.dim[1] != 2)
        return th_fail(THAW_E_USAGE,
            "%s: keys are %s %s, for x %s they have to be i32 [samples][2]", op,
            th_dtype_name(keys->dtype), th_shape_text(&keys->shape, ks, sizeof ks),
            th_shape_text(&x->shape, xs, sizeof xs));
    th_rule_f32(&out[0], x->shape);
    return THAW_OK;
}

static thaw_status dropout_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    return random_shape("dropout", attr, in, out);
}

static thaw_status drop_path_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    return random_shape("drop_path", attr, in, out);
}

/* y = x*r/(1-p) with r = 1 where the value is kept, drawn from the sample's key; the
 * same draw again for dx = dy*r/(1-p) (Srivastava et al., JMLR 15, 2014). */
static thaw_status dropout_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(
        g, TH_OP_dropout_dx, (int[]){g->dout[0], g->in[1]}, g->in[0], &g->din[0]);
}

/* As dropout with one draw a sample: all of it is zero, or all of it is kept (Huang et
 * al., arXiv:1603.09382, with the scale of timm's DropPath). */
static thaw_status drop_path_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(
        g, TH_OP_drop_path_dx, (int[]){g->dout[0], g->in[1]}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_relu = {.shape = relu_shape, .grad = relu_grad};
const struct th_op_fn th_rule_relu_dx = {0};
const struct th_op_fn th_rule_gelu = {.shape = gelu_shape, .grad = gelu_grad};
const struct th_op_fn th_rule_gelu_dx = {0};
const struct th_op_fn th_rule_dropout = {.shape = dropout_shape, .grad = dropout_grad};
const struct th_op_fn th_rule_dropout_dx = {0};
const struct th_op_fn th_rule_drop_path = {
    .shape = drop_path_shape, .grad = drop_path_grad};
const struct th_op_fn th_rule_drop_path_dx = {0};
