/* SPDX-License-Identifier: Apache-2.0
 * Owns linear layers as cuBLASLt's matrix products. Formulas: kernels/linear.c.
 *
 * cuBLASLt counts columns first: what is [rows][columns] here is [columns][rows] there, so
 * that y = x w^T becomes y' = w'^T x', with the same bytes. In bf16 weights and bias are
 * packed into kept memory, made again when they are stale; gradients of weights come out as
 * fp32. */
#include "engine.h"
#include "pack.h"
#include "products.h"

#include "mem.h"

enum { W = 1, B = 2 }; /* inputs of linear; W of linear_dx, too */

static int64_t rows_of(const struct th_operand *o)
{
    return th_shape_count(&o->shape) / o->shape.dim[o->shape.rank - 1];
}

static bool is_half(const struct th_call *call)
{
    return call->in[0].dtype == TH_BF16;
}

/* Where in kept memory the packed bias is, behind the weights. */
static size_t bias_at(const struct th_call *call)
{
    return th_align_up(th_cuda_packed_bytes(CUDNN_DATA_BFLOAT16, &call->in[W]));
}

/* Prepare one product of the call, whose state it is. Operands are whole values. */
static thaw_status prepare(struct th_call *call, struct th_product_spec spec)
{
    struct th_product *product = NULL;
    spec.align = TH_ALIGN;
    spec.half = is_half(call);
    spec.half_c = call->out[0].dtype == TH_BF16;
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

static thaw_status pack_all(const struct th_call *call, char *to)
{
    TRY(th_cuda_pack(call->device, &call->in[W], call->args[W], to));
    if (!call->in[B].present)
        return THAW_OK;
    return th_cuda_pack(call->device, &call->in[B], call->args[B], to + bias_at(call));
}

static thaw_status pack_stale(const struct th_call *call)
{
    return is_half(call) && call->stale ? pack_all(call, call->kept) : THAW_OK;
}

/* Input k as the product reads it. */
static const void *packed(const struct th_call *call, int k)
{
    if (!is_half(call) || !call->in[k].present)
        return call->args[k];
    return (const char *)call->kept + (k == B ? bias_at(call) : 0);
}

static thaw_status compare_packed(const struct th_call *call, char *again)
{
    TRY(pack_all(call, again));
    TRY(th_cuda_same(call->device, "linear", call->kept, again,
        th_cuda_packed_bytes(CUDNN_DATA_BFLOAT16, &call->in[W])));
    if (!call->in[B].present)
        return THAW_OK;
    return th_cuda_same(call->device, "linear", (char *)call->kept + bias_at(call),
        again + bias_at(call), th_cuda_packed_bytes(CUDNN_DATA_BFLOAT16, &call->in[B]));
}

static thaw_status verify(const struct th_call *call)
{
    if (!call->kept)
        return THAW_OK;
    char *again = th_cuda_alloc(call->device, call->kept_bytes);
    thaw_status status = again ? compare_packed(call, again) : THAW_E_MEMORY;
    th_cuda_free(call->device, again, call->kept_bytes);
    return status;
}

/* y' [o][m] = w'^T [o][i] x' [i][m] + b */
static thaw_status linear_prepare(struct th_call *call)
{
    int64_t o = call->in[W].shape.dim[0], i = call->in[W].shape.dim[1];
    if (is_half(call))
        call->kept_bytes = bias_at(call) +
                           (call->in[B].present ? th_cuda_packed_bytes(
                                                      CUDNN_DATA_BFLOAT16, &call->in[B])
                                                : 0);
    return prepare(call, (struct th_product_spec){.m = o,
                             .n = rows_of(&call->in[0]),
                             .k = i,
                             .turn_a = true,
                             .lda = i,
                             .ldb = i,
                             .ldc = o,
                             .bias = call->in[B].present,
                             .alpha = 1.0F});
}

static thaw_status linear_run(const struct th_call *call)
{
    TRY(pack_stale(call));
    return th_product_run(call->device, call->state, packed(call, W), call->args[0],
        packed(call, B), call->args[3], call->scratch);
}

/* dx' [i][m] = w' [i][o] dy' [o][m] */
static thaw_status linear_dx_prepare(struct th_call *call)
{
    int64_t o = call->in[W].shape.dim[0], i = call->in[W].shape.dim[1];
    call->kept_bytes = is_half(call) ? bias_at(call) : 0;
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
    TRY(pack_stale(call));
    return th_product_run(call->device, call->state, packed(call, W), call->args[0],
        NULL, call->args[2], call->scratch);
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
    .release = release,
    .verify = verify};
const struct th_kernel th_cuda_linear_dx_kernel = {.layout = th_layout_plain,
    .prepare = linear_dx_prepare,
    .run = linear_dx_run,
    .release = release,
    .verify = verify};
const struct th_kernel th_cuda_linear_dw_kernel = {.layout = th_layout_plain,
    .prepare = linear_dw_prepare,
    .run = linear_dw_run,
    .release = release};
