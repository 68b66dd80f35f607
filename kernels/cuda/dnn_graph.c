/* SPDX-License-Identifier: Apache-2.0
 * Owns a graph's memory, its tensors, its text. Nodes: dnn_nodes.c. */
#include "dnn_graph.h"

#include "dnn_nodes.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

struct th_cudnn_graph *th_cudnn_graph_new(const char *name)
{
    struct th_cudnn_graph *g = th_alloc(1, sizeof *g);
    if (g)
        g->name = name;
    return g;
}

void th_cudnn_graph_free(struct th_cudnn_graph *g)
{
    th_free(g);
}

const char *th_cudnn_type_name(cudnnDataType_t type)
{
    switch ((int)type) {
    case CUDNN_DATA_FLOAT:
        return "f32";
    case CUDNN_DATA_HALF:
        return "f16";
    case CUDNN_DATA_BFLOAT16:
        return "bf16";
    case CUDNN_DATA_INT8:
        return "i8";
    case CUDNN_DATA_BOOLEAN:
        return "bit";
    }
    return "?";
}

/* "x bf16[32,64,56,56]" */
const char *th_cudnn_tensor_text(
    const struct th_cudnn_graph *g, int tensor, char *text, size_t size)
{
    const struct th_cudnn_tensor *t = &g->tensors[tensor];
    int n = snprintf(text, size, "%s %s[", t->name, th_cudnn_type_name(t->type));
    size_t used = n > 0 ? (size_t)n : 0;
    for (int i = 0; i < t->rank && used < size; i++) {
        n = snprintf(
            text + used, size - used, i ? ",%lld" : "%lld", (long long)t->dim[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

/* "x bf16[2,3], w bf16[3,4]" */
static void tensors_text(
    const struct th_cudnn_graph *g, const int *tensors, int n, char *text, size_t size)
{
    char one[96];
    text[0] = '\0';
    for (int i = 0; i < n; i++) {
        size_t used = strlen(text);
        if (tensors[i] >= 0 && tensors[i] < g->n_tensors)
            snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                th_cudnn_tensor_text(g, tensors[i], one, sizeof one));
    }
}

void th_cudnn_node_text(
    const struct th_cudnn_graph *g, int node, char *text, size_t size)
{
    const struct th_cudnn_node *n = &g->nodes[node];
    int tensors[TH_CUDNN_SETTINGS], count = 0;
    char all[448];
    for (int i = 0; i < n->n_settings; i++)
        if (n->settings[i].type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
            tensors[count++] = n->settings[i].value.e;
    tensors_text(g, tensors, count, all, sizeof all);
    snprintf(text, size, "%s(%s)", n->name, all);
}

int th_cudnn_fail(struct th_cudnn_graph *g, const char *node, const int *tensors, int n,
    const char *why)
{
    char all[448];
    tensors_text(g, tensors, n, all, sizeof all);
    if (g->status == THAW_OK)
        g->status = th_fail(THAW_E_USAGE, "%s: %s(%s): %s", g->name, node, all, why);
    return -1;
}

/* Extents of at least 1, a stride for each. */
static bool well_formed(const struct th_cudnn_tensor *t)
{
    bool good = t->rank >= 1 && t->rank <= TH_CUDNN_RANK && t->name != NULL;
    for (int i = 0; good && i < t->rank; i++)
        good = t->dim[i] >= 1 && t->stride[i] >= 1;
    return good;
}

int th_cudnn_tensor(struct th_cudnn_graph *g, const struct th_cudnn_tensor *t)
{
    if (g->status != THAW_OK)
        return -1;
    if (g->n_tensors == TH_CUDNN_TENSORS || !well_formed(t)) {
        g->status = th_fail(THAW_E_USAGE,
            "%s: tensor %s of rank %d: a graph takes %d tensors of rank 1 to %d with "
            "extents and strides of at least 1",
            g->name, t->name ? t->name : "?", t->rank, (int)TH_CUDNN_TENSORS,
            (int)TH_CUDNN_RANK);
        return -1;
    }
    g->tensors[g->n_tensors] = *t;
    g->tensors[g->n_tensors].uid = g->n_tensors + 1;
    return g->n_tensors++;
}

int th_cudnn_virtual(struct th_cudnn_graph *g, cudnnDataType_t type, int like)
{
    if (g->status != THAW_OK || like < 0)
        return -1;
    struct th_cudnn_tensor t = g->tensors[like];
    t.name = "-";
    t.type = type;
    t.kind = TH_CUDNN_VIRTUAL;
    return th_cudnn_tensor(g, &t);
}

static void dense(struct th_cudnn_tensor *t, int rank, const int64_t *dim)
{
    int64_t stride = 1;
    t->rank = rank;
    for (int i = rank - 1; i >= 0; i--) {
        t->dim[i] = dim[i];
        t->stride[i] = stride;
        stride *= dim[i];
    }
}

int th_cudnn_virtual_dense(
    struct th_cudnn_graph *g, cudnnDataType_t type, int rank, const int64_t *dim)
{
    struct th_cudnn_tensor t = {.name = "-", .type = type, .kind = TH_CUDNN_VIRTUAL};
    dense(&t, rank, dim);
    return th_cudnn_tensor(g, &t);
}

int th_cudnn_scalar(struct th_cudnn_graph *g, const char *name, float value)
{
    struct th_cudnn_tensor t = {.name = name,
        .type = CUDNN_DATA_FLOAT,
        .kind = TH_CUDNN_SCALAR,
        .value = value};
    dense(&t, TH_CUDNN_RANK, (int64_t[]){1, 1, 1, 1});
    return th_cudnn_tensor(g, &t);
}

int th_cudnn_scratch(
    struct th_cudnn_graph *g, const char *name, int rank, const int64_t *dim)
{
    enum { ALIGN = 256 }; /* bytes, as cudaMalloc */
    struct th_cudnn_tensor t = {.name = name,
        .type = CUDNN_DATA_FLOAT,
        .source = TH_CUDNN_SCRATCH,
        .offset = g->scratch_bytes};
    dense(&t, rank, dim);
    size_t bytes = (size_t)(t.stride[0] * t.dim[0]) * sizeof(float);
    g->scratch_bytes += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return th_cudnn_tensor(g, &t);
}

/* Whether node n has the tensor among its tensors from the first-th on. */
static bool among(const struct th_cudnn_node *n, int tensor, int first)
{
    for (int k = 0, seen = 0; k < n->n_settings; k++)
        if (n->settings[k].type == CUDNN_TYPE_BACKEND_DESCRIPTOR && seen++ >= first &&
            n->settings[k].value.e == tensor)
            return true;
    return false;
}

static bool is_made(const struct th_cudnn_graph *g, int tensor)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (among(&g->nodes[i], tensor, g->nodes[i].n_in))
            return true;
    return false;
}

bool th_cudnn_uses(const struct th_cudnn_graph *g, int tensor)
{
    for (int i = 0; i < g->n_nodes; i++)
        if (among(&g->nodes[i], tensor, 0))
            return true;
    return false;
}

bool th_cudnn_multiplies(const struct th_cudnn_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++)
        switch ((int)g->nodes[i].type) {
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR:
            return true;
        }
    return false;
}

thaw_status th_cudnn_graph_check(const struct th_cudnn_graph *g)
{
    bool any = false;
    char text[96];
    if (g->status != THAW_OK)
        return g->status;
    for (int i = 0; i < g->n_tensors; i++) {
        bool made = is_made(g, i);
        any = any || (made && g->tensors[i].kind == TH_CUDNN_REAL);
        if (!made && g->tensors[i].kind == TH_CUDNN_VIRTUAL && th_cudnn_uses(g, i))
            return th_fail(THAW_E_USAGE, "%s: nothing makes %s", g->name,
                th_cudnn_tensor_text(g, i, text, sizeof text));
    }
    return any ? THAW_OK
               : th_fail(
                     THAW_E_USAGE, "%s: the graph has no output in memory", g->name);
}

/* ---- text ---- */

struct text {
    char *at;
    size_t room;
};

static void append(struct text *t, const char *s)
{
    int n = snprintf(t->at, t->room, "%s", s);
    size_t used = n > 0 && (size_t)n < t->room ? (size_t)n : 0;
    t->at += used;
    t->room -= used;
}

static void append_numbers(struct text *t, const int64_t *v, int n)
{
    char one[24];
    for (int i = 0; i < n; i++) {
        snprintf(one, sizeof one, i ? ",%lld" : "%lld", (long long)v[i]);
        append(t, one);
    }
}

static void append_setting(
    struct text *t, const struct th_cudnn_graph *g, const struct th_cudnn_setting *s)
{
    char one[128];
    append(t, " ");
    if (s->type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        const struct th_cudnn_tensor *x = &g->tensors[s->value.e];
        snprintf(one, sizeof one, "#%lld:%d:", (long long)x->uid, (int)x->kind);
        append(t, one);
        append(t, th_cudnn_tensor_text(g, s->value.e, one, sizeof one));
        append(t, "/");
        append_numbers(t, x->stride, x->rank);
    } else if (s->type == CUDNN_TYPE_INT64)
        append_numbers(t, s->value.i, s->n);
    else {
        if (s->type == CUDNN_TYPE_FLOAT)
            snprintf(one, sizeof one, "%g", (double)s->value.f);
        else
            snprintf(one, sizeof one, "%d", s->value.e);
        append(t, one);
    }
}

char *th_cudnn_graph_text(const struct th_cudnn_graph *g)
{
    size_t room = 64;
    for (int i = 0; i < g->n_nodes; i++)
        room += 64 + (size_t)g->nodes[i].n_settings * 256;
    char *whole = th_alloc(room, 1);
    struct text t = {whole, room};
    for (int i = 0; whole && i < g->n_nodes; i++) {
        append(&t, g->nodes[i].name);
        for (int k = 0; k < g->nodes[i].n_settings; k++)
            append_setting(&t, g, &g->nodes[i].settings[k]);
        append(&t, "\n");
    }
    return whole;
}
