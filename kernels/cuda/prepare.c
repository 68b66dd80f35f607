/* SPDX-License-Identifier: Apache-2.0
 * Owns the choice of a way, from the fewest launches down. */
#include "prepare.h"

#include <stdio.h>

void th_cuda_prepared_release(struct th_cuda_prepared *p)
{
    for (int i = 0; i < p->n; i++) {
        th_cudnn_plan_free(p->plans[i]);
        th_cudnn_graph_free(p->graphs[i]);
    }
    p->n = 0;
}

static thaw_status add(struct th_cuda_prepared *p, const struct th_cuda_group *group,
    enum th_cuda_part part, cudnnDataType_t type, const struct th_cudnn_target *target,
    const struct th_cudnn_policy *policy, struct th_plan_cache *cache)
{
    struct th_cuda_group g = *group;
    struct th_cudnn_graph *graph = NULL;
    g.part = part;
    TRY(th_cuda_graph(&g, type, &graph));
    p->plans[p->n] = NULL;
    p->graphs[p->n] = graph;
    thaw_status status =
        th_plan_cache_get(cache, graph, target, policy, &p->plans[p->n]);
    p->n++; /* released with the rest, plan or not */
    return status;
}

thaw_status th_cuda_prepare(const struct th_cuda_group *group, cudnnDataType_t type,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    struct th_plan_cache *cache, struct th_cuda_prepared *out)
{
    *out = (struct th_cuda_prepared){.way = TH_CUDA_IN_ONE};
    thaw_status status = add(out, group, TH_CUDA_WHOLE, type, target, policy, cache);
    if (status == THAW_E_FAIL) {
        snprintf(out->reason, sizeof out->reason, "%s", thaw_error());
        th_cuda_prepared_release(out);
        out->way = group->n == 2 ? TH_CUDA_APART : TH_CUDA_NO_GRAPH;
        status = THAW_OK;
    }
    if (status == THAW_OK && out->way == TH_CUDA_NO_GRAPH && th_cuda_splits(group)) {
        status = add(out, group, TH_CUDA_PRODUCT, type, target, policy, cache);
        if (status == THAW_OK)
            status = add(out, group, TH_CUDA_EPILOGUE, type, target, policy, cache);
        if (status == THAW_OK)
            out->way = TH_CUDA_IN_PARTS;
        else
            th_cuda_prepared_release(out);
        if (status == THAW_E_FAIL)
            status = THAW_OK;
    }
    if (status != THAW_OK)
        th_cuda_prepared_release(out);
    return status;
}
