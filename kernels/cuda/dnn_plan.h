/* SPDX-License-Identifier: Apache-2.0
 * From a graph to an execution plan of cuDNN: descriptors, the heuristics' choice of engines,
 * a filter by their numerical notes, workspace, variant pack.
 *
 * The target is a description of a device, taken from its handle or from JSON: cuDNN (9.8 and
 * later) compiles for a device that is not there, on the same path. */
#ifndef TH_DNN_PLAN_H
#define TH_DNN_PLAN_H

#include "dnn_graph.h"

struct th_cudnn_target {
    cudnnBackendDescriptor_t description; /* owned */
};

/* The device of a handle. */
thaw_status th_cudnn_present(cudnnHandle_t handle, struct th_cudnn_target *target);
/* The device that the JSON describes: CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. */
thaw_status th_cudnn_described(
    const char *json, size_t bytes, struct th_cudnn_target *target);
void th_cudnn_forget(struct th_cudnn_target *target);

/* Which engines may be chosen. */
struct th_cudnn_policy {
    bool
        strict; /* fp32 as fp32: no tensor cores (TF32), no inputs or sums of less precision */
    bool deterministic;
};

/* What is known of the chosen engine. Bit i: cudnnBackendNumericalNote_t or
 * cudnnBackendBehaviorNote_t i. */
struct th_cudnn_engine {
    int64_t index, workspace;
    unsigned numerical, behaviour;
};

/* Whether the policy allows an engine with these numerical notes, for a graph that sums
 * products (th_cudnn_multiplies) or not: an engine for element-wise graphs notes tensor cores
 * that such a graph has no use for. */
bool th_cudnn_allowed(
    const struct th_cudnn_policy *policy, bool multiplies, unsigned numerical);

struct th_cudnn_plan;

/* The first allowed configuration, in the heuristics' order, that cuDNN can make a plan of.
 * Keeps nothing of the graph. THAW_E_FAIL with the library's reason. */
thaw_status th_cudnn_plan_new(const struct th_cudnn_graph *graph,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    struct th_cudnn_plan **out);
void th_cudnn_plan_free(struct th_cudnn_plan *plan); /* NULL is fine */

const struct th_cudnn_engine *th_cudnn_plan_engine(const struct th_cudnn_plan *plan);

/* A plan as the library's JSON, and the device's description; for th_free. A plan is read for
 * the same graph and a device of the same description only: who keeps the text sees to that, and
 * that it is whole, for the library does not (a damaged kernel in it is not noticed). THAW_E_FAIL
 * where the library does not take it, or the policy not the engine. */
thaw_status th_cudnn_plan_text(
    const struct th_cudnn_plan *plan, char **json, size_t *bytes);
thaw_status th_cudnn_device_text(
    const struct th_cudnn_target *target, char **json, size_t *bytes);
thaw_status th_cudnn_plan_read(const struct th_cudnn_graph *graph,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    const char *json, size_t bytes, struct th_cudnn_plan **out);

/* To how many bytes a plan may trust a tensor's address to be aligned. */
int th_cudnn_alignment(const struct th_cudnn_tensor *t);

/* Every engine that the heuristics offer for the graph, allowed or not; no plan is made. */
thaw_status th_cudnn_engines(const struct th_cudnn_graph *graph,
    const struct th_cudnn_target *target, struct th_cudnn_engine *engines, int room,
    int *n);

/* pointers[i]: device memory of the graph's tensor i (of a scalar: nothing, the plan has its
 * value); workspace: as many bytes as the engine wants. Enqueues; the graph is what the plan
 * was made of. */
thaw_status th_cudnn_plan_run(const struct th_cudnn_plan *plan, cudnnHandle_t handle,
    void *const *pointers, int n, void *workspace);

#endif
