/* SPDX-License-Identifier: Apache-2.0
 * Owns running one node on a device, between red zones.
 *
 * All arguments lie in one slab, each behind ZONE bytes of a pattern; outputs start as
 * that pattern too. Afterwards only outputs, written inputs and scratch may differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem.h"
#include "ops.h"

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

const struct th_operand *node_operand(const struct tape *t, const struct node *n, int i)
{
    int value = value_of(n, i);
    return value >= 0 ? &t->value[value] : NULL;
}

bool node_writes(const struct node *n, int i)
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

/* Copy between two blocks of the same values; by the plain C engine, tested apart. */
static void convert(struct th_device *ref, const struct th_operand *o, int from, int to,
    const void *src, void *dst)
{
    struct th_call call = {.op = TH_OP_reorder, .device = ref};
    call.in[0] = call.out[0] = *o;
    call.in[0].block = from;
    call.out[0].block = to;
    call.args[0] = (void *)(uintptr_t)src;
    call.args[1] = dst;
    ok(ref->backend->kernel(TH_OP_reorder)->run(&call), "reorder");
}

static void choose_layout(struct run *r, struct layout layout)
{
    for (int i = 0; i < r->n_args; i++) {
        const struct th_operand *o = node_operand(r->tape, r->node, i);
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
}

/* Places in the slab, and its first contents. */
static void fill_slab(struct run *r)
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
    assert_non_null(r->before);
    assert_non_null(r->after);
    memset(r->before, PATTERN, r->bytes);
    for (int i = 0; i < th_op_rule(r->node->op)->n_in; i++) {
        const struct th_operand *o = laid_out(r, i);
        if (r->node->in[i] >= 0)
            convert(r->ref, o, 1, o->block, r->tape->data[r->node->in[i]],
                r->before + r->offset[i]);
    }
    r->slab = r->device->backend->alloc(r->device, r->bytes);
    if (r->slab == NULL)
        fail_msg("%s: %s", r->tape->name, thaw_error());
    if (r->call.kept_bytes)
        r->call.kept = r->device->backend->alloc(r->device, r->call.kept_bytes);
}

static void upload_and_run(struct run *r, bool stale)
{
    const struct th_backend *backend = r->device->backend;
    ok(backend->upload(r->device, r->slab, r->before, r->bytes), r->tape->name);
    for (int i = 0; i < r->n_args; i++)
        r->call.args[i] = value_of(r->node, i) >= 0 ? r->slab + r->offset[i] : NULL;
    r->call.scratch = r->slab + r->scratch;
    r->call.stale = stale;
    ok(r->kernel->run(&r->call), r->tape->name);
    if (r->kernel->verify != NULL)
        ok(r->kernel->verify(&r->call), r->tape->name);
    ok(backend->download(r->device, r->after, r->slab, r->bytes), r->tape->name);
}

/* Nothing but what the node may write has changed. */
static void check_slab(struct run *r)
{
    size_t at = 0;
    for (int i = 0; i < r->n_args; i++) {
        if (value_of(r->node, i) < 0 || !node_writes(r->node, i))
            continue;
        if (memcmp(r->before + at, r->after + at, r->offset[i] - at) != 0)
            fail_msg("%s: %s wrote before argument %d", r->tape->name,
                th_op_rule(r->node->op)->name, i);
        at = r->offset[i] + th_operand_bytes(laid_out(r, i));
    }
    size_t end = r->scratch + r->call.scratch_bytes;
    if (memcmp(r->before + at, r->after + at, r->scratch - at) != 0 ||
        memcmp(r->before + end, r->after + end, r->bytes - end) != 0)
        fail_msg("%s: %s wrote behind its outputs or scratch", r->tape->name,
            th_op_rule(r->node->op)->name);
}

/* The arguments, row-major. Bits behind the last value are cleared. */
static void take_result(struct run *r, struct result *result)
{
    for (int i = 0; i < r->n_args; i++) {
        if (value_of(r->node, i) < 0)
            continue;
        const struct th_operand *o = laid_out(r, i);
        result->arg[i] = th_alloc(th_operand_bytes(o), 1);
        assert_non_null(result->arg[i]);
        convert(r->ref, o, o->block, 1, r->after + r->offset[i], result->arg[i]);
    }
}

/* Running again on the same inputs, with nothing stale, gives the same bits. */
static void check_again(struct run *r)
{
    struct result first = {0}, second = {0};
    take_result(r, &first);
    upload_and_run(r, false);
    take_result(r, &second);
    for (int i = 0; i < r->n_args; i++)
        if (first.arg[i] != NULL &&
            memcmp(first.arg[i], second.arg[i], th_operand_bytes(laid_out(r, i))) != 0)
            fail_msg("%s: %s gave other bits when run again", r->tape->name,
                th_op_rule(r->node->op)->name);
    result_release(&first);
    result_release(&second);
}

void node_run(const struct tape *t, const struct node *node, struct th_device *ref,
    struct th_device *device, struct layout layout, struct result *result)
{
    const struct th_op_rule *rule = th_op_rule(node->op);
    struct run r = {.tape = t,
        .node = node,
        .ref = ref,
        .device = device,
        .call = {.op = node->op, .attr = node->attr, .device = device},
        .kernel = device->backend->kernel(node->op),
        .n_args = rule->n_in + rule->n_out};
    if (r.kernel == NULL)
        fail_msg("%s: %s has no kernel %s", t->name, device->backend->name, rule->name);
    choose_layout(&r, layout);
    struct th_conv_choice choice;
    if (layout.choose) {
        choice = th_conv_choice_of(&r.call);
        choice.algorithm = layout.algorithm;
        device->choices = &choice;
        device->n_choices = 1;
    }
    if (r.kernel->prepare != NULL)
        ok(r.kernel->prepare(&r.call), t->name);
    device->n_choices = 0;
    fill_slab(&r);
    upload_and_run(&r, true);
    check_slab(&r);
    check_again(&r);
    *result = (struct result){0};
    take_result(&r, result);
    if (r.kernel->release != NULL)
        r.kernel->release(&r.call);
    device->backend->free(device, r.slab, r.bytes);
    if (r.call.kept)
        device->backend->free(device, r.call.kept, r.call.kept_bytes);
    th_free(r.before);
    th_free(r.after);
}

void result_release(struct result *r)
{
    for (int i = 0; i < TH_MAX_ARGS; i++)
        th_free(r->arg[i]);
}

void tape_run(struct tape *t, struct th_device *ref, int begin, int end)
{
    for (int k = begin; k < end; k++) {
        const struct node *n = &t->node[k];
        int n_in = th_op_rule(n->op)->n_in;
        struct result r;
        node_run(t, n, ref, ref, (struct layout){.block = 1}, &r);
        for (int i = 0; i < th_op_rule(n->op)->n_out; i++)
            if (n->out[i] >= 0) {
                th_free(t->data[n->out[i]]);
                t->data[n->out[i]] = r.arg[n_in + i];
                r.arg[n_in + i] = NULL;
            }
        result_release(&r);
    }
}
