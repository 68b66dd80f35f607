/* SPDX-License-Identifier: Apache-2.0
 * Owns streams, events and what is enqueued. A stream's handle is its number; a number is not
 * given again. */
#include "emu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- handles ---- */

int emu_actor(cudaStream_t stream)
{
    uintptr_t n = (uintptr_t)stream;
    bool good = n >= 1 && n < (uintptr_t)emu.n_streams && emu.streams[n].live;
    if (!stream)
        emu_find("misuse: the default stream, which waits for all others");
    return good ? (int)n : -1;
}

static struct emu_event *event_of(cudaEvent_t event)
{
    uintptr_t n = (uintptr_t)event;
    bool good = n >= 1 && n <= (uintptr_t)emu.n_events && emu.events[n - 1]->live;
    return good ? emu.events[n - 1] : NULL;
}

/* ---- running ---- */

static uint64_t hash(const char *p, size_t n)
{
    const uint64_t prime = 1099511628211U;
    uint64_t h = 14695981039346656037U, word; /* FNV-1a, of words */
    for (; n >= sizeof word; p += sizeof word, n -= sizeof word) {
        memcpy(&word, p, sizeof word);
        h = (h ^ word) * prime;
        h ^= h >> 32; /* a product's low half knows nothing of what is above it */
    }
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * prime;
    return h;
}

/* Where the bytes are; NULL: not all in one live block, which is an illegal address. */
static bool find_memory(const struct emu_op *op, void **memory)
{
    for (int i = 0; i < op->n_ranges; i++) {
        memory[i] = emu_translate(op->ranges[i].at, op->ranges[i].bytes);
        if (memory[i])
            continue;
        emu_find("address: %s #%llu on stream %d %s %zu bytes at %p, which are not in "
                 "one live "
                 "block",
            op->name, (unsigned long long)op->seq, op->stream,
            op->ranges[i].writes ? "writes" : "reads", op->ranges[i].bytes,
            op->ranges[i].at);
        emu.pending = cudaErrorIllegalAddress;
        return false;
    }
    return true;
}

static void execute(struct emu_op *op)
{
    void *memory[EMU_RANGES] = {0};
    emu.ran++;
    if (emu.pending != cudaSuccess || emu.sticky != cudaSuccess)
        return; /* nothing runs after an error */
    if (emu_fails(EMU_ASYNC)) {
        emu.pending = cudaErrorLaunchFailure;
        return;
    }
    if (!find_memory(op, memory))
        return;
    if (op->hashed && hash(memory[1], op->ranges[1].bytes) != op->hash)
        emu_find(
            "host buffer: %s #%llu on stream %d reads pinned memory that the host has "
            "written since it was enqueued",
            op->name, (unsigned long long)op->seq, op->stream);
    if (op->kind == EMU_OP_KERNEL)
        emu_kernel_run(op);
    else if (op->kind == EMU_OP_WORK)
        op->run(memory, op->owned ? op->owned : op->argument);
    else if (op->kind == EMU_OP_COPY)
        memmove(memory[0], memory[1], op->ranges[0].bytes);
    else if (op->kind == EMU_OP_SET)
        memset(memory[0], op->value, op->ranges[0].bytes);
}

static void op_free(struct emu_op *op)
{
    emu.ops[op->index] = emu.ops[--emu.n_ops];
    emu.ops[op->index]->index = op->index;
    if (op->release && !op->graph)
        op->release(op->owned);
    emu_graph_let_go(op->graph);
    emu_race_over(op);
    free(op);
}

void emu_ops_close(void)
{
    while (emu.n_ops > 0)
        op_free(emu.ops[emu.n_ops - 1]);
    free(emu.ops);
    emu.ops = NULL;
}

static void run_head(struct emu_stream *s)
{
    struct emu_op *op = s->head;
    if (op->kind == EMU_OP_WAIT && op->awaited)
        emu_run_until(op->awaited);
    else if (op->kind == EMU_OP_FREE) {
        if (op->block->live)
            emu_block_die(op->block, op->name);
    } else if (op->kind != EMU_OP_RECORD && op->kind != EMU_OP_BORN)
        execute(op);
    for (int i = 0; op->kind == EMU_OP_RECORD && i < emu.n_events; i++)
        if (emu.events[i]->record == op)
            emu.events[i]->finished = emu.ran;
    op->done = true;
    s->head = op->next;
    if (!s->head)
        s->tail = NULL;
    if (op->kind != EMU_OP_RECORD) /* events and waits point to those */
        op_free(op);
}

/* That and no more than what comes before it. */
void emu_run_until(struct emu_op *op)
{
    struct emu_stream *s = &emu.streams[op->stream];
    bool last = op->done;
    while (!last) {
        last = s->head == op;
        run_head(s); /* frees it */
    }
}

void emu_run_all(void)
{
    for (int i = 1; i < emu.n_streams; i++)
        while (emu.streams[i].head)
            run_head(&emu.streams[i]);
    for (int i = 1; i < emu.n_streams; i++) /* the host has seen it all */
        emu_merge(&emu.streams[0].clock, &emu.streams[i].clock);
}

static uint64_t draw(void) /* xorshift64 (Marsaglia 2003) */
{
    emu.random ^= emu.random << 13;
    emu.random ^= emu.random >> 7;
    emu.random ^= emu.random << 17;
    return emu.random;
}

static void schedule(struct emu_op *fresh)
{
    if (emu.options.order == EMU_EARLY)
        emu_run_until(fresh);
    for (int i = 0; emu.options.order == EMU_RANDOM && i < (int)(draw() % 4); i++) {
        int s = 1 + (int)(draw() % (uint64_t)(emu.n_streams - 1));
        if (emu.streams[s].head)
            run_head(&emu.streams[s]);
    }
}

/* ---- enqueueing ---- */

struct emu_op *emu_op_new(enum emu_kind kind, const char *name, cudaStream_t stream)
{
    struct emu_op *op = calloc(1, sizeof *op);
    if (!op)
        abort();
    op->kind = kind;
    op->name = name;
    op->stream = (int)(uintptr_t)stream;
    op->seq = ++emu.seq;
    emu.ops = emu_grow(emu.ops, emu.n_ops, sizeof *emu.ops);
    op->index = emu.n_ops;
    emu.ops[emu.n_ops++] = op;
    return op;
}

/* Blocks that are freed by then, whether that has run or not. */
static void check_dying(const struct emu_op *op)
{
    for (int i = 0; i < op->n_ranges; i++)
        for (int k = 0; k < emu.n_blocks; k++) {
            const struct emu_block *b = emu.blocks[k];
            const char *at = op->ranges[i].at;
            if ((b->dying || !b->live) && at >= b->view && at < b->view + b->bytes)
                emu_find("freed: %s #%llu on stream %d uses block %d, whose free was "
                         "enqueued "
                         "before",
                    op->name, (unsigned long long)op->seq, op->stream, b->id);
        }
}

void emu_enqueue(struct emu_op *op)
{
    struct emu_stream *s = &emu.streams[op->stream];
    if (emu_captures(op))
        return;
    emu_merge(&s->clock, &emu.streams[0].clock);
    s->clock.tick[op->stream]++;
    if (op->kind == EMU_OP_KERNEL)
        emu_race_later(op, &s->clock);
    emu_race_check(op->stream, &s->clock, op->name, op->seq, op->ranges, op->n_ranges);
    check_dying(op);
    if (s->tail)
        s->tail->next = op;
    else
        s->head = op;
    s->tail = op;
    schedule(op);
}

static struct emu_op *work_new(cudaStream_t stream, const char *name,
    void (*run)(void *const *memory, const void *argument),
    const struct emu_range *ranges, int n)
{
    struct emu_op *op = emu_op_new(EMU_OP_WORK, name, stream);
    op->run = run;
    memcpy(op->ranges, ranges, (size_t)n * sizeof *ranges);
    op->n_ranges = n;
    emu.counters.launches++;
    return op;
}

cudaError_t emu_launch(cudaStream_t stream, const char *name,
    void (*run)(void *const *memory, const void *argument), const void *argument,
    size_t argument_bytes, const struct emu_range *ranges, int n)
{
    cudaError_t error = emu_enter(EMU_WORK, name);
    if (error != cudaSuccess)
        return error;
    if (emu_actor(stream) < 0 || n > EMU_RANGES || argument_bytes > EMU_ARGUMENT)
        return emu_return(cudaErrorInvalidValue);
    struct emu_op *op = work_new(stream, name, run, ranges, n);
    if (argument_bytes)
        memcpy(op->argument, argument, argument_bytes);
    emu_enqueue(op);
    return cudaSuccess;
}

cudaError_t emu_launch_owned(cudaStream_t stream, const char *name,
    void (*run)(void *const *memory, const void *argument), void *argument,
    void (*release)(void *argument), const struct emu_range *ranges, int n)
{
    if (emu_actor(stream) < 0 || n > EMU_RANGES) {
        release(argument);
        return emu_return(cudaErrorInvalidValue);
    }
    struct emu_op *op = work_new(stream, name, run, ranges, n);
    op->owned = argument;
    op->release = release;
    emu_enqueue(op);
    return cudaSuccess;
}

/* Whether work that is pending writes the bytes: then the host's are not final yet. */
static bool is_pending(const struct emu_range *range)
{
    for (int s = 1; s < emu.n_streams; s++)
        for (const struct emu_op *op = emu.streams[s].head; op; op = op->next)
            for (int i = 0; i < op->n_ranges; i++) {
                uintptr_t a = (uintptr_t)op->ranges[i].at, b = (uintptr_t)range->at;
                if (op->ranges[i].writes && a < b + range->bytes &&
                    b < a + op->ranges[i].bytes)
                    return true;
            }
    return false;
}

/* One side on the device, the other pinned, as the kind says. */
static bool sides_fit(
    enum cudaMemcpyKind kind, const struct emu_block *dst, const struct emu_block *src)
{
    if (!dst || !src)
        return false;
    switch (kind) {
    case cudaMemcpyHostToDevice:
        return !dst->pinned && src->pinned;
    case cudaMemcpyDeviceToHost:
        return dst->pinned && !src->pinned;
    case cudaMemcpyDeviceToDevice:
        return !dst->pinned && !src->pinned;
    default:
        return false;
    }
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes,
    enum cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaError_t error = emu_enter(EMU_COPY, "cudaMemcpyAsync");
    if (error != cudaSuccess)
        return error;
    if (emu_actor(stream) < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (!sides_fit(kind, emu_block_of(dst, bytes), emu_block_of(src, bytes))) {
        emu_find("misuse: cudaMemcpyAsync of %zu bytes from %p to %p, kind %d: not "
                 "each in one "
                 "live block, or pageable memory, or the wrong kind",
            bytes, src, dst, (int)kind);
        return emu_return(cudaErrorInvalidValue);
    }
    struct emu_op *op = emu_op_new(EMU_OP_COPY, "cudaMemcpyAsync", stream);
    op->ranges[op->n_ranges++] = (struct emu_range){dst, bytes, true};
    op->ranges[op->n_ranges++] = (struct emu_range){src, bytes, false};
    op->hashed = kind == cudaMemcpyHostToDevice && !is_pending(&op->ranges[1]);
    if (op->hashed)
        op->hash = hash(emu_translate(src, bytes), bytes);
    emu.counters.copies++;
    emu.counters.copies_within += kind == cudaMemcpyDeviceToDevice;
    emu.counters.bytes_to_device += kind == cudaMemcpyHostToDevice ? bytes : 0;
    emu.counters.bytes_to_host += kind == cudaMemcpyDeviceToHost ? bytes : 0;
    emu_enqueue(op);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t error = emu_enter(EMU_COPY, "cudaMemsetAsync");
    if (error != cudaSuccess)
        return error;
    if (emu_actor(stream) < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    const struct emu_block *b = emu_block_of(p, bytes);
    if (!b || b->pinned) {
        emu_find(
            "misuse: cudaMemsetAsync of %zu bytes at %p, not in one live device block",
            bytes, p);
        return emu_return(cudaErrorInvalidValue);
    }
    struct emu_op *op = emu_op_new(EMU_OP_SET, "cudaMemsetAsync", stream);
    op->ranges[op->n_ranges++] = (struct emu_range){p, bytes, true};
    op->value = value;
    emu_enqueue(op);
    return cudaSuccess;
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    cudaError_t error = emu_enter(EMU_STREAM, "cudaStreamCreateWithFlags");
    if (error != cudaSuccess)
        return error;
    if (flags != cudaStreamNonBlocking)
        emu_find("misuse: a stream that waits for the default one");
    if (emu.n_streams == EMU_ACTORS)
        return emu_return(cudaErrorMemoryAllocation);
    emu.streams[emu.n_streams].live = true;
    *stream = (cudaStream_t)(uintptr_t)emu.n_streams++;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    int s = emu_actor(stream);
    if (s < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (emu.streams[s].head)
        emu_find(
            "misuse: stream %d is destroyed with %s #%llu and what follows it pending",
            s, emu.streams[s].head->name, (unsigned long long)emu.streams[s].head->seq);
    while (emu.streams[s].head)
        run_head(&emu.streams[s]);
    emu.streams[s].live = false;
    return cudaSuccess;
}

cudaError_t emu_synchronised(void)
{
    emu.counters.syncs++;
    emu_check_zones();
    if (emu.pending != cudaSuccess) {
        emu.sticky = emu.pending;
        emu_run_all(); /* the context is lost: what is enqueued goes, and runs no more */
    }
    return emu.sticky;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t error = emu_enter(EMU_STREAM, "cudaStreamSynchronize");
    int s = emu_actor(stream);
    if (error == cudaSuccess && s > 0 && emu.streams[s].capture)
        error = emu_not_captured("cudaStreamSynchronize");
    if (error != cudaSuccess)
        return error;
    if (s < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    while (emu.streams[s].head)
        run_head(&emu.streams[s]);
    emu_merge(&emu.streams[0].clock, &emu.streams[s].clock);
    return emu_return(emu_synchronised());
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t error = emu_enter(EMU_STREAM, "cudaDeviceSynchronize");
    if (error == cudaSuccess)
        error = emu_not_captured("cudaDeviceSynchronize");
    if (error != cudaSuccess)
        return error;
    emu_run_all();
    return emu_return(emu_synchronised());
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    cudaError_t error = emu_enter(EMU_EVENT, "cudaStreamWaitEvent");
    int s = emu_actor(stream);
    const struct emu_event *e = event_of(event);
    if (error != cudaSuccess)
        return error;
    if (s < 0 || !e || flags != 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (emu_forgets(EMU_STREAM_WAIT))
        return cudaSuccess;
    if (!e->record)
        emu_find("misuse: stream %d waits for an event that was never recorded", s);
    else
        emu_merge(&emu.streams[s].clock, &e->clock);
    struct emu_op *op = emu_op_new(EMU_OP_WAIT, "cudaStreamWaitEvent", stream);
    op->awaited = e->record;
    emu_enqueue(op);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    cudaError_t error = emu_enter(EMU_EVENT, "cudaEventCreateWithFlags");
    if (error != cudaSuccess)
        return error;
    if (flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming))
        return emu_return(cudaErrorInvalidValue);
    struct emu_event *e = calloc(1, sizeof *e);
    if (!e)
        abort();
    e->live = true;
    emu.events = emu_grow(emu.events, emu.n_events, sizeof *emu.events);
    emu.events[emu.n_events++] = e;
    emu.counters.events++;
    *event = (cudaEvent_t)(uintptr_t)emu.n_events;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    struct emu_event *e = event_of(event);
    if (!e)
        return emu_return(cudaErrorInvalidResourceHandle);
    e->live = false;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cudaError_t error = emu_enter(EMU_EVENT, "cudaEventRecord");
    int s = emu_actor(stream);
    struct emu_event *e = event_of(event);
    if (error != cudaSuccess)
        return error;
    if (s < 0 || !e)
        return emu_return(cudaErrorInvalidResourceHandle);
    struct emu_op *op = emu_op_new(EMU_OP_RECORD, "cudaEventRecord", stream);
    e->record = op;
    emu_enqueue(op);
    e->clock = emu.streams[s].clock;
    return cudaSuccess;
}

/* Time goes by while one asks: one piece of work a query. */
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t error = emu_enter(EMU_EVENT, "cudaEventQuery");
    const struct emu_event *e = event_of(event);
    if (error != cudaSuccess)
        return error;
    if (!e)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (!e->record || e->record->done) {
        if (e->record) /* seen: what is before it is behind the host */
            emu_merge(&emu.streams[0].clock, &e->clock);
        return emu_return(emu.pending);
    }
    run_head(&emu.streams[e->record->stream]);
    return cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t error = emu_enter(EMU_EVENT, "cudaEventSynchronize");
    const struct emu_event *e = event_of(event);
    if (error != cudaSuccess)
        return error;
    if (!e)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (emu_forgets(EMU_HOST_WAIT))
        return cudaSuccess;
    if (e->record) {
        emu_run_until(e->record);
        emu_merge(&emu.streams[0].clock, &e->clock);
    }
    return emu_return(emu_synchronised());
}

/* A piece of work takes a microsecond. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    const struct emu_event *a = event_of(start), *b = event_of(end);
    if (!a || !b || !a->record || !b->record)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (!a->record->done || !b->record->done)
        return cudaErrorNotReady;
    *ms = ((float)b->finished - (float)a->finished) * 1e-3F;
    return cudaSuccess;
}
