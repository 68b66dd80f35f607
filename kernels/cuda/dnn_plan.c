/* SPDX-License-Identifier: Apache-2.0
 * Owns plans: cuDNN's descriptors of a graph, the choice of an engine, a run. The calls
 * themselves: dnn_calls.c. A plan keeps the descriptors that it was made of until it is freed. */
#include "dnn_calls.h"
#include "dnn_nodes.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_CONFIGS = 64, /* of one heuristic mode */
    MAX_DESCRIPTORS = TH_CUDNN_TENSORS + 2 * TH_CUDNN_NODES + 8
};

struct th_cudnn_plan {
    const char *name;
    cudnnBackendDescriptor_t made[MAX_DESCRIPTORS]; /* owned */
    int n_made;
    cudnnBackendDescriptor_t tensors[TH_CUDNN_TENSORS]; /* of made */
    cudnnBackendDescriptor_t graph, plan;               /* of made */
    struct th_cudnn_engine engine;
    bool multiplies;
    int n_tensors;
    bool bound[TH_CUDNN_TENSORS]; /* wants a pointer */
    bool scalar[TH_CUDNN_TENSORS];
    float values[TH_CUDNN_TENSORS]; /* of scalars */
};

/* ---- descriptors that it keeps ---- */

static thaw_status create(struct th_cudnn_plan *p, cudnnBackendDescriptorType_t type,
    cudnnBackendDescriptor_t *out)
{
    if (p->n_made == MAX_DESCRIPTORS)
        return th_fail(THAW_E_FAIL, "%s: more descriptors than a graph has", p->name);
    cudnnStatus_t status = cudnnBackendCreateDescriptor(type, out);
    if (status != CUDNN_STATUS_SUCCESS)
        return th_cudnn_refused(p->name, "a descriptor", status);
    p->made[p->n_made++] = *out;
    return THAW_OK;
}

/* ---- the graph's descriptors ---- */

int th_cudnn_alignment(const struct th_cudnn_tensor *t)
{
    int alignment = 16;                        /* what engines may load at once */
    while (t->offset % (size_t)alignment != 0) /* k behind q in a row of odd length */
        alignment /= 2;
    return alignment;
}

static thaw_status make_tensor(
    struct th_cudnn_plan *p, const struct th_cudnn_graph *g, int index)
{
    const struct th_cudnn_tensor *t = &g->tensors[index];
    int64_t alignment = th_cudnn_alignment(t);
    cudnnBackendDescriptor_t d;
    char what[96];
    th_cudnn_tensor_text(g, index, what, sizeof what);
    TRY(create(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR, &d));
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_TENSOR_DATA_TYPE,
        CUDNN_TYPE_DATA_TYPE, 1, &t->type));
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64,
        t->rank, t->dim));
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64,
        t->rank, t->stride));
    TRY(th_cudnn_set(
        p->name, what, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &t->uid));
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT,
        CUDNN_TYPE_INT64, 1, &alignment));
    if (t->kind == TH_CUDNN_VIRTUAL)
        TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL,
            CUDNN_TYPE_BOOLEAN, 1, &(bool){true}));
    if (t->kind == TH_CUDNN_SCALAR)
        TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE,
            CUDNN_TYPE_BOOLEAN, 1, &(bool){true}));
    TRY(th_cudnn_finalize(p->name, what, d));
    p->tensors[index] = d;
    return THAW_OK;
}

/* What a run has to know of the graph. */
static thaw_status take_graph(struct th_cudnn_plan *p, const struct th_cudnn_graph *g)
{
    TRY(th_cudnn_graph_check(g));
    p->name = g->name;
    p->n_tensors = g->n_tensors;
    p->multiplies = th_cudnn_multiplies(g);
    for (int i = 0; i < g->n_tensors; i++) {
        const struct th_cudnn_tensor *t = &g->tensors[i];
        p->bound[i] = t->kind != TH_CUDNN_VIRTUAL && th_cudnn_uses(g, i);
        p->scalar[i] = t->kind == TH_CUDNN_SCALAR;
        p->values[i] = t->value;
    }
    return THAW_OK;
}

static thaw_status make_settings(struct th_cudnn_plan *p, const char *what,
    const struct th_cudnn_node *n, bool inner, cudnnBackendDescriptor_t d)
{
    for (int i = 0; i < n->n_settings; i++) {
        const struct th_cudnn_setting *s = &n->settings[i];
        if (s->inner != inner)
            continue;
        if (s->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
            TRY(th_cudnn_set_descriptor(
                p->name, what, d, s->name, p->tensors[s->value.e]));
        else
            TRY(th_cudnn_set(p->name, what, d, s->name, s->type, s->n, &s->value));
    }
    return THAW_OK;
}

static thaw_status make_node(struct th_cudnn_plan *p, const struct th_cudnn_graph *g,
    int index, cudnnBackendDescriptor_t *out)
{
    const struct th_cudnn_node *n = &g->nodes[index];
    cudnnBackendDescriptor_t inner = NULL;
    char what[512];
    th_cudnn_node_text(g, index, what, sizeof what);
    if (n->has_inner) {
        TRY(create(p, n->inner, &inner));
        TRY(make_settings(p, what, n, true, inner));
        TRY(th_cudnn_finalize(p->name, what, inner));
    }
    TRY(create(p, n->type, out));
    if (n->has_inner)
        TRY(th_cudnn_set_descriptor(p->name, what, *out, n->inner_at, inner));
    TRY(make_settings(p, what, n, false, *out));
    return th_cudnn_finalize(p->name, what, *out);
}

static thaw_status make_graph(struct th_cudnn_plan *p, const struct th_cudnn_graph *g)
{
    cudnnBackendDescriptor_t nodes[TH_CUDNN_NODES];
    TRY(take_graph(p, g));
    for (int i = 0; i < g->n_tensors; i++)
        if (th_cudnn_uses(g, i))
            TRY(make_tensor(p, g, i));
    for (int i = 0; i < g->n_nodes; i++)
        TRY(make_node(p, g, i, &nodes[i]));
    TRY(create(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &p->graph));
    TRY(th_cudnn_set(p->name, "the graph", p->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS,
        CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_nodes, nodes));
    return th_cudnn_finalize(p->name, "the graph", p->graph);
}

/* ---- engines ---- */

bool th_cudnn_allowed(
    const struct th_cudnn_policy *policy, bool multiplies, unsigned numerical)
{
    const unsigned inexact = 1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE |
                             1U << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS |
                             1U << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    return !(policy->strict && multiplies && numerical & inexact) &&
           !(policy->deterministic &&
               numerical & 1U << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
}

static unsigned notes(cudnnBackendDescriptor_t engine, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type)
{
    int found[32];
    int64_t n = 0;
    unsigned bits = 0;
    if (cudnnBackendGetAttribute(engine, name, type, 32, &n, found) !=
        CUDNN_STATUS_SUCCESS)
        return 0;
    for (int64_t i = 0; i < n && i < 32; i++)
        bits |= 1U << (found[i] & 31);
    return bits;
}

/* The notes of a configuration's engine. */
static thaw_status look_at(struct th_cudnn_plan *p, cudnnBackendDescriptor_t config,
    struct th_cudnn_engine *engine)
{
    cudnnBackendDescriptor_t d = NULL;
    int64_t n = 0;
    cudnnStatus_t status =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &d);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
            CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &d);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendGetAttribute(
            d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &engine->index);
    if (status == CUDNN_STATUS_SUCCESS) {
        engine->numerical =
            notes(d, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
        engine->behaviour =
            notes(d, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE);
    }
    if (d)
        cudnnBackendDestroyDescriptor(d);
    return status == CUDNN_STATUS_SUCCESS
               ? THAW_OK
               : th_cudnn_refused(p->name, "to name an engine", status);
}

/* What one mode of the heuristics offers; *n of them are the caller's to destroy, whatever
 * is returned. */
static thaw_status ask(struct th_cudnn_plan *p, const struct th_cudnn_target *target,
    cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t *configs, int *n)
{
    cudnnBackendDescriptor_t d;
    int64_t offered = 0;
    const char *what = "to choose engines";
    *n = 0;
    TRY(create(p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &d));
    TRY(th_cudnn_set_descriptor(
        p->name, what, d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, p->graph));
    TRY(th_cudnn_set(
        p->name, what, d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode));
    TRY(th_cudnn_set_descriptor(
        p->name, what, d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target->description));
    TRY(th_cudnn_finalize(p->name, what, d));
    while (*n < MAX_CONFIGS) {
        cudnnStatus_t status = cudnnBackendCreateDescriptor(
            CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &configs[*n]);
        if (status != CUDNN_STATUS_SUCCESS)
            return th_cudnn_refused(p->name, "a descriptor", status);
        ++*n;
    }
    cudnnStatus_t status = cudnnBackendGetAttribute(d, CUDNN_ATTR_ENGINEHEUR_RESULTS,
        CUDNN_TYPE_BACKEND_DESCRIPTOR, *n, &offered, configs);
    if (status != CUDNN_STATUS_SUCCESS)
        return th_cudnn_refused(p->name, what, status);
    while (*n > offered)
        cudnnBackendDestroyDescriptor(configs[--*n]);
    return THAW_OK;
}

/* Of a configuration, or (NULL) of what is set already. */
static thaw_status fill_plan(struct th_cudnn_plan *p,
    const struct th_cudnn_target *target, cudnnBackendDescriptor_t config,
    cudnnBackendDescriptor_t d)
{
    int64_t n = 0;
    const char *what = "a plan";
    if (config)
        TRY(th_cudnn_set_descriptor(
            p->name, what, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config));
    TRY(th_cudnn_set_descriptor(
        p->name, what, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target->description));
    TRY(th_cudnn_finalize(p->name, what, d));
    cudnnStatus_t status =
        cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
            CUDNN_TYPE_INT64, 1, &n, &p->engine.workspace);
    return status == CUDNN_STATUS_SUCCESS
               ? THAW_OK
               : th_cudnn_refused(p->name, "to say a plan's workspace", status);
}

static thaw_status finalize_plan(struct th_cudnn_plan *p,
    const struct th_cudnn_target *target, cudnnBackendDescriptor_t config)
{
    cudnnBackendDescriptor_t d = NULL;
    cudnnStatus_t status =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &d);
    if (status != CUDNN_STATUS_SUCCESS)
        return th_cudnn_refused(p->name, "a plan", status);
    thaw_status made = fill_plan(p, target, config, d);
    if (made == THAW_OK)
        p->plan = d;
    else
        cudnnBackendDestroyDescriptor(d);
    return made;
}

struct choice {
    int offered, allowed;
    char reason[512]; /* of the first that was refused */
};

/* The first of one mode's configurations that works; p->plan stays NULL where none does. */
static thaw_status choose(struct th_cudnn_plan *p, const struct th_cudnn_target *target,
    const struct th_cudnn_policy *policy, cudnnBackendHeurMode_t mode, struct choice *c)
{
    cudnnBackendDescriptor_t configs[MAX_CONFIGS];
    int n = 0;
    thaw_status status = ask(p, target, mode, configs, &n);
    c->offered += n;
    for (int i = 0; status == THAW_OK && i < n && !p->plan; i++) {
        status = look_at(p, configs[i], &p->engine);
        if (status != THAW_OK ||
            !th_cudnn_allowed(policy, p->multiplies, p->engine.numerical))
            continue;
        c->allowed++;
        if (finalize_plan(p, target, configs[i]) != THAW_OK && !c->reason[0])
            snprintf(c->reason, sizeof c->reason, "%s", thaw_error());
    }
    for (int i = 0; i < n; i++)
        cudnnBackendDestroyDescriptor(configs[i]);
    return status;
}

static thaw_status no_engine(const struct th_cudnn_plan *p, const struct choice *c)
{
    if (c->reason[0])
        return th_fail(THAW_E_FAIL, "%s", c->reason);
    if (c->offered == 0)
        return th_fail(THAW_E_FAIL, "%s: cuDNN has no engine for this graph", p->name);
    return th_fail(THAW_E_FAIL,
        "%s: none of cuDNN's %d engines for this graph is exact and deterministic "
        "enough",
        p->name, c->offered);
}

thaw_status th_cudnn_plan_new(const struct th_cudnn_graph *graph,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    struct th_cudnn_plan **out)
{
    static const cudnnBackendHeurMode_t modes[] = {
        CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    struct choice c = {0};
    struct th_cudnn_plan *p = th_alloc(1, sizeof *p);
    if (!p)
        return THAW_E_MEMORY;
    p->name = graph->name;
    thaw_status status = make_graph(p, graph);
    for (int i = 0; status == THAW_OK && !p->plan && i < 2; i++) {
        thaw_status asked = choose(p, target, policy, modes[i], &c);
        if (asked != THAW_OK && i == 1 && c.offered == 0)
            status = asked;
    }
    if (status == THAW_OK && !p->plan)
        status = no_engine(p, &c);
    if (status == THAW_OK)
        *out = p;
    else
        th_cudnn_plan_free(p);
    return status;
}

void th_cudnn_plan_free(struct th_cudnn_plan *p)
{
    if (!p)
        return;
    if (p->plan)
        cudnnBackendDestroyDescriptor(p->plan);
    for (int i = p->n_made - 1; i >= 0; i--)
        cudnnBackendDestroyDescriptor(p->made[i]);
    th_free(p);
}

const struct th_cudnn_engine *th_cudnn_plan_engine(const struct th_cudnn_plan *plan)
{
    return &plan->engine;
}

thaw_status th_cudnn_engines(const struct th_cudnn_graph *graph,
    const struct th_cudnn_target *target, struct th_cudnn_engine *engines, int room,
    int *n)
{
    cudnnBackendDescriptor_t configs[MAX_CONFIGS];
    int found = 0;
    struct th_cudnn_plan *p = th_alloc(1, sizeof *p);
    if (!p)
        return THAW_E_MEMORY;
    *n = 0;
    thaw_status status = make_graph(p, graph);
    if (status == THAW_OK)
        status = ask(p, target, CUDNN_HEUR_MODE_A, configs, &found);
    for (int i = 0; i < found; i++) {
        if (status == THAW_OK && *n < room)
            status = look_at(p, configs[i], &engines[(*n)++]);
        cudnnBackendDestroyDescriptor(configs[i]);
    }
    th_cudnn_plan_free(p);
    return status;
}

/* ---- plans as text ---- */

thaw_status th_cudnn_plan_text(
    const struct th_cudnn_plan *plan, char **json, size_t *bytes)
{
    return th_cudnn_get_text(plan->name, "to write a plan down", plan->plan,
        CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, json, bytes);
}

/* The engine of a plan that was read. */
static thaw_status look_back(struct th_cudnn_plan *p, cudnnBackendDescriptor_t d)
{
    cudnnBackendDescriptor_t config = NULL;
    int64_t n = 0;
    cudnnStatus_t status =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config);
    if (status != CUDNN_STATUS_SUCCESS)
        return th_cudnn_refused(p->name, "a descriptor", status);
    status = cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &config);
    thaw_status seen =
        status == CUDNN_STATUS_SUCCESS
            ? look_at(p, config, &p->engine)
            : th_cudnn_refused(p->name, "to name a plan's engine", status);
    cudnnBackendDestroyDescriptor(config);
    return seen;
}

static thaw_status read_plan(struct th_cudnn_plan *p,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    const char *json, size_t bytes, cudnnBackendDescriptor_t d)
{
    TRY(th_cudnn_set(p->name, "a plan", d,
        CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)bytes,
        json));
    TRY(fill_plan(p, target, NULL, d));
    TRY(look_back(p, d));
    if (th_cudnn_allowed(policy, p->multiplies, p->engine.numerical))
        return THAW_OK;
    return th_fail(
        THAW_E_FAIL, "%s: the plan's engine is not exact and deterministic", p->name);
}

thaw_status th_cudnn_plan_read(const struct th_cudnn_graph *graph,
    const struct th_cudnn_target *target, const struct th_cudnn_policy *policy,
    const char *json, size_t bytes, struct th_cudnn_plan **out)
{
    cudnnBackendDescriptor_t d = NULL;
    struct th_cudnn_plan *p = th_alloc(1, sizeof *p);
    if (!p)
        return THAW_E_MEMORY;
    thaw_status status = take_graph(p, graph);
    if (status == THAW_OK)
        status = create(p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &d);
    if (status == THAW_OK)
        status = read_plan(p, target, policy, json, bytes, d);
    if (status == THAW_OK) {
        p->n_made--; /* no longer the list's */
        p->plan = d;
        *out = p;
    } else
        th_cudnn_plan_free(p);
    return status;
}

/* ---- running ---- */

static thaw_status make_pack(const struct th_cudnn_plan *p, void *const *pointers,
    int n, void *workspace, cudnnBackendDescriptor_t d)
{
    int64_t uids[TH_CUDNN_TENSORS];
    void *bound[TH_CUDNN_TENSORS];
    const char *what = "a variant pack";
    int count = 0;
    for (int i = 0; i < p->n_tensors; i++) {
        if (!p->bound[i])
            continue;
        uids[count] = i + 1;
        bound[count] = p->scalar[i] ? (void *)&p->values[i]
                       : i < n      ? pointers[i]
                                    : NULL;
        if (!bound[count++])
            return th_fail(THAW_E_FAIL, "%s: no memory for its tensor %d", p->name, i);
    }
    if (!workspace && p->engine.workspace > 0)
        return th_fail(THAW_E_FAIL, "%s: no memory for a workspace of %lld bytes",
            p->name, (long long)p->engine.workspace);
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
        CUDNN_TYPE_INT64, count, uids));
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
        CUDNN_TYPE_VOID_PTR, count, bound));
    TRY(th_cudnn_set(p->name, what, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
        CUDNN_TYPE_VOID_PTR, 1, &workspace));
    return th_cudnn_finalize(p->name, what, d);
}

thaw_status th_cudnn_plan_run(const struct th_cudnn_plan *plan, cudnnHandle_t handle,
    void *const *pointers, int n, void *workspace)
{
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t status =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status != CUDNN_STATUS_SUCCESS)
        return th_cudnn_refused(plan->name, "a variant pack", status);
    thaw_status made = make_pack(plan, pointers, n, workspace, pack);
    if (made == THAW_OK) {
        status = handle ? cudnnBackendExecute(handle, plan->plan, pack)
                        : CUDNN_STATUS_NOT_INITIALIZED;
        if (status != CUDNN_STATUS_SUCCESS)
            made = th_cudnn_refused(plan->name, "to run", status);
    }
    cudnnBackendDestroyDescriptor(pack);
    return made;
}
