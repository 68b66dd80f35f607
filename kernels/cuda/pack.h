/* SPDX-License-Identifier: Apache-2.0
 * Weights as cuDNN reads them: [o][h][w][i] in the engine's type, made of [o][i][h][w] in
 * fp32 by a kernel of ours, and back. */
#ifndef TH_CUDA_PACK_H
#define TH_CUDA_PACK_H

#include "engine.h"

/* Whether packed and plain are the same bytes, so that no copy is needed. */
bool th_cuda_pack_is_copy(cudnnDataType_t type, const struct th_operand *w);
size_t th_cuda_packed_bytes(cudnnDataType_t type, const struct th_operand *w);

/* Both enqueue. */
thaw_status th_cuda_pack(
    struct th_device *device, const struct th_operand *o, const void *w, void *packed);
thaw_status th_cuda_unpack(
    struct th_device *device, const struct th_operand *o, const void *packed, void *w);

/* THAW_E_FAIL where packed weights in use are not those packed again: compares on the
 * host. */
thaw_status th_cuda_same(struct th_device *device, const char *op, const void *used,
    const void *again, size_t bytes);

#endif
