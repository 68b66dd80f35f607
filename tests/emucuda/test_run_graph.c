/* SPDX-License-Identifier: Apache-2.0
 * Owns graph_run of tests/plancheck/graph_run.h on the emulated device: the graph goes
 * through the engine's dnn_plan.c to the double of cuDNN, in memory of the device, and gives
 * what the interpreter gives. Strict where there is an exact engine; else products are asked
 * not to lose bits as tensor cores lose them. */
#include "graph_run.h"

#include "dnn_plan.h"
#include "emucuda.h"
#include "mem.h"

#include <string.h>

enum { ARGUMENTS = 64, SCRATCH = ARGUMENTS, PLACES };

struct device {
    const struct th_cudnn_graph *g;
    cudaStream_t stream;
    cudnnHandle_t handle;
    char *memory[PLACES]; /* of the device, by argument */
    size_t bytes[PLACES];
    char *packed[TH_CUDNN_TENSORS]; /* of the device, by tensor */
    void *workspace;
    char *pinned;
    size_t pinned_bytes;
};

static size_t bits_of(const struct th_cudnn_tensor *t)
{
    return t->type == CUDNN_DATA_BOOLEAN ? 1 : t->type == CUDNN_DATA_INT8 ? 8 : 32;
}

static size_t bytes_of(const struct th_cudnn_tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < t->rank; i++)
        last += (t->dim[i] - 1) * t->stride[i];
    return ((size_t)(last + 1) * bits_of(t) + 7) / 8;
}

static bool is_real(const struct th_cudnn_graph *g, int i)
{
    return th_cudnn_uses(g, i) && g->tensors[i].kind == TH_CUDNN_REAL;
}

/* A weight, which the host has in the order of its axes. */
static bool is_packed(const struct th_cudnn_tensor *t)
{
    return t->source == TH_CUDNN_PACKED && t->rank == 4;
}

static int place_of(const struct th_cudnn_tensor *t)
{
    return t->source == TH_CUDNN_SCRATCH ? SCRATCH : t->argument;
}

static thaw_status ran(cudaError_t error, const char *what)
{
    return error == cudaSuccess
               ? THAW_OK
               : th_fail(THAW_E_FAIL, "%s: %s", what, cudaGetErrorString(error));
}

static thaw_status copy(struct device *d, void *dst, const void *src, size_t bytes,
    enum cudaMemcpyKind kind)
{
    bool up = kind == cudaMemcpyHostToDevice;
    if (up)
        memcpy(d->pinned, src, bytes);
    TRY(ran(cudaMemcpyAsync(
                up ? dst : d->pinned, up ? d->pinned : src, bytes, kind, d->stream),
        "a copy"));
    TRY(ran(cudaStreamSynchronize(d->stream), "a copy"));
    if (!up)
        memcpy(dst, d->pinned, bytes);
    return THAW_OK;
}

/* The place of value i in the order of the axes. */
static int64_t strided(const struct th_cudnn_tensor *t, int64_t i)
{
    int64_t at = 0;
    for (int k = t->rank - 1; k >= 0; k--) {
        at += i % t->dim[k] * t->stride[k];
        i /= t->dim[k];
    }
    return at;
}

static thaw_status move_packed(
    struct device *d, int i, float *plain, enum cudaMemcpyKind kind)
{
    const struct th_cudnn_tensor *t = &d->g->tensors[i];
    int64_t n = (int64_t)(bytes_of(t) / sizeof(float));
    float *values = th_alloc((size_t)n, sizeof *values);
    bool up = kind == cudaMemcpyHostToDevice;
    thaw_status status = values ? THAW_OK : THAW_E_MEMORY;
    for (int64_t k = 0; values && up && k < n; k++)
        values[strided(t, k)] = plain[k];
    if (values)
        status = copy(d, up ? (void *)d->packed[i] : values,
            up ? (void *)values : d->packed[i], (size_t)n * sizeof *values, kind);
    for (int64_t k = 0; values && !up && k < n; k++)
        plain[k] = values[strided(t, k)];
    th_free(values);
    return status;
}

static thaw_status open_memory(struct device *d, int64_t workspace)
{
    for (int i = 0; i < d->g->n_tensors; i++) {
        const struct th_cudnn_tensor *t = &d->g->tensors[i];
        if (!is_real(d->g, i))
            continue;
        size_t bytes = bytes_of(t), *most = &d->bytes[place_of(t)];
        if (is_packed(t))
            TRY(ran(cudaMalloc((void **)&d->packed[i], bytes), "memory"));
        else if (bytes + t->offset > *most)
            *most = bytes + t->offset;
        d->pinned_bytes += bytes + t->offset;
    }
    for (int p = 0; p < PLACES; p++)
        if (d->bytes[p] > 0)
            TRY(ran(cudaMalloc((void **)&d->memory[p], d->bytes[p]), "memory"));
    if (workspace > 0)
        TRY(ran(cudaMalloc(&d->workspace, (size_t)workspace), "memory"));
    return ran(cudaMallocHost((void **)&d->pinned, d->pinned_bytes), "memory");
}

/* All that the graph names, inputs or not: gaps between strided outputs have to stay. */
static thaw_status move(
    struct device *d, void *const *args, void *scratch, enum cudaMemcpyKind kind)
{
    bool up = kind == cudaMemcpyHostToDevice;
    for (int p = 0; p < PLACES; p++) {
        if (d->bytes[p] == 0)
            continue; /* args ends with the last that there is */
        void *host = p == SCRATCH ? scratch : args[p];
        TRY(copy(d, up ? (void *)d->memory[p] : host, up ? host : d->memory[p],
            d->bytes[p], kind));
    }
    for (int i = 0; i < d->g->n_tensors; i++)
        if (d->packed[i])
            TRY(move_packed(d, i, args[d->g->tensors[i].argument], kind));
    return THAW_OK;
}

static thaw_status run_plan(struct device *d, const struct th_cudnn_plan *plan,
    void *const *args, void *scratch)
{
    void *pointers[TH_CUDNN_TENSORS] = {0};
    TRY(open_memory(d, th_cudnn_plan_engine(plan)->workspace));
    for (int i = 0; i < d->g->n_tensors; i++) {
        const struct th_cudnn_tensor *t = &d->g->tensors[i];
        if (is_real(d->g, i))
            pointers[i] =
                d->packed[i] ? d->packed[i] : d->memory[place_of(t)] + t->offset;
    }
    TRY(move(d, args, scratch, cudaMemcpyHostToDevice));
    TRY(th_cudnn_plan_run(plan, d->handle, pointers, d->g->n_tensors, d->workspace));
    TRY(ran(cudaStreamSynchronize(d->stream), "the graph"));
    return move(d, args, scratch, cudaMemcpyDeviceToHost);
}

static thaw_status run_graph(struct device *d, void *const *args, void *scratch)
{
    struct th_cudnn_target target = {0};
    struct th_cudnn_plan *plan = NULL;
    const struct th_cudnn_policy strict = {.strict = true, .deterministic = true};
    const struct th_cudnn_policy any = {.deterministic = true};
    TRY(ran(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), "a stream"));
    if (cudnnCreate(&d->handle) != CUDNN_STATUS_SUCCESS ||
        cudnnSetStream(d->handle, d->stream) != CUDNN_STATUS_SUCCESS)
        return th_fail(THAW_E_FAIL, "no handle");
    TRY(th_cudnn_present(d->handle, &target));
    thaw_status status = th_cudnn_plan_new(d->g, &target, &strict, &plan);
    if (status != THAW_OK)
        status = th_cudnn_plan_new(d->g, &target, &any, &plan);
    if (status == THAW_OK)
        status = run_plan(d, plan, args, scratch);
    th_cudnn_plan_free(plan);
    th_cudnn_forget(&target);
    return status;
}

static void close_device(struct device *d)
{
    for (int i = 0; i < TH_CUDNN_TENSORS; i++)
        cudaFree(d->packed[i]);
    for (int i = 0; i < PLACES; i++)
        cudaFree(d->memory[i]);
    cudaFree(d->workspace);
    cudaFreeHost(d->pinned);
    cudnnDestroy(d->handle);
    if (d->stream)
        cudaStreamDestroy(d->stream);
}

thaw_status graph_run(const struct th_cudnn_graph *g, void *const *args, void *scratch)
{
    static uint64_t seed;
    struct device d = {.g = g};
    emu_open(
        &(struct emu_options){.order = EMU_RANDOM, .seed = ++seed, .generous = true});
    thaw_status status = run_graph(&d, args, scratch);
    close_device(&d);
    if (emu_close() > 0)
        return th_fail(THAW_E_FAIL, "%s: %s", g->name, emu_finding(0));
    return status;
}
