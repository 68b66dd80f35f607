/* SPDX-License-Identifier: Apache-2.0
 * What the files own_*.c share: their rows, and the grids they launch. */
#ifndef TH_CUDA_OWN_OPS_H
#define TH_CUDA_OWN_OPS_H

#include "launch.h"
#include "own.h"

#define OWN(op) extern const struct th_own th_own_##op;
#include "own.def"
#undef OWN

enum {
    TH_OWN_THREADS = 256, /* a block; a multiple of the 32 of a warp */
    TH_OWN_WAVE = 1024,   /* blocks that fill the largest device several times over */
};

/* Launch with `params` as the only parameter. */
thaw_status th_own_launch(const struct th_call *call, enum th_cuda_kernel kernel,
    struct th_cuda_grid grid, const void *params);

/* Blocks for `count` values, `each` a thread at a time; a thread goes on by the grid. */
struct th_cuda_grid th_own_values(int64_t count, int each);

#endif
