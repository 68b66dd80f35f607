/* SPDX-License-Identifier: Apache-2.0
 * Owns what is sent ahead: the next batch goes to the device by a stream of its own, beside the
 * step that runs, into memory that nothing else touches, and from there, when it is taken, to
 * where the next step reads it (at the device's own speed). Two orders are kept by events:
 * taking waits for what was sent, and sending for what was taken before. */
#include "engine.h"

/* While one is filled by the host, the other one is read by the device. */
enum { PINNED = 2 };

thaw_status th_cuda_ahead_open(struct th_cuda *cuda)
{
    struct th_cuda_ahead *a = &cuda->ahead;
    TRY(th_cuda_check(cudaStreamCreateWithFlags(&a->stream, cudaStreamNonBlocking),
        "a stream for copies"));
    TRY(th_cuda_check(
        cudaEventCreateWithFlags(&a->arrived, cudaEventDisableTiming), "an event"));
    TRY(th_cuda_check(
        cudaEventCreateWithFlags(&a->copied, cudaEventDisableTiming), "an event"));
    return th_cuda_ring_open(&a->ring, PINNED, a->stream);
}

void th_cuda_ahead_close(struct th_cuda *cuda)
{
    struct th_cuda_ahead *a = &cuda->ahead;
    th_cuda_ring_close(&a->ring);
    if (a->p)
        cudaFree(a->p);
    if (a->arrived)
        cudaEventDestroy(a->arrived);
    if (a->copied)
        cudaEventDestroy(a->copied);
    if (a->stream)
        cudaStreamDestroy(a->stream);
}

/* A training goes on without, where memory is short: nothing is lost but time. */
static bool make_room(struct th_cuda_ahead *a, size_t bytes)
{
    if (a->refused && bytes >= a->refused)
        return false;
    if (bytes <= a->room)
        return true;
    if (a->p)
        cudaFree(a->p); /* waits for the device */
    a->p = NULL;
    a->room = 0;
    if (cudaMalloc(&a->p, bytes) == cudaSuccess)
        a->room = bytes;
    else
        a->refused = bytes;
    cudaGetLastError(); /* is none of the next call's */
    return a->room >= bytes;
}

/* Where the next part begins: as memory of its own would. */
static size_t behind(size_t at, size_t bytes)
{
    enum { LINE = 256 };
    return at + (bytes + LINE - 1) / LINE * LINE;
}

static size_t bytes_of(const struct th_copy *copies, int n)
{
    size_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes = behind(bytes, copies[i].bytes);
    return bytes;
}

thaw_status th_cuda_send(
    struct th_device *device, const struct th_copy *copies, int n, uint64_t *lot)
{
    struct th_cuda_ahead *a = &th_cuda(device)->ahead;
    size_t bytes = bytes_of(copies, n), at = 0;
    *lot = a->lot = 0;
    if (!make_room(a, bytes))
        return THAW_OK;
    if (a->taken)
        TRY(th_cuda_check(
            cudaStreamWaitEvent(a->stream, a->copied, 0), "the order of copies"));
    for (int i = 0; i < n; at = behind(at, copies[i++].bytes))
        TRY(th_cuda_ring_put(
            &a->ring, (char *)a->p + at, copies[i].src, copies[i].bytes));
    TRY(th_cuda_check(cudaEventRecord(a->arrived, a->stream), "an event"));
    a->bytes = bytes;
    *lot = a->lot = ++a->n_lots;
    return THAW_OK;
}

thaw_status th_cuda_take(
    struct th_device *device, const struct th_copy *copies, int n, uint64_t lot)
{
    struct th_cuda *cuda = th_cuda(device);
    struct th_cuda_ahead *a = &cuda->ahead;
    size_t bytes = bytes_of(copies, n), at = 0;
    if (lot == 0 || lot != a->lot || bytes != a->bytes)
        return th_fail(THAW_E_USAGE,
            "cuda: %zu bytes of lot %llu are taken, and there are %zu of lot %llu",
            bytes, (unsigned long long)lot, a->bytes, (unsigned long long)a->lot);
    a->lot = 0;
    TRY(th_cuda_check(
        cudaStreamWaitEvent(cuda->stream, a->arrived, 0), "the order of copies"));
    for (int i = 0; i < n; at = behind(at, copies[i++].bytes))
        TRY(th_cuda_check(cudaMemcpyAsync(copies[i].dst, (const char *)a->p + at,
                              copies[i].bytes, cudaMemcpyDeviceToDevice, cuda->stream),
            "a copy on the device"));
    TRY(th_cuda_check(cudaEventRecord(a->copied, cuda->stream), "an event"));
    a->taken = true;
    return THAW_OK;
}
