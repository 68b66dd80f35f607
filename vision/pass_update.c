/* SPDX-License-Identifier: Apache-2.0
 * Appends the commit phase: guard (is this step finite?), optimizer steps, BatchNorm
 * updates, moving averages. All of them look at the guard's flag, so a skipped step
 * changes nothing at all.
 *
 * Timing: where only the loss is checked, the guard runs right after the forward steps
 * and each parameter is updated as soon as its gradient is there and its last reader is
 * done, so that its gradient's memory is free at once. With clipping the norm of all
 * gradients is needed first, so updates come at the end. Same bits either way.
 * BatchNorm updates come last: backward may read the old running values. */
#include "pass.h"

#include "mem.h"

#include <math.h>

struct update {
    int param, grad; /* values */
    int row;         /* index in the model */
    bool done;
};

static float lr_scale(const struct th_lowering *l, int row)
{
    const struct th_model *m = l->spec->model;
    float decay = l->spec->optim->layer_decay;
    if (decay == 0.0F || decay == 1.0F)
        return 1.0F;
    return powf(decay, (float)(m->n_stages - 1 - m->params[row].stage));
}

/* The optimizer's slot of a parameter. */
static int slot(
    struct th_lowering *l, const char *kind, const char *name, struct th_shape shape)
{
    char *full = th_format("%s/%s", kind, name);
    if (!full && l->graph.status == THAW_OK)
        l->graph.status = THAW_E_MEMORY; /* -1 would stand for "has no slot" */
    int v = full ? th_graph_state(&l->graph, full, shape) : -1;
    th_free(full);
    return v;
}

static thaw_status emit_update(struct th_lowering *l, struct update *u)
{
    struct th_graph *g = &l->graph;
    const struct th_optim *o = l->spec->optim;
    const struct th_param *p = &l->spec->model->params[u->row];
    union th_attr attr = {
        .update = {.lr_scale = lr_scale(l, u->row),
            .weight_decay = p->shape.rank >= 2 ? o->weight_decay : 0.0F,
            .momentum = o->momentum,
            .nesterov = o->nesterov,
            .beta1 = o->beta1,
            .beta2 = o->beta2,
            .eps = o->eps}};
    if (o->kind == TH_SGD) {
        int buf = o->momentum == 0.0F ? -1 : slot(l, "momentum", p->name, p->shape);
        th_graph_emit(g, TH_OP_sgd, TH_COMMIT, &attr,
            (int[]){u->param, u->grad, buf, l->scalars}, NULL, p->name);
    } else {
        int m = slot(l, "adam.m", p->name, p->shape),
            v = slot(l, "adam.v", p->name, p->shape);
        int t = slot(l, "adam.t", p->name, TH_SHAPE(1));
        th_graph_emit(g, TH_OP_adamw, TH_COMMIT, &attr,
            (int[]){u->param, u->grad, m, v, t, l->scalars}, NULL, p->name);
    }
    u->done = true;
    return g->status;
}

/* The parameters that train, and their gradients. */
static thaw_status collect(struct th_lowering *l, struct update **updates, int *n)
{
    const struct th_model *m = l->spec->model;
    *n = 0;
    *updates = th_alloc((size_t)m->n_params, sizeof **updates);
    if (!*updates)
        return THAW_E_MEMORY;
    for (int i = 0; i < m->n_params; i++) {
        int v = th_graph_find(&l->graph, m->params[i].name);
        if (v >= 0 && v < l->n_grad && l->grad[v] >= 0)
            (*updates)[(*n)++] =
                (struct update){.param = v, .grad = l->grad[v], .row = i};
    }
    return THAW_OK;
}

static thaw_status emit_guard(
    struct th_lowering *l, const struct update *updates, int n, bool with_norm)
{
    struct th_graph *g = &l->graph;
    int sum = -1;
    for (int i = 0; with_norm && i < n; i++) {
        int next = th_graph_value(
            g, &(struct th_operand){.shape = TH_SHAPE(1), .dtype = TH_F32});
        th_graph_emit(g, TH_OP_sum_squares, TH_COMMIT, NULL,
            (int[]){updates[i].grad, sum}, (int[]){next},
            l->spec->model->params[updates[i].row].name);
        sum = next;
    }
    union th_attr attr = {.update = {.clip = l->spec->optim->clip}};
    th_graph_emit(g, TH_OP_guard, TH_COMMIT, &attr, (int[]){l->loss, sum, l->scalars},
        NULL, "guard");
    return g->status;
}

/* Whether the value is read by any of the nodes from `from` on. */
static bool read_after(const struct th_node *nodes, int from, int n, int value)
{
    for (int i = from; i < n; i++)
        for (int k = 0; k < TH_MAX_IN; k++)
            if (nodes[i].in[k] == value)
                return true;
    return false;
}

static bool made_by(const struct th_node *n, int value)
{
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (n->out[k] == value)
            return true;
    return false;
}

/* Push nodes[i]; then every update whose gradient exists and whose parameter has no
 * reader left. `ready` counts gradients made so far through made[]. */
static thaw_status push_with_updates(struct th_lowering *l, const struct th_node *nodes,
    int i, int n, struct update *updates, bool *made, int n_updates)
{
    th_graph_push(&l->graph, &nodes[i]);
    for (int u = 0; u < n_updates; u++) {
        made[u] = made[u] || made_by(&nodes[i], updates[u].grad);
        if (made[u] && !updates[u].done &&
            !read_after(nodes, i + 1, n, updates[u].param))
            TRY(emit_update(l, &updates[u]));
    }
    return l->graph.status;
}

static thaw_status emit_averages(
    struct th_lowering *l, const struct update *updates, int n)
{
    for (int i = 0; l->spec->optim->ema && i < n; i++) {
        const struct th_param *p = &l->spec->model->params[updates[i].row];
        int average = slot(l, "ema", p->name, p->shape);
        th_graph_emit(&l->graph, TH_OP_ema, TH_COMMIT, NULL,
            (int[]){average, updates[i].param, l->scalars}, NULL, p->name);
    }
    return l->graph.status;
}

static thaw_status place(struct th_lowering *l, struct th_node *nodes, int n,
    struct update *updates, bool *made, int n_updates)
{
    bool late = l->spec->optim->clip > 0.0F, guarded = false;
    thaw_status status = THAW_OK;
    for (int i = 0; i < n; i++) {
        if (nodes[i].phase == TH_COMMIT)
            continue;
        if (!late && !guarded && nodes[i].phase == TH_BACKWARD) {
            status = emit_guard(l, updates, n_updates, false);
            guarded = true;
        }
        thaw_status pushed =
            push_with_updates(l, nodes, i, n, updates, made, late ? 0 : n_updates);
        status = status == THAW_OK ? pushed : status;
    }
    if (status == THAW_OK && !guarded)
        status = emit_guard(l, updates, n_updates, late);
    for (int u = 0; u < n_updates && status == THAW_OK; u++)
        if (!updates[u].done)
            status = emit_update(l, &updates[u]);
    for (int i = 0; i < n; i++) /* BatchNorm updates */
        if (nodes[i].phase == TH_COMMIT)
            th_graph_push(&l->graph, &nodes[i]);
    return status == THAW_OK ? emit_averages(l, updates, n_updates) : status;
}

thaw_status th_pass_update(struct th_lowering *l)
{
    struct update *updates = NULL;
    int n_updates = 0, n = 0;
    TRY(collect(l, &updates, &n_updates));
    if (l->spec->no_update)
        n_updates = 0;
    bool *made = th_alloc((size_t)n_updates, sizeof *made);
    struct th_node *nodes = made ? th_graph_take(&l->graph, &n) : NULL;
    thaw_status status =
        made ? place(l, nodes, n, updates, made, n_updates) : THAW_E_MEMORY;
    th_free(nodes);
    th_free(made);
    th_free(updates);
    return status;
}
