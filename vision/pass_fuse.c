/* SPDX-License-Identifier: Apache-2.0
 * Fewer passes over memory, by looking through one reader:
 *
 *   relu(bn(x))          -> bn_apply with relu         relu(conv(x))          -> conv with relu
 *   relu(bn(x) + s)      -> bn_apply with add, relu    relu(conv(x) + s)      -> conv with add, relu
 *   conv(x) + s          -> conv with add
 *   relu_dx(a + b)                                     -> relu_dx with add
 *   relu_dx, then only BatchNorm backward steps        -> those steps with the mask
 *
 * The fused node stands at the place of the last of its parts, so that all its inputs
 * have been made. A convolution keeps no mask, so its ReLU is fused only where no
 * backward step reads one. */
#include "pass.h"

/* The maker of a value if nothing else reads the value: then both can become one. */
static struct th_node *sole_maker(struct th_graph *g, int value)
{
    if (value < 0 || g->values[value].wanted || g->values[value].view_of >= 0 ||
        th_graph_readers(g, value) != 1)
        return NULL;
    return th_graph_maker(g, value);
}

/* Whether the node can take a residual and a ReLU into itself. */
static bool can_absorb(const struct th_node *n, bool mask, bool add)
{
    if (!n || n->removed || n->host || n->phase != TH_FORWARD)
        return false;
    if (n->op == TH_OP_bn_apply)
        return !n->attr.norm.relu && n->in[5] < 0;
    return n->op == TH_OP_conv && !n->attr.conv.relu && !mask && (!add || n->in[3] < 0);
}

/* `last` (a relu or add) becomes `part` with the residual and the ReLU inside. */
static void absorb(struct th_node *last, struct th_node *part, int residual, bool relu)
{
    int y = last->out[0], mask = relu ? last->out[1] : -1;
    last->op = part->op;
    last->attr = part->attr;
    for (int k = 0; k < TH_MAX_IN; k++)
        last->in[k] = part->in[k];
    last->out[0] = y;
    last->out[1] = -1;
    if (part->op == TH_OP_conv) {
        last->attr.conv.relu = relu;
        if (residual >= 0)
            last->in[3] = residual;
    } else {
        last->attr.norm.relu = relu;
        last->in[5] = residual;
        last->out[1] = mask;
    }
    char *name = last->name; /* the fused node goes by the layer's name, not "relu" */
    last->name = part->name;
    part->name = name;
    part->removed = true;
}

static int unread(const struct th_graph *g, int value)
{
    return value >= 0 && th_graph_readers(g, value) == 0 ? -1 : value;
}

/* The operand of an add that can take the other one in; 0, 1 or -1. */
static int absorbing_side(struct th_graph *g, const struct th_node *add, bool mask)
{
    for (int k = 0; k < 2; k++)
        if (add->in[0] != add->in[1] &&
            can_absorb(sole_maker(g, add->in[k]), mask, true))
            return k;
    return -1;
}

static void fuse_relu(struct th_graph *g, struct th_node *relu)
{
    relu->out[1] = unread(g, relu->out[1]);
    bool mask = relu->out[1] >= 0;
    struct th_node *part = sole_maker(g, relu->in[0]);
    if (part && part->op == TH_OP_add && !part->host && part->phase == TH_FORWARD) {
        int side = absorbing_side(g, part, mask);
        if (side < 0)
            return;
        int residual = part->in[1 - side];
        struct th_node *inner = sole_maker(g, part->in[side]);
        absorb(relu, inner, residual, true);
        part->removed = true;
    } else if (can_absorb(part, mask, false))
        absorb(relu, part, part->op == TH_OP_conv ? part->in[3] : -1, true);
}

static void fuse_add(struct th_graph *g, struct th_node *add)
{
    int side = absorbing_side(g, add, true); /* bn_apply only where a ReLU follows */
    struct th_node *part = side < 0 ? NULL : sole_maker(g, add->in[side]);
    if (!part)
        for (side = 0; side < 2 && !part; side++) {
            struct th_node *conv = sole_maker(g, add->in[side]);
            if (add->in[0] != add->in[1] && can_absorb(conv, false, true))
                part = conv;
        }
    if (part)
        absorb(add, part, add->in[0] == part->out[0] ? add->in[1] : add->in[0], false);
}

/* Index of the mask input of a BatchNorm backward step; -1 for other ops. */
static int mask_input(enum th_op op)
{
    return op == TH_OP_bn_reduce       ? 4
           : op == TH_OP_bn_dx_batch   ? 7
           : op == TH_OP_bn_dx_running ? 3
                                       : -1;
}

static bool takes_mask(const struct th_node *n, int dy)
{
    int at = mask_input(n->op), uses = 0;
    for (int k = 0; k < TH_MAX_IN; k++)
        uses += n->in[k] == dy;
    return at >= 0 && n->in[at] < 0 && n->in[0] == dy && uses == 1;
}

/* The gradients of a value that two layers read are added here, once. */
static bool absorb_sum(struct th_graph *g, struct th_node *relu)
{
    struct th_node *sum = sole_maker(g, relu->in[0]);
    if (!sum || sum->op != TH_OP_add || sum->phase != TH_BACKWARD || sum->host)
        return false;
    relu->in[0] = sum->in[0];
    relu->in[2] = sum->in[1];
    sum->removed = true;
    return true;
}

static void fuse_relu_dx(struct th_graph *g, struct th_node *relu)
{
    int dz = relu->out[0];
    if (absorb_sum(g, relu) || g->values[dz].wanted)
        return;
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; !g->nodes[i].removed && k < TH_MAX_IN; k++)
            if (g->nodes[i].in[k] == dz && !takes_mask(&g->nodes[i], dz))
                return;
    for (int i = 0; i < g->n_nodes; i++) {
        struct th_node *n = &g->nodes[i];
        if (n->removed || n->in[0] != dz)
            continue;
        n->in[0] = relu->in[0];
        n->in[mask_input(n->op)] = relu->in[1];
    }
    relu->removed = true;
}

thaw_status th_pass_fuse(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        struct th_node *n = &g->nodes[i];
        if (!n->removed && !n->host && n->op == TH_OP_relu && n->phase == TH_FORWARD)
            fuse_relu(g, n);
        if (!n->removed && n->op == TH_OP_relu_dx)
            fuse_relu_dx(g, n);
    }
    for (int i = 0; i < g->n_nodes; i++) /* adds without a ReLU after them */
        if (!g->nodes[i].removed && !g->nodes[i].host && g->nodes[i].op == TH_OP_add &&
            g->nodes[i].phase == TH_FORWARD)
            fuse_add(g, &g->nodes[i]);
    th_graph_sweep(g);
    return g->status;
}
