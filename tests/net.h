/* SPDX-License-Identifier: Apache-2.0
 * A small network for tests: a model on a device with values by formula, and one plan.
 *
 * Values (as in tests/golden/make.py): element i of tensor NAME is drawn from the stream
 * key th_rng_mix_name(seed, NAME); see th_net_value. */
#ifndef TH_TESTS_NET_H
#define TH_TESTS_NET_H

#include "mem.h"
#include "must.h"
#include "network.h"
#include "plan.h"
#include "rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct net {
    struct th_device *device;
    struct th_store store;
    struct th_arena arena;
    struct th_model model;
    struct th_freeze freeze;
    struct th_optim optim;
    struct th_plan *plan;
    int batch;
};

/* heads/classify.c, on whatever a backbone pools. */
extern const struct th_head th_head_classify;

/* Every device that a build may have. */
static const char *const net_devices[] = {
    "ref", "far", "cpu:avx512", "cpu:avx2", "cpu:base"};
enum { NET_DEVICES = sizeof net_devices / sizeof *net_devices };

/* Non-trivial values of every role, so that no BatchNorm mode equals another. */
static inline float net_value(const struct th_param *p, uint64_t key, int64_t i)
{
    float normal = th_rng_normal(key, (uint64_t)i);
    int64_t fan_out = p->shape.dim[0] * p->shape.dim[2] * p->shape.dim[3];
    switch (p->role) {
    case TH_ROLE_CONV:
        return normal * (float)sqrt(2.0 / (double)fan_out);
    case TH_ROLE_GAMMA:
    case TH_ROLE_LN_GAMMA:
        return 1.0F + 0.1F * normal;
    case TH_ROLE_VAR:
        return 0.5F + th_rng_uniform(key, (uint64_t)i);
    case TH_ROLE_LINEAR:
        return 0.01F * normal;
    case TH_ROLE_LORA_A:
    case TH_ROLE_LORA_B:
        return 0.1F * normal;
    case TH_ROLE_BIAS:
    case TH_ROLE_BETA:
    case TH_ROLE_MEAN:
    case TH_ROLE_LN_BETA:
    case TH_ROLE_TOKEN:
    case TH_ROLE_POSITION:
        return 0.1F * normal;
    case TH_ROLE_SCALE:
        return 0.5F + 0.1F * normal;
    }
    return 0.0F;
}

static inline void net_fill(struct net *n, uint64_t seed)
{
    for (int i = 0; i < n->model.n_params; i++) {
        const struct th_param *p = &n->model.params[i];
        int64_t count = th_shape_count(&p->shape);
        float *v = th_alloc((size_t)count, sizeof *v);
        for (int64_t k = 0; k < count; k++)
            v[k] = net_value(p, th_rng_mix_name(seed, p->name), k);
        int id = -1;
        must(th_store_add(&n->store, p->name, p->shape, &id));
        must(th_store_put(&n->store, id, v));
        th_free(v);
    }
}

/* Whether this machine and build can open it: instruction sets differ. */
static inline bool net_has_device(const char *name)
{
    struct th_device *device = NULL;
    bool opened = th_device_open(name, 1, &device) == THAW_OK;
    th_device_close(device);
    return opened;
}

struct net_shape {
    const char *variant, *head;
    int width; /* th_model.head_width */
    struct th_size size;
    int classes;
};

/* Values drawn from seed; SGD without momentum. */
static inline void net_open_as(
    struct net *n, const char *device, struct net_shape shape, uint64_t seed)
{
    const struct th_backbone *backbone = NULL;
    const struct th_variant *v = NULL;
    const struct th_head *head = NULL;
    const char *names[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    *n = (struct net){.optim = {.kind = TH_SGD}};
    must(th_device_open(device, 2, &n->device));
    th_store_init(&n->store, n->device);
    th_arena_init(&n->arena, n->device);
    must(th_variant_find(shape.variant, &backbone, &v));
    must(th_head_find(shape.head, &head));
    struct th_input input = v->input;
    input.size = shape.size;
    must(th_model_init(
        &n->model, backbone, v, head, shape.width, &input, names, shape.classes));
    net_fill(n, seed);
}

/* A classifier of squares. */
static inline void net_open(struct net *n, const char *device, const char *variant,
    int size, int classes, uint64_t seed)
{
    net_open_as(n, device,
        (struct net_shape){variant, "classify", 0, {size, size}, classes}, seed);
    n->optim.momentum = 0.9F;
    n->optim.weight_decay = 1e-4F;
}

/* Normal numbers from the stream `stream` of seed. */
static inline void net_upload_random(
    struct net *n, const char *name, uint64_t seed, const char *stream)
{
    int v = th_graph_find(th_plan_graph(n->plan), name);
    if (v < 0)
        return;
    int64_t count = th_shape_count(&th_plan_graph(n->plan)->values[v].o.shape);
    float *x = th_alloc((size_t)count, sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = th_rng_normal(th_rng_mix_name(seed, stream), (uint64_t)i);
    must(th_plan_set(n->plan, name, x));
    th_free(x);
}

/* One-hot targets i -> i*3 mod classes. */
static inline void net_upload_target(struct net *n)
{
    int k = n->model.n_classes;
    float *t = th_alloc((size_t)(n->batch * k), sizeof *t);
    for (int i = 0; i < n->batch; i++)
        t[i * k + i * 3 % k] = 1.0F;
    must(th_plan_set(n->plan, "target", t));
    th_free(t);
}

static inline void net_plan(
    struct net *n, struct th_plan_spec spec, const char *thaw, const char *bn)
{
    th_plan_free(n->plan);
    n->plan = NULL;
    th_freeze_release(&n->freeze);
    must(th_freeze_init(&n->freeze, &n->model, thaw, bn, spec.batch));
    spec.model = &n->model;
    spec.freeze = &n->freeze;
    spec.optim = &n->optim;
    n->batch = spec.batch;
    must(th_plan_new(&spec, &n->store, &n->arena, &n->plan));
}

static inline void net_scalars(struct net *n, float lr)
{
    struct th_scalars s = {
        .lr = lr, .loss_scale = 1.0F, .ema_decay = 0.9F, .clip = 1.0F};
    int id = th_store_find(&n->store, "scalars");
    if (id >= 0)
        must(th_store_put(&n->store, id, (const float *)&s));
}

/* Images and targets drawn from seed. */
static inline void net_upload(struct net *n, uint64_t seed, float lr)
{
    net_upload_random(n, "image", seed, "images");
    if (th_plan_has(n->plan, "target"))
        net_upload_target(n);
    net_scalars(n, lr);
}

/* One run on these. */
static inline void net_run(struct net *n, uint64_t seed, float lr)
{
    net_upload(n, seed, lr);
    must(th_plan_run(n->plan));
}

/* How far n values are from the norm and the eight samples, element k (n - 1) / 7, that a
 * golden file has: the larger one, relative to the norm. */
static inline double net_from_golden(
    const float *x, int64_t n, double want_norm, const double *sample)
{
    enum { LAST = 7 };
    double norm = 0, off = 0;
    for (int64_t i = 0; i < n; i++)
        norm += (double)x[i] * (double)x[i];
    for (int k = 0; k <= LAST; k++) {
        double d = (double)x[k * (n - 1) / LAST] - sample[k];
        off += d * d;
    }
    return fmax(fabs(sqrt(norm) - want_norm), sqrt(off)) / want_norm;
}

static inline void net_close(struct net *n)
{
    th_plan_free(n->plan);
    th_freeze_release(&n->freeze);
    th_model_release(&n->model);
    th_arena_release(&n->arena);
    th_store_release(&n->store);
    th_device_close(n->device);
}

/* Nodes of the plan with this op. */
static inline int net_count_op(const struct net *n, enum th_op op)
{
    const struct th_graph *g = th_plan_graph(n->plan);
    int count = 0;
    for (int i = 0; i < g->n_nodes; i++)
        count += g->nodes[i].op == op;
    return count;
}

/* Gradients of all parameters that train, one after the other, of a plan that keeps them;
 * closes the net. */
static inline float *net_take_gradients(struct net *n, int64_t *count)
{
    *count = th_freeze_trained(&n->freeze, &n->model);
    float *all = th_alloc((size_t)*count, sizeof *all), *at = all;
    for (int i = 0; i < n->model.n_params; i++) {
        char name[160];
        if (!n->freeze.trainable[i])
            continue;
        snprintf(name, sizeof name, "grad/%s", n->model.params[i].name);
        must(th_plan_get(n->plan, name, at));
        at += th_shape_count(&n->model.params[i].shape);
    }
    net_close(n);
    return all;
}

/* Whether an eval plan on the store sees what training changes: the same bits without a
 * step between, others after one. */
static inline void net_evaluation_follows(
    struct net *n, const char *thaw, const char *bn)
{
    struct th_plan *eval = NULL;
    struct th_plan_spec spec = {.model = &n->model, .mode = TH_EVAL, .batch = 2};
    net_plan(n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = 2}, thaw, bn);
    must(th_plan_new(&spec, &n->store, &n->arena, &eval));
    float logits[3][10] = {{0}};
    for (int i = 0; i < 3; i++) {
        struct th_plan *train = n->plan;
        n->plan = eval;
        net_upload_random(n, "image", 3, "images");
        n->plan = train;
        must(th_plan_run(eval));
        must(th_plan_get(eval, "logits", logits[i]));
        must(th_plan_verify(eval));
        if (i)
            net_run(n, 1, 0.1F);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_memory_not_equal(logits[1], logits[2], sizeof logits[0]);
    th_plan_free(eval);
    net_close(n);
}

static inline float *net_gradients_of(const char *variant, int size, enum th_keep keep,
    const char *device, unsigned without, const char *thaw, const char *bn,
    int64_t *count, float *loss)
{
    struct net n;
    net_open(&n, device, variant, size, 5, 7);
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN,
            .batch = 3,
            .keep_gradients = true,
            .no_update = true,
            .keep = keep,
            .without = without},
        thaw, bn);
    net_run(&n, 1, 0.0F);
    must(th_plan_get(n.plan, "loss", loss));
    return net_take_gradients(&n, count);
}

static inline float *net_gradients(enum th_keep keep, const char *device,
    unsigned without, const char *thaw, const char *bn, int64_t *count, float *loss)
{
    return net_gradients_of(
        "resnet20", 16, keep, device, without, thaw, bn, count, loss);
}

/* ||a - b|| / ||b|| */
static inline double net_distance(const float *a, const float *b, int64_t n)
{
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        s += (double)b[i] * b[i];
    }
    return s > 0 ? sqrt(d / s) : sqrt(d);
}

#endif
