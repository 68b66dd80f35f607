/* SPDX-License-Identifier: Apache-2.0
 * Owns the graph: growing arrays of values and nodes, shape checks, the sweep. Does not
 * know devices, freeze states or layouts. */
#include "graph.h"

#include "mem.h"

#include <string.h>

void th_graph_init(struct th_graph *g)
{
    *g = (struct th_graph){0};
}

void th_graph_release(struct th_graph *g)
{
    for (int i = 0; i < g->n_values; i++)
        th_free(g->values[i].name);
    for (int i = 0; i < g->n_nodes; i++)
        th_free(g->nodes[i].name);
    th_free(g->values);
    th_free(g->nodes);
    *g = (struct th_graph){0};
}

static int fail(struct th_graph *g, thaw_status status)
{
    if (g->status == THAW_OK)
        g->status = status;
    return -1;
}

/* Room for one more element; false once the graph has failed. */
static bool reserve(struct th_graph *g, void **array, int n, int *cap, size_t size)
{
    if (g->status != THAW_OK)
        return false;
    if (n < *cap)
        return true;
    int grown = *cap ? *cap * 2 : 64;
    void *p = th_realloc(*array, (size_t)*cap, (size_t)grown, size);
    if (!p) {
        fail(g, THAW_E_MEMORY);
        return false;
    }
    *array = p;
    *cap = grown;
    return true;
}

int th_graph_value(struct th_graph *g, const struct th_operand *o)
{
    struct th_operand copy = *o; /* o may stand in the array that grows */
    if (!reserve(
            g, (void **)&g->values, g->n_values, &g->cap_values, sizeof *g->values))
        return -1;
    struct th_value *v = &g->values[g->n_values];
    *v = (struct th_value){.o = copy, .kind = TH_VALUE_TEMP, .view_of = -1};
    v->o.present = true;
    if (v->o.block == 0)
        v->o.block = 1;
    return g->n_values++;
}

int th_graph_find(const struct th_graph *g, const char *name)
{
    for (int i = 0; i < g->n_values; i++)
        if (g->values[i].name && strcmp(g->values[i].name, name) == 0)
            return i;
    return -1;
}

static int named(struct th_graph *g, const char *name, enum th_dtype dtype,
    struct th_shape shape, enum th_value_kind kind)
{
    if (g->status != THAW_OK)
        return -1;
    int id = th_graph_find(g, name);
    if (id >= 0)
        return id;
    id = th_graph_value(g, &(struct th_operand){.shape = shape, .dtype = dtype});
    if (id < 0)
        return -1;
    g->values[id].kind = kind;
    g->values[id].name = th_strdup(name);
    return g->values[id].name ? id : fail(g, THAW_E_MEMORY);
}

int th_graph_input(
    struct th_graph *g, const char *name, enum th_dtype dtype, struct th_shape shape)
{
    return named(g, name, dtype, shape, TH_VALUE_INPUT);
}

int th_graph_state(struct th_graph *g, const char *name, struct th_shape shape)
{
    return named(g, name, TH_F32, shape, TH_VALUE_STATE);
}

struct th_node *th_graph_emit(struct th_graph *g, enum th_op op, enum th_phase phase,
    const union th_attr *attr, const int *in, const int *out, const char *name)
{
    if (!reserve(g, (void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes))
        return NULL;
    const struct th_op_rule *rule = th_op_rule(op);
    struct th_node *n = &g->nodes[g->n_nodes];
    *n = (struct th_node){.op = op, .phase = phase, .bn = -1};
    if (attr)
        n->attr = *attr;
    for (int i = 0; i < TH_MAX_IN; i++)
        n->in[i] = i < rule->n_in ? in[i] : -1;
    for (int i = 0; i < TH_MAX_OUT; i++)
        n->out[i] = i < rule->n_out ? out[i] : -1;
    n->name = th_strdup(name);
    if (name && !n->name) {
        fail(g, THAW_E_MEMORY);
        return NULL;
    }
    g->n_nodes++;
    return n;
}

int th_graph_node(struct th_graph *g, enum th_op op, const union th_attr *attr,
    const int *in, const char *name)
{
    const struct th_op_rule *rule = th_op_rule(op);
    struct th_operand ins[TH_MAX_IN] = {0}, outs[TH_MAX_OUT] = {0};
    int out[TH_MAX_OUT] = {-1, -1, -1};
    if (g->status != THAW_OK)
        return -1;
    for (int i = 0; i < rule->n_in; i++)
        if (in[i] >= 0)
            ins[i] = g->values[in[i]].o;
    union th_attr none = {0};
    thaw_status status = rule->fn->shape(attr ? attr : &none, ins, outs);
    if (status != THAW_OK) {
        th_fail(
            status, "%s (%s): %s", name ? name : "unnamed", rule->name, thaw_error());
        return fail(g, status);
    }
    for (int i = 0; i < rule->n_out; i++)
        out[i] = th_graph_value(g, &outs[i]);
    return th_graph_emit(g, op, TH_FORWARD, attr, in, out, name) ? out[0] : -1;
}

int th_graph_view(struct th_graph *g, int x, struct th_shape shape)
{
    if (g->status != THAW_OK)
        return -1;
    struct th_operand o = g->values[x].o;
    if (th_shape_count(&o.shape) != th_shape_count(&shape)) {
        char from[96], to[96];
        return fail(g, th_fail(THAW_E_USAGE, "a view of %s cannot be %s: other count",
                           th_shape_text(&o.shape, from, sizeof from),
                           th_shape_text(&shape, to, sizeof to)));
    }
    o.shape = shape;
    int y = th_graph_value(g, &o);
    if (y < 0)
        return -1;
    g->values[y].view_of = x;
    return th_graph_emit(g, TH_OP_view, TH_FORWARD, NULL, &x, &y, "view") ? y : -1;
}

struct th_node *th_graph_take(struct th_graph *g, int *n)
{
    struct th_node *nodes = g->nodes;
    *n = g->n_nodes;
    g->nodes = NULL;
    g->n_nodes = g->cap_nodes = 0;
    return nodes;
}

void th_graph_push(struct th_graph *g, const struct th_node *node)
{
    if (reserve(g, (void **)&g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes))
        g->nodes[g->n_nodes++] = *node;
    else
        th_free(node->name);
}

struct th_node *th_graph_maker(struct th_graph *g, int value)
{
    for (int i = 0; value >= 0 && i < g->n_nodes; i++)
        for (int k = 0; !g->nodes[i].removed && k < TH_MAX_OUT; k++)
            if (g->nodes[i].out[k] == value)
                return &g->nodes[i];
    return NULL;
}

void th_graph_on_host(struct th_graph *g, int value)
{
    struct th_node *n = g->status == THAW_OK ? th_graph_maker(g, value) : NULL;
    if (n)
        n->host = true;
}

void th_graph_want(struct th_graph *g, int value, const char *name)
{
    if (g->status != THAW_OK)
        return;
    struct th_value *v = &g->values[value];
    v->wanted = true;
    if (!v->name && !(v->name = th_strdup(name)))
        fail(g, THAW_E_MEMORY);
}

bool th_node_writes(const struct th_node *n, int input)
{
    return th_op_rule(n->op)->writes >> input & 1;
}

int th_graph_readers(const struct th_graph *g, int value)
{
    int count = 0;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; !g->nodes[i].removed && k < TH_MAX_IN; k++)
            count += g->nodes[i].in[k] == value;
    return count;
}

/* Whether a node has to run: it writes something, or an output of it is read. */
static bool is_needed(
    const struct th_graph *g, const struct th_node *n, const int *readers)
{
    if (th_op_rule(n->op)->writes)
        return true;
    for (int k = 0; k < TH_MAX_OUT; k++)
        if (n->out[k] >= 0 && (readers[n->out[k]] > 0 || g->values[n->out[k]].wanted))
            return true;
    return false;
}

void th_graph_sweep(struct th_graph *g)
{
    if (g->status != THAW_OK)
        return;
    int *readers = th_alloc((size_t)g->n_values, sizeof *readers);
    if (!readers) {
        fail(g, THAW_E_MEMORY);
        return;
    }
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; !g->nodes[i].removed && k < TH_MAX_IN; k++)
            if (g->nodes[i].in[k] >= 0)
                readers[g->nodes[i].in[k]]++;
    for (int i = g->n_nodes - 1; i >= 0; i--) { /* backwards: readers go first */
        struct th_node *n = &g->nodes[i];
        if (n->removed || is_needed(g, n, readers))
            continue;
        n->removed = true;
        for (int k = 0; k < TH_MAX_IN; k++)
            if (n->in[k] >= 0)
                readers[n->in[k]]--;
    }
    int kept = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        struct th_node *n = &g->nodes[i];
        if (n->removed) {
            th_free(n->name);
            continue;
        }
        for (int k = 0; k < TH_MAX_OUT; k++) /* masks and indices nobody reads */
            if (n->out[k] >= 0 && !th_dtype_is_real(g->values[n->out[k]].o.dtype) &&
                readers[n->out[k]] == 0 && !g->values[n->out[k]].wanted)
                n->out[k] = -1;
        if (kept != i)
            g->nodes[kept] = *n;
        kept++;
    }
    g->n_nodes = kept;
    th_free(readers);
}
