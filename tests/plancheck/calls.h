/* SPDX-License-Identifier: Apache-2.0
 * The distinct groups of calls in the plans of whole models, for a device that is not there:
 * the planner runs as for any device, nothing is ever executed. */
#ifndef PLANCHECK_CALLS_H
#define PLANCHECK_CALLS_H

#include "groups.h"
#include "plan.h"

struct distinct {
    struct th_call calls[2];
    int n;
    bool keep;
    char *label; /* "conv 3x3/1 b relu": what may decide whether an engine takes it */
    char *text;  /* of the graph in fp32: what may decide which one */
};

struct distinct_list {
    struct distinct *all;
    int n, cap;
    int n_steps, n_graph_steps; /* of all plans: how many, how many in a graph */
    int n_plans;
    bool own[TH_OP_COUNT]; /* run by a kernel of ours somewhere */
};

struct plan_case {
    const char *variant, *thaw, *bn;
    enum th_mode mode;
};

/* Make the plan and show it. */
thaw_status plan_case_visit(const struct plan_case *c, int batch,
    thaw_status (*visit)(void *context, const struct th_plan *p), void *context);

/* The plan's steps, grouped; for th_free. */
struct th_pair_step *plan_steps(const struct th_plan *p);

/* Add the groups of one plan. */
thaw_status distinct_collect(
    struct distinct_list *list, const struct plan_case *c, int batch);
/* The two calls of pair i alone, at the end of the list: those that have a graph of their
 * own. */
thaw_status distinct_add_calls(struct distinct_list *list, int i);
void distinct_release(struct distinct_list *list);

struct th_cuda_group distinct_group(const struct distinct *d);

/* A device of the engine's layouts, on which nothing runs; its memory is address space. */
extern struct th_device plancheck_device;

#endif
