/* SPDX-License-Identifier: Apache-2.0
 * The op sweep's cases on a device against the plain C kernels. */
#ifndef OPS_SWEEP_H
#define OPS_SWEEP_H

#include "ops.h"

bool is_conv(const struct node *n);

/* th_tape_compare. */
void check_result(const struct tape *t, const struct node *n, const struct result *a,
    const struct result *expected, struct th_comparison how);

/* Every node of every case on `device`, laid out as said, against ref and plain. */
void sweep(
    struct th_device *ref, struct th_device *device, struct layout layout, bool exact);

/* Of those nodes alone. */
void sweep_some(struct th_device *ref, struct th_device *device, struct layout layout,
    bool exact, bool (*wanted)(const struct node *n));

#endif
