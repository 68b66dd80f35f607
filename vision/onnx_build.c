/* SPDX-License-Identifier: Apache-2.0
 * Owns the few nodes and constants that ops of an ONNX graph are most often made of. */
#include "mem.h"
#include "onnx_graph.h"

#include <stdio.h>

typedef const char *const names[]; /* (names){a, b, NULL} */

struct th_shape th_onnx_shape(const struct th_onnx *x, int value)
{
    return x->graph->values[value].o.shape;
}

thaw_status th_onnx_read_state(const struct th_onnx *x, int value, float **out)
{
    const struct th_value *v = &x->graph->values[value];
    int id = v->name ? th_store_find(x->store, v->name) : -1;
    if (id < 0)
        return th_fail(THAW_E_FAIL, "ONNX: an operand has no value in the store");
    *out = th_alloc((size_t)th_shape_count(&v->o.shape), sizeof **out);
    if (!*out)
        return THAW_E_MEMORY;
    thaw_status status = th_store_get(x->store, id, *out);
    if (status != THAW_OK) {
        th_free(*out);
        *out = NULL;
    }
    return status;
}

struct th_onnx_name th_onnx_put_state(
    struct th_onnx *x, int value, const struct th_shape *shape, const float *data)
{
    const char *own = x->graph->values[value].name;
    struct th_onnx_name name;
    if (!x->written[value])
        th_onnx_f32(x, own, shape, data);
    x->written[value] = true;
    snprintf(name.text, sizeof name.text, "%s", own);
    return name;
}

thaw_status th_onnx_state(struct th_onnx *x, int value, struct th_onnx_name *constant)
{
    float *data = NULL;
    struct th_shape shape = th_onnx_shape(x, value);
    TRY(th_onnx_read_state(x, value, &data));
    *constant = th_onnx_put_state(x, value, &shape, data);
    th_free(data);
    return THAW_OK;
}

struct th_onnx_name th_onnx_scalar(struct th_onnx *x, double value)
{
    const struct th_shape one = TH_SHAPE(1);
    const float v = (float)value;
    return th_onnx_f32(x, NULL, &one, &v);
}

struct th_onnx_name th_onnx_reshape(
    struct th_onnx *x, const char *from, const char *to, const int64_t *dim, int rank)
{
    struct th_onnx_name shape = th_onnx_i64(x, dim, rank);
    return th_onnx_node(x, "Reshape", (names){from, shape.text, NULL}, to, NULL);
}

struct th_onnx_name th_onnx_transpose(
    struct th_onnx *x, const char *from, const char *to, const int *perm, int rank)
{
    const struct th_onnx_attr attr[] = {
        {.name = "perm", .type = TH_ONNX_INTS, .ints = perm, .n = rank}, {0}};
    return th_onnx_node(x, "Transpose", (names){from, NULL}, to, attr);
}

struct th_onnx_name th_onnx_slice(
    struct th_onnx *x, const char *from, int axis, int64_t first, int64_t count)
{
    const int64_t end = first + count, along = axis;
    struct th_onnx_name a = th_onnx_i64(x, &first, 1), b = th_onnx_i64(x, &end, 1),
                        c = th_onnx_i64(x, &along, 1);
    return th_onnx_node(
        x, "Slice", (names){from, a.text, b.text, c.text, NULL}, NULL, NULL);
}

struct th_onnx_name th_onnx_with(
    struct th_onnx *x, const char *op, const char *a, double b)
{
    struct th_onnx_name c = th_onnx_scalar(x, b);
    return th_onnx_node(x, op, (names){a, c.text, NULL}, NULL, NULL);
}

struct th_onnx_name th_onnx_unary(struct th_onnx *x, const char *op, const char *a)
{
    return th_onnx_node(x, op, (names){a, NULL}, NULL, NULL);
}

struct th_onnx_name th_onnx_binary(
    struct th_onnx *x, const char *op, const char *a, const char *b)
{
    return th_onnx_node(x, op, (names){a, b, NULL}, NULL, NULL);
}
