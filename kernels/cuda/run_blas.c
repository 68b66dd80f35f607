/* SPDX-License-Identifier: Apache-2.0
 * Owns linear layers as cuBLASLt's matrix products. Formulas: kernels/linear.c.
 *
 * cuBLASLt counts columns first: what is [rows][columns] here is [columns][rows] there, so
 * that y = x w^T becomes y' = w'^T x', with the same bytes. */
#include "engine.h"
#include "products.h"

#include "mem.h"

static int64_t rows_of(const struct th_operand *o)
{
    return th_shape_count(&o->shape) / o->shape.dim[o->shape.rank - 1];
}

/* Prepare one product of the call, whose state it is. Operands are whole values. */
static thaw_status prepare(struct th_call *call, struct th_product_spec spec)
{
    struct th_product *product = NULL;
    spec.align = TH_ALIGN;
    TRY(th_product_new(call->device, &spec, &product));
    call->state = product;
    call->scratch_bytes = th_product_workspace(product);
    return THAW_OK;
}

static void release(struct th_call *call)
{
    th_product_free(call->state);
    call->state = NULL;
}

/* y' [o][m] = w'^T [o][i] x' [i][m] + b */
static thaw_status linear_prepare(struct th_call *call)
{
    int64_t o = call->in[1].shape.dim[0], i = call->in[1].shape.dim[1];
    return prepare(call, (struct th_product_spec){.m = o,
                             .n = rows_of(&call->in[0]),
                             .k = i,
                             .turn_a = true,
                             .lda = i,
                             .ldb = i,
                             .ldc = o,
                             .bias = call->in[2].present,
                             .alpha = 1.0F});
}

static thaw_status linear_run(const struct th_call *call)
{
    return th_product_run(call->device, call->state, call->args[1], call->args[0],
        call->args[2], call->args[3], call->scratch);
}

/* dx' [i][m] = w' [i][o] dy' [o][m] */
static thaw_status linear_dx_prepare(struct th_call *call)
{
    int64_t o = call->in[1].shape.dim[0], i = call->in[1].shape.dim[1];
    return prepare(call, (struct th_product_spec){.m = i,
                             .n = rows_of(&call->in[0]),
                             .k = o,
                             .lda = i,
                             .ldb = o,
                             .ldc = i,
                             .alpha = 1.0F});
}

static thaw_status linear_dx_run(const struct th_call *call)
{
    return th_product_run(call->device, call->state, call->args[1], call->args[0], NULL,
        call->args[2], call->scratch);
}

/* dw' [i][o] = x' [i][m] dy'^T [m][o] */
static thaw_status linear_dw_prepare(struct th_call *call)
{
    int64_t o = call->out[0].shape.dim[0], i = call->out[0].shape.dim[1];
    return prepare(call, (struct th_product_spec){.m = i,
                             .n = o,
                             .k = rows_of(&call->in[0]),
                             .turn_b = true,
                             .lda = i,
                             .ldb = o,
                             .ldc = i,
                             .alpha = 1.0F});
}

static thaw_status linear_dw_run(const struct th_call *call)
{
    return th_product_run(call->device, call->state, call->args[0], call->args[1], NULL,
        call->args[2], call->scratch);
}

const struct th_kernel th_cuda_linear_kernel = {.layout = th_layout_plain,
    .prepare = linear_prepare,
    .run = linear_run,
    .release = release};
const struct th_kernel th_cuda_linear_dx_kernel = {.layout = th_layout_plain,
    .prepare = linear_dx_prepare,
    .run = linear_dx_run,
    .release = release};
const struct th_kernel th_cuda_linear_dw_kernel = {.layout = th_layout_plain,
    .prepare = linear_dw_prepare,
    .run = linear_dw_run,
    .release = release};
