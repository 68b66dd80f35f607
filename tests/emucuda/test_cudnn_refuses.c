/* SPDX-License-Identifier: Apache-2.0
 * What the double of cuDNN refuses of descriptors and graphs: what the library refuses, with
 * a status of the same class, and what the library lets through, with a finding. */
#include "emucuda.h"

#include <cudnn.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define D(type) CUDNN_BACKEND_##type##_DESCRIPTOR
#define ATTR(name) CUDNN_ATTR_##name
#define OP(name) CUDNN_ATTR_OPERATION_##name

typedef cudnnBackendDescriptor_t desc;

/* ---- descriptors by hand; what was made is destroyed by clear() ---- */

static desc made[64];
static int n_made;
static cudnnStatus_t first; /* refusal since clear() */

static void note(cudnnStatus_t status)
{
    if (first == CUDNN_STATUS_SUCCESS)
        first = status;
}

static void clear(void)
{
    while (n_made > 0)
        cudnnBackendDestroyDescriptor(made[--n_made]);
    first = CUDNN_STATUS_SUCCESS;
}

static desc make(cudnnBackendDescriptorType_t type)
{
    note(cudnnBackendCreateDescriptor(type, &made[n_made]));
    return made[n_made++];
}

static void words(desc d, cudnnBackendAttributeName_t name,
    cudnnBackendAttributeType_t type, int value)
{
    note(cudnnBackendSetAttribute(d, name, type, 1, &value));
}

static void numbers(
    desc d, cudnnBackendAttributeName_t name, int64_t n, const int64_t *values)
{
    note(cudnnBackendSetAttribute(d, name, CUDNN_TYPE_INT64, n, values));
}

static void points(desc d, cudnnBackendAttributeName_t name, desc to)
{
    note(cudnnBackendSetAttribute(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to));
}

static desc final(desc d)
{
    note(cudnnBackendFinalize(d));
    return d;
}

enum { REAL, VIRTUAL, VALUE };

/* Channels innermost, as NHWC. */
static desc tensor(int64_t uid, cudnnDataType_t type, int64_t n, int64_t c, int64_t h,
    int64_t w, int kind)
{
    desc d = make(D(TENSOR));
    words(d, ATTR(TENSOR_DATA_TYPE), CUDNN_TYPE_DATA_TYPE, (int)type);
    numbers(d, ATTR(TENSOR_DIMENSIONS), 4, (int64_t[]){n, c, h, w});
    numbers(d, ATTR(TENSOR_STRIDES), 4, (int64_t[]){c * h * w, 1, c * w, c});
    numbers(d, ATTR(TENSOR_UNIQUE_ID), 1, &uid);
    numbers(d, ATTR(TENSOR_BYTE_ALIGNMENT), 1, &(int64_t){16});
    if (kind != REAL)
        note(cudnnBackendSetAttribute(d,
            kind == VIRTUAL ? ATTR(TENSOR_IS_VIRTUAL) : ATTR(TENSOR_IS_BY_VALUE),
            CUDNN_TYPE_BOOLEAN, 1, &(bool){true}));
    return final(d);
}

static desc image(int64_t uid, int64_t c, int kind)
{
    return tensor(uid, CUDNN_DATA_FLOAT, 2, c, 8, 8, kind);
}

static desc pointwise(cudnnPointwiseMode_t mode, desc x, desc b, desc y)
{
    desc p = make(D(POINTWISE)), op;
    words(p, ATTR(POINTWISE_MODE), CUDNN_TYPE_POINTWISE_MODE, (int)mode);
    words(p, ATTR(POINTWISE_MATH_PREC), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    final(p);
    op = make(D(OPERATION_POINTWISE));
    points(op, OP(POINTWISE_PW_DESCRIPTOR), p);
    points(op, OP(POINTWISE_XDESC), x);
    if (b)
        points(op, OP(POINTWISE_BDESC), b);
    points(op, OP(POINTWISE_YDESC), y);
    return final(op);
}

static desc conv(desc x, desc w, desc y)
{
    desc c = make(D(CONVOLUTION)), op;
    const int64_t one[] = {1, 1};
    numbers(c, ATTR(CONVOLUTION_SPATIAL_DIMS), 1, &(int64_t){2});
    words(c, ATTR(CONVOLUTION_COMP_TYPE), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    words(c, ATTR(CONVOLUTION_CONV_MODE), CUDNN_TYPE_CONVOLUTION_MODE,
        CUDNN_CROSS_CORRELATION);
    numbers(c, ATTR(CONVOLUTION_PRE_PADDINGS), 2, one);
    numbers(c, ATTR(CONVOLUTION_POST_PADDINGS), 2, one);
    numbers(c, ATTR(CONVOLUTION_DILATIONS), 2, one);
    numbers(c, ATTR(CONVOLUTION_FILTER_STRIDES), 2, one);
    final(c);
    op = make(D(OPERATION_CONVOLUTION_FORWARD));
    points(op, OP(CONVOLUTION_FORWARD_CONV_DESC), c);
    points(op, OP(CONVOLUTION_FORWARD_X), x);
    points(op, OP(CONVOLUTION_FORWARD_W), w);
    points(op, OP(CONVOLUTION_FORWARD_Y), y);
    return final(op);
}

static desc graph(int n, const desc *ops)
{
    desc g = make(D(OPERATIONGRAPH));
    note(cudnnBackendSetAttribute(
        g, ATTR(OPERATIONGRAPH_OPS), CUDNN_TYPE_BACKEND_DESCRIPTOR, n, ops));
    return final(g);
}

/* ---- what is refused: layer 1 as the library, layer 2 with a finding ---- */

static void empty_tensor(void)
{
    final(make(D(TENSOR)));
}

static void fewer_strides(void)
{
    desc d = make(D(TENSOR));
    words(d, ATTR(TENSOR_DATA_TYPE), CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    numbers(d, ATTR(TENSOR_DIMENSIONS), 4, (int64_t[]){2, 3, 4, 5});
    numbers(d, ATTR(TENSOR_STRIDES), 3, (int64_t[]){60, 1, 15});
    numbers(d, ATTR(TENSOR_UNIQUE_ID), 1, &(int64_t){1});
    numbers(d, ATTR(TENSOR_BYTE_ALIGNMENT), 1, &(int64_t){16});
    final(d);
}

static void wrong_type(void)
{
    note(cudnnBackendSetAttribute(make(D(TENSOR)), ATTR(TENSOR_DIMENSIONS),
        CUDNN_TYPE_FLOAT, 4, (float[]){1, 2, 3, 4}));
}

static void of_another(void)
{
    words(make(D(TENSOR)), ATTR(POINTWISE_MODE), CUDNN_TYPE_POINTWISE_MODE, 0);
}

static void set_twice(void)
{
    numbers(image(1, 8, REAL), ATTR(TENSOR_UNIQUE_ID), 1, &(int64_t){2});
}

static void final_twice(void)
{
    final(image(1, 8, REAL));
}

static void not_final(void)
{
    desc op = make(D(OPERATION_RESHAPE));
    points(op, OP(RESHAPE_XDESC), make(D(TENSOR)));
}

static void wrong_rows(void)
{
    conv(image(1, 8, REAL), tensor(2, CUDNN_DATA_FLOAT, 8, 8, 3, 3, REAL),
        tensor(3, CUDNN_DATA_FLOAT, 2, 8, 7, 8, REAL));
}

static void fewer_pointers(void)
{
    desc p = make(D(VARIANT_PACK));
    void *at[] = {&n_made};
    numbers(p, ATTR(VARIANT_PACK_UNIQUE_IDS), 2, (int64_t[]){1, 2});
    note(cudnnBackendSetAttribute(
        p, ATTR(VARIANT_PACK_DATA_POINTERS), CUDNN_TYPE_VOID_PTR, 1, at));
    final(p);
}

static void null_descriptor(void)
{
    note(cudnnBackendFinalize(NULL));
}

static void destroyed_descriptor(void)
{
    desc d = NULL;
    cudnnBackendCreateDescriptor(D(TENSOR), &d);
    cudnnBackendDestroyDescriptor(d);
    note(cudnnBackendFinalize(d));
}

static void two_types(void)
{
    conv(tensor(1, CUDNN_DATA_BFLOAT16, 2, 8, 8, 8, REAL),
        tensor(2, CUDNN_DATA_HALF, 8, 8, 3, 3, REAL),
        tensor(3, CUDNN_DATA_BFLOAT16, 2, 8, 8, 8, REAL));
}

static void no_broadcast(void)
{
    pointwise(CUDNN_POINTWISE_ADD, image(1, 64, REAL),
        tensor(2, CUDNN_DATA_FLOAT, 1, 32, 1, 1, REAL), image(3, 64, REAL));
}

static void one_uid(void)
{
    desc op = pointwise(
        CUDNN_POINTWISE_ADD, image(1, 8, REAL), image(2, 8, REAL), image(3, 8, REAL));
    desc more = pointwise(
        CUDNN_POINTWISE_RELU_FWD, image(4, 16, REAL), NULL, image(2, 16, REAL));
    graph(2, (desc[]){op, more});
}

static void virtual_output(void)
{
    desc op = pointwise(
        CUDNN_POINTWISE_RELU_FWD, image(1, 8, REAL), NULL, image(2, 8, VIRTUAL));
    graph(1, &op);
}

static void nobody_makes(void)
{
    desc op = pointwise(
        CUDNN_POINTWISE_RELU_FWD, image(1, 8, VIRTUAL), NULL, image(2, 8, REAL));
    graph(1, &op);
}

static void made_twice(void)
{
    desc x = image(1, 8, REAL), y = image(2, 8, REAL);
    graph(2, (desc[]){pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, y),
                 pointwise(CUDNN_POINTWISE_EXP, x, NULL, y)});
}

static void circle(void)
{
    desc x = image(1, 8, REAL), y = image(2, 8, REAL);
    graph(2, (desc[]){pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, y),
                 pointwise(CUDNN_POINTWISE_EXP, y, NULL, x)});
}

static void uid_twice(void)
{
    desc p = make(D(VARIANT_PACK));
    void *at[] = {&n_made, &first};
    numbers(p, ATTR(VARIANT_PACK_UNIQUE_IDS), 2, (int64_t[]){1, 1});
    note(cudnnBackendSetAttribute(
        p, ATTR(VARIANT_PACK_DATA_POINTERS), CUDNN_TYPE_VOID_PTR, 2, at));
    final(p);
}

static const struct {
    void (*plant)(void);
    const char *says; /* NULL: the library says it, too, and there is no finding */
} planted[] = {
    {empty_tensor, "without attribute"},
    {fewer_strides, NULL},
    {wrong_type, NULL},
    {of_another, NULL},
    {set_twice, NULL},
    {final_twice, NULL},
    {not_final, "is not finalised"},
    {wrong_rows, NULL},
    {fewer_pointers, NULL},
    {null_descriptor, "of NULL"},
    {destroyed_descriptor, "no live descriptor"},
    {two_types, "inputs of different types"},
    {no_broadcast, "do not broadcast"},
    {one_uid, "two different tensors"},
    {virtual_output, "nothing reads it"},
    {nobody_makes, "nothing makes it"},
    {made_twice, "made by two nodes"},
    {circle, "a circle"},
    {uid_twice, "has uid 1 twice"},
};

static void each_wrong_descriptor_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++) {
        emu_open(&(struct emu_options){.order = EMU_LATE});
        planted[i].plant();
        if (CUDNN_STATUS_CATEGORY(first) != CUDNN_STATUS_BAD_PARAM)
            fail_msg("mistake %zu: %s", i, cudnnGetErrorString(first));
        clear();
        int findings = emu_close();
        if (findings != (planted[i].says != NULL) ||
            (findings > 0 && !strstr(emu_finding(0), planted[i].says)))
            fail_msg("mistake %zu: %d findings: %s", i, findings,
                findings ? emu_finding(0) : planted[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_wrong_descriptor_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
