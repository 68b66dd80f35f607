/* SPDX-License-Identifier: Apache-2.0
 * The op sweep of kernels/check for tests: what fails there fails the test, with the case's
 * name and the library's sentence. */
#ifndef OPS_H
#define OPS_H

#include "check/tape.h"

#define op_cases th_op_cases
#define n_op_cases th_n_op_cases

/* Fails the test with the case's name and the library's sentence. */
void ok(thaw_status status, const char *name);

/* Fill the case's inputs; for a gradient, emit it for inputs that are in `need` (bits). */
void tape_init(struct tape *t, const struct op_case *c, int need);
void tape_release(struct tape *t);

/* Run nodes begin..end-1 on `ref`, plain, and keep their outputs. */
void tape_run(struct tape *t, struct th_device *ref, int begin, int end);

/* Run one node on a device; checks that it wrote only what it may, that running again
 * gives the same bits, and what it verifies. `ref` converts layouts. */
void node_run(const struct tape *t, const struct node *node, struct th_device *ref,
    struct th_device *device, struct layout layout, struct result *result);
void result_release(struct result *r);

/* The operand behind argument i of a node, and whether the node writes it. */
const struct th_operand *node_operand(
    const struct tape *t, const struct node *n, int i);
bool node_writes(const struct node *n, int i);

#endif
