/* SPDX-License-Identifier: Apache-2.0
 * Owns ops that are kernels of ours (own.h) as a device's kernels. */
#include "engine.h"
#include "lower.h"
#include "own.h"

static thaw_status own_prepare(struct th_call *call)
{
    const struct th_own *own = th_own(call->op);
    return own->prepare ? own->prepare(call) : THAW_OK;
}

static thaw_status own_run(const struct th_call *call)
{
    return th_own(call->op)->run(call);
}

static thaw_status own_run_all(const struct th_call *const *calls, int n)
{
    return th_own(calls[0]->op)->run_all(calls, n);
}

const struct th_kernel th_cuda_own_kernel = {
    .layout = th_cuda_layout, .prepare = own_prepare, .run = own_run};
const struct th_kernel th_cuda_own_plain_kernel = {
    .layout = th_layout_plain, .prepare = own_prepare, .run = own_run};
const struct th_kernel th_cuda_own_many_kernel = {.layout = th_layout_plain,
    .prepare = own_prepare,
    .run = own_run,
    .run_all = own_run_all};
const struct th_kernel th_cuda_reorder_kernel = {
    .layout = th_layout_reorder, .prepare = own_prepare, .run = own_run};
