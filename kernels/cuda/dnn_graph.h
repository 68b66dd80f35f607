/* SPDX-License-Identifier: Apache-2.0
 * A cuDNN operation graph as plain data: tensors and nodes by index, checked as they are
 * added, made into descriptors by dnn_plan.c.
 *
 * Invariants: every node's tensors exist; after the first failure every call does nothing
 * and returns -1 (sticky error, as in vision/graph.h); what cuDNN accepts at descriptor
 * level but cannot mean (channels that do not fit, mixed element types, operands that do
 * not broadcast, one uid for two tensors) is refused here, with op and shapes.
 *
 *     struct th_cudnn_graph *g = th_cudnn_graph_new("conv");
 *     int x = th_cudnn_tensor(g, &(struct th_cudnn_tensor){.name = "x", ...});
 *     int c = th_cudnn_conv(g, &window, x, w, -1);
 *     th_cudnn_pointwise(g, CUDNN_POINTWISE_RELU_FWD, c, -1, y);
 *     TRY(th_cudnn_graph_check(g)); */
#ifndef TH_CUDNN_GRAPH_H
#define TH_CUDNN_GRAPH_H

#include "error.h"

#include <stdbool.h>
#include <stdint.h>

#include <cudnn.h>

enum {
    TH_CUDNN_RANK = 4,
    TH_CUDNN_TENSORS = 48,
    TH_CUDNN_NODES = 24,
    TH_CUDNN_SETTINGS = 16
};

enum th_cudnn_kind {
    TH_CUDNN_REAL,    /* device memory, bound by uid */
    TH_CUDNN_VIRTUAL, /* lives inside the graph */
    TH_CUDNN_SCALAR,  /* [1,1,1,1] fp32 in host memory, bound by uid: `value` */
};

/* Where the bytes of a real tensor are. */
enum th_cudnn_source {
    TH_CUDNN_ARGUMENT, /* the call's argument `argument`, `offset` bytes in */
    TH_CUDNN_PACKED,   /* that argument's copy in the layout and type of this tensor */
    TH_CUDNN_SCRATCH,  /* `offset` bytes into the graph's own scratch */
};

struct th_cudnn_tensor {
    const char *name; /* static */
    cudnnDataType_t type;
    int rank;
    int64_t dim[TH_CUDNN_RANK], stride[TH_CUDNN_RANK]; /* in elements */
    enum th_cudnn_kind kind;
    float value;
    enum th_cudnn_source source;
    int argument;
    size_t offset;
    int64_t uid; /* set when added: 1, 2, ... */
};

/* One attribute of a descriptor. A tensor is given by its index in the graph. */
struct th_cudnn_setting {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    bool inner; /* of the node's inner descriptor */
    int n;
    union {
        int64_t i[TH_CUDNN_RANK]; /* INT64 */
        int e;                    /* enumerations, BACKEND_DESCRIPTOR (a tensor) */
        float f;                  /* FLOAT */
    } value;
};

struct th_cudnn_node {
    const char *name; /* static */
    cudnnBackendDescriptorType_t type;
    bool has_inner; /* a descriptor of its own says how: window, mode, precision */
    cudnnBackendDescriptorType_t inner;
    cudnnBackendAttributeName_t inner_at;
    struct th_cudnn_setting settings[TH_CUDNN_SETTINGS];
    int n_settings;
    int n_in; /* the first n_in tensor settings are inputs, the others outputs */
};

struct th_cudnn_graph {
    const char *name; /* what it computes, for errors; static */
    struct th_cudnn_tensor tensors[TH_CUDNN_TENSORS];
    struct th_cudnn_node nodes[TH_CUDNN_NODES];
    int n_tensors, n_nodes;
    size_t scratch_bytes; /* of tensors with TH_CUDNN_SCRATCH */
    thaw_status status;   /* sticky */
};

struct th_cudnn_window {
    int64_t stride[2], dilation[2], before[2], after[2]; /* h, w */
    int64_t size[2];                                     /* of a pooling window */
    int64_t groups;                                      /* of a convolution */
};

struct th_cudnn_graph *th_cudnn_graph_new(const char *name); /* NULL: no memory */
void th_cudnn_graph_free(struct th_cudnn_graph *g);          /* NULL is fine */

/* What went wrong while it was built; else whether it can be run: some output is real. */
thaw_status th_cudnn_graph_check(const struct th_cudnn_graph *g);

/* Whether a node reads or makes the tensor. */
bool th_cudnn_uses(const struct th_cudnn_graph *g, int tensor);
/* Whether it sums products (convolutions, matrix products, attention): where engines may
 * trade precision for speed. */
bool th_cudnn_multiplies(const struct th_cudnn_graph *g);

/* The whole graph as text, a line a node: what a plan is cached by. A fresh string. */
char *th_cudnn_graph_text(const struct th_cudnn_graph *g);

/* "f32", "bf16", "f16", ... */
const char *th_cudnn_type_name(cudnnDataType_t type);

/* ---- tensors: their index ---- */

int th_cudnn_tensor(struct th_cudnn_graph *g, const struct th_cudnn_tensor *t);
/* Shape and strides of `like`. */
int th_cudnn_virtual(struct th_cudnn_graph *g, cudnnDataType_t type, int like);
/* A virtual tensor, dense in the order of its axes. */
int th_cudnn_virtual_dense(
    struct th_cudnn_graph *g, cudnnDataType_t type, int rank, const int64_t *dim);
int th_cudnn_scalar(struct th_cudnn_graph *g, const char *name, float value);
/* Dense fp32 in the graph's scratch. */
int th_cudnn_scratch(
    struct th_cudnn_graph *g, const char *name, int rank, const int64_t *dim);

/* ---- nodes; all compute in fp32 and return their (first) output. An output of -1 becomes
 * a new virtual fp32 tensor, where its shape follows from the inputs ---- */

int th_cudnn_conv(struct th_cudnn_graph *g, const struct th_cudnn_window *window, int x,
    int w, int y);
int th_cudnn_conv_dx(struct th_cudnn_graph *g, const struct th_cudnn_window *window,
    int dy, int w, int dx);
int th_cudnn_conv_dw(struct th_cudnn_graph *g, const struct th_cudnn_window *window,
    int x, int dy, int dw);

/* y = mode(x) or mode(x, b), b broadcast along its axes of extent 1. */
int th_cudnn_pointwise(
    struct th_cudnn_graph *g, cudnnPointwiseMode_t mode, int x, int b, int y);
/* dx = dy * mode'(x) */
int th_cudnn_pointwise_dx(
    struct th_cudnn_graph *g, cudnnPointwiseMode_t mode, int dy, int x, int dx);

/* c = a b: [batch...][m][k], [batch...][k][n], [batch...][m][n] */
int th_cudnn_matmul(struct th_cudnn_graph *g, int a, int b, int c);
/* Along the axes where y has extent 1. */
int th_cudnn_reduce(struct th_cudnn_graph *g, cudnnReduceTensorOp_t op, int x, int y);
int th_cudnn_reshape(struct th_cudnn_graph *g, int x, int y);

/* index -1: none. Average pooling counts the padding. */
int th_cudnn_pool(struct th_cudnn_graph *g, cudnnResampleMode_t mode,
    const struct th_cudnn_window *window, int x, int y, int index);
int th_cudnn_pool_dx(struct th_cudnn_graph *g, cudnnResampleMode_t mode,
    const struct th_cudnn_window *window, int dy, int dx, int index);

/* Statistics of x itself: mean and rstd = 1 / sqrt(var + eps) are outputs. */
struct th_cudnn_norm {
    cudnnBackendNormMode_t mode; /* CUDNN_BATCH_NORM, CUDNN_LAYER_NORM */
    int x, gamma, beta, mean, rstd, eps, y;
    int dy, dgamma, dbeta, dx; /* backward */
};
int th_cudnn_norm_fwd(struct th_cudnn_graph *g, const struct th_cudnn_norm *n);
int th_cudnn_norm_bwd(struct th_cudnn_graph *g, const struct th_cudnn_norm *n);

/* y = softmax(scale q k^T) v; lse = log sum exp of each row, -1: not kept. q, k, v:
 * [n][heads][t][e]. */
int th_cudnn_attention(
    struct th_cudnn_graph *g, int q, int k, int v, int scale, int y, int lse);

#endif
