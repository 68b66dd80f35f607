/* SPDX-License-Identifier: Apache-2.0
 * Which steps of a plan are one cuDNN graph together (the pairs of lower.def). */
#ifndef TH_CUDA_GROUPS_H
#define TH_CUDA_GROUPS_H

#include "lower.h"

void th_cuda_group_steps(struct th_pair_step *steps, int n);
/* The pairs that the engine runs as one. Statistics of a batch are kernels of ours: cuDNN's
 * graph of them keeps 1 / sqrt(var + eps) in the place of the variance, which bn_update
 * wants. */
void th_cuda_pair_steps(struct th_pair_step *steps, int n);

/* The group that step i opens; false: it is the second of a pair. */
bool th_cuda_group_of(
    const struct th_pair_step *steps, int i, struct th_cuda_group *group);

#endif
