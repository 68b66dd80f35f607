/* SPDX-License-Identifier: Apache-2.0
 * Owns the preparation of attention: a worker's memory for one head. What is in it is
 * isa/attention.c's; here is an upper bound for every instruction set. */
#include "cpu.h"

static const struct th_operand *qkv_of(const struct th_call *call)
{
    return &call->in[call->op == TH_OP_attention_dx];
}

int64_t th_attention_heads(const struct th_call *call)
{
    return qkv_of(call)->shape.dim[0] * call->attr.attention.heads;
}

/* As many as there are threads, at most one a head. */
int64_t th_attention_workers(const struct th_call *call)
{
    int64_t heads = th_attention_heads(call);
    return heads < call->device->threads ? heads : call->device->threads;
}

/* Floats of a matrix's `rows` in slabs. */
static int64_t slabs(int64_t rows, int64_t columns)
{
    return th_parts(columns, TH_ATTENTION_SLAB_USED) * rows * TH_ATTENTION_SLAB;
}

/* Forward: two copies of a head's [t][e] (k, v), a tile's q and scores; dx: k and v across, k
 * along; a tile's q and dy; panels of a block's; p and ds. */
static thaw_status attention_prepare(struct th_call *call)
{
    const int64_t *d = qkv_of(call)->shape.dim;
    bool dx = call->op == TH_OP_attention_dx;
    int64_t e = d[2] / 3 / call->attr.attention.heads, pad = TH_ATTENTION_PAD;
    int64_t head = (d[1] + pad) * (e + pad), rows = TH_ATTENTION_ROWS;
    int64_t floats = dx ? 3 * head + 2 * rows * (e + pad) : 2 * head;
    floats += (dx ? 2 : 1) * (slabs(pad, e) + slabs(dx ? rows + pad : pad, d[1]));
    floats = th_parts(floats, 1024) * 1024 + 16; /* workers in other sets of a cache */
    call->scratch_bytes = sizeof(float) * (size_t)(floats * th_attention_workers(call));
    return THAW_OK;
}

const struct th_kernel th_cpu_attention = {
    .layout = th_layout_plain, .prepare = attention_prepare, .run = th_cpu_run_own};
const struct th_kernel th_cpu_attention_dx = {
    .layout = th_layout_plain, .prepare = attention_prepare, .run = th_cpu_run_own};
