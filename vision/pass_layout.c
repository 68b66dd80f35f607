/* SPDX-License-Identifier: Apache-2.0
 * Gives every activation a channel block and a type. Each kernel says what it wants of its
 * operands, in the order of the nodes; where a value is laid out otherwise than its reader
 * wants, or in another precision, a reorder goes in between, once for each (value, block,
 * type). Parameters and what is derived from them are always plain and fp32: packing them
 * is the kernels' own business. What the host reads is fp32, too. */
#include "pass.h"

#include "mem.h"

struct copy {
    int value; /* -1: none */
    int block;
    enum th_dtype dtype;
};

struct copies {
    struct copy *of; /* [n]: the last reorder of a value */
    int n;
};

static bool is_activation(const struct th_graph *g, int value)
{
    enum th_value_kind kind = g->values[value].kind;
    return kind == TH_VALUE_TEMP || kind == TH_VALUE_INPUT;
}

static bool is_blocked(const struct th_graph *g, int value)
{
    return g->values[value].o.shape.rank == 4;
}

static bool is_as(const struct th_graph *g, int value, int block, enum th_dtype dtype)
{
    const struct th_operand *o = &g->values[value].o;
    return o->dtype == dtype && (o->block == block || !is_blocked(g, value));
}

/* `value` otherwise: a reorder made for an earlier reader, or a new one. */
static int reordered(struct th_lowering *l, struct copies *copies, int value,
    const struct th_operand *wanted, const struct th_node *reader)
{
    struct th_graph *g = &l->graph;
    struct copy *last = value < copies->n ? &copies->of[value] : NULL;
    if (last && last->value >= 0 && last->block == wanted->block &&
        last->dtype == wanted->dtype)
        return last->value;
    struct th_operand o = g->values[value].o;
    o.block = wanted->block;
    o.dtype = wanted->dtype;
    int copy = th_graph_value(g, &o);
    th_graph_emit(g, TH_OP_reorder, reader->phase, NULL, &value, &copy, reader->name);
    if (last)
        *last = (struct copy){copy, o.block, o.dtype};
    return copy;
}

/* Whether it works on what outlives the run, as a head does that normalises its weights:
 * there fp32 stays fp32. */
static bool has_lasting_half(const struct th_lowering *l, const struct th_node *n)
{
    const struct th_backend *backend = l->device->backend;
    const char *halves = backend->halves ? backend->halves(n->op) : NULL;
    for (int k = 0; halves && k < th_op_rule(n->op)->n_in; k++)
        if (halves[k] == 'h' && n->in[k] >= 0 && !is_activation(&l->graph, n->in[k]))
            return true;
    return false;
}

static void set_single(struct th_operand *o, int n)
{
    for (int k = 0; k < n; k++)
        if (th_dtype_is_real(o[k].dtype))
            o[k].dtype = TH_F32;
}

/* What the node's kernel wants. A view shares memory, so it is of the plain order: other
 * shapes know no blocks. */
static void wanted_layout(const struct th_lowering *l, const struct th_node *n,
    struct th_operand *in, struct th_operand *out)
{
    bool plain = l->spec->without & TH_PASS_LAYOUT || n->op == TH_OP_view || n->host;
    const struct th_kernel *kernel = l->device->backend->kernel(n->op);
    if (plain || !kernel || l->device->block == 1)
        th_layout_plain(&n->attr, in, out, 1);
    else
        th_layout(kernel, &n->attr, in, out, l->device->block);
    if (n->op == TH_OP_view)
        out[0].dtype = in[0].dtype;
    else if (n->host || has_lasting_half(l, n)) {
        set_single(in, TH_MAX_IN);
        set_single(out, TH_MAX_OUT);
    } else
        th_types(l->device, n->op, in, out);
}

static thaw_status lay_out(
    struct th_lowering *l, struct copies *copies, struct th_node *n)
{
    struct th_graph *g = &l->graph;
    struct th_operand in[TH_MAX_IN] = {0}, out[TH_MAX_OUT] = {0};
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0)
            in[k] = g->values[n->in[k]].o;
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (n->out[k] >= 0)
            out[k] = g->values[n->out[k]].o;
    wanted_layout(l, n, in, out);
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0 && is_activation(g, n->in[k]) &&
            !is_as(g, n->in[k], in[k].block, in[k].dtype))
            n->in[k] = reordered(l, copies, n->in[k], &in[k], n);
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (n->out[k] >= 0 && is_activation(g, n->out[k])) {
            struct th_operand *o = &g->values[n->out[k]].o;
            o->block = is_blocked(g, n->out[k]) ? out[k].block : o->block;
            o->dtype = out[k].dtype;
        }
    if (n->op == TH_OP_view && g->status == THAW_OK)
        g->values[n->out[0]].view_of = n->in[0];
    th_graph_push(g, n);
    return g->status;
}

/* The host reads floats: the name goes over to a copy. */
static void want_single(struct th_lowering *l, struct copies *copies)
{
    struct th_graph *g = &l->graph;
    const struct th_operand single = {.block = 1, .dtype = TH_F32};
    for (int v = 0; v < copies->n && g->status == THAW_OK; v++) {
        if (!g->values[v].wanted || g->values[v].o.dtype != TH_BF16)
            continue;
        const struct th_node host = {.phase = TH_FORWARD, .name = g->values[v].name};
        int copy = reordered(l, copies, v, &single, &host);
        if (copy < 0)
            return;
        g->values[copy].name = g->values[v].name;
        g->values[copy].wanted = true;
        g->values[v].name = NULL;
        g->values[v].wanted = false;
    }
}

thaw_status th_pass_layout(struct th_lowering *l)
{
    struct copies copies = {.n = l->graph.n_values};
    copies.of = th_alloc((size_t)copies.n, sizeof *copies.of);
    if (!copies.of)
        return THAW_E_MEMORY;
    for (int i = 0; i < copies.n; i++)
        copies.of[i].value = -1;
    int n = 0;
    struct th_node *nodes = th_graph_take(&l->graph, &n);
    thaw_status status = THAW_OK;
    for (int i = 0; i < n; i++)
        if (status == THAW_OK)
            status = lay_out(l, &copies, &nodes[i]);
        else
            th_free(nodes[i].name);
    if (status == THAW_OK)
        want_single(l, &copies);
    th_free(nodes);
    th_free(copies.of);
    return l->graph.status != THAW_OK ? l->graph.status : status;
}
