/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of max, average and global average pooling. A window may hang over the
 * padding, never over the end (ceil_mode is not supported). */
#include "rule.h"

enum { LARGEST_WINDOW = 255 }; /* so that a position in it fits into the u8 index */

static thaw_status pool_shape(const char *op, const struct th_attr_pool *a,
    const struct th_operand *x, struct th_shape *out)
{
    int64_t oh, ow;
    TRY(th_rule_rank(op, "x", x, 4));
    if (a->pad[0] >= a->kernel[0] || a->pad[2] >= a->kernel[0] ||
        a->pad[1] >= a->kernel[1] || a->pad[3] >= a->kernel[1])
        return th_fail(THAW_E_USAGE,
            "%s: padding %d,%d,%d,%d has to be below the window of %d by %d", op,
            a->pad[0], a->pad[1], a->pad[2], a->pad[3], a->kernel[0], a->kernel[1]);
    TRY(th_rule_window(
        op, x->shape.dim[2], a->pad[0], a->pad[2], a->kernel[0], 1, a->stride[0], &oh));
    TRY(th_rule_window(
        op, x->shape.dim[3], a->pad[1], a->pad[3], a->kernel[1], 1, a->stride[1], &ow));
    *out = TH_SHAPE(x->shape.dim[0], x->shape.dim[1], oh, ow);
    return THAW_OK;
}

static thaw_status maxpool_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const struct th_attr_pool *a = &attr->pool;
    struct th_shape s;
    TRY(pool_shape("maxpool", a, &in[0], &s));
    if ((int64_t)a->kernel[0] * a->kernel[1] > LARGEST_WINDOW)
        return th_fail(THAW_E_USAGE,
            "maxpool: a window of %d by %d has more than %d values", a->kernel[0],
            a->kernel[1], LARGEST_WINDOW);
    th_rule_f32(&out[0], s);
    out[1].shape = s;
    out[1].dtype = TH_U8;
    return THAW_OK;
}

/* y = max over the window, the first of equals; dx gets dy at that position. */
static thaw_status maxpool_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    TRY(th_rule_saved("maxpool", "index", g->out[1]));
    return th_rule_emit(
        g, TH_OP_maxpool_dx, (int[]){g->dout[0], g->out[1]}, g->in[0], &g->din[0]);
}

static thaw_status avgpool_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    struct th_shape s;
    TRY(pool_shape("avgpool", &attr->pool, &in[0], &s));
    th_rule_f32(&out[0], s);
    return THAW_OK;
}

/* y = sum over the window / K, K = its size, padding included; every value of the window
 * gets dy / K (linear, so the transpose of the forward map). */
static thaw_status avgpool_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_avgpool_dx, (int[]){g->dout[0]}, g->in[0], &g->din[0]);
}

static thaw_status gap_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("gap", "x", &in[0], 4));
    th_rule_f32(&out[0], TH_SHAPE(in[0].shape.dim[0], in[0].shape.dim[1]));
    return THAW_OK;
}

/* y[n,c] = mean over h, w of x; dx = dy / (h*w). */
static thaw_status gap_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_gap_dx, (int[]){g->dout[0]}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_maxpool = {.shape = maxpool_shape, .grad = maxpool_grad};
const struct th_op_fn th_rule_maxpool_dx = {0};
const struct th_op_fn th_rule_avgpool = {.shape = avgpool_shape, .grad = avgpool_grad};
const struct th_op_fn th_rule_avgpool_dx = {0};
const struct th_op_fn th_rule_gap = {.shape = gap_shape, .grad = gap_grad};
const struct th_op_fn th_rule_gap_dx = {0};

static thaw_status gmp_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("gmp", "x", &in[0], 4));
    const int64_t *x = in[0].shape.dim;
    th_rule_f32(&out[0], TH_SHAPE(x[0], x[1]));
    out[1].shape = out[0].shape;
    out[1].dtype = TH_I32;
    return THAW_OK;
}

/* y[n,c] = max over h, w of x, the first of equals; dx gets dy at that position. */
static thaw_status gmp_grad(struct th_grad *g)
{
    if (!g->need[0])
        return THAW_OK;
    TRY(th_rule_saved("gmp", "index", g->out[1]));
    return th_rule_emit(
        g, TH_OP_gmp_dx, (int[]){g->dout[0], g->out[1]}, g->in[0], &g->din[0]);
}

const struct th_op_fn th_rule_gmp = {.shape = gmp_shape, .grad = gmp_grad};
const struct th_op_fn th_rule_gmp_dx = {0};
