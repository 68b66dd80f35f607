/* SPDX-License-Identifier: Apache-2.0
 * Where the time of a plan goes. */
#ifndef TH_INSPECT_TIME_H
#define TH_INSPECT_TIME_H

#include "plan.h"

/* seconds[n_steps]: the least that each step took in `runs` runs; 0 for one that did not
 * run. `store` is the plan's and holds the same values afterwards. */
thaw_status th_inspect_time(
    struct th_plan *plan, struct th_store *store, int runs, double *seconds);

/* Random images, and class 0 for each of them; before each run. */
thaw_status th_inspect_inputs(struct th_plan *plan);

#endif
