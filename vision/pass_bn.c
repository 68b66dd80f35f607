/* SPDX-License-Identifier: Apache-2.0
 * Lowers batchnorm nodes by their mode into the steps that the mode consists of:
 *
 *   train, stats     bn_stats, bn_apply(batch), bn_update
 *   stats-running    bn_apply(running), bn_stats, bn_update
 *   frozen, affine   bn_apply(running)
 *   (calibration)    bn_apply(running), bn_stats where they are asked for
 *
 * Updates are commit nodes: pass_update puts them behind the finite flag. */
#include "pass.h"

#include "mem.h"

static const float MOMENTUM = 0.1F; /* torch.nn.BatchNorm2d: weight of the new value */

static int state_value(struct th_lowering *l)
{
    if (l->scalars < 0)
        l->scalars = th_graph_state(&l->graph, "scalars",
            TH_SHAPE((int64_t)(sizeof(struct th_scalars) / sizeof(float))));
    return l->scalars;
}

/* Statistics of x. */
static thaw_status emit_statistics(
    struct th_lowering *l, const struct th_node *bn, int *mean, int *var)
{
    struct th_graph *g = &l->graph;
    const struct th_shape *x = &g->values[bn->in[0]].o.shape;
    if (th_shape_count(x) / x->dim[1] < 2)
        return th_fail(THAW_E_USAGE,
            "%s: batch statistics of a single value per channel: use a larger batch or "
            "image, or --bn frozen",
            bn->name);
    *mean = th_graph_value(g, &g->values[bn->in[3]].o);
    *var = th_graph_value(g, &g->values[bn->in[4]].o);
    th_graph_emit(g, TH_OP_bn_stats, TH_FORWARD, &bn->attr, (int[]){bn->in[0]},
        (int[]){*mean, *var}, bn->name);
    return g->status;
}

/* The running statistics take them in. */
static thaw_status emit_update(
    struct th_lowering *l, const struct th_node *bn, int mean, int var)
{
    struct th_graph *g = &l->graph;
    const struct th_shape *x = &g->values[bn->in[0]].o.shape;
    union th_attr attr = bn->attr;
    attr.norm.momentum = MOMENTUM;
    attr.norm.count = th_shape_count(x) / x->dim[1];
    th_graph_emit(g, TH_OP_bn_update, TH_COMMIT, &attr,
        (int[]){mean, var, bn->in[3], bn->in[4], state_value(l)}, NULL, bn->name);
    return g->status;
}

static thaw_status want(
    struct th_lowering *l, int value, const char *what, const struct th_node *bn)
{
    char *name = th_format("%s/%s", what, bn->name);
    if (!name)
        return THAW_E_MEMORY;
    th_graph_want(&l->graph, value, name);
    th_free(name);
    return l->graph.status;
}

static thaw_status lower(struct th_lowering *l, const struct th_node *bn)
{
    struct th_graph *g = &l->graph;
    enum th_bn_mode mode =
        l->spec->mode == TH_TRAIN ? l->spec->freeze->bn[bn->bn] : TH_BN_FROZEN;
    bool measured = l->spec->mode == TH_CALIBRATE && l->spec->measured[bn->bn];
    int mean = bn->in[3], var = bn->in[4], batch_mean = -1, batch_var = -1;
    if (th_bn_updates(mode) || measured)
        TRY(emit_statistics(l, bn, &batch_mean, &batch_var));
    if (th_bn_updates(mode))
        TRY(emit_update(l, bn, batch_mean, batch_var));
    if (measured) {
        TRY(want(l, batch_mean, "bn.mean", bn));
        TRY(want(l, batch_var, "bn.var", bn));
    }
    if (th_bn_uses_batch(mode)) {
        mean = batch_mean;
        var = batch_var;
    }
    th_graph_emit(g, TH_OP_bn_apply, TH_FORWARD, &bn->attr,
        (int[]){bn->in[0], mean, var, bn->in[1], bn->in[2], -1},
        (int[]){bn->out[0], -1}, bn->name);
    return g->status;
}

thaw_status th_pass_bn(struct th_lowering *l)
{
    int n = 0;
    struct th_node *nodes = th_graph_take(&l->graph, &n);
    thaw_status status = THAW_OK;
    for (int i = 0; i < n; i++) {
        if (nodes[i].op != TH_OP_batchnorm) {
            th_graph_push(&l->graph, &nodes[i]);
            continue;
        }
        if (status == THAW_OK)
            status = lower(l, &nodes[i]);
        th_free(nodes[i].name);
    }
    th_free(nodes);
    return status != THAW_OK ? status : l->graph.status;
}
