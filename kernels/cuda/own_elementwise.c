/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of copy.cu. */
#include "own_ops.h"

static thaw_status shortcut(
    const struct th_call *call, enum th_cuda_kernel kernel, const void *x, void *y)
{
    const int64_t *from = call->in[0].shape.dim, *to = call->out[0].shape.dim;
    int64_t sample = th_own_sample(&call->out[0]);
    return th_own_launch(call, kernel, th_own_samples(to[0], sample, 1),
        &(struct th_k_shortcut_a){.x = x,
            .y = y,
            .samples = to[0],
            .sample = (uint32_t)sample,
            .w = (uint32_t)to[3],
            .channels = (uint32_t)to[1],
            .x_sample = (uint32_t)th_own_sample(&call->in[0]),
            .x_w = (uint32_t)from[3],
            .x_channels = (uint32_t)from[1],
            .stride = (uint32_t)call->attr.shortcut.stride,
            .front = (uint32_t)call->attr.shortcut.front});
}

static thaw_status shortcut_a(const struct th_call *call)
{
    const struct th_args_shortcut_a *a = (const void *)call->args;
    return shortcut(call, TH_K_shortcut_a_f32, a->x, a->y);
}

static thaw_status shortcut_a_dx(const struct th_call *call)
{
    const struct th_args_shortcut_a_dx *a = (const void *)call->args;
    return shortcut(call, TH_K_shortcut_a_dx_f32, a->dy, a->dx);
}

static bool is_plain(const struct th_operand *o)
{
    return o->block == 1 || o->shape.rank != 4;
}

static bool is_nhwc(const struct th_operand *o)
{
    return o->shape.rank == 4 && o->block == o->shape.dim[1];
}

/* fp32 to bf16 or back: as it lies, or between the plain order and channels innermost. */
static bool converts(const struct th_operand *x, const struct th_operand *y)
{
    const struct th_operand *single = x->dtype == TH_F32 ? x : y;
    const struct th_operand *half = single == x ? y : x;
    bool types = single->dtype == TH_F32 && half->dtype == TH_BF16;
    bool as_is = single->block == half->block || single->shape.rank != 4;
    return types && (as_is || (is_plain(single) && is_nhwc(half)));
}

static thaw_status reorder_prepare(struct th_call *call)
{
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    bool alike = x->dtype == y->dtype && th_dtype_is_real(x->dtype);
    if (!alike && !converts(x, y))
        return th_fail(THAW_E_USAGE,
            "reorder: no kernel on this device from %s in blocks of %d to %s in blocks "
            "of %d",
            th_dtype_name(x->dtype), x->block, th_dtype_name(y->dtype), y->block);
    return th_own_fits(call);
}

static thaw_status convert(const struct th_call *call)
{
    const struct th_args_reorder *a = (const void *)call->args;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    bool narrows = y->dtype == TH_BF16,
         moves = x->shape.rank == 4 && x->block != y->block;
    const int64_t *d = x->shape.dim, sample = th_own_sample(x);
    uint32_t plane = moves ? (uint32_t)(d[2] * d[3]) : 1;
    return th_own_launch(call, narrows ? TH_K_pack_bf16 : TH_K_unpack_bf16,
        th_own_samples(d[0], sample, 1),
        &(struct th_k_pack){.packed = narrows ? a->y : a->x,
            .w = narrows ? a->x : a->y,
            .samples = d[0],
            .sample = (uint32_t)sample,
            .inputs = (uint32_t)sample / plane,
            .plane = plane});
}

static thaw_status reorder(const struct th_call *call)
{
    const struct th_args_reorder *a = (const void *)call->args;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = x->shape.dim, sample = th_own_sample(x);
    if (x->dtype != y->dtype)
        return convert(call);
    return th_own_launch(call, TH_K_reorder_f32, th_own_samples(d[0], sample, 1),
        &(struct th_k_reorder){a->x, a->y, d[0], (uint32_t)sample,
            (uint32_t)(d[2] * d[3]), (uint32_t)x->block, (uint32_t)y->block});
}

static thaw_status concat(const struct th_call *call)
{
    const struct th_args_concat *t = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0];
    int64_t p = call->in[0].shape.dim[1], q = call->in[1].shape.dim[1];
    return th_own_launch(call, TH_K_concat_f32, th_own_samples(rows, p + q, 1),
        &(struct th_k_concat){t->a, t->b, t->y, rows, (uint32_t)p, (uint32_t)q});
}

/* Where one part is not wanted, the other says what its width is. */
static thaw_status concat_dx(const struct th_call *call)
{
    const struct th_args_concat_dx *t = (const void *)call->args;
    int64_t rows = call->in[0].shape.dim[0], width = call->in[0].shape.dim[1];
    int64_t q = t->db_ ? call->out[1].shape.dim[1] : width - call->out[0].shape.dim[1];
    return th_own_launch(call, TH_K_concat_dx_f32, th_own_samples(rows, width, 1),
        &(struct th_k_concat_dx){
            t->dy, t->da_, t->db_, rows, (uint32_t)(width - q), (uint32_t)q});
}

const struct th_own th_own_shortcut_a = {.prepare = th_own_fits, .run = shortcut_a};
const struct th_own th_own_shortcut_a_dx = {
    .prepare = th_own_fits, .run = shortcut_a_dx};
const struct th_own th_own_reorder = {.prepare = reorder_prepare, .run = reorder};
const struct th_own th_own_concat = {.prepare = th_own_fits, .run = concat};
const struct th_own th_own_concat_dx = {.prepare = th_own_fits, .run = concat_dx};
