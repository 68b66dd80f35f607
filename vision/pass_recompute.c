/* SPDX-License-Identifier: Apache-2.0
 * Less memory between forward and backward: what a BatchNorm, LayerNorm or GELU step made
 * is not kept but made again where backward first reads it (for the weight gradient of the
 * next layer), from an input that is kept anyway for the step's own gradient. Same step,
 * same inputs, same bits. (Chen et al. 2016, arXiv:1604.06174, with the cheap steps chosen
 * as in Bulo et al. 2018, arXiv:1712.02616.)
 *
 * A value is made again if its step is one of these and each input of the step
 *   - is read by backward later than the value is, or lives longer than the run, or is
 *     itself made again, so that nothing is kept for this alone;
 *   - is not written before that place.
 * --memory high: none is. Normally those without a residual: of a Transformer block with
 * tokens of d values (x, ln1, 3 of qkv, attention, x', ln2, 4 before and 4 behind the GELU)
 * 10 of 16. --memory low: all, so that the outputs of a stage's blocks are made again in a
 * chain, from its first block on. */
#include "pass.h"

#include "mem.h"

struct again {
    struct th_lowering *l;
    const struct th_node *nodes; /* as they were */
    int n_nodes, n_values;
    int *maker, *first, *last; /* [n_values] node: first backward reader, last reader */
    int *written;              /* [n_values] node that first writes it in place; -1 */
    bool *chosen, *viewed;     /* [n_values] */
    int *copy;                 /* [n_values] the value made again; -1 */
};

static void note_uses(struct again *a)
{
    for (int v = 0; v < a->n_values; v++)
        a->maker[v] = a->first[v] = a->last[v] = a->written[v] = a->copy[v] = -1;
    for (int i = 0; i < a->n_nodes; i++) {
        const struct th_node *n = &a->nodes[i];
        for (int k = 0; k < TH_MAX_IN; k++) {
            int v = n->in[k];
            if (v < 0)
                continue;
            a->last[v] = i;
            if (n->phase == TH_BACKWARD && a->first[v] < 0)
                a->first[v] = i;
            if (th_node_writes(n, k) && a->written[v] < 0)
                a->written[v] = i;
        }
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (n->out[k] >= 0)
                a->maker[n->out[k]] = i;
    }
}

/* The value is kept until node `at` in any case, unchanged. */
static bool is_there(const struct again *a, int v, int at)
{
    bool outlives = a->l->graph.values[v].kind != TH_VALUE_TEMP || a->last[v] > at;
    return outlives && (a->written[v] < 0 || a->written[v] > at);
}

/* One pass over memory, and its first output is what the next layer reads. */
static bool is_cheap(enum th_op op)
{
    return op == TH_OP_bn_apply || op == TH_OP_layernorm || op == TH_OP_gelu;
}

/* Has a residual inside. */
static bool adds(const struct th_node *n)
{
    return n->op == TH_OP_bn_apply && n->in[5] >= 0;
}

static bool can_be_made_again(const struct again *a, int v, int at)
{
    const struct th_node *n = a->maker[v] < 0 ? NULL : &a->nodes[a->maker[v]];
    if (!n || !is_cheap(n->op) || n->phase != TH_FORWARD || n->host || n->out[0] != v ||
        a->l->graph.values[v].wanted || a->viewed[v])
        return false;
    if (adds(n) && a->l->spec->keep != TH_KEEP_LITTLE)
        return false;
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0 && !a->chosen[n->in[k]] && !is_there(a, n->in[k], at) &&
            !can_be_made_again(a, n->in[k], at))
            return false;
    return true;
}

/* v, and what it is made from where that is not kept (a shortcut's BatchNorm). */
static void choose(struct again *a, int v, int at)
{
    a->chosen[v] = true;
    const struct th_node *n = &a->nodes[a->maker[v]];
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0 && !a->chosen[n->in[k]] && !is_there(a, n->in[k], at))
            choose(a, n->in[k], at);
}

/* In the order of the makers, so that a chain of blocks is chosen from its first on. */
static void choose_all(struct again *a)
{
    for (int v = 0; v < a->n_values; v++)
        if (a->l->graph.values[v].view_of >= 0)
            a->viewed[a->l->graph.values[v].view_of] = true;
    for (int i = 0; i < a->n_nodes; i++) {
        int v = a->nodes[i].out[0];
        if (v >= 0 && a->first[v] >= 0 && can_be_made_again(a, v, a->first[v]))
            choose(a, v, a->first[v]);
    }
}

/* A value like v, which may be absent. */
static int another(struct th_graph *g, int v)
{
    if (v < 0)
        return -1;
    struct th_operand o = g->values[v].o; /* of its own: the list of values may move */
    return th_graph_value(g, &o);
}

/* The value to read in place of v. The other outputs of a LayerNorm, its rows' mean and
 * rstd, are kept; a second time they are made and forgotten. */
static int made_again(struct again *a, int v)
{
    struct th_graph *g = &a->l->graph;
    if (v < 0 || v >= a->n_values || !a->chosen[v] || g->status != THAW_OK)
        return v;
    if (a->copy[v] >= 0)
        return a->copy[v];
    const struct th_node *n = &a->nodes[a->maker[v]];
    int in[TH_MAX_IN], out[TH_MAX_OUT] = {-1, -1, -1};
    for (int k = 0; k < TH_MAX_IN; k++)
        in[k] = made_again(a, n->in[k]);
    out[0] = a->copy[v] = another(g, v);
    if (n->op == TH_OP_layernorm)
        for (int k = 1; k < TH_MAX_OUT; k++)
            out[k] = another(g, n->out[k]);
    th_graph_emit(g, n->op, TH_BACKWARD, &n->attr, in, out, n->name);
    return out[0];
}

/* The graph owns the nodes' names again once they are pushed; copies of a step, which come
 * later, still read its name through `nodes`. */
static void rewrite(struct again *a)
{
    for (int i = 0; i < a->n_nodes; i++) {
        struct th_node n = a->nodes[i];
        for (int k = 0; n.phase == TH_BACKWARD && k < TH_MAX_IN; k++)
            n.in[k] = made_again(a, n.in[k]);
        th_graph_push(&a->l->graph, &n);
    }
}

thaw_status th_pass_recompute(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    if (l->spec->keep == TH_KEEP_ALL || g->status != THAW_OK)
        return g->status;
    size_t n = (size_t)g->n_values;
    int *numbers = th_alloc(5 * n, sizeof *numbers);
    bool *flags = th_alloc(2 * n, sizeof *flags);
    if (numbers && flags) {
        int n_nodes = 0;
        struct th_node *nodes = th_graph_take(g, &n_nodes);
        struct again a = {.l = l,
            .nodes = nodes,
            .n_nodes = n_nodes,
            .n_values = (int)n,
            .maker = numbers,
            .first = numbers + n,
            .last = numbers + 2 * n,
            .written = numbers + 3 * n,
            .copy = numbers + 4 * n,
            .chosen = flags,
            .viewed = flags + n};
        note_uses(&a);
        choose_all(&a);
        rewrite(&a);
        th_free(nodes);
    } else
        g->status = THAW_E_MEMORY;
    th_free(numbers);
    th_free(flags);
    return g->status;
}
