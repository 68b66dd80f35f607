/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of add, scale, shortcut_a, reorder, view and concat. */
#include "rule.h"

static thaw_status add_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_same("add", "b", &in[1], "a", &in[0]));
    th_rule_f32(&out[0], in[0].shape);
    return THAW_OK;
}

/* y = a + b: da = db = dy, no node. */
static thaw_status add_grad(struct th_grad *g)
{
    for (int i = 0; i < 2; i++)
        if (g->need[i])
            g->din[i] = g->dout[0];
    return THAW_OK;
}

/* y = s*x: dx = s*dy, the same op. */
static thaw_status scale_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_scale, g->dout, g->in[0], &g->din[0]);
}

/* Option A of He et al. 2015 (arXiv:1512.03385), section 4.2: a shortcut without
 * parameters. y[n, front+c, p, q] = x[n, c, p*stride, q*stride], other channels 0. */
static thaw_status shortcut_a_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const struct th_attr_shortcut *a = &attr->shortcut;
    const int64_t *x = in[0].shape.dim;
    TRY(th_rule_rank("shortcut_a", "x", &in[0], 4));
    if (a->stride < 1 || a->front < 0 || a->back < 0)
        return th_fail(THAW_E_USAGE,
            "shortcut_a: stride %d, %d channels before and %d after: the stride has to "
            "be "
            "at least 1, the others at least 0",
            a->stride, a->front, a->back);
    th_rule_f32(&out[0], TH_SHAPE(x[0], a->front + x[1] + a->back,
                             (x[2] - 1) / a->stride + 1, (x[3] - 1) / a->stride + 1));
    return THAW_OK;
}

/* The transpose of a selection: dx = dy at the selected positions, else 0. */
static thaw_status shortcut_a_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(
        g, TH_OP_shortcut_a_dx, (int[]){g->dout[0]}, g->in[0], &g->din[0]);
}

/* The same values under another shape, which the graph sets: dx is dy under x's. */
static thaw_status view_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_view, (int[]){g->dout[0]}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_add = {.shape = add_shape, .grad = add_grad};
const struct th_op_fn th_rule_scale = {
    .shape = th_rule_shape_as_input, .grad = scale_grad};
const struct th_op_fn th_rule_shortcut_a = {
    .shape = shortcut_a_shape, .grad = shortcut_a_grad};
const struct th_op_fn th_rule_shortcut_a_dx = {0};
const struct th_op_fn th_rule_reorder = {.shape = th_rule_shape_as_input};
const struct th_op_fn th_rule_view = {.grad = view_grad};

/* y[n] = a[n], then b[n]: rows one behind the other; da and db are the parts of dy. */
static thaw_status concat_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("concat", "a", &in[0], 2));
    TRY(th_rule_rank("concat", "b", &in[1], 2));
    const int64_t *a = in[0].shape.dim, *b = in[1].shape.dim;
    if (a[0] != b[0])
        return th_fail(THAW_E_USAGE, "concat: a has %lld rows, b %lld: as many each",
            (long long)a[0], (long long)b[0]);
    th_rule_f32(&out[0], TH_SHAPE(a[0], a[1] + b[1]));
    return THAW_OK;
}

static thaw_status concat_grad(struct th_grad *g)
{
    int out[2], like[2];
    for (int i = 0; i < 2; i++)
        like[i] = g->need[i] ? g->in[i] : -1;
    if (!g->need[0] && !g->need[1])
        return THAW_OK;
    TRY(g->emit(g, TH_OP_concat_dx, g->attr, g->dout, like, out));
    for (int i = 0; i < 2; i++)
        if (g->need[i])
            g->din[i] = out[i];
    return THAW_OK;
}

const struct th_op_fn th_rule_concat = {.shape = concat_shape, .grad = concat_grad};
const struct th_op_fn th_rule_concat_dx = {0};
