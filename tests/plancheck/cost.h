/* SPDX-License-Identifier: Apache-2.0
 * What a step of a plan moves and multiplies in bf16, and the least time for it: the model of
 * roofline.c. */
#ifndef PLANCHECK_COST_H
#define PLANCHECK_COST_H

#include "plan.h"

enum { H100, A100, DEVICES };

struct cost {
    int launches;
    double macs, bytes, seconds[DEVICES];
};

/* Adds a plan's launches up, for plan_case_visit; context: a struct cost. */
thaw_status cost_add(void *context, const struct th_plan *p);

#endif
