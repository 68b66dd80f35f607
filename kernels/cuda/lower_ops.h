/* SPDX-License-Identifier: Apache-2.0
 * What the lowerings of the families share: operands of calls as tensors of a graph. */
#ifndef TH_CUDA_LOWER_OPS_H
#define TH_CUDA_LOWER_OPS_H

#include "lower.h"

struct th_lower {
    struct th_cudnn_graph *g;
    const struct th_cuda_group *group;
    cudnnDataType_t type;
};

#define GRAPH(op) void th_lower_##op(struct th_lower *l);
#define PAIR(first, second, out, in, sole)                                             \
    void th_lower_##first##_##second(struct th_lower *l);
#define OWN(op, why)
#include "lower.def"
#undef GRAPH
#undef PAIR
#undef OWN

/* An operand of call c: inputs count from 0, outputs from TH_LOWER_OUT. */
enum { TH_LOWER_OUT = TH_MAX_IN };

const struct th_call *th_lower_call(const struct th_lower *l, int c);
const struct th_operand *th_lower_operand(const struct th_lower *l, int c, int k);
/* The index in call->args, of both calls in one row. */
int th_lower_argument(const struct th_lower *l, int c, int k);

/* Tensors; -1 where the operand is absent. `activation`: [n][c][h][w] as it lies in memory;
 * [n][t][d] and [n][d] as [1][rows][d]. `weight`: the packed copy, channels innermost.
 * `channels`: [c] as [1][c][1][1]. `row`: [d] as [1][1][d]. `rows`: anything as
 * [rows][d][1][1], d its last axis. `flag`: a mask or index, as the activation lies. */
int th_lower_activation(struct th_lower *l, int c, int k, const char *name);
int th_lower_weight(struct th_lower *l, int c, int k, const char *name);
int th_lower_channels(struct th_lower *l, int c, int k, const char *name);
int th_lower_row(struct th_lower *l, int c, int k, const char *name);
int th_lower_rows(struct th_lower *l, int c, int k, const char *name);

/* What the second call gets from the first: in memory only where others read it, too. */
int th_lower_between(struct th_lower *l, int c, int k, const char *name);

/* The product that two parts share: like y, in scratch. */
int th_lower_product(struct th_lower *l, int y);

/* dy where the mask is 1; dy itself where there is none. */
int th_lower_masked(struct th_lower *l, int dy, int mask, int out);
/* The mask of y > 0, where there is one (-1). */
void th_lower_positive(struct th_lower *l, int y, int mask);
/* bn_apply of call c on x, whoever made it, ending in y. */
void th_lower_bn_epilogue(struct th_lower *l, int c, int x, int y);
/* gelu and gelu_dx of call c. */
void th_lower_gelu_of(struct th_lower *l, int c, int x, int y);
void th_lower_gelu_dx_of(struct th_lower *l, int c, int dy, int x, int dx);

#endif
