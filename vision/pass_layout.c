/* SPDX-License-Identifier: Apache-2.0
 * Gives every activation a channel block. Each kernel says what it wants of its operands,
 * in the order of the nodes; where a value is laid out otherwise than its reader wants, a
 * reorder goes in between, once for each (value, block). Parameters and what is derived
 * from them are always plain: packing them is the kernels' own business. */
#include "pass.h"

#include "mem.h"

struct copies {
    int *of; /* [n][2]: value -> its reorder and that one's block */
    int n;
};

static bool is_activation(const struct th_graph *g, int value)
{
    const struct th_value *v = &g->values[value];
    return v->o.shape.rank == 4 &&
           (v->kind == TH_VALUE_TEMP || v->kind == TH_VALUE_INPUT);
}

/* `value` in another block: a reorder made for an earlier reader, or a new one. */
static int reordered(struct th_lowering *l, struct copies *copies, int value, int block,
    enum th_phase phase, const char *name)
{
    struct th_graph *g = &l->graph;
    if (value < copies->n && copies->of[2 * value] >= 0 &&
        copies->of[2 * value + 1] == block)
        return copies->of[2 * value];
    struct th_operand o = g->values[value].o;
    o.block = block;
    int copy = th_graph_value(g, &o);
    th_graph_emit(g, TH_OP_reorder, phase, NULL, &value, &copy, name);
    if (value < copies->n) {
        copies->of[2 * value] = copy;
        copies->of[2 * value + 1] = block;
    }
    return copy;
}

/* What the node's kernel wants. A view shares memory, so it is of the plain order: other
 * shapes know no blocks. */
static void wanted_blocks(const struct th_lowering *l, const struct th_node *n,
    struct th_operand *in, struct th_operand *out)
{
    bool plain = l->spec->without & TH_PASS_LAYOUT || n->op == TH_OP_view || n->host;
    const struct th_kernel *kernel = l->device->backend->kernel(n->op);
    if (plain || !kernel || l->device->block == 1)
        th_layout_plain(&n->attr, in, out, 1);
    else
        th_layout(kernel, &n->attr, in, out, l->device->block);
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
    wanted_blocks(l, n, in, out);
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0 && is_activation(g, n->in[k]) &&
            in[k].block != g->values[n->in[k]].o.block)
            n->in[k] = reordered(l, copies, n->in[k], in[k].block, n->phase, n->name);
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (n->out[k] >= 0 && is_activation(g, n->out[k]))
            g->values[n->out[k]].o.block = out[k].block;
    if (n->op == TH_OP_view && g->status == THAW_OK)
        g->values[n->out[0]].view_of = n->in[0];
    th_graph_push(g, n);
    return g->status;
}

thaw_status th_pass_layout(struct th_lowering *l)
{
    struct copies copies = {.n = l->graph.n_values};
    copies.of = th_alloc((size_t)copies.n * 2, sizeof *copies.of);
    if (!copies.of)
        return THAW_E_MEMORY;
    for (int i = 0; i < copies.n * 2; i++)
        copies.of[i] = -1;
    int n = 0;
    struct th_node *nodes = th_graph_take(&l->graph, &n);
    thaw_status status = THAW_OK;
    for (int i = 0; i < n; i++)
        if (status == THAW_OK)
            status = lay_out(l, &copies, &nodes[i]);
        else
            th_free(nodes[i].name);
    th_free(nodes);
    th_free(copies.of);
    return status;
}
