/* SPDX-License-Identifier: Apache-2.0
 * Owns shortcut_a and its gradient for any channel block: both are copies of a few
 * channels at a time, chosen by position, with zeros where nothing is chosen.
 *
 * Channel c of the smaller side is channel front + c of the larger, so a block of the
 * side that is written takes its lanes from at most two neighbouring blocks of the
 * other: lanes [0,cut) from the first and [cut,b) from the second. */
#include "cpu.h"

#include <string.h>

/* Where the lanes of a written block come from. */
struct lanes {
    const float *low, *high; /* planes of the two blocks; NULL: zeros */
    int cut, b;              /* b: lanes in a block */
};

/* The plane of block `block` of image n; NULL outside of the tensor. */
static const float *plane(
    const struct th_operand *o, const float *p, int64_t n, int64_t block)
{
    const int64_t *d = o->shape.dim;
    int64_t blocks = d[1] / o->block, size = d[2] * d[3] * o->block;
    return block < 0 || block >= blocks ? NULL : p + (n * blocks + block) * size;
}

/* Written lanes are channels from `channel` of the other side on; it may be negative. */
static struct lanes lanes_from(
    const struct th_operand *o, const float *p, int64_t n, int64_t channel)
{
    int b = o->block;
    int64_t below = channel < 0 ? -((-channel + b - 1) / b) : channel / b;
    return (struct lanes){.low = plane(o, p, n, below),
        .high = plane(o, p, n, below + 1),
        .cut = (int)((below + 1) * b - channel),
        .b = b};
}

static void copy_lanes(float *to, const struct lanes *l, int64_t at)
{
    size_t first = sizeof *to * (size_t)l->cut, rest = sizeof *to * (size_t)l->b;
    int offset = l->b - l->cut;
    if (l->low)
        memcpy(to, l->low + at + offset, first);
    else
        memset(to, 0, first);
    if (l->high)
        memcpy(to + l->cut, l->high + at, rest - first);
    else
        memset(to + l->cut, 0, rest - first);
}

static void shortcut_part(const struct th_call *call, int64_t part)
{
    const struct th_args_shortcut_a *a = (const void *)call->args;
    const struct th_attr_shortcut *t = &call->attr.shortcut;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *d = y->shape.dim;
    int b = y->block;
    int64_t blocks = d[1] / b, n = part / blocks, block = part % blocks;
    struct lanes l = lanes_from(x, a->x, n, block * b - t->front);
    float *to = (float *)a->y + part * d[2] * d[3] * b;
    for (int64_t p = 0; p < d[2]; p++)
        for (int64_t q = 0; q < d[3]; q++, to += b)
            copy_lanes(to, &l, (p * t->stride * x->shape.dim[3] + q * t->stride) * b);
}

static void shortcut_dx_part(const struct th_call *call, int64_t part)
{
    const struct th_args_shortcut_a_dx *a = (const void *)call->args;
    const struct th_attr_shortcut *t = &call->attr.shortcut;
    const struct th_operand *dy = &call->in[0], *dx = &call->out[0];
    const int64_t *d = dx->shape.dim, *e = dy->shape.dim;
    int b = dx->block;
    int64_t blocks = d[1] / b, n = part / blocks, block = part % blocks;
    struct lanes l = lanes_from(dy, a->dy, n, block * b + t->front);
    float *to = (float *)a->dx + part * d[2] * d[3] * b;
    memset(to, 0, sizeof *to * (size_t)(d[2] * d[3] * b));
    for (int64_t p = 0; p < e[2]; p++)
        for (int64_t q = 0; q < e[3]; q++)
            copy_lanes(to + (p * t->stride * d[3] + q * t->stride) * b, &l,
                (p * e[3] + q) * b);
}

/* Parts: the planes of what is written. */
static int64_t planes(const struct th_operand *o)
{
    return o->shape.dim[0] * o->shape.dim[1] / o->block;
}

static thaw_status shortcut_run(const struct th_call *call)
{
    th_parallel(call, planes(&call->out[0]), shortcut_part);
    return THAW_OK;
}

static thaw_status shortcut_dx_run(const struct th_call *call)
{
    th_parallel(call, planes(&call->out[0]), shortcut_dx_part);
    return THAW_OK;
}

const struct th_kernel th_cpu_shortcut_a = {.run = shortcut_run};
const struct th_kernel th_cpu_shortcut_a_dx = {.run = shortcut_dx_run};
