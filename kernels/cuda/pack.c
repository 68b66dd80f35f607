/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of pack.cu. */
#include "pack.h"

#include "own_ops.h"
#include "params.h"

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

/* `sample`: values of one output's weights. */
static struct th_cuda_grid grid_of(const struct th_operand *o)
{
    return th_own_values(th_shape_count(&o->shape), 1);
}

thaw_status th_cuda_pack(
    struct th_device *device, const struct th_operand *o, const void *w, void *packed)
{
    bool fp32 = th_cuda(device)->type == CUDNN_DATA_FLOAT;
    struct th_k_pack p = {.packed = packed,
        .w = w,
        .samples = o->shape.dim[0],
        .sample = (uint32_t)(o->shape.dim[1] * window_of(o)),
        .inputs = (uint32_t)o->shape.dim[1],
        .plane = (uint32_t)window_of(o)};
    const struct th_cuda_grid grid = grid_of(o);
    return th_cuda_launch(
        device, fp32 ? TH_K_pack_f32 : TH_K_pack_bf16, &grid, (void *[]){&p});
}

thaw_status th_cuda_unpack(
    struct th_device *device, const struct th_operand *o, const void *packed, void *w)
{
    bool fp32 = th_cuda(device)->type == CUDNN_DATA_FLOAT;
    struct th_k_unpack p = {.packed = packed,
        .w = w,
        .samples = o->shape.dim[0],
        .sample = (uint32_t)(o->shape.dim[1] * window_of(o)),
        .inputs = (uint32_t)o->shape.dim[1],
        .plane = (uint32_t)window_of(o)};
    const struct th_cuda_grid grid = grid_of(o);
    return th_cuda_launch(
        device, fp32 ? TH_K_unpack_f32 : TH_K_unpack_bf16, &grid, (void *[]){&p});
}
