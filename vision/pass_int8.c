/* SPDX-License-Identifier: Apache-2.0
 * The int8 prefix: convolutions with nothing that moves at or below them become conv_q, and
 * what they hand to each other is u8 (behind a ReLU) or i8. What others read stays f32:
 * the last convolution's sums are made real by its own scale, without a pass of their own.
 * Formulas: kernels/quant.c.
 *
 * The scale of a value is a state of the store, named after the convolution that makes it,
 * or that reads it first: "uint8/layer1.0.conv1", "int8/layer1.0.conv2.add", "int8/image".
 * int8.c puts it there, from what a plan with `observe` shows.
 *
 * Does not touch convolutions in groups (oneDNN has no fast kernel for most), nor ones whose
 * outputs are no multiple of 8: these stay f32, between a dequantize and a quantize. */
#include "pass.h"

#include "mem.h"

#include <stdio.h>
#include <string.h>

enum { CONV_X, CONV_W, CONV_B, CONV_ADD };
enum { OUTPUTS = 8 };

bool th_is_scale(const char *state)
{
    return !strncmp(state, "int8/", 5) || !strncmp(state, "uint8/", 6);
}

/* ---- What moves ---- */

/* Whether the forward node adds something that changes from step to step. */
static bool begins_to_move(const struct th_lowering *l, const struct th_node *n)
{
    const struct th_freeze *f = l->spec->freeze;
    if (th_op_is_random(n->op))
        return true;
    if (n->op == TH_OP_batchnorm &&
        (th_bn_uses_batch(f->bn[n->bn]) || th_bn_updates(f->bn[n->bn])))
        return true;
    for (int k = 0; k < TH_MAX_IN; k++) {
        const struct th_value *v = n->in[k] < 0 ? NULL : &l->graph.values[n->in[k]];
        int param = v && v->kind == TH_VALUE_STATE
                        ? th_model_param(l->spec->model, v->name)
                        : -1;
        if (param >= 0 && f->trainable[param])
            return true;
    }
    return false;
}

/* Before BatchNorms are lowered, so that evaluation plans have the prefix of the training
 * plan beside them. */
thaw_status th_pass_int8_mark(struct th_lowering *l)
{
    const struct th_graph *g = &l->graph;
    l->n_moves = g->n_values;
    l->moves = th_alloc((size_t)g->n_values, sizeof *l->moves);
    if (!l->moves)
        return THAW_E_MEMORY;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        bool moves = !n->removed && begins_to_move(l, n);
        for (int k = 0; k < TH_MAX_IN; k++)
            moves = moves || (n->in[k] >= 0 && l->moves[n->in[k]]);
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (n->out[k] >= 0)
                l->moves[n->out[k]] = moves;
    }
    return THAW_OK;
}

/* ---- Who takes what ---- */

struct rewrite {
    struct th_lowering *l;
    const struct th_node *nodes; /* as they were */
    int n_nodes;
    int *whole; /* [n_values]: the value as u8 or i8; -1 */
    int *scale; /* [n_values]: its state */
};

static bool in_prefix(const struct rewrite *r, const struct th_node *n)
{
    int y = n->out[0];
    return n->phase == TH_FORWARD && !n->host && y >= 0 && y < r->l->n_moves &&
           !r->l->moves[y];
}

static bool is_taken(const struct rewrite *r, const struct th_node *n)
{
    const struct th_graph *g = &r->l->graph;
    return n->op == TH_OP_conv && in_prefix(r, n) && n->attr.conv.groups == 1 &&
           g->values[n->in[CONV_W]].o.shape.dim[0] % OUTPUTS == 0;
}

static bool reads_whole(const struct rewrite *r, const struct th_node *n, int value);

static bool wanted_whole(const struct rewrite *r, int value)
{
    for (int i = 0; i < r->n_nodes; i++)
        if (reads_whole(r, &r->nodes[i], value))
            return true;
    return false;
}

/* The largest whole number is that of the largest value: pooling needs no scale. */
static bool is_pool(const struct rewrite *r, const struct th_node *n)
{
    return n->op == TH_OP_maxpool && in_prefix(r, n) && n->out[1] < 0 &&
           wanted_whole(r, n->out[0]);
}

static bool reads_whole(const struct rewrite *r, const struct th_node *n, int value)
{
    if (n->in[0] == value && is_pool(r, n))
        return true;
    return (n->in[CONV_X] == value || n->in[CONV_ADD] == value) && is_taken(r, n);
}

static bool wanted_real(const struct rewrite *r, int value)
{
    if (r->l->graph.values[value].wanted)
        return true;
    for (int i = 0; i < r->n_nodes; i++)
        for (int k = 0; k < TH_MAX_IN; k++)
            if (r->nodes[i].in[k] == value && !reads_whole(r, &r->nodes[i], value))
                return true;
    return false;
}

/* Known without looking at values. */
static bool never_negative(const struct rewrite *r, int value)
{
    for (int i = 0; i < r->n_nodes; i++) {
        const struct th_node *n = &r->nodes[i];
        if (n->out[0] != value)
            continue;
        if (n->op == TH_OP_maxpool || n->op == TH_OP_avgpool ||
            n->op == TH_OP_shortcut_a)
            return never_negative(r, n->in[0]);
        return n->op == TH_OP_relu || (n->op == TH_OP_conv && n->attr.conv.relu) ||
               (n->op == TH_OP_bn_apply && n->attr.norm.relu);
    }
    return false;
}

/* ---- Rewriting ---- */

/* The value's type, its scale's state, and where ranges are observed the wish to see it:
 * under the scale's name, if the value has none yet. */
static void begin_whole(struct rewrite *r, int value, const char *layer, const char *of)
{
    struct th_graph *g = &r->l->graph;
    char name[200];
    snprintf(name, sizeof name, "%s/%s%s", never_negative(r, value) ? "uint8" : "int8",
        layer, of);
    r->whole[value] = value;
    if (r->l->spec->observe)
        th_graph_want(g, value, name);
    else
        r->scale[value] = th_graph_state(g, name, TH_SHAPE(1));
}

static int whole_like(struct rewrite *r, int value)
{
    struct th_operand o = r->l->graph.values[value].o;
    o.dtype = never_negative(r, value) ? TH_U8 : TH_I8;
    return th_graph_value(&r->l->graph, &o);
}

/* A value that no conv_q makes. */
static int quantised(
    struct rewrite *r, int value, const struct th_node *reader, const char *of)
{
    struct th_graph *g = &r->l->graph;
    const struct th_value *v = &g->values[value];
    if (value < 0 || r->whole[value] >= 0)
        return value < 0 ? -1 : r->whole[value];
    if (v->kind == TH_VALUE_INPUT)
        begin_whole(r, value, v->name, "");
    else
        begin_whole(r, value, reader->name, of);
    if (!r->l->spec->observe) {
        int whole = whole_like(r, value);
        th_graph_emit(g, TH_OP_quantize, TH_FORWARD, NULL,
            (int[]){value, r->scale[value]}, &whole, reader->name);
        r->whole[value] = whole;
    }
    return r->whole[value];
}

static int derived(struct th_graph *g, enum th_dtype dtype, struct th_shape shape)
{
    int v = th_graph_value(g, &(struct th_operand){.shape = shape, .dtype = dtype});
    if (v >= 0)
        g->values[v].kind = TH_VALUE_DERIVED;
    return v;
}

/* conv_q and what it reads, with y as its output; y_scale -1: y is f32. */
static void emit_conv(
    struct rewrite *r, const struct th_node *n, int x, int add, int y_scale, int y)
{
    struct th_graph *g = &r->l->graph;
    struct th_shape w = g->values[n->in[CONV_W]].o.shape;
    int add_scale = add < 0 ? -1 : r->scale[n->in[CONV_ADD]];
    int made[] = {derived(g, TH_I8, w), derived(g, TH_F32, TH_SHAPE(2, w.dim[0])),
        add < 0 ? -1 : derived(g, TH_F32, TH_SHAPE(1))};
    th_graph_emit(g, TH_OP_conv_q_weights, TH_FORWARD, NULL,
        (int[]){
            n->in[CONV_W], n->in[CONV_B], r->scale[n->in[CONV_X]], add_scale, y_scale},
        made, n->name);
    th_graph_emit(g, TH_OP_conv_q, TH_FORWARD, &n->attr,
        (int[]){x, made[0], made[1], made[2], add}, &y, n->name);
}

static void rewrite_conv(struct rewrite *r, struct th_node *n)
{
    struct th_graph *g = &r->l->graph;
    int y = n->out[0];
    int x = quantised(r, n->in[CONV_X], n, ".x");
    int add = quantised(r, n->in[CONV_ADD], n, ".add");
    bool whole = wanted_whole(r, y);
    if (whole)
        begin_whole(r, y, n->name, "");
    r->l->n_int8++;
    if (r->l->spec->observe) {
        th_graph_push(g, n);
        return;
    }
    if (whole)
        r->whole[y] = whole_like(r, y);
    emit_conv(r, n, x, add, whole ? r->scale[y] : -1, whole ? r->whole[y] : y);
    if (whole && wanted_real(r, y))
        th_graph_emit(g, TH_OP_dequantize, TH_FORWARD, NULL,
            (int[]){r->whole[y], r->scale[y]}, &y, n->name);
    th_free(n->name);
}

static void rewrite_pool(struct rewrite *r, struct th_node *n)
{
    struct th_graph *g = &r->l->graph;
    int x = n->in[0], y = n->out[0];
    r->scale[y] = r->scale[x];
    r->whole[y] = r->l->spec->observe ? y : whole_like(r, y);
    if (r->l->spec->observe) {
        th_graph_push(g, n);
        return;
    }
    th_graph_emit(
        g, TH_OP_maxpool_q, TH_FORWARD, &n->attr, &r->whole[x], &r->whole[y], n->name);
    if (wanted_real(r, y))
        th_graph_emit(g, TH_OP_dequantize, TH_FORWARD, NULL,
            (int[]){r->whole[y], r->scale[y]}, &y, n->name);
    th_free(n->name);
}

static void rewrite(struct rewrite *r, struct th_node *n)
{
    if (r->l->graph.status != THAW_OK)
        th_free(n->name);
    else if (is_taken(r, n))
        rewrite_conv(r, n);
    else if (is_pool(r, n) && r->whole[n->in[0]] >= 0)
        rewrite_pool(r, n);
    else
        th_graph_push(&r->l->graph, n);
}

/* Nothing but the ranges. */
static void want_ranges_alone(struct th_graph *g)
{
    for (int i = 0; i < g->n_values; i++) {
        struct th_value *v = &g->values[i];
        bool range = v->name && th_is_scale(v->name);
        v->wanted = v->wanted && (range || v->kind == TH_VALUE_INPUT);
    }
}

thaw_status th_pass_int8(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    size_t n_values = (size_t)g->n_values;
    struct rewrite r = {.l = l};
    r.whole = th_alloc(n_values, sizeof *r.whole);
    r.scale = th_alloc(n_values, sizeof *r.scale);
    thaw_status status = r.whole && r.scale ? THAW_OK : THAW_E_MEMORY;
    for (size_t i = 0; i < n_values && status == THAW_OK; i++)
        r.whole[i] = r.scale[i] = -1;
    if (status == THAW_OK) {
        struct th_node *nodes = th_graph_take(g, &r.n_nodes);
        r.nodes = nodes;
        for (int i = 0; i < r.n_nodes; i++)
            rewrite(&r, &nodes[i]);
        th_free(nodes);
        if (l->spec->observe)
            want_ranges_alone(g);
        th_graph_sweep(g);
        status = g->status;
    }
    th_free(r.whole);
    th_free(r.scale);
    return status;
}
