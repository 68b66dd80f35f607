/* SPDX-License-Identifier: Apache-2.0
 * Owns linear, linear_dx and linear_dw: matrix products of oneDNN on row-major memory,
 * weights used as they are. Plain C where oneDNN has only its reference. */
#include "cpu.h"

#include "ref/ref.h"

/* With R rows, I input and O output features, in row-major memory:
 *   y[R][O] = x[R][I] w[O][I]^T + b,  dx[R][I] = dy[R][O] w[O][I],
 *   dw[O][I] = dy[R][O]^T x[R][I] */
static struct th_dnnl_matmul describe(const struct th_call *call)
{
    const struct th_shape *a = &call->in[0].shape, *b = &call->in[1].shape;
    int64_t columns = a->dim[a->rank - 1], rows = th_shape_count(a) / columns;
    if (call->op == TH_OP_linear)
        return (struct th_dnnl_matmul){.m = rows,
            .n = b->dim[0],
            .k = columns,
            .w_transposed = true,
            .bias = call->in[2].present};
    if (call->op == TH_OP_linear_dx)
        return (struct th_dnnl_matmul){.m = rows, .n = b->dim[1], .k = columns};
    return (struct th_dnnl_matmul){
        .m = b->dim[b->rank - 1], .n = columns, .k = rows, .x_transposed = true};
}

/* The state is the oneDNN step; NULL: the plain C kernel. */
static void linear_release(struct th_call *call)
{
    th_dnnl_step_free(call->state);
    call->state = NULL;
}

static thaw_status linear_prepare(struct th_call *call)
{
    struct th_dnnl_matmul mm = describe(call);
    struct th_dnnl_step *step = NULL;
    TRY(th_dnnl_matmul_new(th_cpu(call)->dnnl, &mm, &step));
    call->state = step;
    call->scratch_bytes = th_dnnl_scratch_bytes(step);
    return THAW_OK;
}

/* Roles of a product's operands: y = x w + b; see describe. */
static thaw_status linear_run(const struct th_call *call)
{
    void *ptr[TH_DNNL_ROLES] = {[TH_DNNL_SCRATCH] = call->scratch};
    if (!call->state)
        return th_ref_kernel(call->op)->run(call);
    if (call->op == TH_OP_linear) {
        const struct th_args_linear *a = (const void *)call->args;
        ptr[TH_DNNL_X] = a->x;
        ptr[TH_DNNL_W] = a->w;
        ptr[TH_DNNL_B] = a->b_;
        ptr[TH_DNNL_Y] = a->y;
    } else if (call->op == TH_OP_linear_dx) {
        const struct th_args_linear_dx *a = (const void *)call->args;
        ptr[TH_DNNL_X] = a->dy;
        ptr[TH_DNNL_W] = a->w;
        ptr[TH_DNNL_Y] = a->dx;
    } else {
        const struct th_args_linear_dw *a = (const void *)call->args;
        ptr[TH_DNNL_X] = a->dy;
        ptr[TH_DNNL_W] = a->x;
        ptr[TH_DNNL_Y] = a->dw;
    }
    return th_dnnl_run(call->state, ptr);
}

const struct th_kernel th_cpu_linear = {
    .layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = linear_release,
};
const struct th_kernel th_cpu_linear_dx = {
    .layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = linear_release,
};
const struct th_kernel th_cpu_linear_dw = {
    .layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = linear_release,
};
