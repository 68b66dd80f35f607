/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of act.cu. */
#include "own_ops.h"

static int64_t count_of(const struct th_call *call)
{
    return th_shape_count(&call->in[0].shape);
}

static thaw_status relu(const struct th_call *call)
{
    const struct th_args_relu *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_relu_f32, th_own_values(count, 4),
        &(struct th_k_relu){a->x, a->y, a->mask_, count});
}

static thaw_status relu_dx(const struct th_call *call)
{
    const struct th_args_relu_dx *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_relu_dx_f32, th_own_values(count, 4),
        &(struct th_k_relu_dx){a->dy, a->add_, a->dx, a->mask, count});
}

static thaw_status gelu(const struct th_call *call)
{
    const struct th_args_gelu *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_gelu_f32, th_own_values(count, 4),
        &(struct th_k_gelu){a->x, a->y, count, (int32_t)call->attr.act.kind});
}

static thaw_status gelu_dx(const struct th_call *call)
{
    const struct th_args_gelu_dx *a = (const void *)call->args;
    int64_t count = count_of(call);
    return th_own_launch(call, TH_K_gelu_dx_f32, th_own_values(count, 4),
        &(struct th_k_gelu_dx){
            a->dy, a->x, a->dx, count, (int32_t)call->attr.act.kind});
}

static thaw_status drop(const struct th_call *call, enum th_cuda_kernel kernel,
    const void *x, const void *keys, void *y)
{
    const struct th_operand *o = &call->in[0];
    const struct th_attr_dropout *t = &call->attr.dropout;
    uint32_t sample = (uint32_t)th_own_sample(o);
    uint32_t channels = o->shape.rank == 4 ? (uint32_t)o->shape.dim[1] : sample;
    int64_t n = o->shape.dim[0];
    return th_own_launch(call, kernel, th_own_samples(n, sample, 4),
        &(struct th_k_dropout){x, y, keys, t->layer, n, sample, channels,
            sample / channels, t->p, (float)(1 / (1 - (double)t->p))});
}

static thaw_status dropout(const struct th_call *call)
{
    const struct th_args_dropout *a = (const void *)call->args;
    return drop(call, TH_K_dropout_f32, a->x, a->keys, a->y);
}

static thaw_status drop_path(const struct th_call *call)
{
    const struct th_args_drop_path *a = (const void *)call->args;
    return drop(call, TH_K_drop_path_f32, a->x, a->keys, a->y);
}

const struct th_own th_own_relu = {.run = relu};
const struct th_own th_own_relu_dx = {.run = relu_dx};
const struct th_own th_own_gelu = {.run = gelu};
const struct th_own th_own_gelu_dx = {.run = gelu_dx};
/* The gradients are the same maps: their arguments lie alike. */
const struct th_own th_own_dropout = {.prepare = th_own_fits, .run = dropout};
const struct th_own th_own_dropout_dx = {.prepare = th_own_fits, .run = dropout};
const struct th_own th_own_drop_path = {.prepare = th_own_fits, .run = drop_path};
const struct th_own th_own_drop_path_dx = {.prepare = th_own_fits, .run = drop_path};
