/* SPDX-License-Identifier: Apache-2.0
 * What the files own_*.c share: their rows, and the grids they launch. */
#ifndef TH_CUDA_OWN_OPS_H
#define TH_CUDA_OWN_OPS_H

#include "launch.h"
#include "own.h"
#include "params.h"

#define OWN(op) extern const struct th_own th_own_##op;
#include "own.def"
#undef OWN

enum {
    TH_OWN_THREADS = 256, /* a block; a multiple of the 32 of a warp */
    TH_OWN_WAVE = 1024,   /* blocks that fill the largest device several times over */
};

/* Launch with `params` as the only parameter; of a kernel of fp32 its sibling of bf16, where
 * the call's first operand is that. */
thaw_status th_own_launch(const struct th_call *call, enum th_cuda_kernel kernel,
    struct th_cuda_grid grid, const void *params);

/* Blocks for `count` values, `each` a thread at a time; a thread goes on by the grid. */
struct th_cuda_grid th_own_values(int64_t count, int each);
/* The same for each of some samples. */
struct th_cuda_grid th_own_samples(int64_t samples, int64_t sample, int each);
/* A warp a row. */
struct th_cuda_grid th_own_rows(int64_t rows);
/* Blocks alone, and a single thread. */
struct th_cuda_grid th_own_blocks(int64_t blocks);
struct th_cuda_grid th_own_once(void);

/* Sums over rows, in one or two stages. th_own_columns cuts [rows][columns] into chunks;
 * scratch is `n` sums of each chunk, where there is more than one. th_own_sums says where the
 * first stage leaves its sums, and th_own_sums_end runs the second. */
struct th_k_columns th_own_columns(int64_t rows, int64_t columns);
struct th_cuda_grid th_own_column_grid(const struct th_k_columns *c);
size_t th_own_sums_bytes(const struct th_k_columns *c, int n);
void th_own_sums(
    struct th_k_columns *c, const struct th_call *call, float *first, float *second);
thaw_status th_own_sums_end(const struct th_k_columns *c, const struct th_call *call,
    float *first, float *second);

/* Pixels or rows of an operand, and its last axis in memory: channels of [n][c][h][w]. */
int64_t th_own_width(const struct th_operand *o);
int64_t th_own_height(const struct th_operand *o);
int64_t th_own_sample(const struct th_operand *o); /* values of one sample */

/* THAW_E_USAGE where a sample has more values than the kernel counts. */
thaw_status th_own_fits(struct th_call *call);

#endif
