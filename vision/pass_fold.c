/* SPDX-License-Identifier: Apache-2.0
 * Folds a BatchNorm on running statistics into the convolution before it where neither
 * trains, or only an adapter of the weight does: w' = w g/sqrt(v+eps), b' = (b - m)
 * g/sqrt(v+eps) + beta; and so a LayerScale into the linear layer before it: w' = gamma w, b' = gamma b. The folded weights are a derived
 * value: made once, and again only when what they are made from changes. Holds above the
 * cut too: dx of the pair is dx of the folded layer. */
#include "pass.h"

/* A frozen weight, or one with its adapter merged into it: fold(w + s B A) is made again
 * whenever that is. */
static bool foldable_weight(struct th_graph *g, int value)
{
    const struct th_node *maker = th_graph_maker(g, value);
    return maker
               ? maker->op == TH_OP_lora_merge && !g->values[maker->in[0]].trainable
               : g->values[value].kind == TH_VALUE_STATE && !g->values[value].trainable;
}

static bool lasting_and_still(const struct th_graph *g, int value)
{
    return value < 0 ||
           (g->values[value].kind == TH_VALUE_STATE && !g->values[value].trainable);
}

/* Where the int8 prefix ends between the two, in evaluation as in training. */
static bool parted(const struct th_lowering *l, const struct th_node *bn)
{
    return l->moves && !l->moves[bn->in[0]] && l->moves[bn->out[0]];
}

/* The convolution that a bn_apply can be folded into, NULL if it cannot. */
static struct th_node *foldable(struct th_lowering *l, const struct th_node *bn)
{
    struct th_graph *g = &l->graph;
    struct th_node *conv = parted(l, bn) ? NULL : th_graph_maker(g, bn->in[0]);
    if (!conv || conv->op != TH_OP_conv || conv->host || conv->in[3] >= 0 ||
        conv->attr.conv.relu || g->values[bn->in[0]].wanted ||
        th_graph_readers(g, bn->in[0]) != 1)
        return NULL;
    for (int k = 1; k <= 4; k++)
        if (!lasting_and_still(g, bn->in[k]))
            return NULL;
    return foldable_weight(g, conv->in[1]) && lasting_and_still(g, conv->in[2]) ? conv
                                                                                : NULL;
}

static int derived_value(struct th_graph *g, const struct th_operand *like)
{
    int v = th_graph_value(g, like);
    if (v >= 0)
        g->values[v].kind = TH_VALUE_DERIVED;
    return v;
}

/* One node at the place of the second, and what makes its weights at the first's, which
 * reads only states. */
static void fold_batchnorm(struct th_graph *g, struct th_node *bn, struct th_node *conv)
{
    int w = derived_value(g, &g->values[conv->in[1]].o);
    int b = derived_value(g, &g->values[bn->in[4]].o);
    struct th_node old = *bn;
    bn->op = TH_OP_conv;
    bn->name = conv->name;
    conv->name = old.name;
    bn->attr = conv->attr;
    for (int k = 0; k < TH_MAX_IN; k++)
        bn->in[k] = -1;
    bn->in[0] = conv->in[0];
    bn->in[1] = w;
    bn->in[2] = b;
    conv->op = TH_OP_bn_fold;
    conv->attr = old.attr;
    int in[] = {conv->in[1], conv->in[2], old.in[3], old.in[4], old.in[1], old.in[2]};
    for (int k = 0; k < TH_MAX_IN; k++)
        conv->in[k] = k < 6 ? in[k] : -1;
    conv->out[0] = w;
    conv->out[1] = b;
}

/* The linear layer that a layerscale can be folded into, NULL if it cannot. */
static struct th_node *scalable(struct th_graph *g, const struct th_node *scale)
{
    struct th_node *linear = th_graph_maker(g, scale->in[0]);
    bool fits = linear && linear->op == TH_OP_linear && !linear->host &&
                !g->values[scale->in[0]].wanted &&
                th_graph_readers(g, scale->in[0]) == 1;
    return fits && foldable_weight(g, linear->in[1]) &&
                   lasting_and_still(g, linear->in[2]) &&
                   lasting_and_still(g, scale->in[1])
               ? linear
               : NULL;
}

static void fold_layerscale(
    struct th_graph *g, struct th_node *scale, struct th_node *linear)
{
    int gamma = scale->in[1], bias = linear->in[2];
    int w = derived_value(g, &g->values[linear->in[1]].o);
    int b = bias < 0 ? -1 : derived_value(g, &g->values[bias].o);
    char *name = scale->name;
    scale->op = TH_OP_linear;
    scale->attr = linear->attr;
    scale->name = linear->name;
    linear->name = name;
    scale->in[0] = linear->in[0];
    scale->in[1] = w;
    scale->in[2] = b;
    linear->op = TH_OP_linear_fold;
    linear->in[0] = linear->in[1];
    linear->in[1] = bias;
    linear->in[2] = gamma;
    linear->out[0] = w;
    linear->out[1] = b;
}

thaw_status th_pass_fold(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    int n = g->n_nodes;
    for (int i = 0; i < n; i++) {
        struct th_node *node = &g->nodes[i];
        struct th_node *conv = node->op == TH_OP_bn_apply ? foldable(l, node) : NULL;
        struct th_node *linear =
            node->op == TH_OP_layerscale ? scalable(g, node) : NULL;
        if (conv)
            fold_batchnorm(g, node, conv);
        if (linear)
            fold_layerscale(g, node, linear);
    }
    return g->status;
}
