/* SPDX-License-Identifier: Apache-2.0
 * Owns the graphs of BatchNorm and LayerNorm. Formulas: kernels/norm.c. */
#include "lower_ops.h"

/* The operands of bn_apply. */
enum { X, MEAN, VAR, GAMMA, BETA, ADD };

/* gamma / sqrt(var + eps), by channel */
static int scale_of(struct th_lower *l, int c, int var, int gamma)
{
    float eps = th_lower_call(l, c)->attr.norm.eps;
    int v = th_lower_channels(l, c, var, "var");
    int g = th_lower_channels(l, c, gamma, "gamma");
    int s = th_cudnn_pointwise(
        l->g, CUDNN_POINTWISE_ADD, v, th_cudnn_scalar(l->g, "eps", eps), -1);
    s = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_RSQRT, s, -1, -1);
    return th_cudnn_pointwise(l->g, CUDNN_POINTWISE_MUL, s, g, -1);
}

/* y = h + add, or max(0, that); where it is above 0 is the mask. */
static void finish(struct th_lower *l, int c, int h, int y)
{
    bool relu = th_lower_call(l, c)->attr.norm.relu;
    int add = th_lower_activation(l, c, ADD, "add");
    int mask = th_lower_activation(l, c, TH_LOWER_OUT + 1, "mask");
    if (add >= 0)
        h = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_ADD, h, add, relu ? -1 : y);
    if (relu)
        th_cudnn_pointwise(l->g, CUDNN_POINTWISE_RELU_FWD, h, -1, y);
    th_lower_positive(l, y, mask);
}

/* Whether nothing follows the sum with beta. */
static bool ends_with_beta(const struct th_lower *l, int c)
{
    return !th_lower_call(l, c)->attr.norm.relu &&
           !th_lower_operand(l, c, ADD)->present;
}

void th_lower_bn_epilogue(struct th_lower *l, int c, int x, int y)
{
    int mean = th_lower_channels(l, c, MEAN, "mean");
    int beta = th_lower_channels(l, c, BETA, "beta");
    int h = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_SUB, x, mean, -1);
    h = th_cudnn_pointwise(
        l->g, CUDNN_POINTWISE_MUL, h, scale_of(l, c, VAR, GAMMA), -1);
    h = th_cudnn_pointwise(
        l->g, CUDNN_POINTWISE_ADD, h, beta, ends_with_beta(l, c) ? y : -1);
    finish(l, c, h, y);
}

void th_lower_bn_apply(struct th_lower *l)
{
    int x = th_lower_activation(l, 0, X, "x");
    th_lower_bn_epilogue(l, 0, x, th_lower_activation(l, 0, TH_LOWER_OUT, "y"));
}

void th_lower_bn_stats_bn_apply(struct th_lower *l)
{
    struct th_cudnn_norm n = {.mode = CUDNN_BATCH_NORM,
        .x = th_lower_activation(l, 1, X, "x"),
        .gamma = th_lower_channels(l, 1, GAMMA, "gamma"),
        .beta = th_lower_channels(l, 1, BETA, "beta"),
        .mean = th_lower_channels(l, 0, TH_LOWER_OUT, "mean"),
        .rstd = th_lower_channels(l, 0, TH_LOWER_OUT + 1, "rstd"),
        .eps = th_cudnn_scalar(l->g, "eps", th_lower_call(l, 1)->attr.norm.eps)};
    int y = th_lower_activation(l, 1, TH_LOWER_OUT, "y");
    n.y = ends_with_beta(l, 1) ? y : th_cudnn_virtual(l->g, CUDNN_DATA_FLOAT, n.x);
    finish(l, 1, th_cudnn_norm_fwd(l->g, &n), y);
}

/* The operands of bn_reduce and bn_dx_batch: dy, x, mean, var first. */
void th_lower_bn_reduce_bn_dx_batch(struct th_lower *l)
{
    struct th_cudnn_norm n = {.mode = CUDNN_BATCH_NORM,
        .x = th_lower_activation(l, 1, 1, "x"),
        .mean = th_lower_channels(l, 1, 2, "mean"),
        .rstd = th_lower_channels(l, 1, 3, "rstd"),
        .gamma = th_lower_channels(l, 1, 4, "gamma"),
        .dgamma = th_lower_channels(l, 0, TH_LOWER_OUT, "dgamma"),
        .dbeta = th_lower_channels(l, 0, TH_LOWER_OUT + 1, "dbeta"),
        .dx = th_lower_activation(l, 1, TH_LOWER_OUT, "dx")};
    int dy = th_lower_activation(l, 1, 0, "dy");
    int mask = th_lower_activation(l, 1, 7, "mask");
    n.dy = th_lower_masked(
        l, dy, mask, mask < 0 ? -1 : th_cudnn_virtual(l->g, l->type, dy));
    th_cudnn_norm_bwd(l->g, &n);
}

/* dx = gamma / sqrt(var + eps) dy where the mask is 1 */
void th_lower_bn_dx_running(struct th_lower *l)
{
    int dy = th_lower_activation(l, 0, 0, "dy");
    int mask = th_lower_activation(l, 0, 3, "mask");
    int dx = th_lower_activation(l, 0, TH_LOWER_OUT, "dx");
    dy = th_lower_masked(l, dy, mask, -1);
    th_cudnn_pointwise(l->g, CUDNN_POINTWISE_MUL, dy, scale_of(l, 0, 1, 2), dx);
}

/* ---- LayerNorm: rows as samples, their values as channels ---- */

/* [d] as [1][d][1][1]; [rows...] as [rows][1][1][1] */
static int by_row(struct th_lower *l, int k, const char *name)
{
    const struct th_operand *o = th_lower_operand(l, 0, k);
    if (!o->present)
        return -1;
    struct th_cudnn_tensor t = {.name = name,
        .type = CUDNN_DATA_FLOAT,
        .rank = 4,
        .dim = {th_shape_count(&o->shape), 1, 1, 1},
        .stride = {1, 1, 1, 1},
        .argument = th_lower_argument(l, 0, k)};
    return th_cudnn_tensor(l->g, &t);
}

void th_lower_layernorm(struct th_lower *l)
{
    struct th_cudnn_norm n = {.mode = CUDNN_LAYER_NORM,
        .x = th_lower_rows(l, 0, 0, "x"),
        .gamma = th_lower_channels(l, 0, 1, "gamma"),
        .beta = th_lower_channels(l, 0, 2, "beta"),
        .y = th_lower_rows(l, 0, TH_LOWER_OUT, "y"),
        .mean = by_row(l, TH_LOWER_OUT + 1, "mean"),
        .rstd = by_row(l, TH_LOWER_OUT + 2, "rstd"),
        .eps = th_cudnn_scalar(l->g, "eps", th_lower_call(l, 0)->attr.norm.eps)};
    th_cudnn_norm_fwd(l->g, &n);
}

/* cuDNN makes dgamma and dbeta, too: they go to scratch. */
void th_lower_layernorm_dx(struct th_lower *l)
{
    struct th_cudnn_norm n = {.mode = CUDNN_LAYER_NORM,
        .dy = th_lower_rows(l, 0, 0, "dy"),
        .x = th_lower_rows(l, 0, 1, "x"),
        .gamma = th_lower_channels(l, 0, 2, "gamma"),
        .mean = by_row(l, 3, "mean"),
        .rstd = by_row(l, 4, "rstd"),
        .dx = th_lower_rows(l, 0, TH_LOWER_OUT, "dx")};
    if (l->g->status != THAW_OK || n.gamma < 0)
        return;
    const int64_t *d = l->g->tensors[n.gamma].dim;
    n.dgamma = th_cudnn_scratch(l->g, "dgamma", 4, d);
    n.dbeta = th_cudnn_scratch(l->g, "dbeta", 4, d);
    th_cudnn_norm_bwd(l->g, &n);
}
