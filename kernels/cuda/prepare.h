/* SPDX-License-Identifier: Apache-2.0
 * How a group of calls runs on one device: its graphs and plans, or the reason why not. */
#ifndef TH_CUDA_PREPARE_H
#define TH_CUDA_PREPARE_H

#include "dnn_plan.h"
#include "lower.h"
#include "plan_cache.h"

enum th_cuda_way {
    TH_CUDA_IN_ONE,   /* one graph */
    TH_CUDA_IN_PARTS, /* the product, then the epilogue */
    TH_CUDA_APART,    /* each call of the pair for itself: prepare them */
    TH_CUDA_NO_GRAPH, /* cuDNN has nothing for it */
};

struct th_cuda_prepared {
    enum th_cuda_way way;
    int n; /* graphs and plans: 1, 2 in parts, else 0 */
    struct th_cudnn_graph *graphs[2];
    struct th_cudnn_plan *plans[2];
    char reason[512]; /* the library's, why it is not in one; "" where it is */
};

/* The best way that the library takes. THAW_OK with TH_CUDA_APART or TH_CUDA_NO_GRAPH where
 * it refuses; a failure is a call that is wrong in itself, or no memory. */
thaw_status th_cuda_prepare(const struct th_cuda_group *group, cudnnDataType_t type,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    struct th_plan_cache *cache, struct th_cuda_prepared *out);
void th_cuda_prepared_release(struct th_cuda_prepared *p);

#endif
