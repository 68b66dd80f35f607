/* SPDX-License-Identifier: Apache-2.0
 * Owns turning what the op sweep reports into failures of a test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ops.h"

void ok(thaw_status status, const char *name)
{
    if (status != THAW_OK)
        fail_msg("%s: %s", name, thaw_error());
}

void tape_init(struct tape *t, const struct op_case *c, int need)
{
    ok(th_tape_init(t, c, need), c->name);
}

void tape_release(struct tape *t)
{
    th_tape_release(t);
}

void tape_run(struct tape *t, struct th_device *ref, int begin, int end)
{
    ok(th_tape_run(t, ref, begin, end), t->name);
}

void node_run(const struct tape *t, const struct node *node, struct th_device *ref,
    struct th_device *device, struct layout layout, struct result *result)
{
    ok(th_tape_run_node(t, node, ref, device, layout, result), t->name);
}

void result_release(struct result *r)
{
    th_tape_forget(r);
}

const struct th_operand *node_operand(const struct tape *t, const struct node *n, int i)
{
    return th_tape_operand(t, n, i);
}

bool node_writes(const struct node *n, int i)
{
    return th_tape_writes(n, i);
}
