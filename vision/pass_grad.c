/* SPDX-License-Identifier: Apache-2.0
 * Appends gradient nodes in reverse order of the forward nodes. A rule is told which
 * inputs need a gradient and emits only those: dead gradients are never built, so no pass
 * has to remove them. A value needs a gradient when it trains or when what makes it reads
 * one that does. */
#include "pass.h"

#include "mem.h"

struct context {
    struct th_grad grad; /* first: the rules get its address */
    struct th_lowering *l;
    const char *name;
};

static const struct th_operand *operand(const struct th_grad *g, int value)
{
    return &((const struct context *)g)->l->graph.values[value].o;
}

static thaw_status emit(struct th_grad *g, enum th_op op, const union th_attr *attr,
    const int *in, const int *like, int *out)
{
    struct context *c = (struct context *)g;
    struct th_graph *graph = &c->l->graph;
    for (int i = 0; i < th_op_rule(op)->n_out; i++) {
        struct th_operand o = {0};
        if (like[i] >= 0)
            o = graph->values[like[i]].o;
        out[i] = like[i] >= 0 ? th_graph_value(graph, &o) : -1;
    }
    if (op == TH_OP_view && graph->status == THAW_OK)
        graph->values[out[0]].view_of = in[0];
    th_graph_emit(graph, op, TH_BACKWARD, attr, in, out, c->name);
    return graph->status;
}

/* needs[v]: v trains, or is computed from something that does. */
static void mark_needs(const struct th_graph *g, bool *needs)
{
    for (int i = 0; i < g->n_values; i++)
        needs[i] = g->values[i].trainable;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        bool any = false;
        for (int k = 0; k < TH_MAX_IN; k++)
            any = any || (n->in[k] >= 0 && needs[n->in[k]]);
        if (th_op_rule(n->op)->fn->detached)
            continue;
        bool fold = n->op == TH_OP_bn_fold || n->op == TH_OP_linear_fold;
        int n_out = fold ? 1 : TH_MAX_OUT; /* not the folded bias */
        for (int k = 0; any && k < n_out; k++)
            if (n->out[k] >= 0)
                needs[n->out[k]] = true;
    }
}

/* grad[value] += d: sums where a value is read more than once. */
static thaw_status add_gradient(
    struct th_lowering *l, int value, int d, const char *name)
{
    if (l->grad[value] < 0) {
        l->grad[value] = d;
        return THAW_OK;
    }
    struct th_operand o = l->graph.values[value].o;
    int sum = th_graph_value(&l->graph, &o);
    th_graph_emit(&l->graph, TH_OP_add, TH_BACKWARD, NULL, (int[]){l->grad[value], d},
        (int[]){sum}, name);
    l->grad[value] = sum;
    return l->graph.status;
}

/* Inputs that full fine-tuning has gradients of: not images, targets, statistics. */
static bool could_need(const struct th_graph *g, const struct th_node *n, int k)
{
    bool statistics = n->op == TH_OP_bn_apply && (k == 1 || k == 2);
    bool derived =
        n->op == TH_OP_bn_fold || n->op == TH_OP_linear_fold || n->op == TH_OP_bn_stats;
    return n->in[k] >= 0 && !statistics && !derived &&
           g->values[n->in[k]].kind != TH_VALUE_INPUT;
}

static thaw_status differentiate(struct th_lowering *l, int index, const bool *needs)
{
    struct th_node n = l->graph.nodes[index]; /* a copy: emitting moves the array */
    const struct th_op_rule *rule = th_op_rule(n.op);
    int dout[TH_MAX_OUT], din[TH_MAX_IN];
    bool need[TH_MAX_IN], reached = false, asked = false;
    for (int k = 0; k < TH_MAX_OUT; k++) {
        dout[k] = n.out[k] >= 0 ? l->grad[n.out[k]] : -1;
        reached = reached || dout[k] >= 0;
    }
    for (int k = 0; k < TH_MAX_IN; k++) {
        din[k] = -1;
        need[k] = n.in[k] >= 0 && needs[n.in[k]];
        asked = asked || need[k];
        l->n_dead += !need[k] && could_need(&l->graph, &n, k);
    }
    if (!reached || !asked || n.removed || n.op == TH_OP_bn_stats)
        return THAW_OK;
    if (!rule->fn->grad)
        return th_fail(THAW_E_FAIL, "%s: %s has no gradient", n.name, rule->name);
    struct context c = {.grad = {.attr = &n.attr,
                            .in = n.in,
                            .out = n.out,
                            .dout = dout,
                            .need = need,
                            .din = din,
                            .scalars = l->scalars,
                            .operand = operand,
                            .emit = emit},
        .l = l,
        .name = n.name};
    struct th_low_rank low = {.done = false};
    if (need[1])
        TRY(th_pass_lora(l, &n, dout[0], needs, &low));
    need[1] = need[1] && !low.done;
    TRY(rule->fn->grad(&c.grad));
    if (low.done && low.da >= 0)
        TRY(add_gradient(l, low.a, low.da, n.name));
    if (low.done && low.db >= 0)
        TRY(add_gradient(l, low.b, low.db, n.name));
    for (int k = 0; k < rule->n_in; k++)
        if (need[k] && din[k] >= 0)
            TRY(add_gradient(l, n.in[k], din[k], n.name));
    return l->graph.status;
}

thaw_status th_pass_grad(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    int n = g->n_nodes;
    l->n_grad = g->n_values;
    l->grad = th_alloc((size_t)g->n_values, sizeof *l->grad);
    bool *needs = th_alloc((size_t)g->n_values, sizeof *needs);
    thaw_status status = l->grad && needs ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK) {
        for (int i = 0; i < g->n_values; i++)
            l->grad[i] = -1;
        mark_needs(g, needs);
        l->grad[l->loss] = l->loss; /* the loss's rule needs no gradient above it */
    }
    for (int i = n - 1; status == THAW_OK && i >= 0; i--)
        if (g->nodes[i].phase == TH_FORWARD)
            status = differentiate(l, i, needs);
    th_free(needs);
    return status;
}
