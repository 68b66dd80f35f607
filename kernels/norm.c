/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of BatchNorm and LayerNorm.
 *
 * `batchnorm` has a shape only: the planner lowers it, by mode, to bn_stats (statistics
 * of this batch), bn_apply and bn_update. With S the sum over n, h, w and N its count:
 *   bn_stats   mean = S(x)/N, var = S((x-mean)^2)/N (biased)
 *   bn_apply   y = gamma*h + beta, h = (x-mean)*i, i = 1/sqrt(var+eps)
 *   bn_update  running = (1-m)*running + m*batch, the variance times N/(N-1)
 *   bn_fold    w' = w*gamma*i, b' = (b-mean)*gamma*i + beta, per output channel */
#include "rule.h"

/* The four vectors of a BatchNorm, [c] each. */
static thaw_status bn_vectors(const char *op, const struct th_operand *x,
    const char *const names[4], const struct th_operand *v)
{
    TRY(th_rule_rank(op, "x", x, 4));
    for (int i = 0; i < 4; i++)
        TRY(th_rule_vector(op, names[i], &v[i], x->shape.dim[1]));
    return THAW_OK;
}

static thaw_status batchnorm_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    static const char *const names[4] = {"gamma", "beta", "mean", "var"};
    TRY(bn_vectors("batchnorm", &in[0], names, &in[1]));
    th_rule_f32(&out[0], in[0].shape);
    return THAW_OK;
}

static thaw_status bn_stats_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    char text[128];
    const struct th_shape *s = &in[0].shape;
    TRY(th_rule_rank("bn_stats", "x", &in[0], 4));
    if (s->dim[0] * s->dim[2] * s->dim[3] < 2)
        return th_fail(THAW_E_USAGE,
            "bn_stats: x %s has one value per channel, which has no variance: use a "
            "larger batch, or running statistics (--bn frozen)",
            th_shape_text(s, text, sizeof text));
    th_rule_f32(&out[0], TH_SHAPE(s->dim[1]));
    th_rule_f32(&out[1], TH_SHAPE(s->dim[1]));
    return THAW_OK;
}

static thaw_status bn_apply_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    static const char *const names[4] = {"mean", "var", "gamma", "beta"};
    TRY(bn_vectors("bn_apply", &in[0], names, &in[1]));
    if (in[5].present)
        TRY(th_rule_same("bn_apply", "add", &in[5], "x", &in[0]));
    th_rule_f32(&out[0], in[0].shape);
    out[1].shape = in[0].shape;
    out[1].dtype = TH_BIT;
    return THAW_OK;
}

/* Statistics of the batch: x reaches y through mean and var too, so dx needs all three
 * terms, frozen gamma and beta or not; the gradients of mean and var are folded in.
 *   dbeta = S(dy), dgamma = S(dy*h), dx = (gamma*i/N) (N*dy - dbeta - h*dgamma)
 * Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3, collected. */
static thaw_status bn_apply_grad_batch(struct th_grad *g)
{
    int x = g->in[0], mean = g->in[1], var = g->in[2], gamma = g->in[3],
        beta = g->in[4];
    int dy = g->dout[0], sums[2];
    TRY(g->emit(g, TH_OP_bn_reduce, g->attr, (int[]){dy, x, mean, var, -1},
        (int[]){gamma, beta}, sums));
    TRY(th_rule_emit(g, TH_OP_bn_dx_batch,
        (int[]){dy, x, mean, var, gamma, sums[0], sums[1], -1}, x, &g->din[0]));
    g->din[1] = g->din[2] = -1;
    if (g->need[3])
        g->din[3] = sums[0];
    if (g->need[4])
        g->din[4] = sums[1];
    return THAW_OK;
}

/* Running statistics are constants, so BatchNorm is an affine map: dx = gamma*i*dy;
 * dgamma = S(dy*h), dbeta = S(dy). (Keras BatchNormalization, trainable=False; modes B
 * and C of detectron2's FrozenBatchNorm2d and MMDetection's norm_eval.) */
static thaw_status bn_apply_grad_running(struct th_grad *g)
{
    int x = g->in[0], mean = g->in[1], var = g->in[2], gamma = g->in[3],
        beta = g->in[4];
    int dy = g->dout[0], sums[2];
    if (g->need[0])
        TRY(th_rule_emit(
            g, TH_OP_bn_dx_running, (int[]){dy, var, gamma, -1}, x, &g->din[0]));
    if (!g->need[3] && !g->need[4])
        return THAW_OK;
    if (!g->need[3]) /* x is not read, so nobody has to keep it */
        return th_rule_emit(g, TH_OP_bias_grad, (int[]){dy}, beta, &g->din[4]);
    TRY(g->emit(g, TH_OP_bn_reduce, g->attr, (int[]){dy, x, mean, var, -1},
        (int[]){gamma, beta}, sums));
    g->din[3] = sums[0];
    if (g->need[4])
        g->din[4] = sums[1];
    return THAW_OK;
}

/* mean and var "need" a gradient exactly when they are bn_stats of an x that does. */
static thaw_status bn_apply_grad(struct th_grad *g)
{
    if (g->attr->norm.relu || g->in[5] >= 0)
        return th_rule_fused("bn_apply");
    return g->need[1] && g->need[2] ? bn_apply_grad_batch(g) : bn_apply_grad_running(g);
}

static thaw_status bn_update_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)out;
    if (attr->norm.count < 2)
        return th_fail(THAW_E_USAGE,
            "bn_update: %lld values per channel, at least 2 are needed for a variance",
            (long long)attr->norm.count);
    TRY(th_rule_same("bn_update", "running_mean", &in[2], "mean", &in[0]));
    return th_rule_same("bn_update", "running_var", &in[3], "var", &in[1]);
}

static thaw_status bn_fold_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    static const char *const names[5] = {"b", "gamma", "beta", "mean", "var"};
    TRY(th_rule_rank("bn_fold", "w", &in[0], 4));
    for (int i = 0; i < 5; i++)
        TRY(th_rule_vector("bn_fold", names[i], &in[1 + i], in[0].shape.dim[0]));
    th_rule_f32(&out[0], in[0].shape);
    th_rule_f32(&out[1], TH_SHAPE(in[0].shape.dim[0]));
    return THAW_OK;
}

/* w_folded = w gamma / sqrt(var + eps) by rows, and b_folded does not depend on w: dw is dy
 * scaled alike. A fold happens only where the rest is frozen. */
static thaw_status bn_fold_grad(struct th_grad *g)
{
    union th_attr attr = {.lora = {.scale = 1, .eps = g->attr->norm.eps}};
    if (!g->need[0])
        return THAW_OK;
    return g->emit(g, TH_OP_scale_rows, &attr, (int[]){g->dout[0], g->in[2], g->in[5]},
        &g->in[0], &g->din[0]);
}

/* Over the last axis of D values: mean, rstd = 1/sqrt(var+eps) (biased), one a row,
 * y = gamma*h + beta with h = (x-mean)*rstd. */
static thaw_status layernorm_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    char text[128];
    struct th_shape s = in[0].shape;
    if (s.rank < 2 || in[0].dtype != TH_F32)
        return th_fail(THAW_E_USAGE,
            "layernorm: x is %s %s, it has to be f32 of rank 2 "
            "or more",
            th_dtype_name(in[0].dtype), th_shape_text(&s, text, sizeof text));
    TRY(th_rule_vector("layernorm", "gamma", &in[1], s.dim[s.rank - 1]));
    TRY(th_rule_vector("layernorm", "beta", &in[2], s.dim[s.rank - 1]));
    th_rule_f32(&out[0], s);
    s.rank--;
    s.dim[s.rank] = 0;
    th_rule_f32(&out[1], s);
    th_rule_f32(&out[2], s);
    return THAW_OK;
}

/* With u = dy*gamma, per row: dx = rstd (u - mean(u) - h*mean(u*h));
 * dgamma = sum over rows of dy*h, dbeta = sum of dy.
 * Ba, Kiros, Hinton 2016 (arXiv:1607.06450), differentiated as BatchNorm above. */
static thaw_status layernorm_grad(struct th_grad *g)
{
    int x = g->in[0], gamma = g->in[1], beta = g->in[2], dy = g->dout[0];
    int mean = g->out[1], rstd = g->out[2];
    TRY(th_rule_saved("layernorm", "mean", mean));
    TRY(th_rule_saved("layernorm", "rstd", rstd));
    if (g->need[0])
        TRY(th_rule_emit(
            g, TH_OP_layernorm_dx, (int[]){dy, x, gamma, mean, rstd}, x, &g->din[0]));
    if (!g->need[1] && !g->need[2])
        return THAW_OK;
    int sums[2];
    TRY(g->emit(g, TH_OP_layernorm_dw, g->attr, (int[]){dy, x, mean, rstd},
        (int[]){gamma, beta}, sums));
    if (g->need[1])
        g->din[1] = sums[0];
    if (g->need[2])
        g->din[2] = sums[1];
    return THAW_OK;
}

const struct th_op_fn th_rule_batchnorm = {.shape = batchnorm_shape};
const struct th_op_fn th_rule_bn_stats = {.shape = bn_stats_shape};
const struct th_op_fn th_rule_bn_apply = {
    .shape = bn_apply_shape, .grad = bn_apply_grad};
const struct th_op_fn th_rule_bn_update = {.shape = bn_update_shape};
const struct th_op_fn th_rule_bn_reduce = {0};
const struct th_op_fn th_rule_bn_dx_batch = {0};
const struct th_op_fn th_rule_bn_dx_running = {0};
const struct th_op_fn th_rule_bn_fold = {.shape = bn_fold_shape, .grad = bn_fold_grad};
const struct th_op_fn th_rule_layernorm = {
    .shape = layernorm_shape, .grad = layernorm_grad};
const struct th_op_fn th_rule_layernorm_dx = {0};
const struct th_op_fn th_rule_layernorm_dw = {0};

/* Rows of unit length, times a scale [1] where there is one (torch's functional.normalize):
 *   y[r] = s x[r] rnorm[r], rnorm[r] = 1 / max(||x[r]||, 1e-12) */
static thaw_status l2norm_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_rank("l2norm", "x", &in[0], 2));
    TRY(th_rule_vector("l2norm", "scale", &in[1], 1));
    th_rule_f32(&out[0], in[0].shape);
    th_rule_f32(&out[1], TH_SHAPE(in[0].shape.dim[0]));
    return THAW_OK;
}

/* With u = x rnorm: dx = s rnorm (dy - u (u . dy)), the part along x goes; ds = sum of
 * u . dy. */
static thaw_status l2norm_grad(struct th_grad *g)
{
    int x = g->in[0], scale = g->in[1], dy = g->dout[0], rnorm = g->out[1];
    if (g->dout[1] >= 0)
        return th_fail(THAW_E_FAIL, "l2norm: its output rnorm has no gradient");
    TRY(th_rule_saved("l2norm", "rnorm", rnorm));
    if (g->need[0])
        TRY(th_rule_emit(
            g, TH_OP_l2norm_dx, (int[]){dy, x, scale, rnorm}, x, &g->din[0]));
    if (!g->need[1])
        return THAW_OK;
    return th_rule_emit(g, TH_OP_l2norm_dw, (int[]){dy, x, rnorm}, scale, &g->din[1]);
}

const struct th_op_fn th_rule_l2norm = {.shape = l2norm_shape, .grad = l2norm_grad};
const struct th_op_fn th_rule_l2norm_dx = {0};
const struct th_op_fn th_rule_l2norm_dw = {0};
