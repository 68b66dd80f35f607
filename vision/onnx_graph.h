/* SPDX-License-Identifier: Apache-2.0
 * An ONNX graph under construction: between onnx.c, which writes the file around it, and
 * onnx_ops.c, which says how each op becomes nodes. */
#ifndef TH_ONNX_GRAPH_H
#define TH_ONNX_GRAPH_H

#include "onnx.h"
#include "protobuf.h"

/* Fields of onnx.proto (ONNX 1.12, IR version 8). */
enum { TH_ONNX_F32 = 1, TH_ONNX_U8 = 2, TH_ONNX_I64 = 7 }; /* TensorProto.DataType */
enum {
    TH_ONNX_FLOAT = 1,
    TH_ONNX_INT = 2,
    TH_ONNX_TEXT = 3,
    TH_ONNX_INTS = 7
}; /* AttributeProto.type */

struct th_onnx_name {
    char text[96];
};

/* proto: within the GraphProto. image, logits: values of the graph. */
struct th_onnx {
    struct th_proto *proto;
    struct th_graph *graph;
    const struct th_store *store;
    int image, logits;
    bool *
        written; /* [values]: states that are constants already; layers may share one */
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
    const char *text;
    const int *ints; /* [n] */
    int n;
};

/* A node with one output: `out`, or where that is NULL a fresh name, which is returned.
 * `in`: names, NULL at the end; attr: a row without a name at the end, or NULL. */
struct th_onnx_name th_onnx_node(struct th_onnx *x, const char *op,
    const char *const *in, const char *out, const struct th_onnx_attr *attr);
/* One with two outputs, both of fresh names, and no attributes. */
void th_onnx_pair(struct th_onnx *x, const char *op, const char *const *in,
    struct th_onnx_name out[2]);

/* A constant tensor. Name NULL: a fresh one. */
struct th_onnx_name th_onnx_f32(struct th_onnx *x, const char *name,
    const struct th_shape *shape, const float *values);
struct th_onnx_name th_onnx_i64(struct th_onnx *x, const int64_t *values, int n);

/* ---- onnx_build.c ---- */

struct th_shape th_onnx_shape(const struct th_onnx *x, int value);
/* Host copy of a state, for th_free. */
thaw_status th_onnx_read_state(const struct th_onnx *x, int value, float **out);
/* A state with these values, or as it is, a constant under its own name. Once: whoever has
 * the state after that gets the constant that is there. */
struct th_onnx_name th_onnx_put_state(
    struct th_onnx *x, int value, const struct th_shape *shape, const float *data);
thaw_status th_onnx_state(struct th_onnx *x, int value, struct th_onnx_name *constant);

/* `to` as `out` of th_onnx_node. */
struct th_onnx_name th_onnx_scalar(struct th_onnx *x, double value);
struct th_onnx_name th_onnx_reshape(
    struct th_onnx *x, const char *from, const char *to, const int64_t *dim, int rank);
struct th_onnx_name th_onnx_transpose(
    struct th_onnx *x, const char *from, const char *to, const int *perm, int rank);
/* from[..., first : first + count, ...] along an axis. */
struct th_onnx_name th_onnx_slice(
    struct th_onnx *x, const char *from, int axis, int64_t first, int64_t count);
struct th_onnx_name th_onnx_unary(struct th_onnx *x, const char *op, const char *a);
struct th_onnx_name th_onnx_binary(
    struct th_onnx *x, const char *op, const char *a, const char *b);
/* OP(a, b), b being a scalar. */
struct th_onnx_name th_onnx_with(
    struct th_onnx *x, const char *op, const char *a, double b);

/* ---- onnx_detector.c: rows of onnx_ops.c's table, and what comes behind a detector ---- */

thaw_status th_onnx_groupnorm(struct th_onnx *x, const struct th_node *n);
thaw_status th_onnx_upsample(struct th_onnx *x, const struct th_node *n);
thaw_status th_onnx_map_rows(struct th_onnx *x, const struct th_node *n);

/* From the graph's outputs to "boxes" [k][4] in pixels of the input, "scores" [k] and "labels"
 * [k] of one image, as th_reader_read makes them; scores above `score`. */
thaw_status th_onnx_detections(
    struct th_onnx *x, const struct th_model *m, double score);

#endif
