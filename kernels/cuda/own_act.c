/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of act.cu. */
#include "own_ops.h"
#include "params.h"

static thaw_status relu(const struct th_call *call)
{
    const struct th_args_relu *a = (const void *)call->args;
    int64_t count = th_shape_count(&call->in[0].shape);
    return th_own_launch(call, TH_K_relu_f32, th_own_values(count, 4),
        &(struct th_k_relu){a->x, a->y, a->mask_, count});
}

static thaw_status relu_dx(const struct th_call *call)
{
    const struct th_args_relu_dx *a = (const void *)call->args;
    int64_t count = th_shape_count(&call->in[0].shape);
    return th_own_launch(call, TH_K_relu_dx_f32, th_own_values(count, 4),
        &(struct th_k_relu_dx){a->dy, a->mask, a->add_, a->dx, count});
}

const struct th_own th_own_relu = {.run = relu};
const struct th_own th_own_relu_dx = {.run = relu_dx};
