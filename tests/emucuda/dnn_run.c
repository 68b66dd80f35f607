/* SPDX-License-Identifier: Apache-2.0
 * Owns what happens from cudnnBackendExecute on: pointers are found and checked, work is
 * enqueued with the bytes that it reads and writes, and when its time comes the workspace
 * and the outputs are made NaN, then the nodes run in fp32. Values are rounded to a tensor's
 * type only where it is in memory. */
#include "dnn.h"

#include "number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTR(name) CUDNN_ATTR_##name
#define IN(name) ATTR(OPERATION_##name)

struct dnn_view dnn_view(const struct dnn_run *r, const struct dnn_descriptor *node,
    cudnnBackendAttributeName_t name)
{
    const struct dnn_descriptor *d = dnn_inner(node, name);
    struct dnn_view v = {.v = NULL};
    if (!d)
        return v;
    int i = dnn_find_tensor(r->graph, *dnn_numbers(d, ATTR(TENSOR_UNIQUE_ID)));
    const struct dnn_tensor *t = &r->graph->tensors[i];
    v.v = r->values[i];
    v.rank = t->rank;
    memcpy(v.dim, t->dim, sizeof v.dim);
    memcpy(v.stride, t->stride, sizeof v.stride);
    return v;
}

float *dnn_temporary(int64_t n)
{
    float *v = calloc((size_t)n, sizeof *v);
    if (!v)
        abort(); /* a test's own memory */
    return v;
}

/* ---- nodes ---- */

static struct dnn_window window_of(const struct dnn_descriptor *d, bool pool)
{
    struct dnn_window w = {.dilation = {1, 1}};
    for (int i = 0; i < 2; i++) {
        w.stride[i] = dnn_numbers(
            d, pool ? ATTR(RESAMPLE_STRIDES) : ATTR(CONVOLUTION_FILTER_STRIDES))[i];
        w.before[i] = dnn_numbers(
            d, pool ? ATTR(RESAMPLE_PRE_PADDINGS) : ATTR(CONVOLUTION_PRE_PADDINGS))[i];
        if (pool)
            w.size[i] = dnn_numbers(d, ATTR(RESAMPLE_WINDOW_DIMS))[i];
        else
            w.dilation[i] = dnn_numbers(d, ATTR(CONVOLUTION_DILATIONS))[i];
    }
    return w;
}

static void run_pointwise(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    int mode =
        dnn_word(dnn_inner(n, IN(POINTWISE_PW_DESCRIPTOR)), ATTR(POINTWISE_MODE), 0);
    struct dnn_view x = dnn_view(r, n, IN(POINTWISE_XDESC));
    struct dnn_view dy = dnn_view(r, n, IN(POINTWISE_DYDESC));
    if (dy.v)
        dnn_pointwise_dx(mode, dy, x, dnn_view(r, n, IN(POINTWISE_DXDESC)));
    else
        dnn_pointwise(mode, x, dnn_view(r, n, IN(POINTWISE_BDESC)),
            dnn_view(r, n, IN(POINTWISE_YDESC)));
}

static void run_reshape(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    struct dnn_view x = dnn_view(r, n, IN(RESHAPE_XDESC));
    struct dnn_view y = dnn_view(r, n, IN(RESHAPE_YDESC));
    int64_t last = 0; /* the same memory under other axes and strides */
    for (int i = 0; i < x.rank; i++)
        last += (x.dim[i] - 1) * x.stride[i];
    memcpy(y.v, x.v, (size_t)(last + 1) * sizeof *y.v);
}

static void run_norm(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    const struct dnn_norm m = {.x = dnn_view(r, n, IN(NORM_FWD_XDESC)),
        .gamma = dnn_view(r, n, IN(NORM_FWD_SCALE_DESC)),
        .beta = dnn_view(r, n, IN(NORM_FWD_BIAS_DESC)),
        .eps = *dnn_view(r, n, IN(NORM_FWD_EPSILON_DESC)).v,
        .mean = dnn_view(r, n, IN(NORM_FWD_MEAN_DESC)),
        .rstd = dnn_view(r, n, IN(NORM_FWD_INV_VARIANCE_DESC)),
        .y = dnn_view(r, n, IN(NORM_FWD_YDESC))};
    dnn_norm(&m);
}

static void run_norm_dx(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    const struct dnn_norm m = {.x = dnn_view(r, n, IN(NORM_BWD_XDESC)),
        .dy = dnn_view(r, n, IN(NORM_BWD_DYDESC)),
        .mean = dnn_view(r, n, IN(NORM_BWD_MEAN_DESC)),
        .rstd = dnn_view(r, n, IN(NORM_BWD_INV_VARIANCE_DESC)),
        .gamma = dnn_view(r, n, IN(NORM_BWD_SCALE_DESC)),
        .dgamma = dnn_view(r, n, IN(NORM_BWD_DSCALE_DESC)),
        .dbeta = dnn_view(r, n, IN(NORM_BWD_DBIAS_DESC)),
        .dx = dnn_view(r, n, IN(NORM_BWD_DXDESC))};
    dnn_norm_dx(&m);
}

static void run_conv(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    static const cudnnBackendAttributeName_t at[3][4] = {
        {IN(CONVOLUTION_BWD_DATA_CONV_DESC), IN(CONVOLUTION_BWD_DATA_DX),
            IN(CONVOLUTION_BWD_DATA_W), IN(CONVOLUTION_BWD_DATA_DY)},
        {IN(CONVOLUTION_BWD_FILTER_CONV_DESC), IN(CONVOLUTION_BWD_FILTER_X),
            IN(CONVOLUTION_BWD_FILTER_DW), IN(CONVOLUTION_BWD_FILTER_DY)},
        {IN(CONVOLUTION_FORWARD_CONV_DESC), IN(CONVOLUTION_FORWARD_X),
            IN(CONVOLUTION_FORWARD_W), IN(CONVOLUTION_FORWARD_Y)}};
    enum dnn_makes makes =
        n->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ? DNN_MAKES_Y
        : n->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
            ? DNN_MAKES_X
            : DNN_MAKES_W;
    const cudnnBackendAttributeName_t *a = at[makes];
    struct dnn_window w = window_of(dnn_inner(n, a[0]), false);
    dnn_conv(makes, &w, dnn_view(r, n, a[1]), dnn_view(r, n, a[2]),
        dnn_view(r, n, a[3]), r->tf32);
}

static void run_pool(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    bool forward = n->type == CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR;
    const struct dnn_descriptor *d =
        dnn_inner(n, forward ? IN(RESAMPLE_FWD_DESC) : IN(RESAMPLE_BWD_DESC));
    int mode = dnn_word(d, ATTR(RESAMPLE_MODE), 0);
    struct dnn_window w = window_of(d, true);
    if (forward)
        dnn_pool(mode, &w, dnn_view(r, n, IN(RESAMPLE_FWD_XDESC)),
            dnn_view(r, n, IN(RESAMPLE_FWD_YDESC)),
            dnn_view(r, n, IN(RESAMPLE_FWD_IDXDESC)));
    else
        dnn_pool_dx(mode, &w, dnn_view(r, n, IN(RESAMPLE_BWD_DXDESC)),
            dnn_view(r, n, IN(RESAMPLE_BWD_DYDESC)),
            dnn_view(r, n, IN(RESAMPLE_BWD_IDXDESC)));
}

void dnn_run_node(const struct dnn_run *r, const struct dnn_descriptor *n)
{
    switch ((int)n->type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        run_pointwise(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        dnn_sum(
            dnn_view(r, n, IN(REDUCTION_XDESC)), dnn_view(r, n, IN(REDUCTION_YDESC)));
        break;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        run_reshape(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        dnn_matmul(dnn_view(r, n, IN(MATMUL_ADESC)), dnn_view(r, n, IN(MATMUL_BDESC)),
            dnn_view(r, n, IN(MATMUL_CDESC)), r->tf32);
        break;
    case CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR:
        run_pool(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR:
        run_norm(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR:
        run_norm_dx(r, n);
        break;
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR:
        dnn_attention(dnn_view(r, n, IN(SDPA_FWD_QDESC)),
            dnn_view(r, n, IN(SDPA_FWD_KDESC)), dnn_view(r, n, IN(SDPA_FWD_VDESC)),
            *dnn_view(r, n, IN(SDPA_FWD_SCALEDESC)).v,
            dnn_view(r, n, IN(SDPA_FWD_ODESC)), dnn_view(r, n, IN(SDPA_FWD_STATSDESC)),
            r->tf32);
        break;
    default:
        run_conv(r, n);
    }
}

/* ---- memory ---- */

static bool is_in_place(const struct dnn_tensor *t)
{
    return t->type == CUDNN_DATA_FLOAT;
}

/* What a walk over a tensor's elements does at one, `at` elements from its start. */
typedef void at_element(
    const struct dnn_tensor *t, void *memory, float *values, int64_t at);

static void walk(const struct dnn_tensor *t, at_element *f, void *memory, float *values)
{
    int64_t at[DNN_RANK] = {0}, n = dnn_count(t), offset = 0;
    for (int64_t i = 0; i < n; i++) {
        f(t, memory, values, offset);
        for (int k = t->rank - 1; k >= 0; k--) {
            offset += t->stride[k];
            if (++at[k] < t->dim[k])
                break;
            offset -= at[k] * t->stride[k];
            at[k] = 0;
        }
    }
}

static void load(const struct dnn_tensor *t, void *memory, float *values, int64_t at)
{
    if (t->type == CUDNN_DATA_BOOLEAN)
        values[at] = (float)(((const uint8_t *)memory)[at / 8] >> (at % 8) & 1);
    else if (t->type == CUDNN_DATA_INT8)
        values[at] = ((const int8_t *)memory)[at];
    else if (t->type == CUDNN_DATA_BFLOAT16)
        values[at] = from_bf16(((const uint16_t *)memory)[at]);
    else if (t->type == CUDNN_DATA_HALF)
        values[at] = from_fp16(((const uint16_t *)memory)[at]);
    else
        values[at] = ((const float *)memory)[at];
}

static void store(const struct dnn_tensor *t, void *memory, float *values, int64_t at)
{
    uint8_t bit = (uint8_t)(1U << (at % 8)), *byte = (uint8_t *)memory + at / 8;
    if (t->type == CUDNN_DATA_BOOLEAN)
        *byte = (uint8_t)(values[at] != 0 ? *byte | bit : *byte & ~bit);
    else if (t->type == CUDNN_DATA_INT8)
        ((int8_t *)memory)[at] = (int8_t)values[at];
    else if (t->type == CUDNN_DATA_BFLOAT16)
        ((uint16_t *)memory)[at] = to_bf16(values[at]);
    else if (t->type == CUDNN_DATA_HALF)
        ((uint16_t *)memory)[at] = to_fp16(values[at]);
    else
        ((float *)memory)[at] = values[at];
}

static void poison(const struct dnn_tensor *t, void *memory, float *values, int64_t at)
{
    (void)values;
    if (t->type == CUDNN_DATA_FLOAT)
        ((float *)memory)[at] = NAN;
    else if (t->type != CUDNN_DATA_BOOLEAN && t->type != CUDNN_DATA_INT8)
        ((uint16_t *)memory)[at] = 0xFFFF;
}

/* ---- when its time comes ---- */

struct work {
    struct dnn_descriptor *plan; /* held */
    float scalar[DNN_TENSORS];   /* of tensors by value */
    int range[DNN_TENSORS];      /* of real tensors; else -1 */
    bool aliased[DNN_TENSORS];   /* an input whose memory an output has, too */
    int workspace;               /* its range; -1: none */
};

static void open_values(const struct work *w, void *const *memory, struct dnn_run *r)
{
    for (int i = 0; i < r->graph->n_tensors; i++) {
        const struct dnn_tensor *t = &r->graph->tensors[i];
        if (t->by_value) {
            r->values[i] = dnn_temporary(1);
            *r->values[i] = w->scalar[i];
        } else if (t->is_virtual || !is_in_place(t) || w->aliased[i]) {
            r->values[i] = dnn_temporary(dnn_extent(t));
            if (!t->is_virtual && !t->made)
                walk(t, load, memory[w->range[i]], r->values[i]);
        } else
            r->values[i] = memory[w->range[i]];
    }
}

static void run_work(void *const *memory, const void *argument)
{
    const struct work *w = argument;
    const struct dnn_graph *g = w->plan->graph->operations;
    struct dnn_run r = {.graph = g};
    r.tf32 = !emu.options.generous && dnn_multiplies(g) &&
             dnn_numerical(g, w->plan->engine) & 1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    open_values(w, memory, &r);
    if (w->workspace >= 0)
        memset(memory[w->workspace], 0xFF, (size_t)w->plan->workspace);
    for (int i = 0; i < g->n_tensors; i++)
        if (w->range[i] >= 0 && g->tensors[i].made)
            walk(&g->tensors[i], poison, memory[w->range[i]], NULL);
    for (int i = 0; i < g->n_nodes; i++)
        dnn_run_node(&r, g->nodes[i]);
    for (int i = 0; i < g->n_tensors; i++) {
        const struct dnn_tensor *t = &g->tensors[i];
        bool borrowed = w->range[i] >= 0 && r.values[i] == memory[w->range[i]];
        if (w->range[i] >= 0 && t->made && !borrowed)
            walk(t, store, memory[w->range[i]], r.values[i]);
        if (!borrowed)
            free(r.values[i]);
    }
}

static void release_work(void *argument)
{
    struct work *w = argument;
    dnn_let_go(w->plan);
    free(w);
}

/* ---- when it is enqueued ---- */

static bool overlap(const struct emu_range *a, const struct emu_range *b)
{
    uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;
    return x < y + b->bytes && y < x + a->bytes;
}

/* Strided tensors may lie in one another's gaps (q, k and v of one row): only those of one
 * start, or dense ones, are known to share bytes. */
static bool shares(const struct dnn_tensor *a, const struct emu_range *ra,
    const struct dnn_tensor *b, const struct emu_range *rb)
{
    bool dense = dnn_count(a) == dnn_extent(a) && dnn_count(b) == dnn_extent(b);
    return overlap(ra, rb) && (dense || ra->at == rb->at);
}

static bool is_pointwise(const struct dnn_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->type != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            return false;
    return true;
}

/* An output over an input: fine element by element and in the same places, else not. */
static cudnnStatus_t check_sharing(
    const struct dnn_graph *g, struct work *w, const struct emu_range *ranges)
{
    for (int i = 0; i < g->n_tensors; i++)
        for (int k = 0; k < g->n_tensors; k++) {
            const struct dnn_tensor *out = &g->tensors[i], *t = &g->tensors[k];
            if (i == k || w->range[i] < 0 || w->range[k] < 0 || !out->made ||
                !shares(out, &ranges[w->range[i]], t, &ranges[w->range[k]]))
                continue;
            bool same = ranges[w->range[i]].at == ranges[w->range[k]].at &&
                        out->type == t->type &&
                        memcmp(out->dim, t->dim, sizeof t->dim) == 0 &&
                        memcmp(out->stride, t->stride, sizeof t->stride) == 0;
            if (t->made || !same || !is_pointwise(g))
                return dnn_stricter("uid %lld is made over the memory of uid %lld",
                    (long long)out->uid, (long long)t->uid);
            w->aliased[k] = true;
        }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t bind_tensor(
    const struct dnn_tensor *t, const void *at, struct emu_range *range)
{
    *range = (struct emu_range){at, dnn_bytes(t), t->made};
    if ((uintptr_t)at % (uintptr_t)t->alignment != 0)
        return dnn_stricter("uid %lld at %p is not aligned to %lld bytes",
            (long long)t->uid, at, (long long)t->alignment);
    const struct emu_block *b = emu_block_of(at, range->bytes);
    if (!b || b->pinned)
        return dnn_stricter(
            "uid %lld: %zu bytes at %p are not in one live device block",
            (long long)t->uid, range->bytes, at);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t bind_workspace(const struct dnn_descriptor *plan, const void *at,
    struct work *w, struct emu_range *ranges, int *n)
{
    struct emu_range range = {at, (size_t)plan->workspace, true};
    if (plan->workspace == 0)
        return CUDNN_STATUS_SUCCESS;
    if (!at)
        return dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace");
    const struct emu_block *b = emu_block_of(at, range.bytes);
    if (!b || b->pinned)
        return dnn_stricter("a workspace of %zu bytes at %p is not in one live device "
                            "block",
            range.bytes, at);
    for (int i = 0; i < *n; i++)
        if (overlap(&range, &ranges[i]))
            return dnn_stricter("the workspace is over a tensor's memory");
    w->workspace = *n;
    ranges[(*n)++] = range;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t bind(const struct dnn_descriptor *plan,
    const struct dnn_descriptor *pack, struct work *w, struct emu_range *ranges, int *n)
{
    const struct dnn_graph *g = plan->graph->operations;
    const struct dnn_value *uids = dnn_value(pack, ATTR(VARIANT_PACK_UNIQUE_IDS));
    const struct dnn_value *at = dnn_value(pack, ATTR(VARIANT_PACK_DATA_POINTERS));
    const struct dnn_value *space = dnn_value(pack, ATTR(VARIANT_PACK_WORKSPACE));
    int bound = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        const struct dnn_tensor *t = &g->tensors[i];
        int64_t k = 0;
        w->range[i] = -1;
        if (t->is_virtual)
            continue;
        while (k < uids->n && ((const int64_t *)uids->data)[k] != t->uid)
            k++;
        if (k == uids->n)
            return dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                "the variant pack has no uid %lld", (long long)t->uid);
        const void *p = ((void **)at->data)[k];
        bound++;
        if (t->by_value)
            memcpy(&w->scalar[i], p, sizeof w->scalar[i]);
        else {
            cudnnStatus_t status = bind_tensor(t, p, &ranges[*n]);
            if (status != CUDNN_STATUS_SUCCESS)
                return status;
            w->range[i] = (*n)++;
        }
    }
    if (bound != uids->n)
        return dnn_stricter("a variant pack with uids that the plan does not have");
    cudnnStatus_t status = check_sharing(g, w, ranges);
    return status == CUDNN_STATUS_SUCCESS
               ? bind_workspace(
                     plan, space ? *(void **)space->data : NULL, w, ranges, n)
               : status;
}

static cudnnStatus_t check_execution(cudnnHandle_t handle,
    const struct dnn_descriptor *plan, const struct dnn_descriptor *pack)
{
    if (!dnn_is_handle(handle))
        return dnn_stricter("cudnnBackendExecute on what is no live handle");
    if (!dnn_is_live(plan, "cudnnBackendExecute") ||
        !dnn_is_live(pack, "cudnnBackendExecute"))
        return CUDNN_STATUS_BAD_PARAM;
    if (plan->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
        pack->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR || !plan->final ||
        !pack->final)
        return dnn_refuse(
            CUDNN_STATUS_BAD_PARAM, "a plan and a variant pack, both finalised");
    if (!handle->stream)
        return dnn_stricter("cudnnBackendExecute on the default stream");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(
    cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    struct emu_range ranges[DNN_TENSORS + 1];
    int n = 0;
    if (!dnn_is_open("cudnnBackendExecute"))
        return emu.open ? CUDNN_STATUS_EXECUTION_FAILED_CUDART
                        : CUDNN_STATUS_NOT_INITIALIZED;
    cudnnStatus_t status = check_execution(handle, plan, pack);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (emu_fails(EMU_EXECUTE))
        return dnn_refuse(
            CUDNN_STATUS_EXECUTION_FAILED, "this execution is asked to fail");
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->plan = dnn_hold(plan);
    w->workspace = -1;
    status = bind(plan, pack, w, ranges, &n);
    if (status != CUDNN_STATUS_SUCCESS) {
        release_work(w);
        return status;
    }
    emu.counters.executes++;
    return emu_launch_owned(handle->stream, "cudnnBackendExecute", run_work, w,
               release_work, ranges, n) == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : dnn_refuse(CUDNN_STATUS_EXECUTION_FAILED_CUDART, "the stream");
}
