/* SPDX-License-Identifier: Apache-2.0
 * Owns host steps: any op run by its plain C kernel on host copies of its operands, on
 * whatever device the plan is. Downloads the inputs, runs, uploads the outputs and what
 * the op writes. The copies are made when the step is prepared; running allocates nothing.
 * Operands are plain NCHW. */
#include "backend.h"

#include "mem.h"

/* In call->state: the same call in plain C; its args and scratch are host memory, owned. */
static struct th_call *inner_of(const struct th_call *call)
{
    return call->state;
}

static const struct th_operand *operand(const struct th_call *call, int arg)
{
    int n_in = th_op_rule(call->op)->n_in;
    return arg < n_in ? &call->in[arg] : &call->out[arg - n_in];
}

static int n_args(const struct th_call *call)
{
    const struct th_op_rule *rule = th_op_rule(call->op);
    return rule->n_in + rule->n_out;
}

static void hosted_release(struct th_call *call)
{
    struct th_call *inner = inner_of(call);
    const struct th_kernel *kernel = th_backend_ref.kernel(call->op);
    if (!inner)
        return;
    if (kernel->release)
        kernel->release(inner);
    for (int i = 0; i < TH_MAX_ARGS; i++)
        th_free(inner->args[i]);
    th_free(inner->scratch);
    th_free(inner);
    call->state = NULL;
}

static thaw_status prepare_inner(struct th_call *inner)
{
    const struct th_kernel *kernel = th_backend_ref.kernel(inner->op);
    for (int i = 0; i < n_args(inner); i++) {
        const struct th_operand *o = operand(inner, i);
        if (o->present && !(inner->args[i] = th_alloc(th_operand_bytes(o), 1)))
            return THAW_E_MEMORY;
    }
    if (kernel->prepare)
        TRY(kernel->prepare(inner));
    inner->scratch = th_alloc(inner->scratch_bytes, 1);
    return inner->scratch ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status hosted_prepare(struct th_call *call)
{
    struct th_call *inner = th_alloc(1, sizeof *inner);
    if (!inner)
        return THAW_E_MEMORY;
    *inner = *call;
    call->state = inner;
    thaw_status status = prepare_inner(inner);
    if (status != THAW_OK)
        hosted_release(call);
    return status;
}

static thaw_status hosted_run(const struct th_call *call)
{
    const struct th_backend *device = call->device->backend;
    const struct th_op_rule *rule = th_op_rule(call->op);
    struct th_call *inner = inner_of(call);
    inner->stale = call->stale;
    for (int i = 0; i < rule->n_in; i++)
        if (inner->args[i])
            TRY(device->download(call->device, inner->args[i], call->args[i],
                th_operand_bytes(operand(call, i))));
    TRY(th_backend_ref.kernel(call->op)->run(inner));
    for (int i = 0; i < n_args(call); i++)
        if (inner->args[i] && (i >= rule->n_in || rule->writes >> i & 1))
            TRY(device->upload(call->device, call->args[i], inner->args[i],
                th_operand_bytes(operand(call, i))));
    return THAW_OK;
}

const struct th_kernel th_hosted_kernel = {
    .layout = th_layout_plain,
    .prepare = hosted_prepare,
    .run = hosted_run,
    .release = hosted_release,
    .on_host = true,
};
