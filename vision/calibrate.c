/* SPDX-License-Identifier: Apache-2.0
 * Owns the sums of a calibration and the order of BatchNorms. */
#include "calibrate.h"

#include "mem.h"

#include <math.h>
#include <string.h>

/* ---- Order ---- */

/* How many BatchNorms lie between the image and each value, on the longest way. */
static void walk(const struct th_graph *g, int *depth, struct th_bn_place *place)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        int most = 0;
        for (int k = 0; k < TH_MAX_IN; k++)
            if (n->in[k] >= 0 && depth[n->in[k]] > most)
                most = depth[n->in[k]];
        if (n->op == TH_OP_batchnorm)
            place[n->bn] = (struct th_bn_place){most++, n->attr.norm.eps};
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (n->out[k] >= 0)
                depth[n->out[k]] = most;
    }
}

thaw_status th_bn_places(
    const struct th_model *m, struct th_bn_place *place, int *n_levels)
{
    struct th_graph g;
    int out = -1;
    th_graph_init(&g);
    thaw_status status =
        th_model_build((struct th_model *)m, &g, 1, false, false, &out);
    int *depth = th_alloc((size_t)g.n_values, sizeof *depth);
    if (status == THAW_OK && !depth)
        status = THAW_E_MEMORY;
    if (status == THAW_OK)
        walk(&g, depth, place);
    th_free(depth);
    th_graph_release(&g);
    *n_levels = 0;
    for (int i = 0; i < m->n_bns && status == THAW_OK; i++)
        if (place[i].level >= *n_levels)
            *n_levels = place[i].level + 1;
    return status;
}

/* ---- Sums ---- */

static int64_t channels_of(const struct th_model *m, int bn)
{
    return th_shape_count(&m->params[m->bns[bn].mean].shape);
}

static size_t pixels_of(const struct th_model *m)
{
    return th_input_values(&m->input);
}

thaw_status th_calibration_init(
    struct th_calibration *c, struct th_network *net, const bool *measured)
{
    const struct th_model *m = &net->model;
    size_t n = (size_t)m->n_bns;
    int64_t widest = 1;
    *c = (struct th_calibration){.net = net};
    c->measured = th_alloc(n, sizeof *c->measured);
    c->of = th_alloc(n, sizeof *c->of);
    if (!c->measured || !c->of)
        return THAW_E_MEMORY;
    for (int i = 0; i < m->n_bns; i++) {
        struct th_bn_moments *of = &c->of[i];
        c->measured[i] = measured[i];
        if (!measured[i])
            continue;
        of->channels = channels_of(m, i);
        of->mean = th_alloc((size_t)of->channels, sizeof *of->mean);
        of->m2 = th_alloc((size_t)of->channels, sizeof *of->m2);
        if (!of->mean || !of->m2)
            return THAW_E_MEMORY;
        widest = of->channels > widest ? of->channels : widest;
    }
    c->mean = th_alloc((size_t)widest, sizeof *c->mean);
    c->var = th_alloc((size_t)widest, sizeof *c->var);
    c->pair = th_alloc(2 * pixels_of(m), sizeof *c->pair);
    return c->mean && c->var && c->pair ? THAW_OK : THAW_E_MEMORY;
}

void th_calibration_release(struct th_calibration *c)
{
    for (int i = 0; c->of && i < c->net->model.n_bns; i++) {
        th_free(c->of[i].mean);
        th_free(c->of[i].m2);
    }
    th_free(c->measured);
    th_free(c->of);
    th_free(c->mean);
    th_free(c->var);
    th_free(c->pair);
    *c = (struct th_calibration){0};
}

thaw_status th_calibration_plan(
    const struct th_calibration *c, int n, struct th_plan **out)
{
    const struct th_plan_spec spec = {.model = &c->net->model,
        .mode = TH_CALIBRATE,
        .batch = n == 1 ? 2 : n,
        .measured = c->measured};
    return th_plan_new(&spec, &c->net->store, &c->net->arena, out);
}

static thaw_status get(
    struct th_plan *plan, const char *what, const char *bn, float *into)
{
    char *name = th_format("%s/%s", what, bn);
    thaw_status status = name ? th_plan_get(plan, name, into) : THAW_E_MEMORY;
    th_free(name);
    return status;
}

/* Values per channel of an image at a BatchNorm's input. */
static int64_t positions(const struct th_plan *plan, const char *bn)
{
    const struct th_graph *g = th_plan_graph(plan);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        if (n->op == TH_OP_bn_stats && !strcmp(n->name, bn)) {
            const int64_t *dim = g->values[n->in[0]].o.shape.dim;
            return dim[2] * dim[3];
        }
    }
    return 0;
}

/* Batch (n, mean, var) into the sums; var is biased. */
static void merge(
    struct th_bn_moments *a, double n, const float *mean, const float *var)
{
    double all = a->n + n;
    for (int64_t i = 0; i < a->channels; i++) {
        double delta = (double)mean[i] - a->mean[i];
        a->mean[i] += delta * (n / all);
        a->m2[i] += (double)var[i] * n + delta * delta * (a->n * n / all);
    }
    a->n = all;
}

thaw_status th_calibration_run(
    struct th_calibration *c, struct th_plan *plan, const float *images, int n)
{
    const struct th_model *m = &c->net->model;
    size_t pixels = pixels_of(m);
    if (n == 1) {
        memcpy(c->pair, images, pixels * sizeof *images);
        memcpy(c->pair + pixels, images, pixels * sizeof *images);
        images = c->pair;
    }
    TRY(th_plan_set(plan, "image", images));
    TRY(th_plan_run(plan));
    for (int i = 0; i < m->n_bns; i++) {
        const char *name = m->bns[i].name;
        if (!c->measured[i])
            continue;
        TRY(get(plan, "bn.mean", name, c->mean));
        TRY(get(plan, "bn.var", name, c->var));
        merge(&c->of[i], (double)(n * positions(plan, name)), c->mean, c->var);
    }
    return THAW_OK;
}

/* ---- Distance ---- */

static thaw_status get_running(const struct th_calibration *c, int param, float *into)
{
    const struct th_store *s = &c->net->store;
    return th_store_get(s, th_store_find(s, c->net->model.params[param].name), into);
}

thaw_status th_calibration_distance(
    const struct th_calibration *c, int bn, float eps, struct th_bn_distance *out)
{
    const struct th_bn_moments *a = &c->of[bn];
    const struct th_bn *row = &c->net->model.bns[bn];
    TRY(get_running(c, row->mean, c->mean));
    TRY(get_running(c, row->var, c->var));
    *out = (struct th_bn_distance){0};
    for (int64_t i = 0; i < a->channels; i++) {
        double other = (double)c->var[i] + (double)eps;
        double var = a->m2[i] / (a->n - 1) + (double)eps;
        out->shift += fabs(a->mean[i] - (double)c->mean[i]) / sqrt(other);
        out->scale += fabs(log(var / other)) / 2;
    }
    out->shift /= (double)a->channels;
    out->scale /= (double)a->channels;
    return THAW_OK;
}
