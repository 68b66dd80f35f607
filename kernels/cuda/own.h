/* SPDX-License-Identifier: Apache-2.0
 * Ops run by kernels of ours: from a call to launches. Activations [n][c][h][w] lie NHWC,
 * masks in the order of their activation; weights [o][i][h][w] and all else are plain.
 * Kernels are launched in the type of the call's first operand.
 *
 * Alone, bn_stats makes mean and var, and bn_apply, bn_reduce and bn_dx_* take var (a cuDNN
 * graph keeps 1 / sqrt(var + eps) in its place: the two never meet in a plan). */
#ifndef TH_CUDA_OWN_H
#define TH_CUDA_OWN_H

#include "backend.h"

struct th_own {
    thaw_status (*prepare)(struct th_call *call); /* sets scratch_bytes */
    /* Enqueues; allocates nothing, waits for nothing. */
    thaw_status (*run)(const struct th_call *call);
    /* As th_kernel has it; NULL: one by one. */
    thaw_status (*run_all)(const struct th_call *const *calls, int n);
};

/* NULL: no kernel of ours. */
const struct th_own *th_own(enum th_op op);

#endif
