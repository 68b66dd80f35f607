/* SPDX-License-Identifier: Apache-2.0
 * Owns ops that are cuDNN graphs: preparing an execution plan, binding memory, running.
 *
 * Weights are read packed: channels innermost, in the engine's type. The copy is kept memory,
 * made again when it is stale. A gradient of weights comes packed, in scratch, and a kernel
 * of ours puts it into the plain order. Scratch: the graph's own, the packed gradient, the
 * engine's workspace. */
#include "engine.h"
#include "pack.h"
#include "prepare.h"

#include "mem.h"

struct graph_state {
    struct th_cuda_prepared ways;
    int packed;                     /* argument that is packed; -1 */
    bool gradient;                  /* it is an output */
    bool as_is;                     /* packed and plain are the same bytes */
    size_t packed_at, workspace_at; /* in scratch */
};

static const struct th_operand *operand(const struct th_call *call, int argument)
{
    int n_in = th_op_rule(call->op)->n_in;
    return argument < n_in ? &call->in[argument] : &call->out[argument - n_in];
}

static void find_packed(struct graph_state *s, const struct th_call *call)
{
    s->packed = -1;
    for (int p = 0; p < s->ways.n; p++)
        for (int t = 0; t < s->ways.graphs[p]->n_tensors; t++) {
            const struct th_cudnn_tensor *tensor = &s->ways.graphs[p]->tensors[t];
            if (tensor->source == TH_CUDNN_PACKED && tensor->kind == TH_CUDNN_REAL)
                s->packed = tensor->argument;
        }
    s->gradient = s->packed >= th_op_rule(call->op)->n_in;
    s->as_is = s->packed >= 0 && th_cuda_pack_is_copy(th_cuda(call->device)->type,
                                     operand(call, s->packed));
}

static void place(struct graph_state *s, struct th_call *call)
{
    size_t scratch = 0, workspace = 0, packed = 0;
    for (int p = 0; p < s->ways.n; p++) {
        size_t wanted = (size_t)th_cudnn_plan_engine(s->ways.plans[p])->workspace;
        if (s->ways.graphs[p]->scratch_bytes > scratch)
            scratch = s->ways.graphs[p]->scratch_bytes;
        if (wanted > workspace)
            workspace = wanted;
    }
    if (s->packed >= 0 && !s->as_is)
        packed =
            th_cuda_packed_bytes(th_cuda(call->device)->type, operand(call, s->packed));
    s->packed_at = th_align_up(scratch);
    s->workspace_at = s->packed_at;
    if (s->gradient)
        s->workspace_at += th_align_up(packed);
    else
        call->kept_bytes = packed;
    call->scratch_bytes = s->workspace_at + workspace;
}

static void graph_release(struct th_call *call)
{
    struct graph_state *s = call->state;
    if (s)
        th_cuda_prepared_release(&s->ways);
    th_free(s);
    call->state = NULL;
}

/* Where a device's plans are kept is known when it has been opened. */
static struct th_plan_cache *plans_of(struct th_device *device)
{
    struct th_cuda *cuda = th_cuda(device);
    if (!cuda->plans_open)
        th_plan_cache_open(&cuda->plans, device->plans, &cuda->target, device->warning,
            sizeof device->warning);
    cuda->plans_open = true;
    return &cuda->plans;
}

static thaw_status prepare_ways(struct th_call *call, struct graph_state *s)
{
    const struct th_cuda *cuda = th_cuda(call->device);
    const struct th_cuda_group group = {
        .calls = {call, call->second}, .n = call->second ? 2 : 1, .keep = call->keep};
    TRY(th_cuda_prepare(&group, cuda->type, &cuda->target, &cuda->policy,
        plans_of(call->device), &s->ways));
    if (s->ways.way == TH_CUDA_NO_GRAPH)
        return th_fail(THAW_E_FAIL, "cuda: %s: cuDNN cannot run this shape: %s",
            th_op_rule(call->op)->name, s->ways.reason);
    return THAW_OK;
}

/* A pair that cuDNN does not take as one graph is two calls again. */
static thaw_status graph_prepare(struct th_call *call)
{
    struct graph_state *s = th_alloc(1, sizeof *s);
    if (!s)
        return THAW_E_MEMORY;
    call->state = s;
    thaw_status status = prepare_ways(call, s);
    bool apart = s->ways.way == TH_CUDA_APART;
    if (status == THAW_OK && !apart) {
        find_packed(s, call);
        place(s, call);
    } else
        graph_release(call);
    if (apart)
        call->second = NULL;
    return status;
}

/* Where the packed weights are. */
static void *packed_memory(const struct graph_state *s, const struct th_call *call)
{
    if (s->as_is)
        return call->args[s->packed];
    return s->gradient ? (char *)call->scratch + s->packed_at : call->kept;
}

/* Of both calls in one row. */
static void *argument(const struct th_call *call, int i)
{
    return i < TH_MAX_ARGS ? call->args[i] : call->second->args[i - TH_MAX_ARGS];
}

static void *memory_of(const struct graph_state *s, const struct th_call *call,
    const struct th_cudnn_tensor *t)
{
    char *base = t->source == TH_CUDNN_PACKED    ? packed_memory(s, call)
                 : t->source == TH_CUDNN_SCRATCH ? call->scratch
                                                 : argument(call, t->argument);
    return base ? base + t->offset : NULL;
}

static thaw_status run_part(
    const struct graph_state *s, const struct th_call *call, int p)
{
    void *pointers[TH_CUDNN_TENSORS] = {NULL};
    const struct th_cudnn_graph *g = s->ways.graphs[p];
    for (int t = 0; t < g->n_tensors; t++)
        if (g->tensors[t].kind == TH_CUDNN_REAL)
            pointers[t] = memory_of(s, call, &g->tensors[t]);
    return th_cudnn_plan_run(s->ways.plans[p], th_cuda(call->device)->dnn, pointers,
        g->n_tensors, (char *)call->scratch + s->workspace_at);
}

static thaw_status graph_run(const struct th_call *call)
{
    const struct graph_state *s = call->state;
    bool moved = s->packed >= 0 && !s->as_is;
    if (moved && !s->gradient && call->stale)
        TRY(th_cuda_pack(call->device, operand(call, s->packed), call->args[s->packed],
            packed_memory(s, call)));
    for (int p = 0; p < s->ways.n; p++)
        TRY(run_part(s, call, p));
    if (moved && s->gradient)
        return th_cuda_unpack(call->device, operand(call, s->packed),
            packed_memory(s, call), call->args[s->packed]);
    return THAW_OK;
}

static thaw_status graph_verify(const struct th_call *call)
{
    const struct graph_state *s = call->state;
    if (!call->kept)
        return THAW_OK;
    void *again = th_cuda_alloc(call->device, call->kept_bytes);
    thaw_status status = again ? th_cuda_pack(call->device, operand(call, s->packed),
                                     call->args[s->packed], again)
                               : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_cuda_same(call->device, th_op_rule(call->op)->name, call->kept,
            again, call->kept_bytes);
    th_cuda_free(call->device, again, call->kept_bytes);
    return status;
}

/* Weights are no activations. */
static void conv_layout(
    const union th_attr *attr, struct th_operand *in, struct th_operand *out, int block)
{
    th_cuda_layout(attr, in, out, block);
    in[1].block = 1;
}

static void conv_dw_layout(
    const union th_attr *attr, struct th_operand *in, struct th_operand *out, int block)
{
    th_cuda_layout(attr, in, out, block);
    out[0].block = 1;
}

const struct th_kernel th_cuda_graph_kernel = {.layout = th_cuda_layout,
    .prepare = graph_prepare,
    .run = graph_run,
    .release = graph_release,
    .verify = graph_verify};
/* The planner has laid out both calls. */
const struct th_kernel th_cuda_pair_kernel = {.prepare = graph_prepare,
    .run = graph_run,
    .release = graph_release,
    .verify = graph_verify};
const struct th_kernel th_cuda_conv_kernel = {.layout = conv_layout,
    .prepare = graph_prepare,
    .run = graph_run,
    .release = graph_release,
    .verify = graph_verify};
const struct th_kernel th_cuda_conv_dw_kernel = {.layout = conv_dw_layout,
    .prepare = graph_prepare,
    .run = graph_run,
    .release = graph_release};
