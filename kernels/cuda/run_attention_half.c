/* SPDX-License-Identifier: Apache-2.0
 * Owns attention in bf16: cuDNN's graph, or where the library has no engine for a shape or a
 * device, strict fp32's products (run_attention.c) on copies in fp32, in scratch. The copies
 * lose nothing; what comes out is rounded to bf16 as the graph's would be. */
#include "engine.h"
#include "halves.h"
#include "lower.h"
#include "own_ops.h"
#include "params.h"

#include "mem.h"

struct attention {
    const struct th_kernel *way;
    void *state;                 /* its own */
    size_t copy_at[TH_MAX_ARGS]; /* in scratch, of what is bf16; 0: no copy */
};

static const struct th_operand *operand(const struct th_call *call, int argument)
{
    int n_in = th_op_rule(call->op)->n_in;
    return argument < n_in ? &call->in[argument] : &call->out[argument - n_in];
}

static int n_arguments(const struct th_call *call)
{
    return th_op_rule(call->op)->n_in + th_op_rule(call->op)->n_out;
}

/* Copies lie behind the way's own scratch, which is never empty: it has the scores. */
static void place_copies(struct attention *s, struct th_call *call)
{
    for (int i = 0; i < n_arguments(call); i++) {
        if (th_cuda_halves(call->op)[i] != 'h' || !operand(call, i)->present)
            continue;
        s->copy_at[i] = th_align_up(call->scratch_bytes);
        call->scratch_bytes =
            s->copy_at[i] +
            (size_t)th_shape_count(&operand(call, i)->shape) * sizeof(float);
    }
}

static thaw_status prepare_way(struct attention *s, struct th_call *call)
{
    s->way = &th_cuda_graph_kernel;
    thaw_status status = s->way->prepare(call);
    if (status != THAW_E_FAIL)
        return status;
    s->way = call->op == TH_OP_attention ? &th_cuda_attention_kernel
                                         : &th_cuda_attention_dx_kernel;
    TRY(s->way->prepare(call));
    place_copies(s, call);
    return THAW_OK;
}

static thaw_status half_prepare(struct th_call *call)
{
    struct attention *s = th_alloc(1, sizeof *s);
    if (!s)
        return THAW_E_MEMORY;
    thaw_status status = prepare_way(s, call);
    if (status == THAW_OK) {
        s->state = call->state;
        call->state = s;
    } else
        th_free(s);
    return status;
}

static void half_release(struct th_call *call)
{
    struct attention *s = call->state;
    if (!s)
        return;
    call->state = s->state;
    s->way->release(call);
    th_free(s);
}

/* Between an argument and its copy. */
static thaw_status convert(
    const struct th_call *call, int argument, bool narrows, float *copy)
{
    const struct th_operand *o = operand(call, argument);
    int64_t samples = o->shape.dim[0], sample = th_own_sample(o);
    return th_own_launch(call, narrows ? TH_K_pack_bf16 : TH_K_unpack_bf16,
        th_own_samples(samples, sample, 1),
        &(struct th_k_pack){.packed = call->args[argument],
            .w = copy,
            .samples = samples,
            .sample = (uint32_t)sample,
            .inputs = (uint32_t)sample,
            .plane = 1});
}

static thaw_status half_run(const struct th_call *call)
{
    const struct attention *s = call->state;
    struct th_call inner = *call;
    int n_in = th_op_rule(call->op)->n_in, n = n_arguments(call);
    inner.state = s->state;
    for (int i = 0; i < n; i++)
        if (s->copy_at[i])
            inner.args[i] = (char *)call->scratch + s->copy_at[i];
    for (int i = 0; i < n_in; i++)
        if (s->copy_at[i])
            TRY(convert(call, i, false, inner.args[i]));
    TRY(s->way->run(&inner));
    for (int i = n_in; i < n; i++)
        if (s->copy_at[i])
            TRY(convert(call, i, true, inner.args[i]));
    return THAW_OK;
}

const struct th_kernel th_cuda_attention_half_kernel = {.layout = th_cuda_layout,
    .prepare = half_prepare,
    .run = half_run,
    .release = half_release};
