/* SPDX-License-Identifier: Apache-2.0
 * The device "cuda:N": its state, and what the engine's files share.
 *
 * Invariants: one host thread; work is enqueued on one stream, in the order of the calls, so
 * that memory needs no events between steps; only what is sent ahead goes by a second stream,
 * into memory that nothing else touches; nothing but `download` (and opening, closing,
 * alloc, free) waits for the device; running a step allocates no device memory. */
#ifndef TH_CUDA_ENGINE_H
#define TH_CUDA_ENGINE_H

#include "backend.h"
#include "dnn_plan.h"
#include "launch.h"
#include "plan_cache.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

/* Pinned memory for the copies of one stream, slots in turn; one is empty again when its event
 * is done, and all are when the stream is. */
enum { TH_CUDA_SLOTS = 4, TH_CUDA_SLOT_BYTES = 4 << 20, TH_CUDA_LIBRARIES = 32 };
struct th_cuda_slot {
    void *p;
    cudaEvent_t free;
    size_t filled; /* bytes that copies may still read; further ones go behind them */
};
struct th_cuda_ring {
    cudaStream_t stream; /* borrowed */
    struct th_cuda_slot slots[TH_CUDA_SLOTS];
    int n, next;
};

/* What is sent ahead (ahead.c): a lot of several parts, one after the other. */
struct th_cuda_ahead {
    cudaStream_t stream;
    struct th_cuda_ring ring;
    cudaEvent_t arrived;  /* on this stream: all of it is on the device */
    cudaEvent_t copied;   /* on the other: what was taken last is where it was wanted */
    void *p;              /* room bytes of device memory */
    size_t room, bytes;   /* bytes: of the last lot */
    size_t refused;       /* so many the device has no memory for; 0: not known */
    uint64_t lot, n_lots; /* sent and not taken, or 0; how many there have been */
    bool taken;           /* copied has been recorded */
};

struct th_cuda {
    cudaStream_t stream;
    cudnnHandle_t dnn;
    cublasLtHandle_t blas;
    struct th_cudnn_target target;
    struct th_cudnn_policy policy;
    cudnnDataType_t type;                       /* that activations have */
    cudaLibrary_t libraries[TH_CUDA_LIBRARIES]; /* of our kernels */
    int n_libraries;
    cudaKernel_t kernels[TH_K_COUNT];
    struct th_plan_cache plans; /* opened with the first plan */
    bool plans_open;
    struct th_cuda_ring ring;
    struct th_cuda_ahead ahead;
    char text[320];
};

static inline struct th_cuda *th_cuda(const struct th_device *device)
{
    return device->state;
}

/* THAW_OK, or THAW_E_FAIL (memory: THAW_E_MEMORY) with what was tried and CUDA's reason. */
thaw_status th_cuda_check(cudaError_t error, const char *what);

/* Members of struct th_backend (memory.c). */
void *th_cuda_alloc(struct th_device *device, size_t bytes);
void th_cuda_free(struct th_device *device, void *p, size_t bytes);
thaw_status th_cuda_upload(
    struct th_device *device, void *dst, const void *host, size_t bytes);
thaw_status th_cuda_download(
    struct th_device *device, void *host, const void *src, size_t bytes);
thaw_status th_cuda_download_all(
    struct th_device *device, const struct th_copy *copies, int n);
/* ... (ahead.c). */
thaw_status th_cuda_send(
    struct th_device *device, const struct th_copy *copies, int n, uint64_t *lot);
thaw_status th_cuda_take(
    struct th_device *device, const struct th_copy *copies, int n, uint64_t lot);
/* ... (record.c). */
thaw_status th_cuda_record(struct th_device *device);
thaw_status th_cuda_recorded(struct th_device *device, void **recording);
thaw_status th_cuda_replay(struct th_device *device, void *recording);
void th_cuda_forget(struct th_device *device, void *recording);

/* n slots. */
thaw_status th_cuda_ring_open(struct th_cuda_ring *ring, int n, cudaStream_t stream);
void th_cuda_ring_close(struct th_cuda_ring *ring);
/* Returns when the host's bytes are in pinned memory. */
thaw_status th_cuda_ring_put(
    struct th_cuda_ring *ring, void *dst, const void *host, size_t bytes);

thaw_status th_cuda_ahead_open(struct th_cuda *cuda);
void th_cuda_ahead_close(struct th_cuda *cuda);

/* Own kernels (launch.c). */
thaw_status th_cuda_kernels_open(struct th_cuda *cuda);
void th_cuda_kernels_close(struct th_cuda *cuda);

/* Tables of kernels: cuDNN's graphs (run_graph.c), cuBLASLt's products (run_blas.c), our own
 * (run_own.c). */
extern const struct th_kernel th_cuda_graph_kernel, th_cuda_conv_kernel,
    th_cuda_conv_dw_kernel, th_cuda_pair_kernel;
extern const struct th_kernel th_cuda_own_kernel, th_cuda_own_plain_kernel,
    th_cuda_own_many_kernel, th_cuda_reorder_kernel;
extern const struct th_kernel th_cuda_linear_kernel, th_cuda_linear_dx_kernel,
    th_cuda_linear_dw_kernel;
extern const struct th_kernel th_cuda_attention_kernel, th_cuda_attention_dx_kernel,
    th_cuda_attention_half_kernel;

#endif
