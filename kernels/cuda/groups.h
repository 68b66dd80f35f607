/* SPDX-License-Identifier: Apache-2.0
 * Which steps of a plan are one cuDNN graph together (the pairs of lower.def). */
#ifndef TH_CUDA_GROUPS_H
#define TH_CUDA_GROUPS_H

#include "lower.h"

/* A step of a plan: its call, and the ids of the values that it reads and makes (-1: none). */
struct th_cuda_step {
    const struct th_call *call;
    int in[TH_MAX_IN], out[TH_MAX_OUT];
    bool wanted; /* the host reads an output of it */
    /* Set by th_cuda_group_steps: */
    int partner; /* the other step of its pair; -1 */
    bool second; /* of the pair */
    bool
        early; /* the pair runs where its first step stands, else where its second does */
    bool keep; /* as in struct th_cuda_group */
};

void th_cuda_group_steps(struct th_cuda_step *steps, int n);

/* The group that step i opens; false: it is the second of a pair. */
bool th_cuda_group_of(
    const struct th_cuda_step *steps, int i, struct th_cuda_group *group);

#endif
