/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of copy.cu that pack weights. */
#include "pack.h"

#include "own_ops.h"
#include "params.h"

#include "mem.h"

#include <string.h>

static int64_t window_of(const struct th_operand *w)
{
    return w->shape.rank == 4 ? w->shape.dim[2] * w->shape.dim[3] : 1;
}

bool th_cuda_pack_is_copy(cudnnDataType_t type, const struct th_operand *w)
{
    return type == CUDNN_DATA_FLOAT && (window_of(w) == 1 || w->shape.dim[1] == 1);
}

size_t th_cuda_packed_bytes(cudnnDataType_t type, const struct th_operand *w)
{
    size_t size = type == CUDNN_DATA_FLOAT ? sizeof(float) : 2;
    return (size_t)th_shape_count(&w->shape) * size;
}

/* What both kernels are told: samples of [inputs][plane] values. A vector is one. */
static struct th_k_pack parameters(
    const struct th_operand *o, const void *w, void *packed)
{
    int64_t samples = o->shape.rank > 1 ? o->shape.dim[0] : 1;
    uint32_t sample = (uint32_t)(th_shape_count(&o->shape) / samples);
    return (struct th_k_pack){.packed = packed,
        .w = (float *)(uintptr_t)w,
        .samples = samples,
        .sample = sample,
        .inputs = sample / (uint32_t)window_of(o),
        .plane = (uint32_t)window_of(o)};
}

thaw_status th_cuda_pack(
    struct th_device *device, const struct th_operand *o, const void *w, void *packed)
{
    bool fp32 = th_cuda(device)->type == CUDNN_DATA_FLOAT;
    struct th_k_pack p = parameters(o, w, packed);
    const struct th_cuda_grid grid = th_own_samples(p.samples, p.sample, 1);
    return th_cuda_launch(
        device, fp32 ? TH_K_pack_f32 : TH_K_pack_bf16, &grid, (void *[]){&p});
}

thaw_status th_cuda_unpack(
    struct th_device *device, const struct th_operand *o, const void *packed, void *w)
{
    bool fp32 = th_cuda(device)->type == CUDNN_DATA_FLOAT;
    struct th_k_pack p = parameters(o, w, (void *)(uintptr_t)packed);
    const struct th_cuda_grid grid = th_own_samples(p.samples, p.sample, 1);
    return th_cuda_launch(
        device, fp32 ? TH_K_unpack_f32 : TH_K_unpack_bf16, &grid, (void *[]){&p});
}

static thaw_status compare(struct th_device *device, const char *op, const void *used,
    const void *again, char *host, size_t bytes)
{
    TRY(th_cuda_download(device, host, again, bytes));
    TRY(th_cuda_download(device, host + bytes, used, bytes));
    if (memcmp(host, host + bytes, bytes) == 0)
        return THAW_OK;
    return th_fail(THAW_E_FAIL,
        "%s: the packed weights in use are not those that the parameter gives now", op);
}

thaw_status th_cuda_same(struct th_device *device, const char *op, const void *used,
    const void *again, size_t bytes)
{
    char *host = th_alloc(2, bytes);
    thaw_status status =
        host ? compare(device, op, used, again, host, bytes) : THAW_E_MEMORY;
    th_free(host);
    return status;
}
