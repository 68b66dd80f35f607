/* SPDX-License-Identifier: Apache-2.0
 * Cuts a lowered graph in two where nothing trains below: the part from the image up to
 * the cut's frontier, and the part from there on, whose inputs are the frontier's values
 * in place of the image. Comes last, so that both parts are made of the steps, and the
 * kernels, that the whole plan has: the frontier's bits are the same.
 *
 * Below stand the forward nodes that depend on the image and on nothing that moves: no
 * trainable parameter, no running statistics that follow, no batch statistics, nothing
 * random, among themselves and their ancestors. The frontier are the values of theirs that
 * other nodes read. Views and reorders at the top go to the upper part, and so does what
 * multiplies nothing where its inputs are fewer bytes than its outputs. */
#include "pass.h"

#include "mem.h"

#include <string.h>

struct cut {
    struct th_graph *g;
    const struct th_plan_spec *spec;
    bool *shows, *moves; /* [n_values]: depends on the image; changes between steps */
    int *maker;          /* [n_values]: the node that makes it; -1 */
    bool *below;         /* [n_nodes] */
    int frontier[TH_MAX_FRONTIER], n;
};

/* ---- What is below ---- */

static bool value_moves(const struct th_plan_spec *spec, const struct th_value *v)
{
    if (v->kind == TH_VALUE_INPUT)
        return strcmp(v->name, "image") != 0;
    if (v->kind != TH_VALUE_STATE)
        return false; /* as what makes it */
    int param = th_model_param(spec->model, v->name);
    return param < 0 ? !th_is_scale(v->name) : spec->moving[param];
}

static bool is_random(enum th_op op)
{
    return th_op_is_random(op) || op == TH_OP_bn_stats;
}

static void mark(struct cut *c)
{
    struct th_graph *g = c->g;
    for (int v = 0; v < g->n_values; v++) {
        const struct th_value *value = &g->values[v];
        c->moves[v] = value_moves(c->spec, value);
        c->shows[v] = value->kind == TH_VALUE_INPUT && !c->moves[v];
        c->maker[v] = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        bool moves = is_random(n->op) || n->phase != TH_FORWARD, shows = false;
        for (int k = 0; k < TH_MAX_IN; k++) {
            moves = moves || (n->in[k] >= 0 && c->moves[n->in[k]]);
            shows = shows || (n->in[k] >= 0 && c->shows[n->in[k]]);
        }
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (n->out[k] >= 0) {
                c->moves[n->out[k]] = moves;
                c->shows[n->out[k]] = shows;
                c->maker[n->out[k]] = i;
            }
        c->below[i] = shows && !moves;
    }
}

/* ---- Its frontier ---- */

static bool reads(const struct th_node *n, int value)
{
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] == value)
            return true;
    return false;
}

/* Whether a node on that side reads the value. */
static bool is_read(const struct cut *c, int value, bool below)
{
    for (int i = 0; i < c->g->n_nodes; i++)
        if (c->below[i] == below && reads(&c->g->nodes[i], value))
            return true;
    return false;
}

/* Made below (or the image), and read above. */
static bool crosses(const struct cut *c, int value)
{
    int maker = c->maker[value];
    bool below = maker < 0 ? c->shows[value] : c->below[maker];
    return below && is_read(c, value, false);
}

/* Whether node i, at the top of the part below, is rather done again: it costs next to
 * nothing, and there are fewer bytes to keep (or as many, in the plain order). */
static bool better_above(const struct cut *c, int i)
{
    const struct th_node *n = &c->g->nodes[i];
    size_t saved = 0, added = 0;
    if (!c->below[i] || th_op_rule(n->op)->fn->macs || n->op == TH_OP_dequantize)
        return false; /* what is kept are floats */
    for (int k = 0; k < TH_MAX_OUT; k++) {
        if (n->out[k] >= 0 && is_read(c, n->out[k], true))
            return false;
        if (n->out[k] >= 0 && crosses(c, n->out[k]))
            saved += th_operand_bytes(&c->g->values[n->out[k]].o);
    }
    for (int k = 0; k < TH_MAX_IN; k++) {
        if (n->in[k] < 0 || !c->shows[n->in[k]] || crosses(c, n->in[k]))
            continue;
        if (c->g->values[n->in[k]].kind == TH_VALUE_INPUT ||
            !th_dtype_is_real(c->g->values[n->in[k]].o.dtype))
            return false; /* the image is what is not to be kept, and floats are */
        added += th_operand_bytes(&c->g->values[n->in[k]].o);
    }
    return n->op == TH_OP_view || n->op == TH_OP_reorder || added < saved;
}

/* Whether it can be kept: one row an image, of floats, that the host does not read. */
static bool can_be_kept(const struct cut *c, int value)
{
    const struct th_value *v = &c->g->values[value];
    return v->kind == TH_VALUE_TEMP && th_dtype_is_real(v->o.dtype) &&
           v->o.shape.dim[0] == c->spec->batch && !v->wanted && v->view_of < 0;
}

/* No frontier where nothing worth it is below. */
static void find_frontier(struct cut *c)
{
    bool multiplies = false;
    for (bool moved = true; moved;) { /* what one makes cross may let another go up */
        moved = false;
        for (int i = c->g->n_nodes - 1; i >= 0; i--)
            if (better_above(c, i)) {
                c->below[i] = false;
                moved = true;
            }
    }
    for (int i = 0; i < c->g->n_nodes; i++)
        multiplies = multiplies ||
                     (c->below[i] && th_op_rule(c->g->nodes[i].op)->fn->macs != NULL);
    for (int v = 0; v < c->g->n_values && c->n >= 0; v++) {
        if (!crosses(c, v))
            continue;
        if (!multiplies || c->n == TH_MAX_FRONTIER || !can_be_kept(c, v))
            c->n = -1;
        else
            c->frontier[c->n++] = v;
    }
    c->n = c->n < 0 ? 0 : c->n;
}

/* ---- The two parts ---- */

/* "cut/LAYER" of the layer that makes each value, fresh; a second one of a layer gets a
 * number. */
static void make_names(struct cut *c, char *names[TH_MAX_FRONTIER])
{
    for (int i = 0; i < c->n; i++) {
        const struct th_node *maker = th_graph_maker(c->g, c->frontier[i]);
        const char *layer = maker && maker->name ? maker->name : "unnamed";
        int before = 0;
        for (int j = 0; j < i; j++) {
            const struct th_node *other = th_graph_maker(c->g, c->frontier[j]);
            before += other && other->name && !strcmp(other->name, layer);
        }
        names[i] = before ? th_format("cut/%s.%d", layer, before + 1)
                          : th_format("cut/%s", layer);
        if (!names[i])
            c->g->status = THAW_E_MEMORY;
    }
}

static bool is_plain(const struct th_operand *o)
{
    return o->block == 1 && o->dtype == TH_F32;
}

/* The value as the host has it: floats in the plain order. */
static int plain(struct th_graph *g, int value, const char *name)
{
    struct th_operand o = g->values[value].o;
    if (is_plain(&o))
        return value;
    o.block = 1;
    o.dtype = TH_F32;
    int copy = th_graph_value(g, &o);
    th_graph_emit(
        g, TH_OP_reorder, TH_FORWARD, NULL, (int[]){value}, (int[]){copy}, name);
    return copy;
}

/* Up to the frontier, whose values are the only outputs. */
static void keep_below(struct cut *c, char *const names[])
{
    struct th_graph *g = c->g;
    for (int v = 0; v < g->n_values; v++)
        g->values[v].wanted = false;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        g->nodes[i].removed =
            n->phase != TH_FORWARD || n->out[0] < 0 || c->moves[n->out[0]];
    }
    for (int i = 0; i < c->n; i++)
        th_graph_want(g, plain(g, c->frontier[i], names[i]), names[i]);
}

/* An input in the plain order in place of what made the value. */
static void make_input(struct th_graph *g, int value, const char *name)
{
    struct th_operand o = g->values[value].o;
    if (is_plain(&o)) {
        g->values[value].kind = TH_VALUE_INPUT;
        g->values[value].name = th_strdup(name);
        if (!g->values[value].name)
            g->status = THAW_E_MEMORY;
        return;
    }
    int input = th_graph_input(g, name, TH_F32, o.shape);
    th_graph_emit(
        g, TH_OP_reorder, TH_FORWARD, NULL, (int[]){input}, (int[]){value}, name);
}

/* From the frontier on. */
static void keep_above(struct cut *c, char *const names[])
{
    struct th_graph *g = c->g;
    int n = 0;
    struct th_node *nodes = th_graph_take(g, &n);
    for (int i = 0; i < c->n && g->status == THAW_OK; i++)
        make_input(g, c->frontier[i], names[i]);
    for (int i = 0; i < n; i++) {
        nodes[i].removed = nodes[i].removed || c->below[i];
        th_graph_push(g, &nodes[i]);
    }
    th_free(nodes);
}

/* Inputs that nobody reads any more, and derived values that nobody makes, take no
 * memory. */
static void forget_unused(struct th_graph *g)
{
    for (int v = 0; v < g->n_values && g->status == THAW_OK; v++) {
        struct th_value *value = &g->values[v];
        bool used = value->kind == TH_VALUE_DERIVED ? th_graph_maker(g, v) != NULL
                    : value->kind == TH_VALUE_INPUT ? th_graph_readers(g, v) > 0
                                                    : true;
        if (used)
            continue;
        value->kind = TH_VALUE_TEMP;
        th_free(value->name);
        value->name = NULL;
    }
}

static thaw_status keep_side(struct cut *c)
{
    char *names[TH_MAX_FRONTIER] = {NULL};
    make_names(c, names);
    if (c->g->status == THAW_OK && c->spec->side == TH_BELOW)
        keep_below(c, names);
    else if (c->g->status == THAW_OK)
        keep_above(c, names);
    for (int i = 0; i < c->n; i++)
        th_free(names[i]);
    th_graph_sweep(c->g);
    forget_unused(c->g);
    return c->g->status;
}

static thaw_status cut_alloc(struct cut *c)
{
    c->shows = th_alloc((size_t)c->g->n_values, sizeof *c->shows);
    c->moves = th_alloc((size_t)c->g->n_values, sizeof *c->moves);
    c->maker = th_alloc((size_t)c->g->n_values, sizeof *c->maker);
    c->below = th_alloc((size_t)c->g->n_nodes, sizeof *c->below);
    return c->shows && c->moves && c->maker && c->below ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_pass_cut(struct th_lowering *l)
{
    struct cut c = {.g = &l->graph, .spec = l->spec};
    if (l->spec->side == TH_WHOLE)
        return THAW_OK;
    thaw_status status = cut_alloc(&c);
    if (status == THAW_OK) {
        mark(&c);
        find_frontier(&c);
        l->n_frontier = c.n;
    }
    if (status == THAW_OK && c.n)
        status = keep_side(&c);
    th_free(c.shows);
    th_free(c.moves);
    th_free(c.maker);
    th_free(c.below);
    return status;
}

void th_plan_frontier(const struct th_plan *p, struct th_frontier *f)
{
    *f = (struct th_frontier){0};
    for (int v = 0; v < p->graph.n_values && f->n < TH_MAX_FRONTIER; v++) {
        const struct th_value *value = &p->graph.values[v];
        if (!value->name || strncmp(value->name, "cut/", 4) != 0)
            continue;
        f->name[f->n] = value->name;
        f->values[f->n++] = th_shape_count(&value->o.shape) / value->o.shape.dim[0];
    }
}
