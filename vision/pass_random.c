/* SPDX-License-Identifier: Apache-2.0
 * Removes dropout and stochastic depth where nothing trains at it (in its stage) or below it: it would only blur
 * what a frozen network says, and keep it from being folded and cut. The head's dropout
 * belongs to the head: it acts as long as the head trains, over whatever is frozen. */
#include "pass.h"

#include "mem.h"

static bool stage_trains(const struct th_lowering *l, int stage)
{
    const struct th_model *m = l->spec->model;
    for (int i = 0; l->spec->mode == TH_TRAIN && i < m->n_params; i++)
        if (m->params[i].stage == stage && l->spec->freeze->trainable[i])
            return true;
    return false;
}

static bool reads_trained(
    const struct th_graph *g, const struct th_node *n, const bool *trained)
{
    for (int k = 0; k < TH_MAX_IN; k++)
        if (n->in[k] >= 0 && (trained[n->in[k]] || g->values[n->in[k]].trainable))
            return true;
    return false;
}

/* Nodes behind node i read what it reads. */
static void bypass(struct th_graph *g, int i)
{
    for (int j = i + 1; j < g->n_nodes; j++)
        for (int k = 0; k < TH_MAX_IN; k++)
            if (g->nodes[j].in[k] == g->nodes[i].out[0])
                g->nodes[j].in[k] = g->nodes[i].in[0];
    g->nodes[i].removed = true;
}

thaw_status th_pass_random(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    bool *trained = th_alloc((size_t)g->n_values, sizeof *trained);
    if (!trained)
        return THAW_E_MEMORY;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        bool reads = reads_trained(g, n, trained);
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (n->out[k] >= 0)
                trained[n->out[k]] = reads;
        if (th_op_is_random(n->op) && !reads && !stage_trains(l, n->stage))
            bypass(g, i);
    }
    th_free(trained);
    return g->status;
}
