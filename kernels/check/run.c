/* SPDX-License-Identifier: Apache-2.0
 * Owns running one node on a device, between red zones.
 *
 * All arguments lie in one slab, each behind ZONE bytes of a pattern; outputs start as
 * that pattern too. Afterwards only outputs, written inputs and scratch may differ. */
#include "tape.h"

#include "mem.h"

#include <stdio.h>
#include <string.h>

enum { ZONE = 128, PATTERN = 0xA5 };

/* A node being run. */
struct run {
    const struct tape *tape;
    const struct node *node;
    struct th_device *ref, *device;
    struct th_call call;
    const struct th_kernel *kernel;
    int n_args;
    size_t offset[TH_MAX_ARGS], scratch, bytes; /* in the slab */
    char *slab;                                 /* device memory */
    char *before, *after;                       /* the slab on the host */
};

static int value_of(const struct node *n, int i)
{
    int n_in = th_op_rule(n->op)->n_in;
    return i < n_in ? n->in[i] : n->out[i - n_in];
}

const struct th_operand *th_tape_operand(
    const struct tape *t, const struct node *n, int i)
{
    int value = value_of(n, i);
    return value >= 0 ? &t->value[value] : NULL;
}

bool th_tape_writes(const struct node *n, int i)
{
    const struct th_op_rule *rule = th_op_rule(n->op);
    return i >= rule->n_in || (rule->writes >> i & 1);
}

/* Argument i in the layout it has in this call. */
static struct th_operand *laid_out(struct run *r, int i)
{
    int n_in = th_op_rule(r->node->op)->n_in;
    return i < n_in ? &r->call.in[i] : &r->call.out[i - n_in];
}

/* The argument as the tape has it: row-major, whatever it is on the device. */
static struct th_operand plain_of(const struct run *r, int i)
{
    struct th_operand o = *th_tape_operand(r->tape, r->node, i);
    o.block = 1;
    return o;
}

/* Copy between two layouts of the same values; by the plain C engine, tested apart. */
static thaw_status convert(struct th_device *ref, const struct th_operand *from,
    const struct th_operand *to, const void *src, void *dst)
{
    struct th_call call = {.op = TH_OP_reorder, .device = ref};
    call.in[0] = *from;
    call.out[0] = *to;
    call.args[0] = (void *)(uintptr_t)src;
    call.args[1] = dst;
    return ref->backend->kernel(TH_OP_reorder)->run(&call);
}

static void choose_layout(struct run *r, struct layout layout)
{
    for (int i = 0; i < r->n_args; i++) {
        const struct th_operand *o = th_tape_operand(r->tape, r->node, i);
        if (o == NULL)
            continue;
        bool input = i < th_op_rule(r->node->op)->n_in;
        bool blocked = o->shape.rank == 4 && o->shape.dim[1] % layout.block == 0 &&
                       !r->tape->weight[value_of(r->node, i)] &&
                       (input || layout.force);
        *laid_out(r, i) = *o;
        laid_out(r, i)->block = blocked ? layout.block : 1;
    }
    if (r->node->op == TH_OP_reorder)
        r->call.out[0].block = r->call.in[0].block > 1               ? 1
                               : r->call.in[0].shape.dim[1] % 8 == 0 ? 8
                                                                     : 1;
    if (!layout.force)
        th_layout(r->kernel, &r->call.attr, r->call.in, r->call.out, r->device->block);
    th_types(r->device, r->node->op, r->call.in, r->call.out);
}

/* Places in the slab, and its first contents. */
static thaw_status fill_slab(struct run *r)
{
    r->bytes = ZONE;
    for (int i = 0; i < r->n_args; i++)
        if (value_of(r->node, i) >= 0) {
            r->offset[i] = r->bytes;
            r->bytes += th_align_up(th_operand_bytes(laid_out(r, i))) + ZONE;
        }
    r->scratch = r->bytes;
    r->bytes += th_align_up(r->call.scratch_bytes) + ZONE;
    r->before = th_alloc(r->bytes, 1);
    r->after = th_alloc(r->bytes, 1);
    if (!r->before || !r->after)
        return THAW_E_MEMORY;
    memset(r->before, PATTERN, r->bytes);
    for (int i = 0; i < th_op_rule(r->node->op)->n_in; i++) {
        if (r->node->in[i] < 0)
            continue;
        const struct th_operand plain = plain_of(r, i);
        TRY(convert(r->ref, &plain, laid_out(r, i), r->tape->data[r->node->in[i]],
            r->before + r->offset[i]));
    }
    const struct th_backend *backend = r->device->backend;
    r->slab = backend->alloc(r->device, r->bytes);
    if (r->slab && r->call.kept_bytes)
        r->call.kept = backend->alloc(r->device, r->call.kept_bytes);
    bool all = r->slab && (r->call.kept || !r->call.kept_bytes);
    return all ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status upload_and_run(struct run *r, bool stale)
{
    const struct th_backend *backend = r->device->backend;
    TRY(backend->upload(r->device, r->slab, r->before, r->bytes));
    for (int i = 0; i < r->n_args; i++)
        r->call.args[i] = value_of(r->node, i) >= 0 ? r->slab + r->offset[i] : NULL;
    r->call.scratch = r->slab + r->scratch;
    r->call.stale = stale;
    TRY(r->kernel->run(&r->call));
    if (r->kernel->verify != NULL)
        TRY(r->kernel->verify(&r->call));
    return backend->download(r->device, r->after, r->slab, r->bytes);
}

static thaw_status bad(const struct run *r, const char *what, int argument)
{
    char number[16] = "";
    if (argument >= 0)
        snprintf(number, sizeof number, " %d", argument);
    return th_fail(THAW_E_FAIL, "%s %s%s", th_op_rule(r->node->op)->name, what, number);
}

/* Nothing but what the node may write has changed. */
static thaw_status check_slab(struct run *r)
{
    size_t at = 0;
    for (int i = 0; i < r->n_args; i++) {
        if (value_of(r->node, i) < 0 || !th_tape_writes(r->node, i))
            continue;
        if (memcmp(r->before + at, r->after + at, r->offset[i] - at) != 0)
            return bad(r, "wrote before argument", i);
        at = r->offset[i] + th_operand_bytes(laid_out(r, i));
    }
    size_t end = r->scratch + r->call.scratch_bytes;
    if (memcmp(r->before + at, r->after + at, r->scratch - at) != 0 ||
        memcmp(r->before + end, r->after + end, r->bytes - end) != 0)
        return bad(r, "wrote behind its outputs or scratch", -1);
    return THAW_OK;
}

/* The arguments, row-major. Bits behind the last value are cleared. */
static thaw_status take_result(struct run *r, struct result *result)
{
    for (int i = 0; i < r->n_args; i++) {
        if (value_of(r->node, i) < 0)
            continue;
        const struct th_operand plain = plain_of(r, i);
        result->arg[i] = th_alloc(th_operand_bytes(&plain), 1);
        if (!result->arg[i])
            return THAW_E_MEMORY;
        TRY(convert(
            r->ref, laid_out(r, i), &plain, r->after + r->offset[i], result->arg[i]));
    }
    return THAW_OK;
}

/* Running again on the same inputs, with nothing stale, gives the same bits. */
static thaw_status check_again(struct run *r, const struct result *first)
{
    struct result second = {0};
    thaw_status status = upload_and_run(r, false);
    if (status == THAW_OK)
        status = take_result(r, &second);
    for (int i = 0; i < r->n_args && status == THAW_OK; i++)
        if (first->arg[i] &&
            memcmp(first->arg[i], second.arg[i],
                th_operand_bytes(th_tape_operand(r->tape, r->node, i))) != 0)
            status = bad(r, "gave other bits when run again", -1);
    th_tape_forget(&second);
    return status;
}

static thaw_status prepare(struct run *r, struct layout layout)
{
    struct th_conv_choice choice;
    if (!r->kernel->prepare)
        return THAW_OK;
    if (layout.choose) {
        choice = th_conv_choice_of(&r->call);
        choice.algorithm = layout.algorithm;
        r->device->choices = &choice;
        r->device->n_choices = 1;
    }
    thaw_status status = r->kernel->prepare(&r->call);
    r->device->n_choices = 0;
    return status;
}

static thaw_status run_prepared(struct run *r, struct result *result)
{
    TRY(fill_slab(r));
    TRY(upload_and_run(r, true));
    TRY(check_slab(r));
    TRY(take_result(r, result));
    return check_again(r, result);
}

static void release_run(struct run *r)
{
    const struct th_backend *backend = r->device->backend;
    if (r->kernel->release)
        r->kernel->release(&r->call);
    if (r->slab)
        backend->free(r->device, r->slab, r->bytes);
    if (r->call.kept)
        backend->free(r->device, r->call.kept, r->call.kept_bytes);
    th_free(r->before);
    th_free(r->after);
}

static struct run run_of(
    const struct tape *t, const struct node *node, struct th_device *device)
{
    const struct th_op_rule *rule = th_op_rule(node->op);
    return (struct run){.tape = t,
        .node = node,
        .device = device,
        .call = {.op = node->op, .attr = node->attr, .device = device},
        .kernel = device->backend->kernel(node->op),
        .n_args = rule->n_in + rule->n_out};
}

thaw_status th_tape_run_node(const struct tape *t, const struct node *node,
    struct th_device *ref, struct th_device *device, struct layout layout,
    struct result *result)
{
    struct run r = run_of(t, node, device);
    r.ref = ref;
    *result = (struct result){0};
    if (!r.kernel)
        return th_fail(THAW_E_FAIL, "%s has no kernel for %s", device->backend->name,
            th_op_rule(node->op)->name);
    choose_layout(&r, layout);
    TRY(prepare(&r, layout));
    thaw_status status = run_prepared(&r, result);
    release_run(&r);
    if (status != THAW_OK)
        th_tape_forget(result);
    return status;
}

bool th_tape_blocks(
    const struct tape *t, const struct node *node, struct th_device *device, int block)
{
    struct run plain = run_of(t, node, device), other = plain;
    if (!plain.kernel)
        return false;
    choose_layout(&plain, (struct layout){.block = 1});
    choose_layout(&other, (struct layout){.block = block});
    for (int i = 0; i < plain.n_args; i++)
        if (laid_out(&plain, i)->block != laid_out(&other, i)->block)
            return true;
    return false;
}

void th_tape_round(struct tape *t, const struct node *node, struct th_device *device)
{
    struct run r = run_of(t, node, device);
    choose_layout(&r, (struct layout){.block = 1});
    for (int i = 0; i < th_op_rule(node->op)->n_in; i++) {
        float *x = node->in[i] >= 0 ? t->data[node->in[i]] : NULL;
        if (!x || laid_out(&r, i)->dtype != TH_BF16)
            continue;
        int64_t count = th_shape_count(&t->value[node->in[i]].shape);
        for (int64_t k = 0; k < count; k++)
            x[k] = th_bf16_value(th_bf16_of(x[k]));
    }
}

void th_tape_forget(struct result *r)
{
    for (int i = 0; i < TH_MAX_ARGS; i++)
        th_free(r->arg[i]);
    *r = (struct result){0};
}

thaw_status th_tape_run(struct tape *t, struct th_device *ref, int begin, int end)
{
    for (int k = begin; k < end; k++) {
        const struct node *n = &t->node[k];
        int n_in = th_op_rule(n->op)->n_in;
        struct result r;
        TRY(th_tape_run_node(t, n, ref, ref, (struct layout){.block = 1}, &r));
        for (int i = 0; i < th_op_rule(n->op)->n_out; i++)
            if (n->out[i] >= 0) {
                th_free(t->data[n->out[i]]);
                t->data[n->out[i]] = r.arg[n_in + i];
                r.arg[n_in + i] = NULL;
            }
        th_tape_forget(&r);
    }
    return THAW_OK;
}
