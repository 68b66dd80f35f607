/* SPDX-License-Identifier: Apache-2.0
 * An ONNX graph under construction: between onnx.c, which writes the file around it, and
 * onnx_ops.c, which says how each op becomes nodes. */
#ifndef TH_ONNX_GRAPH_H
#define TH_ONNX_GRAPH_H

#include "onnx.h"
#include "protobuf.h"

/* Fields of onnx.proto (ONNX 1.12, IR version 8). */
enum { TH_ONNX_F32 = 1, TH_ONNX_U8 = 2, TH_ONNX_I64 = 7 }; /* TensorProto.DataType */
enum { TH_ONNX_INT = 2, TH_ONNX_FLOAT = 1, TH_ONNX_INTS = 7 }; /* AttributeProto.type */

struct th_onnx_name {
    char text[96];
};

/* proto: within the GraphProto. image, logits: values of the graph. */
struct th_onnx {
    struct th_proto *proto;
    struct th_graph *graph;
    const struct th_store *store;
    int image, logits;
    int n_nodes, n_constants; /* so far: for names */
    char input[16];           /* the name of the normalised image */
};

/* Append the nodes of all of the graph. */
thaw_status th_onnx_walk(struct th_onnx *x);

/* ---- Appending; failures are the proto's ---- */

/* The name of a value of the graph. */
struct th_onnx_name th_onnx_value(const struct th_onnx *x, int value);

struct th_onnx_attr {
    const char *name; /* NULL: no more */
    int type;
    int64_t i;
    float f;
    const int *ints; /* [n] */
    int n;
};

/* A node with one output: `out`, or where that is NULL a fresh name, which is returned.
 * `in`: names, NULL at the end; attr: a row without a name at the end, or NULL. */
struct th_onnx_name th_onnx_node(struct th_onnx *x, const char *op,
    const char *const *in, const char *out, const struct th_onnx_attr *attr);

/* A constant tensor. Name NULL: a fresh one. */
struct th_onnx_name th_onnx_f32(struct th_onnx *x, const char *name,
    const struct th_shape *shape, const float *values);
struct th_onnx_name th_onnx_i64(struct th_onnx *x, const int64_t *values, int n);

#endif
