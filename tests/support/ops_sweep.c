/* SPDX-License-Identifier: Apache-2.0
 * Owns the op sweep over a device, for tests. */
#include "ops_sweep.h"

void check_result(const struct tape *t, const struct node *n, const struct result *a,
    const struct result *expected, struct th_comparison how)
{
    ok(th_tape_compare(t, n, a, expected, how, NULL), t->name);
}

bool is_conv(const struct node *n)
{
    return n->op == TH_OP_conv || n->op == TH_OP_conv_dx || n->op == TH_OP_conv_dw;
}

static bool any(const struct node *n)
{
    (void)n;
    return true;
}

void sweep(
    struct th_device *ref, struct th_device *device, struct layout layout, bool exact)
{
    sweep_some(ref, device, layout, exact, any);
}

void sweep_some(struct th_device *ref, struct th_device *device, struct layout layout,
    bool exact, bool (*wanted)(const struct node *n))
{
    for (int k = 0; k < n_op_cases; k++) {
        struct tape t;
        tape_init(&t, &op_cases[k], NEED_ALL);
        int first = 0;
        while (first < t.n_nodes && !wanted(&t.node[first]))
            first++;
        if (first < t.n_nodes)
            tape_run(&t, ref, 0, t.n_nodes);
        for (int i = first; i < t.n_nodes; i++) {
            if (!wanted(&t.node[i]))
                continue;
            struct result expected, result;
            struct layout plain = {.block = 1}, asked = layout;
            const struct node *n = &t.node[i];
            asked.force = layout.force && is_conv(n);
            th_tape_round(&t, n, device);
            node_run(&t, n, ref, ref, plain, &expected);
            node_run(&t, n, ref, device, asked, &result);
            check_result(&t, n, &result, &expected,
                (struct th_comparison){.device = device, .exact = exact});
            result_release(&expected);
            result_release(&result);
        }
        tape_release(&t);
    }
}
