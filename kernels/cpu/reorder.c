/* SPDX-License-Identifier: Apache-2.0
 * Owns reorder: floats by oneDNN, other types in plain C. */
#include "cpu.h"

#include "ref/ref.h"

static thaw_status reorder_prepare(struct th_call *call)
{
    const struct th_operand *x = &call->in[0];
    struct th_dnnl_step *step = NULL;
    if (x->shape.rank != 4 || x->dtype != TH_F32)
        return THAW_OK;
    TRY(th_dnnl_reorder_new(
        th_cpu(call)->dnnl, x->shape.dim, x->block, call->out[0].block, &step));
    call->state = step;
    call->scratch_bytes = th_dnnl_scratch_bytes(step);
    return THAW_OK;
}

static thaw_status reorder_run(const struct th_call *call)
{
    const struct th_args_reorder *a = (const void *)call->args;
    if (!call->state)
        return th_ref_kernel(call->op)->run(call);
    void *ptr[TH_DNNL_ROLES] = {
        [TH_DNNL_X] = a->x, [TH_DNNL_Y] = a->y, [TH_DNNL_SCRATCH] = call->scratch};
    return th_dnnl_run(call->state, ptr);
}

static void reorder_release(struct th_call *call)
{
    th_dnnl_step_free(call->state);
    call->state = NULL;
}

const struct th_kernel th_cpu_reorder = {
    .layout = th_layout_reorder,
    .prepare = reorder_prepare,
    .run = reorder_run,
    .release = reorder_release,
};
