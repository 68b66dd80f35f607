/* SPDX-License-Identifier: Apache-2.0
 * Appends the commit phase: guard (is this step finite?), optimizer steps, BatchNorm
 * updates, moving averages. All of them look at the guard's flag, so a skipped step
 * changes nothing at all.
 *
 * A step of a group of batches is two plans. The one that gathers has, in place of the
 * optimizer, a step that adds each gradient to its total, which outlives the run; running
 * statistics are updated batch by batch, as torch's are. The one that updates reads the
 * totals. The flag stays set through the group once a batch was not finite, and what the
 * statistics were before the group is held until its end: a batch that is not finite puts
 * them back, so that a skipped group, too, changes nothing at all.
 *
 * Timing: where only the loss is checked, the guard runs right after the forward steps
 * and each parameter is updated as soon as its gradient is there and its last reader is
 * done, so that its gradient's memory is free at once. With clipping the norm of all
 * gradients is needed first, so updates come at the end; likewise on a device that runs many
 * of them as one, where launches cost more than memory. Same bits either way.
 * BatchNorm updates come last: backward may read the old running values. */
#include "pass.h"

#include "mem.h"

#include <math.h>

struct update {
    int param, grad; /* values; grad may be a total */
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

bool th_optim_pulls(const struct th_optim *o, const struct th_model *m, int param)
{
    return o->l2sp > 0.0F && !th_param_is_lora(&m->params[param]) &&
           (o->keep_head || m->params[param].stage != m->n_stages - 1);
}

/* L2-SP (Li, Grandvalet, Davoine, ICML 2018, equation 2) on every tensor that has a
 * start; else plain decay, on tensors of rank >= 2 but tokens and positions. */
static float decay(const struct th_lowering *l, int row)
{
    const struct th_optim *o = l->spec->optim;
    if (th_optim_pulls(o, l->spec->model, row))
        return o->l2sp;
    const struct th_param *p = &l->spec->model->params[row];
    bool weight =
        p->shape.rank >= 2 && p->role != TH_ROLE_TOKEN && p->role != TH_ROLE_POSITION;
    return weight ? o->weight_decay : 0.0F;
}

static thaw_status emit_update(struct th_lowering *l, struct update *u)
{
    struct th_graph *g = &l->graph;
    const struct th_optim *o = l->spec->optim;
    const struct th_param *p = &l->spec->model->params[u->row];
    union th_attr attr = {.update = {.lr_scale = lr_scale(l, u->row),
                              .weight_decay = decay(l, u->row),
                              .momentum = o->momentum,
                              .nesterov = o->nesterov,
                              .beta1 = o->beta1,
                              .beta2 = o->beta2,
                              .eps = o->eps}};
    int start = th_optim_pulls(o, l->spec->model, u->row)
                    ? slot(l, "start", p->name, p->shape)
                    : -1;
    if (o->kind == TH_SGD) {
        int buf = o->momentum == 0.0F ? -1 : slot(l, "momentum", p->name, p->shape);
        th_graph_emit(g, TH_OP_sgd, TH_COMMIT, &attr,
            (int[]){u->param, u->grad, buf, start, l->scalars}, NULL, p->name);
    } else {
        int m = slot(l, "adam.m", p->name, p->shape),
            v = slot(l, "adam.v", p->name, p->shape);
        int t = slot(l, "adam.t", p->name, TH_SHAPE(1));
        th_graph_emit(g, TH_OP_adamw, TH_COMMIT, &attr,
            (int[]){u->param, u->grad, m, v, t, start, l->scalars}, NULL, p->name);
    }
    u->done = true;
    return g->status;
}

/* total += gradient */
static thaw_status emit_gather(struct th_lowering *l, struct update *u)
{
    const struct th_param *p = &l->spec->model->params[u->row];
    int total = slot(l, "total", p->name, p->shape);
    th_graph_emit(&l->graph, TH_OP_accumulate, TH_COMMIT, NULL,
        (int[]){total, u->grad, l->scalars}, NULL, p->name);
    u->done = true;
    return l->graph.status;
}

/* A running statistic as it was before the group. */
static thaw_status emit_hold(struct th_lowering *l, int value)
{
    struct th_graph *g = &l->graph;
    if (g->status != THAW_OK)
        return g->status;
    struct th_shape shape = g->values[value].o.shape;
    int kept = slot(l, "kept", g->values[value].name, shape);
    th_graph_emit(g, TH_OP_hold, TH_COMMIT, NULL, (int[]){value, kept, l->scalars},
        NULL, g->values[value].name);
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
    union th_attr attr = {.update = {.clip = with_norm ? l->spec->optim->clip : 0}};
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
 * reader left, or the sum of every gradient that exists. made[] are those made so far. */
static thaw_status push_with_updates(struct th_lowering *l, const struct th_node *nodes,
    int i, int n, struct update *updates, bool *made, int n_updates)
{
    th_graph_push(&l->graph, &nodes[i]);
    bool gathers = l->spec->part == TH_PART_GATHER;
    for (int u = 0; u < n_updates; u++) {
        made[u] = made[u] || made_by(&nodes[i], updates[u].grad);
        if (!made[u] || updates[u].done)
            continue;
        if (gathers)
            TRY(emit_gather(l, &updates[u]));
        else if (!read_after(nodes, i + 1, n, updates[u].param))
            TRY(emit_update(l, &updates[u]));
    }
    return l->graph.status;
}

/* Of what trains, and of what has an average because it once did: that goes on to its
 * value, as DESIGN's and timm's formula has it for every tensor. */
static thaw_status emit_averages(struct th_lowering *l)
{
    const struct th_model *m = l->spec->model;
    bool on = l->spec->optim->ema && !l->spec->no_update;
    for (int i = 0; on && i < m->n_params; i++) {
        const struct th_param *p = &m->params[i];
        char *name = th_format("ema/%s", p->name);
        if (!name)
            return THAW_E_MEMORY;
        bool has = th_store_find(l->store, name) >= 0;
        th_free(name);
        if (!has && !l->spec->freeze->trainable[i])
            continue;
        int param = th_graph_state(&l->graph, p->name, p->shape);
        int average = slot(l, "ema", p->name, p->shape);
        th_graph_emit(&l->graph, TH_OP_ema, TH_COMMIT, NULL,
            (int[]){average, param, l->scalars}, NULL, p->name);
    }
    return l->graph.status;
}

static thaw_status push_bn_updates(
    struct th_lowering *l, const struct th_node *nodes, int n)
{
    thaw_status status = THAW_OK;
    for (int i = 0; i < n; i++) {
        if (nodes[i].phase != TH_COMMIT)
            continue;
        for (int k = 2; k <= 3 && l->spec->part == TH_PART_GATHER; k++)
            if (status == THAW_OK)
                status = emit_hold(l, nodes[i].in[k]);
        th_graph_push(&l->graph, &nodes[i]);
    }
    return status;
}

/* Whether the device updates many tensors at once. */
static bool in_rows(const struct th_lowering *l)
{
    enum th_op op = l->spec->optim->kind == TH_SGD ? TH_OP_sgd : TH_OP_adamw;
    const struct th_kernel *kernel = l->device->backend->kernel(op);
    return kernel && kernel->run_all;
}

static thaw_status place(struct th_lowering *l, struct th_node *nodes, int n,
    struct update *updates, bool *made, int n_updates)
{
    bool gathers = l->spec->part == TH_PART_GATHER, guarded = false;
    bool norm = !gathers && l->spec->optim->clip > 0.0F;
    bool late = norm || (!gathers && in_rows(l));
    thaw_status status = THAW_OK;
    for (int i = 0; i < n; i++) {
        if (nodes[i].phase == TH_COMMIT)
            continue;
        if (!norm && !guarded && nodes[i].phase == TH_BACKWARD) {
            status = emit_guard(l, updates, n_updates, false);
            guarded = true;
        }
        thaw_status pushed =
            push_with_updates(l, nodes, i, n, updates, made, late ? 0 : n_updates);
        status = status == THAW_OK ? pushed : status;
    }
    if (status == THAW_OK && !guarded)
        status = emit_guard(l, updates, n_updates, norm);
    for (int u = 0; u < n_updates && status == THAW_OK; u++)
        if (!updates[u].done)
            status =
                gathers ? emit_gather(l, &updates[u]) : emit_update(l, &updates[u]);
    thaw_status pushed = push_bn_updates(l, nodes, n);
    status = status == THAW_OK ? pushed : status;
    return status == THAW_OK && !gathers ? emit_averages(l) : status;
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

/* ---- From the totals ---- */

/* What a plan that gathers has added up: the totals that the store has. */
static thaw_status collect_totals(
    struct th_lowering *l, struct update **updates, int *n)
{
    const struct th_model *m = l->spec->model;
    *n = 0;
    *updates = th_alloc((size_t)m->n_params, sizeof **updates);
    if (!*updates)
        return THAW_E_MEMORY;
    for (int i = 0; i < m->n_params; i++) {
        const struct th_param *p = &m->params[i];
        char *name = th_format("total/%s", p->name);
        if (!name)
            return THAW_E_MEMORY;
        if (l->spec->freeze->trainable[i] && th_store_find(l->store, name) >= 0)
            (*updates)[(*n)++] =
                (struct update){.param = th_graph_state(&l->graph, p->name, p->shape),
                    .grad = th_graph_state(&l->graph, name, p->shape),
                    .row = i};
        th_free(name);
    }
    return l->graph.status;
}

/* The norm is known only now: it may be what is not finite. */
static thaw_status emit_late_guard(
    struct th_lowering *l, const struct update *updates, int n)
{
    const struct th_model *m = l->spec->model;
    if (l->spec->optim->clip <= 0.0F)
        return THAW_OK;
    TRY(emit_guard(l, updates, n, true));
    for (int i = 0; i < m->n_bns; i++)
        for (int k = 0; k < 2 && th_bn_updates(l->spec->freeze->bn[i]); k++) {
            const struct th_param *p = &m->params[k ? m->bns[i].var : m->bns[i].mean];
            TRY(emit_hold(l, th_graph_state(&l->graph, p->name, p->shape)));
        }
    return THAW_OK;
}

thaw_status th_pass_update_from_totals(struct th_lowering *l)
{
    struct update *updates = NULL;
    int n = 0;
    thaw_status status = collect_totals(l, &updates, &n);
    if (status == THAW_OK)
        status = emit_late_guard(l, updates, n);
    for (int u = 0; u < n && status == THAW_OK; u++)
        status = emit_update(l, &updates[u]);
    th_free(updates);
    return status == THAW_OK ? emit_averages(l) : status;
}
