/* SPDX-License-Identifier: Apache-2.0
 * Owns operation graphs: which tensors there are, who makes them, and an order to run in. */
#include "dnn.h"

#include <stdlib.h>
#include <string.h>

int dnn_find_tensor(const struct dnn_graph *g, int64_t uid)
{
    for (int i = 0; i < g->n_tensors; i++)
        if (g->tensors[i].uid == uid)
            return i;
    return -1;
}

static bool alike(const struct dnn_tensor *a, const struct dnn_tensor *b)
{
    return a->type == b->type && a->rank == b->rank && a->is_virtual == b->is_virtual &&
           a->by_value == b->by_value && memcmp(a->dim, b->dim, sizeof a->dim) == 0 &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

static cudnnStatus_t add_tensor(
    struct dnn_graph *g, const struct dnn_descriptor *d, bool output)
{
    struct dnn_tensor t;
    dnn_tensor_of(d, &t);
    int i = dnn_find_tensor(g, t.uid);
    if (i < 0 && g->n_tensors == DNN_TENSORS)
        return dnn_stricter("a graph of more than %d tensors", (int)DNN_TENSORS);
    if (i >= 0 && !alike(&g->tensors[i], &t))
        return dnn_stricter("uid %lld is two different tensors", (long long)t.uid);
    if (i < 0) {
        i = g->n_tensors++;
        g->tensors[i] = t;
    }
    if (output && g->tensors[i].made)
        return dnn_stricter("uid %lld is made by two nodes", (long long)t.uid);
    if (output && t.by_value)
        return dnn_stricter("uid %lld is made, but by value", (long long)t.uid);
    g->tensors[i].made = g->tensors[i].made || output;
    g->tensors[i].read = g->tensors[i].read || !output;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t add_tensors(struct dnn_graph *g, const struct dnn_descriptor *node)
{
    int n;
    const struct dnn_rule *rule = dnn_rules(node->type, &n);
    for (int i = 0; i < n; i++) {
        const struct dnn_descriptor *d = NULL;
        if (rule[i].points_to == CUDNN_BACKEND_TENSOR_DESCRIPTOR)
            d = dnn_inner(node, rule[i].name);
        cudnnStatus_t status =
            d ? add_tensor(g, d, rule[i].flags & DNN_OUTPUT) : CUDNN_STATUS_SUCCESS;
        if (status != CUDNN_STATUS_SUCCESS)
            return status;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* Whether what the node reads has been made; what it makes, is by now. */
static bool place_node(
    const struct dnn_graph *g, const struct dnn_descriptor *node, bool *there)
{
    int n, out[DNN_TENSORS], n_out = 0;
    const struct dnn_rule *rule = dnn_rules(node->type, &n);
    for (int i = 0; i < n; i++) {
        const struct dnn_descriptor *d = NULL;
        if (rule[i].points_to == CUDNN_BACKEND_TENSOR_DESCRIPTOR)
            d = dnn_inner(node, rule[i].name);
        if (!d)
            continue;
        int t = dnn_find_tensor(g, *dnn_numbers(d, CUDNN_ATTR_TENSOR_UNIQUE_ID));
        if (rule[i].flags & DNN_OUTPUT)
            out[n_out++] = t;
        else if (!there[t])
            return false;
    }
    for (int i = 0; i < n_out; i++)
        there[out[i]] = true;
    return true;
}

static cudnnStatus_t order(struct dnn_graph *g, struct dnn_descriptor **nodes, int n)
{
    bool there[DNN_TENSORS], placed[DNN_NODES] = {false};
    for (int i = 0; i < g->n_tensors; i++)
        there[i] = !g->tensors[i].made;
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < n; i++)
            if (!placed[i] && place_node(g, nodes[i], there)) {
                g->nodes[g->n_nodes++] = nodes[i];
                placed[i] = any = true;
            }
    }
    return g->n_nodes == n ? CUDNN_STATUS_SUCCESS
                           : dnn_stricter("a graph with a circle");
}

static cudnnStatus_t check_ends(const struct dnn_graph *g)
{
    bool any = false;
    for (int i = 0; i < g->n_tensors; i++) {
        const struct dnn_tensor *t = &g->tensors[i];
        any = any || (t->made && !t->is_virtual);
        if (t->is_virtual && !t->made)
            return dnn_stricter(
                "uid %lld is virtual, and nothing makes it", (long long)t->uid);
        if (t->is_virtual && !t->read)
            return dnn_stricter(
                "uid %lld is virtual, and nothing reads it", (long long)t->uid);
    }
    return any ? CUDNN_STATUS_SUCCESS : dnn_stricter("a graph without a real output");
}

static bool is_operation(const struct dnn_descriptor *d)
{
    return strncmp(dnn_name(d->type), "OPERATION_", 10) == 0;
}

cudnnStatus_t dnn_graph_new(struct dnn_descriptor *d)
{
    const struct dnn_value *ops = dnn_value(d, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    struct dnn_descriptor **nodes = ops->data;
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    struct dnn_graph *g = calloc(1, sizeof *g);
    if (!g)
        abort();
    for (int i = 0; status == CUDNN_STATUS_SUCCESS && i < ops->n; i++)
        status = is_operation(nodes[i])
                     ? add_tensors(g, nodes[i])
                     : dnn_refuse(CUDNN_STATUS_BAD_PARAM, "a graph of a %s descriptor",
                           dnn_name(nodes[i]->type));
    if (status == CUDNN_STATUS_SUCCESS)
        status = order(g, nodes, (int)ops->n);
    if (status == CUDNN_STATUS_SUCCESS)
        status = check_ends(g);
    if (status == CUDNN_STATUS_SUCCESS)
        d->operations = g;
    else
        free(g);
    return status;
}
