/* SPDX-License-Identifier: Apache-2.0
 * Between the files of cuDNN's double. Descriptors are kept as they were set, attribute by
 * attribute; what they mean is looked up when a graph is made or run.
 *
 * Layer 1 refuses what cuDNN 9.19 refuses, with a status of the same class. Layer 2
 * (dnn_stricter) refuses, with a finding, what the library lets through and cannot mean. */
#ifndef DNN_H
#define DNN_H

#include "emu.h"

#include <cudnn.h>

enum { DNN_RANK = 8, DNN_TENSORS = 64, DNN_NODES = 32 };

struct dnn_value {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t n;
    void *data;
};

struct dnn_descriptor {
    cudnnBackendDescriptorType_t type;
    bool final, destroyed;
    int references; /* the program's, and those of descriptors and work that have it */
    struct dnn_value *values;
    int n_values;
    struct dnn_graph *operations; /* of a finalised operation graph */
    struct dnn_descriptor *graph; /* of an engine, a configuration, a plan: held */
    int engine;
    int64_t workspace; /* of a plan */
};

/* A tensor of a graph. */
struct dnn_tensor {
    cudnnDataType_t type;
    int rank;
    int64_t dim[DNN_RANK], stride[DNN_RANK];
    int64_t uid, alignment;
    bool is_virtual, by_value;
    bool made, read; /* by a node */
};

struct dnn_graph {
    struct dnn_descriptor *nodes[DNN_NODES]; /* each after those that make its inputs */
    int n_nodes;
    struct dnn_tensor tensors[DNN_TENSORS];
    int n_tensors;
};

struct cudnnContext {
    cudaStream_t stream;
    bool live;
};

struct dnn_state {
    struct dnn_descriptor **all; /* those that the program has not destroyed */
    int n_all;
    struct cudnnContext *handles[8];
    int n_handles;
    char reason[512]; /* of the last refusal */
};
extern struct dnn_state dnn;

/* dnn_state.c */
cudnnStatus_t dnn_refuse(cudnnStatus_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
cudnnStatus_t dnn_stricter(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
bool dnn_is_open(const char *name); /* else cudnnGetLastErrorString says why not */
bool dnn_is_live(const struct dnn_descriptor *d, const char *name);
bool dnn_is_handle(const struct cudnnContext *handle);
struct dnn_descriptor *dnn_hold(struct dnn_descriptor *d);
void dnn_let_go(struct dnn_descriptor *d); /* NULL is fine */

/* dnn_attributes.c */
enum { DNN_NEEDED = 1, DNN_GIVEN = 2 /* by the library */, DNN_OUTPUT = 4 };
struct dnn_rule {
    cudnnBackendDescriptorType_t of;
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int most; /* elements */
    int flags;
    int points_to; /* a descriptor's type, where the type is BACKEND_DESCRIPTOR */
};
const struct dnn_rule *dnn_rule(
    cudnnBackendDescriptorType_t of, cudnnBackendAttributeName_t name);
const struct dnn_rule *dnn_rules(cudnnBackendDescriptorType_t of, int *n);
bool dnn_is_type(cudnnBackendDescriptorType_t type);
size_t dnn_size(cudnnBackendAttributeType_t type);
const char *dnn_name(cudnnBackendDescriptorType_t type);

/* What was set; NULL, or `otherwise`: nothing was. */
const struct dnn_value *dnn_value(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name);
int dnn_word(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name, int otherwise);
const int64_t *dnn_numbers(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name);
struct dnn_descriptor *dnn_inner(
    const struct dnn_descriptor *d, cudnnBackendAttributeName_t name);

/* dnn_check.c: of one descriptor, when it is finalised */
cudnnStatus_t dnn_check(struct dnn_descriptor *d);
void dnn_tensor_of(const struct dnn_descriptor *d, struct dnn_tensor *t);
int64_t dnn_count(const struct dnn_tensor *t);
int64_t dnn_extent(
    const struct dnn_tensor *t); /* in elements, from the first to the last */
size_t dnn_bytes(const struct dnn_tensor *t); /* of the extent */

/* dnn_graph.c */
cudnnStatus_t dnn_graph_new(struct dnn_descriptor *d);
int dnn_find_tensor(const struct dnn_graph *g, int64_t uid); /* -1: none */

/* dnn_engines.c */
cudnnStatus_t dnn_engine_check(struct dnn_descriptor *d);
cudnnStatus_t dnn_heuristics(const struct dnn_descriptor *d, int64_t room, int64_t *n,
    struct dnn_descriptor **configs);
cudnnStatus_t dnn_plan_check(struct dnn_descriptor *d);
bool dnn_has_engine(const struct dnn_graph *g, int engine);
unsigned dnn_numerical(const struct dnn_graph *g, int engine); /* bits */
unsigned dnn_behaviour(int engine);
bool dnn_multiplies(const struct dnn_graph *g);

/* dnn_json.c: a plan or a device as JSON; and a plan that has some, its graph and engine */
cudnnStatus_t dnn_json(
    const struct dnn_descriptor *d, int64_t room, int64_t *n, char *out);
cudnnStatus_t dnn_plan_read(struct dnn_descriptor *d);

/* dnn_run.c: a node of a graph on its tensors' values, each an array of fp32 with the
 * strides of its tensor */
struct dnn_run {
    const struct dnn_graph *graph;
    float *values[DNN_TENSORS];
    bool tf32; /* inputs of products lose 13 bits */
};
void dnn_run_node(const struct dnn_run *r, const struct dnn_descriptor *node);

/* Values with their shape: what the arithmetic works on. Axes of extent 1 and stride 0
 * broadcast. */
struct dnn_view {
    float *v;
    int rank;
    int64_t dim[DNN_RANK], stride[DNN_RANK];
};
struct dnn_view dnn_view(const struct dnn_run *r, const struct dnn_descriptor *node,
    cudnnBackendAttributeName_t name); /* .v NULL: the node has no such tensor */
float *dnn_temporary(int64_t n);       /* zeros; free() */

/* dnn_pointwise.c: y = mode(x, b) where b may have no values */
bool dnn_pointwise_known(int mode);
void dnn_pointwise(int mode, struct dnn_view x, struct dnn_view b, struct dnn_view y);
void dnn_pointwise_dx(
    int mode, struct dnn_view dy, struct dnn_view x, struct dnn_view dx);
void dnn_sum(
    struct dnn_view x, struct dnn_view y); /* along axes where y has extent 1 */

/* dnn_product.c: sums of products; the only place where speed matters */
void dnn_gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
    int64_t a_column, const float *b, int64_t b_row, float *c, int64_t c_row);
void dnn_matmul(struct dnn_view a, struct dnn_view b, struct dnn_view c, bool tf32);
struct dnn_window {
    int64_t stride[2], dilation[2], before[2], size[2];
};
enum dnn_makes { DNN_MAKES_X, DNN_MAKES_W, DNN_MAKES_Y };
void dnn_conv(enum dnn_makes makes, const struct dnn_window *w, struct dnn_view x,
    struct dnn_view f, struct dnn_view y, bool tf32);

/* dnn_norm.c */
struct dnn_norm {
    struct dnn_view x, gamma, beta, mean, rstd, y, dy, dgamma, dbeta, dx;
    float eps;
};
void dnn_norm(const struct dnn_norm *n);
void dnn_norm_dx(const struct dnn_norm *n);
void dnn_attention(struct dnn_view q, struct dnn_view k, struct dnn_view v, float scale,
    struct dnn_view y, struct dnn_view lse, bool tf32);

/* dnn_pool.c */
void dnn_pool(int mode, const struct dnn_window *w, struct dnn_view x,
    struct dnn_view y, struct dnn_view index);
void dnn_pool_dx(int mode, const struct dnn_window *w, struct dnn_view dx,
    struct dnn_view dy, struct dnn_view index);

#endif
