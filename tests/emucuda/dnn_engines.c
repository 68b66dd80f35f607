/* SPDX-License-Identifier: Apache-2.0
 * Owns which engines there are, and what each says of itself. The refusals are those of
 * cuDNN 9.19 (tests/plancheck/support); the engines are made up, so that the first that is
 * offered is never what a strict caller may take. */
#include "dnn.h"

#include <string.h>

enum { ANY_SUM, FAST, EXACT, ENGINES }; /* what the heuristics offer, in this order */

enum {
    CORES = 1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE,
    NARROWED = 1U << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
    UNORDERED = 1U << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC
};

/* ---- what a graph is ---- */

static int n_of(const struct dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++)
        n += g->nodes[i]->type == type;
    return n;
}

static bool has_convolution(const struct dnn_graph *g)
{
    return n_of(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) +
               n_of(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR) +
               n_of(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR) >
           0;
}

static bool has_matmul(const struct dnn_graph *g)
{
    return n_of(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) +
               n_of(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR) >
           0;
}

static bool attends(const struct dnn_graph *g)
{
    return n_of(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR) > 0;
}

bool dnn_multiplies(const struct dnn_graph *g)
{
    return has_convolution(g) || has_matmul(g);
}

static bool has_type(const struct dnn_graph *g, cudnnDataType_t type)
{
    for (int i = 0; i < g->n_tensors; i++)
        if (!g->tensors[i].by_value && g->tensors[i].type == type)
            return true;
    return false;
}

static bool is_half(const struct dnn_graph *g)
{
    for (int i = 0; i < g->n_tensors; i++)
        if (!g->tensors[i].is_virtual && (g->tensors[i].type == CUDNN_DATA_BFLOAT16 ||
                                             g->tensors[i].type == CUDNN_DATA_HALF))
            return true;
    return false;
}

/* A patch embedding: a convolution of large windows on few channels. */
static bool embeds(const struct dnn_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct dnn_descriptor *w =
            dnn_inner(g->nodes[i], CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W);
        struct dnn_tensor t = {.rank = 0};
        if (g->nodes[i]->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
            dnn_tensor_of(w, &t);
        if (t.rank == 4 && t.dim[1] == 3 && t.dim[2] >= 16)
            return true;
    }
    return false;
}

/* Sums over the image alone. */
static bool sums_images(const struct dnn_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        struct dnn_tensor x, y;
        if (g->nodes[i]->type != CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)
            continue;
        dnn_tensor_of(dnn_inner(g->nodes[i], CUDNN_ATTR_OPERATION_REDUCTION_XDESC), &x);
        dnn_tensor_of(dnn_inner(g->nodes[i], CUDNN_ATTR_OPERATION_REDUCTION_YDESC), &y);
        if (x.rank == 4 && y.dim[0] > 1 && y.dim[1] > 1 && y.dim[2] < x.dim[2] &&
            y.dim[3] < x.dim[3])
            return true;
    }
    return false;
}

static bool is_inference(const struct dnn_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR &&
            dnn_word(g->nodes[i], CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, 0) ==
                CUDNN_NORM_FWD_INFERENCE)
            return true;
    return false;
}

/* ---- what engines there are ---- */

bool dnn_has_engine(const struct dnn_graph *g, int engine)
{
    bool gradient_of_attention =
        n_of(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) >= 4;
    if (engine < 0 || engine >= ENGINES || is_inference(g))
        return false;
    if (emu.options.no_attention && (gradient_of_attention || attends(g)))
        return false;
    if (emu.options.generous)
        return true;
    if (sums_images(g) && has_type(g, CUDNN_DATA_BFLOAT16))
        return false;
    if (gradient_of_attention && !is_half(g))
        return false;
    if (embeds(g) && g->n_nodes > 1 && has_type(g, CUDNN_DATA_BFLOAT16))
        return false;
    return engine != EXACT || is_half(g) || !has_matmul(g);
}

unsigned dnn_numerical(const struct dnn_graph *g, int engine)
{
    if (engine == ANY_SUM)
        return CORES | NARROWED | UNORDERED;
    if (engine == FAST)
        return CORES | (dnn_multiplies(g) && !is_half(g) ? NARROWED : 0);
    return is_half(g) && dnn_multiplies(g) ? CORES : 0;
}

unsigned dnn_behaviour(int engine)
{
    return engine == EXACT
               ? 1U << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION |
                     1U << CUDNN_BEHAVIOR_NOTE_SUPPORTS_CUDA_GRAPH_NATIVE_API
               : 0;
}

/* A number of the seed and the graph. */
static int64_t workspace_of(const struct dnn_graph *g, int engine)
{
    uint64_t h = emu.options.seed * 0x9E3779B97F4A7C15U + (uint64_t)engine;
    for (int i = 0; i < g->n_tensors; i++)
        h = (h ^ (uint64_t)dnn_count(&g->tensors[i])) * 1099511628211U;
    h ^= h >> 29;
    return h % 3 == 0 ? 0 : (int64_t)(h % 5000) + 1;
}

/* ---- descriptors ---- */

cudnnStatus_t dnn_engine_check(struct dnn_descriptor *d)
{
    if (d->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) {
        const struct dnn_descriptor *e = dnn_inner(d, CUDNN_ATTR_ENGINECFG_ENGINE);
        d->engine = e->engine;
        d->graph = dnn_hold(e->graph);
        return CUDNN_STATUS_SUCCESS;
    }
    struct dnn_descriptor *graph = dnn_inner(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    int64_t index = *dnn_numbers(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (index < 0 || index >= ENGINES)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "engine %lld", (long long)index);
    if (!dnn_has_engine(graph->operations, (int)index))
        return dnn_refuse(
            CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "engine %lld", (long long)index);
    d->engine = (int)index;
    d->graph = dnn_hold(graph);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn_heuristics(const struct dnn_descriptor *d, int64_t room, int64_t *n,
    struct dnn_descriptor **configs)
{
    struct dnn_descriptor *graph = dnn_inner(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    int first = dnn_word(d, CUDNN_ATTR_ENGINEHEUR_MODE, 0) == CUDNN_HEUR_MODE_FALLBACK
                    ? EXACT
                    : ANY_SUM;
    *n = 0;
    for (int e = first; e < ENGINES; e++) {
        if (!dnn_has_engine(graph->operations, e))
            continue;
        if (*n < room) {
            struct dnn_descriptor *c = configs[*n];
            if (!dnn_is_live(c, "cudnnBackendGetAttribute into a descriptor"))
                return CUDNN_STATUS_BAD_PARAM;
            if (c->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR || c->final)
                return dnn_refuse(
                    CUDNN_STATUS_BAD_PARAM, "no fresh configuration descriptor");
            c->graph = dnn_hold(graph);
            c->engine = e;
            c->final = true;
        }
        ++*n;
    }
    return CUDNN_STATUS_SUCCESS; /* with none, too, as the library */
}

/* Whether the configuration's engine makes a plan. */
static cudnnStatus_t compile(const struct dnn_descriptor *c)
{
    const struct dnn_graph *g = c->graph->operations;
    if (has_convolution(g) && !is_half(g) && c->engine == EXACT &&
        has_type(g, CUDNN_DATA_BOOLEAN))
        return dnn_refuse(CUDNN_STATUS_INTERNAL_ERROR_COMPILATION_FAILED,
            "Encountered runtime kernel compilation failure at: compilationResult != "
            "NVRTC_SUCCESS");
    return CUDNN_STATUS_SUCCESS;
}

/* A plan of a configuration, or of JSON. */
cudnnStatus_t dnn_plan_check(struct dnn_descriptor *d)
{
    const struct dnn_descriptor *c =
        dnn_inner(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    bool written = dnn_value(d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    if (!c == !written)
        return dnn_stricter("a plan of %s", c ? "two things" : "nothing");
    if (emu_fails(EMU_PLAN))
        return dnn_refuse(CUDNN_STATUS_INTERNAL_ERROR, "this plan is asked to fail");
    if (!dnn_inner(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP))
        return dnn_stricter("a plan without a device");
    cudnnStatus_t status = c ? compile(c) : dnn_plan_read(d);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (c) {
        d->graph = dnn_hold(c->graph);
        d->engine = c->engine;
    } else if (!dnn_has_engine(d->graph->operations, d->engine))
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "engine %d", d->engine);
    d->workspace = workspace_of(d->graph->operations, d->engine);
    emu.counters.plans += c != NULL;
    emu.counters.plans_read += c == NULL;
    return CUDNN_STATUS_SUCCESS;
}
