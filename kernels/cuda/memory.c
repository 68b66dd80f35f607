/* SPDX-License-Identifier: Apache-2.0
 * Owns memory and copies of the CUDA engine. An upload returns when the host's bytes are in
 * pinned memory; a download waits for all that was enqueued before. */
#include "engine.h"

#include <string.h>

void *th_cuda_alloc(struct th_device *device, size_t bytes)
{
    void *p = NULL;
    char what[64];
    if (bytes > SIZE_MAX / 2) {
        th_fail(THAW_E_MEMORY, "cuda: %zu bytes of device memory: too large", bytes);
        return NULL;
    }
    snprintf(what, sizeof what, "%zu bytes of device memory", bytes);
    if (th_cuda_check(cudaMalloc(&p, bytes ? bytes : 1), what) != THAW_OK)
        return NULL;
    if (bytes && th_cuda_check(cudaMemsetAsync(p, 0, bytes, th_cuda(device)->stream),
                     "zeroing memory") != THAW_OK) {
        cudaFree(p);
        return NULL;
    }
    return p;
}

void th_cuda_free(struct th_device *device, void *p, size_t bytes)
{
    (void)device, (void)bytes;
    if (p)
        cudaFree(p); /* waits for the device */
}

thaw_status th_cuda_ring_open(struct th_cuda_ring *ring, int n, cudaStream_t stream)
{
    ring->stream = stream;
    for (ring->n = 0; ring->n < n; ring->n++) {
        struct th_cuda_slot *s = &ring->slots[ring->n];
        TRY(th_cuda_check(
            cudaMallocHost(&s->p, TH_CUDA_SLOT_BYTES), "pinned memory for copies"));
        TRY(th_cuda_check(
            cudaEventCreateWithFlags(&s->free, cudaEventDisableTiming), "an event"));
    }
    return THAW_OK;
}

void th_cuda_ring_close(struct th_cuda_ring *ring)
{
    for (int i = 0; i < TH_CUDA_SLOTS; i++) {
        struct th_cuda_slot *s = &ring->slots[i];
        if (s->free)
            cudaEventDestroy(s->free);
        if (s->p)
            cudaFreeHost(s->p);
    }
}

/* When no copy reads it any more. */
static thaw_status empty(struct th_cuda_slot *s)
{
    if (s->filled == 0)
        return THAW_OK;
    cudaError_t state = cudaEventQuery(s->free);
    if (state == cudaErrorNotReady)
        state = cudaEventSynchronize(s->free);
    s->filled = 0;
    return th_cuda_check(state, "work on the device");
}

/* Room for so many bytes: behind what is on its way, so that a step's small inputs wait for
 * nothing, or in the next slot. */
static thaw_status find_room(
    struct th_cuda_ring *ring, size_t bytes, struct th_cuda_slot **out, void **p)
{
    enum { LINE = 64 };
    struct th_cuda_slot *s = &ring->slots[ring->next];
    if (s->filled + bytes > TH_CUDA_SLOT_BYTES) {
        ring->next = (ring->next + 1) % ring->n;
        s = &ring->slots[ring->next];
        TRY(empty(s));
    }
    *out = s;
    *p = (char *)s->p + s->filled;
    s->filled += (bytes + LINE - 1) / LINE * LINE;
    return THAW_OK;
}

/* In whose place other bytes may go: what was enqueued is done. */
static thaw_status wait_for_all(struct th_cuda *cuda)
{
    struct th_cuda_ring *ring = &cuda->ring;
    TRY(th_cuda_check(cudaStreamSynchronize(cuda->stream), "work on the device"));
    for (int i = 0; i < ring->n; i++)
        ring->slots[i].filled = 0;
    return THAW_OK;
}

static thaw_status enqueue_download(
    struct th_cuda *cuda, void *pinned, const void *src, size_t bytes)
{
    return th_cuda_check(
        cudaMemcpyAsync(pinned, src, bytes, cudaMemcpyDeviceToHost, cuda->stream),
        "a copy from the device");
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

thaw_status th_cuda_ring_put(
    struct th_cuda_ring *ring, void *dst, const void *host, size_t bytes)
{
    for (size_t at = 0, n; at < bytes; at += n) {
        struct th_cuda_slot *s = NULL;
        void *p = NULL;
        n = least(bytes - at, TH_CUDA_SLOT_BYTES);
        TRY(find_room(ring, n, &s, &p));
        memcpy(p, (const char *)host + at, n);
        TRY(th_cuda_check(cudaMemcpyAsync((char *)dst + at, p, n,
                              cudaMemcpyHostToDevice, ring->stream),
            "a copy to the device"));
        TRY(th_cuda_check(cudaEventRecord(s->free, ring->stream), "an event"));
    }
    return THAW_OK;
}

thaw_status th_cuda_upload(
    struct th_device *device, void *dst, const void *host, size_t bytes)
{
    return th_cuda_ring_put(&th_cuda(device)->ring, dst, host, bytes);
}

thaw_status th_cuda_download(
    struct th_device *device, void *host, const void *src, size_t bytes)
{
    struct th_cuda *cuda = th_cuda(device);
    struct th_cuda_ring *ring = &cuda->ring;
    for (size_t at = 0, n; at < bytes; at += n) {
        struct th_cuda_slot *s = NULL;
        void *p = NULL;
        n = least(bytes - at, TH_CUDA_SLOT_BYTES);
        TRY(find_room(ring, n, &s, &p));
        TRY(enqueue_download(cuda, p, (const char *)src + at, n));
        TRY(wait_for_all(cuda));
        memcpy((char *)host + at, p, n);
    }
    return THAW_OK;
}

/* Those that fit into a slot together. */
static thaw_status download_some(
    struct th_cuda *cuda, const struct th_copy *copies, int n, size_t bytes)
{
    struct th_cuda_slot *s = NULL;
    void *p = NULL;
    size_t at = 0;
    TRY(find_room(&cuda->ring, bytes, &s, &p));
    for (int i = 0; i < n; at += copies[i++].bytes)
        TRY(enqueue_download(cuda, (char *)p + at, copies[i].src, copies[i].bytes));
    TRY(wait_for_all(cuda));
    at = 0;
    for (int i = 0; i < n; at += copies[i++].bytes)
        memcpy(copies[i].dst, (const char *)p + at, copies[i].bytes);
    return THAW_OK;
}

thaw_status th_cuda_download_all(
    struct th_device *device, const struct th_copy *copies, int n)
{
    for (int i = 0, some; i < n; i += some) {
        size_t bytes = copies[i].bytes;
        for (some = 1; i + some < n; some++) {
            if (bytes + copies[i + some].bytes > TH_CUDA_SLOT_BYTES)
                break;
            bytes += copies[i + some].bytes;
        }
        TRY(bytes > TH_CUDA_SLOT_BYTES
                ? th_cuda_download(device, copies[i].dst, copies[i].src, bytes)
                : download_some(th_cuda(device), &copies[i], some, bytes));
    }
    return THAW_OK;
}
