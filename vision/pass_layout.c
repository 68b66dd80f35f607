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

static int block_for(const struct th_operand *o, int block)
{
    return o->shape.dim[1] % block == 0 ? block : 1;
}

/* A view shares memory, so it is of the plain order: other shapes know no blocks. */
static void layout_view(struct th_operand *in, struct th_operand *out)
{
    in[0].block = 1;
    out[0].block = 1;
}

/* The rule for kernels that take any layout as long as it is one. */
static void layout_alike(struct th_operand *in, const bool *in_activation,
    struct th_operand *out, const bool *out_activation, int device_block)
{
    int block = device_block;
    for (int k = TH_MAX_IN - 1; k >= 0; k--)
        if (in_activation[k])
            block = in[k].block;
    for (int k = 0; k < TH_MAX_IN; k++)
        if (in_activation[k])
            in[k].block = block;
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (out_activation[k])
            out[k].block = block_for(&out[k], block);
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

static thaw_status lay_out(
    struct th_lowering *l, struct copies *copies, struct th_node *n)
{
    struct th_graph *g = &l->graph;
    const struct th_kernel *kernel = l->device->backend->kernel(n->op);
    int device_block = l->spec->without & TH_PASS_LAYOUT ? 1 : l->device->block;
    struct th_operand in[TH_MAX_IN] = {0}, out[TH_MAX_OUT] = {0};
    bool in_act[TH_MAX_IN] = {0}, out_act[TH_MAX_OUT] = {0};
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0) {
            in[k] = g->values[n->in[k]].o;
            in_act[k] = is_activation(g, n->in[k]);
        }
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (n->out[k] >= 0) {
            out[k] = g->values[n->out[k]].o;
            out_act[k] = is_activation(g, n->out[k]);
        }
    if (n->op == TH_OP_view)
        layout_view(in, out);
    else if (kernel && kernel->layout && device_block > 1)
        kernel->layout(&n->attr, in, out, device_block);
    else
        layout_alike(in, in_act, out, out_act, device_block);
    for (int k = 0; k < TH_MAX_IN; k++)
        if (in_act[k] && in[k].block != g->values[n->in[k]].o.block)
            n->in[k] = reordered(l, copies, n->in[k], in[k].block, n->phase, n->name);
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (out_act[k])
            g->values[n->out[k]].o.block = out[k].block;
    if (n->op == TH_OP_view && n->in[0] >= 0)
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
