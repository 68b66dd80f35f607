/* SPDX-License-Identifier: Apache-2.0
 * Owns the op sweep over a device, and what "close" means for each op. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ops_sweep.h"

#include <math.h>
#include <string.h>

/* Largest relative error |a - ref|_2 / |ref|_2 of a tensor: f32 rounding of sums in any
 * order; Winograd where convolutions use it; a polynomial erf in gelu. */
static const struct tolerance {
    enum th_op op;
    double error;
} tolerances[] = {
    {TH_OP_conv, 2e-5},
    {TH_OP_conv_dx, 2e-5},
    {TH_OP_conv_dw, 2e-5},
    {TH_OP_gelu, 5e-6},
    {TH_OP_gelu_dx, 5e-6},
    {TH_OP_attention, 5e-6},
    {TH_OP_attention_dx, 5e-6},
    {TH_OP_bn_dx_batch, 5e-6},
};
static const double DEFAULT_TOLERANCE = 2e-6;

static double tolerance_of(enum th_op op)
{
    for (size_t i = 0; i < sizeof tolerances / sizeof *tolerances; i++)
        if (tolerances[i].op == op)
            return tolerances[i].error;
    return DEFAULT_TOLERANCE;
}

static void check_reals(const struct tape *t, const struct node *n, int arg,
    const float *a, const float *expected, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)expected[i];
        difference += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    double error = sqrt(difference), bound = tolerance_of(n->op) * sqrt(norm);
    if (!(error <= bound))
        fail_msg("%s: %s, argument %d: off by %.3g of %.3g, relative %.3g", t->name,
            th_op_rule(n->op)->name, arg, error, sqrt(norm), error / sqrt(norm));
}

void check_result(const struct tape *t, const struct node *n, const struct result *a,
    const struct result *expected, bool exact)
{
    for (int i = 0; i < TH_MAX_ARGS; i++) {
        if (a->arg[i] == NULL || !node_writes(n, i))
            continue;
        const struct th_operand *o = node_operand(t, n, i);
        if (o->dtype == TH_F32 && !exact)
            check_reals(
                t, n, i, a->arg[i], expected->arg[i], th_shape_count(&o->shape));
        else if (memcmp(a->arg[i], expected->arg[i], th_operand_bytes(o)) != 0)
            fail_msg(
                "%s: %s, argument %d differs", t->name, th_op_rule(n->op)->name, i);
    }
}

bool is_conv(const struct node *n)
{
    return n->op == TH_OP_conv || n->op == TH_OP_conv_dx || n->op == TH_OP_conv_dw;
}

void sweep(
    struct th_device *ref, struct th_device *device, struct layout layout, bool exact)
{
    for (int k = 0; k < n_op_cases; k++) {
        struct tape t;
        tape_init(&t, &op_cases[k], NEED_ALL);
        tape_run(&t, ref, 0, t.n_nodes);
        for (int i = 0; i < t.n_nodes; i++) {
            struct result expected, result;
            struct layout plain = {.block = 1}, wanted = layout;
            const struct node *n = &t.node[i];
            wanted.force = layout.force && is_conv(n);
            node_run(&t, n, ref, ref, plain, &expected);
            node_run(&t, n, ref, device, wanted, &result);
            check_result(&t, n, &result, &expected, exact);
            result_release(&expected);
            result_release(&result);
        }
        tape_release(&t);
    }
}
