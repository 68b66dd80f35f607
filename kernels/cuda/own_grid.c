/* SPDX-License-Identifier: Apache-2.0
 * Owns the shapes of grids. They depend on shapes alone, so that a sum is taken in the same
 * order whenever it is taken. */
#include "own_ops.h"

thaw_status th_own_launch(const struct th_call *call, enum th_cuda_kernel kernel,
    struct th_cuda_grid grid, const void *params)
{
    return th_cuda_launch(
        call->device, kernel, &grid, (void *[]){(void *)(uintptr_t)params});
}

struct th_cuda_grid th_own_values(int64_t count, int each)
{
    int64_t a_block = (int64_t)TH_OWN_THREADS * each;
    int64_t blocks = (count + a_block - 1) / a_block;
    return (struct th_cuda_grid){
        .blocks = {(unsigned)(blocks < TH_OWN_WAVE ? blocks : TH_OWN_WAVE), 1, 1},
        .threads = {TH_OWN_THREADS, 1, 1}};
}
