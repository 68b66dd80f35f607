/* SPDX-License-Identifier: Apache-2.0
 * Every op on a device against the plain C kernels. Finds out; judges nothing but "close":
 * a device that computes something else is a finding, no failure of the call. */
#ifndef TH_CHECK_H
#define TH_CHECK_H

#include "backend.h"

/* What was found of one op. Its bound is `bound`, the largest relative error of real
 * values; everything else has to be the same bits. */
struct th_check_row {
    int cases, failed;
    double worst, bound;
    char why[256]; /* the first failure: the case, and what it was; "": none */
};

struct th_check {
    struct th_check_row row[TH_OP_COUNT]; /* of an op without cases: all zero */
    int n_ops, n_failed; /* ops with cases, and of these with a failure */
    int cases, left_out; /* runs of an op; cases for which no time was left */
    enum th_op first;    /* the op that failed first; with n_failed */
};

/* When to stop: no case begins when `now` has reached `until`. */
struct th_check_time {
    double (*now)(void);
    double until; /* seconds */
};

/* Runs the op sweep's cases, of each op the cheapest first, its gradients with it; plain and,
 * where the device's kernels make a difference, in its blocks. THAW_E_MEMORY, or another
 * failure that is the plain C kernels', ends it. */
thaw_status th_check_device(
    struct th_device *device, const struct th_check_time *time, struct th_check *check);

#endif
