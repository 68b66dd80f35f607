/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of pyramid.cu. */
#include "own_ops.h"

/* Between two maps; products of places in them have 32 bits. */
static thaw_status upsample_prepare(struct th_call *call)
{
    const struct th_operand *fine =
        call->op == TH_OP_upsample ? &call->out[0] : &call->in[0];
    const int64_t *d = fine->shape.dim;
    if (d[2] > UINT16_MAX || d[3] > UINT16_MAX)
        return th_fail(THAW_E_USAGE,
            "%s: a map of %lld x %lld is more than its kernel counts: use smaller "
            "images, or --device cpu",
            th_op_rule(call->op)->name, (long long)d[2], (long long)d[3]);
    return th_own_fits(call);
}

static struct th_k_upsample extents(
    const struct th_operand *coarse, const struct th_operand *fine)
{
    const int64_t *x = coarse->shape.dim, *y = fine->shape.dim;
    return (struct th_k_upsample){.samples = x[0],
        .x_h = (uint32_t)x[2],
        .x_w = (uint32_t)x[3],
        .h = (uint32_t)y[2],
        .w = (uint32_t)y[3],
        .channels = (uint32_t)x[1]};
}

static thaw_status upsample(const struct th_call *call)
{
    const struct th_args_upsample *a = (const void *)call->args;
    struct th_k_upsample p = extents(&call->in[0], &call->out[0]);
    p.x = a->x;
    p.add_ = a->add_;
    p.y = a->y;
    return th_own_launch(call, TH_K_upsample_f32,
        th_own_samples(p.samples, th_own_sample(&call->out[0]), 4), &p);
}

static thaw_status upsample_dx(const struct th_call *call)
{
    const struct th_args_upsample_dx *a = (const void *)call->args;
    struct th_k_upsample p = extents(&call->out[0], &call->in[0]);
    p.x = a->dy;
    p.y = a->dx;
    return th_own_launch(call, TH_K_upsample_dx_f32,
        th_own_samples(p.samples, th_own_sample(&call->out[0]), 4), &p);
}

/* As many values in a step as go into all of them, at most a vector of bf16. */
static thaw_status move(
    const struct th_call *call, struct th_k_map_rows p, int64_t samples)
{
    uint32_t all = p.x_sample | p.x_first | p.y_sample | p.y_first | p.count;
    p.samples = samples;
    for (p.step = 8; all % p.step != 0;)
        p.step /= 2;
    return th_own_launch(
        call, TH_K_map_rows_f32, th_own_samples(samples, p.count, 4), &p);
}

static thaw_status map_rows(const struct th_call *call)
{
    const struct th_args_map_rows *a = (const void *)call->args;
    struct th_k_map_rows p = {
        .y = a->y, .y_sample = (uint32_t)th_own_sample(&call->out[0])};
    for (int i = 0; i < TH_MAX_IN; i++) {
        if (!call->args[i])
            continue;
        p.x = call->args[i];
        p.x_sample = p.count = (uint32_t)th_own_sample(&call->in[i]);
        TRY(move(call, p, call->in[i].shape.dim[0]));
        p.y_first += p.count;
    }
    return THAW_OK;
}

static thaw_status map_rows_dx(const struct th_call *call)
{
    const struct th_args_map_rows_dx *a = (const void *)call->args;
    const struct th_attr_rows *r = &call->attr.rows;
    uint32_t count = (uint32_t)th_own_sample(&call->out[0]);
    return move(call,
        (struct th_k_map_rows){.x = a->dy,
            .y = a->dx,
            .x_sample = (uint32_t)th_own_sample(&call->in[0]),
            .x_first = (uint32_t)(r->first * r->width),
            .y_sample = count,
            .count = count},
        call->out[0].shape.dim[0]);
}

static struct th_k_rows_map rows_of(
    const struct th_call *call, const struct th_operand *rows)
{
    const struct th_attr_rows *r = &call->attr.rows;
    const int64_t *d = rows->shape.dim;
    return (struct th_k_rows_map){.samples = d[0],
        .rows = (uint32_t)d[1],
        .first = (uint32_t)(d[1] - (int64_t)r->grid[0] * r->grid[1]),
        .grid_w = (uint32_t)r->grid[1],
        .factor = (uint32_t)r->factor,
        .channels = (uint32_t)(d[2] / ((int64_t)r->factor * r->factor))};
}

static thaw_status rows_map(const struct th_call *call)
{
    const struct th_args_rows_map *a = (const void *)call->args;
    struct th_k_rows_map p = rows_of(call, &call->in[0]);
    p.x = a->x;
    p.y = a->y;
    p.b_ = a->b_;
    return th_own_launch(call, TH_K_rows_map_f32,
        th_own_samples(p.samples, th_own_sample(&call->out[0]), 4), &p);
}

static thaw_status rows_map_dx(const struct th_call *call)
{
    const struct th_args_rows_map_dx *a = (const void *)call->args;
    struct th_k_rows_map p = rows_of(call, &call->out[0]);
    p.x = a->dy;
    p.y = a->dx;
    return th_own_launch(call, TH_K_rows_map_dx_f32,
        th_own_samples(p.samples, th_own_sample(&call->out[0]), 4), &p);
}

const struct th_own th_own_upsample = {.prepare = upsample_prepare, .run = upsample};
const struct th_own th_own_upsample_dx = {
    .prepare = upsample_prepare, .run = upsample_dx};
const struct th_own th_own_map_rows = {.prepare = th_own_fits, .run = map_rows};
const struct th_own th_own_map_rows_dx = {.prepare = th_own_fits, .run = map_rows_dx};
const struct th_own th_own_rows_map = {.prepare = th_own_fits, .run = rows_map};
const struct th_own th_own_rows_map_dx = {.prepare = th_own_fits, .run = rows_map_dx};
