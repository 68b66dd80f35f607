/* SPDX-License-Identifier: Apache-2.0
 * Owns the capture of one stream into a graph, and its launches: each puts what was captured
 * into a stream again, with the pointers and parameters of then. Events and other streams in
 * a capture are findings: nobody has said what they mean here. */
#include "emu.h"

#include <stdlib.h>
#include <string.h>

/* What a cudaGraph_t is, and a cudaGraphExec_t: each is a hold on the same operations. */
struct emu_graph {
    int references;         /* handles and launches that have not run */
    bool plain, executable; /* which handles there are */
    bool open, broken;      /* while it is captured; a call has spoilt it */
    struct emu_op *first, *last;
};

static struct {
    struct emu_graph **all;
    int n;
} graphs;

static void op_forget(struct emu_op *op)
{
    if (op->release)
        op->release(op->owned);
    free(op);
}

void emu_graph_let_go(struct emu_graph *g)
{
    if (!g || --g->references > 0)
        return;
    for (struct emu_op *op = g->first; op;) {
        struct emu_op *next = op->next;
        op_forget(op);
        op = next;
    }
    for (int i = 0; i < graphs.n; i++)
        if (graphs.all[i] == g)
            graphs.all[i] = graphs.all[--graphs.n];
    free(g);
}

void emu_graphs_close(void)
{
    while (graphs.n > 0) {
        struct emu_graph *g = graphs.all[graphs.n - 1];
        emu_find("leak: a graph was not destroyed%s",
            g->open ? ", nor its capture ended" : "");
        g->references = 1;
        emu_graph_let_go(g);
    }
    free(graphs.all);
    graphs.all = NULL;
}

static struct emu_graph *graph_of(const void *handle)
{
    for (int i = 0; i < graphs.n; i++)
        if ((const void *)graphs.all[i] == handle)
            return graphs.all[i];
    return NULL;
}

/* ---- capturing ---- */

/* Out of the list of what runs; the graph's from now on. */
static void take(struct emu_graph *g, struct emu_op *op)
{
    emu.ops[op->index] = emu.ops[--emu.n_ops];
    emu.ops[op->index]->index = op->index;
    op->next = NULL;
    if (g->last)
        g->last->next = op;
    else
        g->first = op;
    g->last = op;
}

bool emu_captures(struct emu_op *op)
{
    struct emu_graph *g = emu.streams[op->stream].capture;
    if (!g || op->graph)
        return false;
    if (op->kind != EMU_OP_WORK && op->kind != EMU_OP_KERNEL &&
        op->kind != EMU_OP_COPY && op->kind != EMU_OP_SET) {
        emu_find("unknown: %s in a capture", op->name);
        g->broken = true;
        return false;
    }
    op->hashed = false; /* each launch reads what is there then */
    take(g, op);
    return true;
}

cudaError_t emu_not_captured(const char *name)
{
    for (int i = 1; i < emu.n_streams; i++)
        if (emu.streams[i].capture) {
            emu.streams[i].capture->broken = true;
            emu_find("misuse: %s while stream %d is captured", name, i);
            return emu_return(cudaErrorStreamCaptureUnsupported);
        }
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t error = emu_enter(EMU_STREAM, "cudaStreamBeginCapture");
    int s = emu_actor(stream);
    if (error != cudaSuccess)
        return error;
    if (s < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (emu.streams[s].capture)
        return emu_return(cudaErrorIllegalState);
    if (mode == cudaStreamCaptureModeRelaxed)
        emu_find("misuse: a capture that lets unsafe calls pass");
    struct emu_graph *g = calloc(1, sizeof *g);
    if (!g)
        abort();
    g->references = 1;
    g->open = true;
    graphs.all = emu_grow(graphs.all, graphs.n, sizeof *graphs.all);
    graphs.all[graphs.n++] = g;
    emu.streams[s].capture = g;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    cudaError_t error = emu_enter(EMU_STREAM, "cudaStreamEndCapture");
    int s = emu_actor(stream);
    if (s < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    struct emu_graph *g = emu.streams[s].capture;
    emu.streams[s].capture = NULL;
    if (!g)
        return emu_return(cudaErrorIllegalState);
    g->open = false;
    if (error == cudaSuccess && g->broken)
        error = emu_return(cudaErrorStreamCaptureInvalidated);
    *out = NULL;
    if (error != cudaSuccess) {
        emu_graph_let_go(g);
        return error;
    }
    g->plain = true;
    *out = (cudaGraph_t)(void *)g;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    int s = emu_actor(stream);
    if (s < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    const struct emu_graph *g = emu.streams[s].capture;
    *status = !g          ? cudaStreamCaptureStatusNone
              : g->broken ? cudaStreamCaptureStatusInvalidated
                          : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaGraphInstantiate(
    cudaGraphExec_t *out, cudaGraph_t handle, unsigned long long flags)
{
    cudaError_t error = emu_enter(EMU_ALLOC, "cudaGraphInstantiate");
    struct emu_graph *g = graph_of(handle);
    if (error != cudaSuccess)
        return error;
    if (!g || !g->plain || g->executable || flags != 0)
        return emu_return(cudaErrorInvalidValue);
    g->executable = true;
    g->references++;
    *out = (cudaGraphExec_t)(void *)g;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle)
{
    struct emu_graph *g = graph_of(handle);
    if (!g || !g->plain)
        return emu_return(cudaErrorInvalidValue);
    g->plain = false;
    emu_graph_let_go(g);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle)
{
    struct emu_graph *g = graph_of(handle);
    if (!g || !g->executable)
        return emu_return(cudaErrorInvalidValue);
    g->executable = false;
    emu_graph_let_go(g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream)
{
    cudaError_t error = emu_enter(EMU_WORK, "cudaGraphLaunch");
    struct emu_graph *g = graph_of(handle);
    if (error != cudaSuccess)
        return error;
    if (!g || !g->executable || emu_actor(stream) < 0)
        return emu_return(cudaErrorInvalidValue);
    emu.counters.graphs++;
    for (const struct emu_op *captured = g->first; captured;
         captured = captured->next) {
        struct emu_op *op = emu_op_new(captured->kind, captured->name, stream);
        struct emu_op fresh = *op;
        *op = *captured;
        op->stream = fresh.stream;
        op->seq = fresh.seq;
        op->index = fresh.index;
        op->next = NULL;
        op->graph = g;
        g->references++;
        emu_enqueue(op);
    }
    return cudaSuccess;
}
