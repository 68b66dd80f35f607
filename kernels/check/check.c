/* SPDX-License-Identifier: Apache-2.0
 * Owns the order in which the op sweep's cases run on a device, and what is kept of each. */
#include "check.h"

#include "mem.h"
#include "tape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A case's turn: after the cheaper ones of its op; among those of one turn by cost. */
struct turn {
    int index, turn;
    int64_t cost; /* multiply-adds and values of all its nodes */
};

static int64_t cost_of(const struct tape *t)
{
    int64_t cost = 0;
    for (int k = 0; k < t->n_nodes; k++) {
        const struct node *n = &t->node[k];
        const struct th_op_rule *rule = th_op_rule(n->op);
        struct th_operand in[TH_MAX_IN] = {0}, out[TH_MAX_OUT] = {0};
        for (int i = 0; i < rule->n_in; i++)
            if (n->in[i] >= 0)
                in[i] = t->value[n->in[i]];
        for (int i = 0; i < rule->n_out; i++)
            if (n->out[i] >= 0)
                out[i] = t->value[n->out[i]];
        for (int i = 0; i < rule->n_in; i++)
            cost += in[i].present ? th_shape_count(&in[i].shape) : 0;
        cost += rule->fn->macs ? rule->fn->macs(&n->attr, in, out) : 0;
    }
    return cost;
}

static int by_cost(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    return x->cost != y->cost ? (x->cost > y->cost) - (x->cost < y->cost)
                              : x->index - y->index;
}

static int by_turn(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    return x->turn != y->turn ? x->turn - y->turn : by_cost(a, b);
}

static thaw_status order(struct turn *turns)
{
    int seen[TH_OP_COUNT] = {0};
    for (int i = 0; i < th_n_op_cases; i++) {
        struct tape t;
        TRY(th_tape_init(&t, &th_op_cases[i], NEED_ALL));
        turns[i] = (struct turn){.index = i, .cost = cost_of(&t)};
        th_tape_release(&t);
    }
    qsort(turns, (size_t)th_n_op_cases, sizeof *turns, by_cost);
    for (int i = 0; i < th_n_op_cases; i++)
        turns[i].turn = seen[th_op_cases[turns[i].index].op]++;
    qsort(turns, (size_t)th_n_op_cases, sizeof *turns, by_turn);
    return THAW_OK;
}

/* ---- One node ---- */

struct sweep {
    struct th_device *ref, *device;
    struct th_check *check;
    void *
        index; /* of this tape's maxpool, as the device has it, where nobody else reads it */
};

/* What a max pooling of cuDNN says of its windows only its own gradient understands. */
static bool is_own_index(const struct th_device *device, enum th_op op)
{
    return op == TH_OP_maxpool && strcmp(device->backend->name, "cuda") == 0;
}

static void note(struct sweep *s, const struct tape *t, const struct node *n, bool good)
{
    struct th_check *check = s->check;
    struct th_check_row *row = &check->row[n->op];
    check->n_ops += row->cases == 0;
    check->cases++;
    row->cases++;
    row->bound = th_op_tolerance(n->op, s->device);
    if (good)
        return;
    if (check->n_failed == 0)
        check->first = n->op;
    if (row->failed++ == 0) {
        check->n_failed++;
        snprintf(row->why, sizeof row->why, "%s: %s", t->name, thaw_error());
    }
}

/* Runs it and compares; a failure of the device is noted, and none of this call. */
static thaw_status compare(struct sweep *s, const struct tape *t, const struct node *n,
    int block, const struct result *expected)
{
    enum { INDEX = 2 }; /* maxpool: x, y, index */
    struct result result;
    struct layout layout = {.block = block};
    bool own = is_own_index(s->device, n->op);
    const struct th_comparison how = {
        .device = s->device, .opaque = own ? 1U << INDEX : 0};
    thaw_status status = th_tape_run_node(t, n, s->ref, s->device, layout, &result);
    if (status == THAW_E_MEMORY)
        return status;
    bool good = status == THAW_OK && th_tape_compare(t, n, &result, expected, how,
                                         &s->check->row[n->op].worst) == THAW_OK;
    note(s, t, n, good);
    if (own) {
        th_free(s->index);
        s->index = result.arg[INDEX];
        result.arg[INDEX] = NULL;
    }
    th_tape_forget(&result);
    return THAW_OK;
}

static thaw_status check_node(
    struct sweep *s, struct tape *t, const struct node *n, int block)
{
    struct result expected;
    th_tape_round(t, n, s->device);
    TRY(th_tape_run_node(t, n, s->ref, s->ref, (struct layout){.block = 1}, &expected));
    void **index = n->op == TH_OP_maxpool_dx && s->index ? &t->data[n->in[1]] : NULL;
    void *kept = index ? *index : NULL;
    if (index)
        *index = s->index;
    thaw_status status = compare(s, t, n, block, &expected);
    if (index)
        *index = kept;
    th_tape_forget(&expected);
    return status;
}

/* ---- One case ---- */

static thaw_status check_tape(struct sweep *s, struct tape *t)
{
    TRY(th_tape_run(t, s->ref, 0, t->n_nodes));
    for (int k = 0; k < t->n_nodes; k++)
        TRY(check_node(s, t, &t->node[k], 1));
    for (int k = 0; k < t->n_nodes; k++)
        if (th_tape_blocks(t, &t->node[k], s->device, s->device->block))
            TRY(check_node(s, t, &t->node[k], s->device->block));
    return THAW_OK;
}

static thaw_status check_case(struct sweep *s, const struct op_case *c)
{
    struct tape t;
    TRY(th_tape_init(&t, c, NEED_ALL));
    thaw_status status = check_tape(s, &t);
    th_tape_release(&t);
    th_free(s->index);
    s->index = NULL;
    return status;
}

static thaw_status check_cases(
    struct sweep *s, const struct turn *turns, const struct th_check_time *time)
{
    for (int i = 0; i < th_n_op_cases; i++) {
        if (time->now() < time->until)
            TRY(check_case(s, &th_op_cases[turns[i].index]));
        else
            s->check->left_out++;
    }
    return THAW_OK;
}

thaw_status th_check_device(
    struct th_device *device, const struct th_check_time *time, struct th_check *check)
{
    *check = (struct th_check){0};
    struct sweep s = {.device = device, .check = check};
    struct turn *turns = th_alloc((size_t)th_n_op_cases, sizeof *turns);
    thaw_status status = turns ? order(turns) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_device_open("ref", 0, &s.ref);
    if (status == THAW_OK)
        status = check_cases(&s, turns, time);
    th_device_close(s.ref);
    th_free(turns);
    return status;
}
