/* SPDX-License-Identifier: Apache-2.0
 * What our kernels are told: one struct each, passed by value, read by the C compiler and by
 * nvcc. Pointers are device memory; one that ends in an underscore may be NULL. `count` is
 * values, rows are what the last axis leaves: [rows][width]. */
#ifndef TH_CUDA_PARAMS_H
#define TH_CUDA_PARAMS_H

#include "params_detect.h"

#include <stdint.h>

/* Sums over the rows of [rows][columns] (reduce.cuh): sum[n] is [chunks][columns]; none is empty. */
struct th_k_columns {
    float *sum[2];
    int64_t rows, columns, each; /* each: rows of a chunk but the last */
    int32_t chunks, lanes;
};

/* to[n][c] = sum over chunks of sum[n][chunk][c], n = 0 and, where to[1] is, 1 */
struct th_k_sum_chunks {
    float *to[2];
    const float *sum[2];
    int64_t columns;
    int32_t chunks;
};

/* ---- act.cu ---- */

struct th_k_relu {
    const void *x;
    void *y;
    uint32_t *mask_;
    int64_t count;
};

struct th_k_relu_dx {
    const void *dy, *add_;
    void *dx;
    const uint32_t *mask;
    int64_t count;
};

struct th_k_gelu {
    const void *x;
    void *y;
    int64_t count;
    int32_t kind; /* enum th_gelu */
};

struct th_k_gelu_dx {
    const void *dy, *x;
    void *dx;
    int64_t count;
    int32_t kind;
};

/* Samples one behind the other; the values of one have 31 bits, here and wherever a struct
 * has `sample`. Value i of a sample has draw i % channels * plane + i / channels of its key. */
struct th_k_dropout {
    const void *x;
    void *y;
    const int32_t *keys; /* [samples][2] */
    uint64_t layer;
    int64_t samples;
    uint32_t sample, channels, plane;
    float p, scale;
};

/* ---- norm.cu: channels are the last axis of [pixels][channels] ---- */

struct th_k_bn_stats {
    const void *x;
    float *mean, *m2; /* [chunks][columns]: mean, and sum of squares around it */
    struct th_k_columns c;
};

struct th_k_bn_stats_end {
    const float *means, *m2s;
    float *mean, *var;
    struct th_k_columns c;
};

struct th_k_bn_apply {
    const void *x, *add_;
    void *y;
    const float *mean, *var, *gamma, *beta;
    uint32_t *mask_;
    int64_t count, channels;
    float eps;
    int32_t relu;
};

struct th_k_bn_update {
    const float *mean, *var;
    float *running_mean, *running_var;
    const struct th_scalars *scalars;
    int64_t count;
    float momentum, unbiased; /* n / (n - 1) */
};

struct th_k_bn_reduce {
    const void *dy, *x;
    const float *mean, *var;
    const uint32_t *mask_;
    struct th_k_columns c;
    float eps;
};

struct th_k_bn_dx_batch {
    const void *dy, *x;
    void *dx;
    const float *mean, *var, *gamma, *dgamma, *dbeta;
    const uint32_t *mask_;
    int64_t count, channels;
    float eps, n; /* n: values per channel */
};

struct th_k_bn_dx_running {
    const void *dy;
    void *dx;
    const float *var, *gamma;
    const uint32_t *mask_;
    int64_t count, channels;
    float eps;
};

struct th_k_bn_fold {
    const float *w, *b_, *gamma, *beta, *mean, *var;
    float *w_folded, *b_folded;
    int64_t rows, width;
    float eps;
};

struct th_k_layernorm {
    const void *x;
    void *y;
    const float *gamma, *beta;
    float *mean, *rstd;
    int64_t rows, width;
    float eps;
};

struct th_k_layernorm_dx {
    const void *dy, *x;
    void *dx;
    const float *gamma, *mean, *rstd;
    int64_t rows, width;
};

struct th_k_bias_grad {
    const void *dy;
    struct th_k_columns c;
};

struct th_k_layernorm_dw {
    const void *dy, *x;
    const float *mean, *rstd;
    struct th_k_columns c;
};

struct th_k_l2norm {
    const void *x;
    void *y;
    const float *scale_;
    float *rnorm;
    int64_t rows, width;
};

struct th_k_l2norm_dx {
    const void *dy, *x;
    void *dx;
    const float *scale_, *rnorm;
    int64_t rows, width;
};

struct th_k_l2norm_dw {
    const void *dy, *x;
    const float *rnorm;
    float *part; /* [blocks] */
    int64_t rows, width;
};

/* ---- groupnorm.cu: [samples][plane][channels], groups of `each` channels ---- */

struct th_k_groups {
    int64_t n; /* of all samples, below 2^32 */
    uint32_t plane, channels, groups, each;
};

struct th_k_groupnorm {
    const void *x;
    void *y;
    const float *gamma, *beta;
    float *mean, *rstd;
    struct th_k_groups g;
    float eps;
};

struct th_k_groupnorm_dx {
    const void *dy, *x;
    void *dx;
    const float *gamma, *mean, *rstd;
    struct th_k_groups g;
};

struct th_k_groupnorm_dw {
    const void *dy, *x;
    const float *mean, *rstd;
    struct th_k_columns c;
    uint32_t plane, groups, each;
};

/* ---- pyramid.cu: [samples][h][w][channels] ---- */

/* From x_h x x_w to h x w, or back; all of them below 2^16. */
struct th_k_upsample {
    const void *x, *add_;
    void *y;
    int64_t samples;
    uint32_t x_h, x_w, h, w, channels;
};

/* `count` values of each sample, from x_first on to y_first; `step`: what all of these, and
 * the values of the samples, are multiples of. */
struct th_k_map_rows {
    const void *x;
    void *y;
    int64_t samples;
    uint32_t x_sample, x_first, y_sample, y_first, count, step;
};

/* The last rows of [samples][rows][factor^2 * channels] as a map whose rows are grid_w * factor
 * pixels; `first`: rows before them. Back: x is dy, y is dx, no b. */
struct th_k_rows_map {
    const void *x;
    void *y;
    const float *b_;
    int64_t samples;
    uint32_t rows, first, grid_w, factor, channels;
};

/* ---- pool.cu: [samples][plane][channels] and [samples][channels] ---- */

struct th_k_gap_dx {
    const void *dy;
    void *dx;
    int64_t samples;
    uint32_t sample, channels;
    float plane;
};

struct th_k_gmp {
    const void *x;
    void *y;
    int32_t *index_;
    int64_t samples;
    uint32_t sample, plane, channels;
};

struct th_k_gmp_dx {
    const void *dy;
    void *dx;
    const int32_t *index;
    int64_t samples;
    uint32_t sample, channels;
};

/* ---- token.cu: [samples][tokens][width], places in a sample as values ---- */

/* y: cls up to `first`, more up to `before`, then x; from `bare` on plus pos. */
struct th_k_tokens {
    const void *x;
    void *y;
    const float *cls_, *more_, *pos_;
    int64_t samples;
    uint32_t sample, width, first, before, bare;
};

struct th_k_tokens_dx {
    const void *dy;
    void *dx;
    int64_t samples;
    uint32_t sample, width, before;
};

/* Rows are samples of dy; the columns start at `first` in each. */
struct th_k_tokens_dw {
    const void *dy;
    struct th_k_columns c;
    int64_t sample, first;
};

struct th_k_token_mean {
    const void *x;
    void *y;
    int64_t samples;
    uint32_t sample, width, first, n; /* first: value; n: tokens */
};

struct th_k_token_mean_dx {
    const void *dy;
    void *dx;
    int64_t samples;
    uint32_t sample, width, first, n;
};

/* ---- copy.cu ---- */

/* y[p][q][c] = x[p * stride][q * stride][c - front], else 0; back: the transpose. Extents
 * with x_ are those of the smaller tensor's counterpart. */
struct th_k_shortcut_a {
    const void *x;
    void *y;
    int64_t samples;
    uint32_t sample, w, channels; /* of y */
    uint32_t x_sample, x_w, x_channels;
    uint32_t stride, front;
};

/* [channels / block][plane][block] of each sample, from one block to another */
struct th_k_reorder {
    const void *x;
    void *y;
    int64_t samples;
    uint32_t sample, plane, from, to;
};

/* y[r] = a[r], b[r]: widths p and q. */
struct th_k_concat {
    const void *a, *b;
    void *y;
    int64_t rows;
    uint32_t p, q;
};

struct th_k_concat_dx {
    const void *dy;
    void *da_, *db_;
    int64_t rows;
    uint32_t p, q;
};

/* Weights [outputs][inputs][plane] in fp32, and [outputs][plane][inputs] of the engine's
 * type. */
struct th_k_pack { /* pack, unpack */
    void *packed;
    float *w;
    int64_t samples; /* outputs */
    uint32_t sample, inputs, plane;
};

/* ---- loss.cu ---- */

struct th_k_softmax_ce {
    const float *logits, *target;
    float *p, *losses; /* losses: [rows] */
    int64_t rows, width;
};

/* *to = sum of n values / divisor + *before_ */
struct th_k_sum_all {
    const float *x, *before_;
    float *to;
    int64_t n;
    float divisor;
};

struct th_k_softmax_ce_dx {
    const float *p, *target;
    float *dlogits;
    const struct th_scalars *scalars;
    int64_t rows, width;
};

struct th_k_sigmoid_ce {
    const float *logits, *target, *pos_weight;
    float *p, *losses; /* losses: [blocks] */
    int64_t count;
    uint32_t classes;
};

struct th_k_sigmoid_ce_dx {
    const float *p, *target, *pos_weight;
    float *dlogits;
    const struct th_scalars *scalars;
    int64_t count;
    uint32_t classes;
};

/* ---- update.cu ---- */

/* Kernels over several tensors take them as parameters, of which a launch has 4096 bytes:
 * no table on the device that somebody has to fill. Tensor t has blocks first[t] ..
 * first[t + 1] - 1. */
enum { TH_MANY = 64 };

struct th_k_parts {
    int32_t n;
    uint32_t first[TH_MANY + 1];
};

struct th_k_sum_squares_of {
    const float *grad;
    int64_t count;
};

struct th_k_sum_squares {
    const float *before_;
    float *part, *sum; /* part: a sum a block */
    struct th_k_parts parts;
    struct th_k_sum_squares_of each[TH_MANY];
};

struct th_k_guard {
    const float *loss_, *sum_;
    struct th_scalars *scalars;
    float limit;
};

struct th_k_accumulate {
    float *total;
    const float *grad;
    const struct th_scalars *scalars;
    int64_t count;
};

struct th_k_hold {
    float *value, *kept;
    const struct th_scalars *scalars;
    int64_t count;
};

struct th_k_sgd_of {
    float *param, *momentum_;
    const float *grad, *start_;
    int64_t count;
    float lr_scale, weight_decay;
};

struct th_k_sgd {
    const struct th_scalars *scalars;
    float momentum;
    int32_t nesterov;
    struct th_k_parts parts;
    struct th_k_sgd_of each[TH_MANY];
};

/* What all values of a tensor share in a step. */
struct th_k_adamw_now {
    float pull, keep, step, root, old1, new1;
};

struct th_k_adamw_begin_of {
    float *t;
    float lr_scale, weight_decay;
};

struct th_k_adamw_begin {
    struct th_k_adamw_now *now; /* [n] */
    const struct th_scalars *scalars;
    float beta1, beta2;
    int32_t n;
    struct th_k_adamw_begin_of each[TH_MANY];
};

struct th_k_adamw_of {
    float *param, *m, *v;
    const float *grad, *start_;
    int64_t count;
};

struct th_k_adamw {
    const struct th_k_adamw_now *now; /* [n] */
    const struct th_scalars *scalars;
    float beta2, eps;
    struct th_k_parts parts;
    struct th_k_adamw_of each[TH_MANY];
};

struct th_k_ema_of {
    float *average;
    const float *param;
    int64_t count;
};

struct th_k_ema {
    const struct th_scalars *scalars;
    struct th_k_parts parts;
    struct th_k_ema_of each[TH_MANY];
};

/* ---- weights.cu ---- */

struct th_k_linear_fold {
    const float *w, *b_, *gamma;
    float *w_folded, *b_folded_;
    int64_t rows, width;
};

struct th_k_lora_merge {
    const float *w, *a, *b;
    float *y;
    int64_t rows, width;
    uint32_t ranks;
    float scale;
};

struct th_k_lora_da {
    const float *dy, *b;
    float *da;
    int64_t rows, width;
    uint32_t ranks;
    float scale;
};

struct th_k_lora_db {
    const float *dy, *a;
    float *db;
    int64_t rows, width;
    uint32_t ranks;
    float scale;
};

struct th_k_scale_rows {
    const float *x, *gamma_, *var_;
    float *y;
    int64_t rows, width;
    float scale, eps;
};

/* ---- attention.cu: scores [samples][heads][tokens][tokens] ---- */

struct th_k_softmax_rows {
    float *scores; /* [rows][width] */
    float *lse_;   /* [rows] */
    int64_t rows, width;
};

struct th_k_softmax_rows_dx {
    float *scores, *ds;  /* [samples][heads][tokens][tokens] */
    const float *dy, *y; /* [samples][tokens][heads][features] */
    const float *lse;    /* [samples][heads][tokens] */
    int64_t samples, heads, tokens, features;
    float scale;
};

#endif
