/* SPDX-License-Identifier: Apache-2.0
 * Our kernels, as nvcc compiled them, give what the plain C kernels give, over the op
 * sweep's cases, and in any order of blocks, warps and branches the same bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host.h"
#include "own.h"
#include "support/ops.h"
#include "test_launch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Relative, ||a - b|| / ||b||: fp32 rounding of what the reference sums in double. Where the
 * values cancel, as the gradient of a row of one value and unit length, of a norm this small
 * instead. */
static const double TOLERANCE = 2e-6, SMALL = 0.05;

static struct th_device *ref;
static uint64_t order; /* of the next run */

static void check_values(const char *name, const char *what, const struct th_operand *o,
    const void *a, const void *expected)
{
    double difference = 0, norm = 0;
    const float *x = a, *y = expected;
    if (o->dtype != TH_F32) {
        if (memcmp(a, expected, th_operand_bytes(o)) != 0)
            fail_msg("%s: %s differs", name, what);
        return;
    }
    for (int64_t i = 0; i < th_shape_count(&o->shape); i++) {
        double d = (double)x[i] - (double)y[i];
        difference += d * d;
        norm += (double)y[i] * (double)y[i];
    }
    if (!(sqrt(difference) <= TOLERANCE * fmax(sqrt(norm), SMALL)))
        fail_msg(
            "%s: %s is off by %.3g of %.3g", name, what, sqrt(difference), sqrt(norm));
}

/* ---- a device that runs our kernels ---- */

static int n_run[TH_OP_COUNT];

static thaw_status own_prepare(struct th_call *call)
{
    const struct th_own *own = th_own(call->op);
    return own->prepare ? own->prepare(call) : THAW_OK;
}

/* Each operand is memory of its own; outputs and scratch were not written yet. */
static thaw_status own_run(const struct th_call *call)
{
    const struct th_op_rule *rule = th_op_rule(call->op);
    for (int i = 0; i < rule->n_in + rule->n_out; i++) {
        const struct th_operand *o =
            i < rule->n_in ? &call->in[i] : &call->out[i - rule->n_in];
        if (call->args[i])
            test_launch_block(call->args[i], th_operand_bytes(o), i < rule->n_in);
    }
    if (call->scratch_bytes)
        test_launch_block(call->scratch, call->scratch_bytes, false);
    test_launch_seeds(order++, 0);
    thaw_status status = th_own(call->op)->run(call);
    for (int i = 0; i < rule->n_out; i++)
        if (call->args[rule->n_in + i] &&
            !test_launch_all_written(call->args[rule->n_in + i]))
            fail_msg("%s: output %d is not written whole", rule->name, i);
    test_launch_forget();
    n_run[call->op]++;
    return status;
}

/* Activations NHWC; weights, which are what these ops have of rank 4, as they are. */
static void own_layout(
    const union th_attr *attr, struct th_operand *in, struct th_operand *out, int block)
{
    (void)attr, (void)block;
    for (int i = 0; i < TH_MAX_IN + TH_MAX_OUT; i++) {
        struct th_operand *o = i < TH_MAX_IN ? &in[i] : &out[i - TH_MAX_IN];
        o->block = o->present && o->shape.rank == 4 ? (int)o->shape.dim[1] : 1;
    }
}

static bool takes_weights(enum th_op op)
{
    return op == TH_OP_bn_fold || op == TH_OP_lora_merge || op == TH_OP_lora_da ||
           op == TH_OP_lora_db || op == TH_OP_scale_rows;
}

static const struct th_kernel *own_kernel_of(enum th_op op)
{
    static const struct th_kernel activations = {
        .layout = own_layout, .prepare = own_prepare, .run = own_run};
    static const struct th_kernel weights = {
        .layout = th_layout_plain, .prepare = own_prepare, .run = own_run};
    static const struct th_kernel as_told = {
        .layout = th_layout_reorder, .prepare = own_prepare, .run = own_run};
    return op == TH_OP_reorder ? &as_told : takes_weights(op) ? &weights : &activations;
}

static const struct th_backend own_backend = {.name = "own",
    .kernel = own_kernel_of,
    .alloc = th_host_alloc,
    .free = th_host_free,
    .upload = th_host_copy,
    .download = th_host_copy};

/* Runs the node in several orders, two a node_run, which compares their bits. */
static void check_node(const struct tape *t, const struct node *n)
{
    enum { ORDERS = 6 };
    struct th_device own = {.backend = &own_backend, .threads = 1, .block = 16};
    struct result expected, first, other;
    node_run(t, n, ref, ref, (struct layout){.block = 1}, &expected);
    order = 0;
    node_run(t, n, ref, &own, (struct layout){.block = 1}, &first);
    while (order < ORDERS) {
        node_run(t, n, ref, &own, (struct layout){.block = 1}, &other);
        for (int a = 0; a < TH_MAX_ARGS; a++)
            if (first.arg[a] && memcmp(first.arg[a], other.arg[a],
                                    th_operand_bytes(node_operand(t, n, a))) != 0)
                fail_msg("%s: %s gives other bits in another order", t->name,
                    th_op_rule(n->op)->name);
        result_release(&other);
    }
    for (int a = 0; a < TH_MAX_ARGS; a++)
        if (first.arg[a] && node_writes(n, a))
            check_values(t->name, th_op_rule(n->op)->name, node_operand(t, n, a),
                first.arg[a], expected.arg[a]);
    result_release(&expected);
    result_release(&first);
}

static void each_kernel_means_its_op(void **state)
{
    (void)state;
    for (int k = 0; k < n_op_cases; k++) {
        struct tape t;
        tape_init(&t, &op_cases[k], NEED_ALL);
        tape_run(&t, ref, 0, t.n_nodes);
        for (int i = 0; i < t.n_nodes; i++)
            if (th_own(t.node[i].op))
                check_node(&t, &t.node[i]);
        tape_release(&t);
    }
    for (int i = 0; i < TH_OP_COUNT; i++)
        if (th_own((enum th_op)i) && n_run[i] == 0)
            fail_msg("no case ran the kernel of %s", th_op_rule((enum th_op)i)->name);
}

static int open_all(void **state)
{
    (void)state;
    test_launch_open();
    return th_device_open("ref", 2, &ref) == THAW_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    th_device_close(ref);
    test_launch_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kernel_means_its_op),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
