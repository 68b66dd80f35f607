/* SPDX-License-Identifier: Apache-2.0
 * Owns what a descriptor has to be when it is finalised. */
#include "dnn.h"

#include <string.h>

#define ATTR(name) CUDNN_ATTR_##name
#define IN(name) ATTR(OPERATION_##name)

static cudnnStatus_t bad(const char *what)
{
    return dnn_refuse(CUDNN_STATUS_BAD_PARAM, "%s", what);
}

/* ---- tensors ---- */

static size_t element_bits(cudnnDataType_t type)
{
    switch ((int)type) {
    case CUDNN_DATA_FLOAT:
        return 32;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16:
        return 16;
    case CUDNN_DATA_INT8:
        return 8;
    case CUDNN_DATA_BOOLEAN:
        return 1;
    }
    return 0;
}

void dnn_tensor_of(const struct dnn_descriptor *d, struct dnn_tensor *t)
{
    const struct dnn_value *dim = dnn_value(d, ATTR(TENSOR_DIMENSIONS));
    const struct dnn_value *stride = dnn_value(d, ATTR(TENSOR_STRIDES));
    *t = (struct dnn_tensor){
        .type = (cudnnDataType_t)dnn_word(d, ATTR(TENSOR_DATA_TYPE), 0),
        .rank = (int)dim->n,
        .uid = *dnn_numbers(d, ATTR(TENSOR_UNIQUE_ID)),
        .alignment = *dnn_numbers(d, ATTR(TENSOR_BYTE_ALIGNMENT)),
        .is_virtual = dnn_word(d, ATTR(TENSOR_IS_VIRTUAL), 0),
        .by_value = dnn_word(d, ATTR(TENSOR_IS_BY_VALUE), 0)};
    memcpy(t->dim, dim->data, (size_t)dim->n * sizeof(int64_t));
    memcpy(t->stride, stride->data, (size_t)stride->n * sizeof(int64_t));
}

int64_t dnn_count(const struct dnn_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

int64_t dnn_extent(const struct dnn_tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < t->rank; i++)
        last += (t->dim[i] - 1) * t->stride[i];
    return last + 1;
}

size_t dnn_bytes(const struct dnn_tensor *t)
{
    return ((size_t)dnn_extent(t) * element_bits(t->type) + 7) / 8;
}

static cudnnStatus_t check_tensor(const struct dnn_descriptor *d)
{
    const struct dnn_value *dim = dnn_value(d, ATTR(TENSOR_DIMENSIONS));
    const struct dnn_value *stride = dnn_value(d, ATTR(TENSOR_STRIDES));
    struct dnn_tensor t;
    if (dim->n != stride->n)
        return bad("a tensor has as many strides as dimensions");
    dnn_tensor_of(d, &t);
    size_t bits = element_bits(t.type);
    for (int i = 0; i < t.rank; i++)
        if (t.dim[i] < 1)
            return bad("a tensor's dimensions are above 0");
    if (bits == 0) {
        emu_find("unknown: a tensor of type %d", (int)t.type);
        return dnn_refuse(CUDNN_STATUS_NOT_SUPPORTED, "tensor type %d", (int)t.type);
    }
    if (t.alignment < 1 || (bits >= 8 && (size_t)t.alignment % (bits / 8) != 0))
        return bad("a tensor's alignment is a multiple of its element's size");
    for (int i = 0; i < t.rank; i++)
        if (t.stride[i] < 1)
            return dnn_stricter("a tensor has strides below 1");
    if (t.is_virtual && t.by_value)
        return dnn_stricter("a tensor is virtual and by value");
    if (t.by_value && (dnn_count(&t) != 1 || t.type != CUDNN_DATA_FLOAT))
        return dnn_stricter("a tensor by value is more than one fp32 number");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- shapes that have to fit ---- */

/* The tensor of an operation; false: it has none. */
static bool tensor(const struct dnn_descriptor *d, cudnnBackendAttributeName_t name,
    struct dnn_tensor *t)
{
    const struct dnn_descriptor *inner = dnn_inner(d, name);
    if (inner)
        dnn_tensor_of(inner, t);
    else
        *t = (struct dnn_tensor){.rank = 0};
    return inner != NULL;
}

static bool same_shape(const struct dnn_tensor *a, const struct dnn_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) == 0;
}

static bool broadcasts(const struct dnn_tensor *small, const struct dnn_tensor *large)
{
    bool good = small->rank == large->rank;
    for (int i = 0; good && i < small->rank; i++)
        good = small->dim[i] == large->dim[i] || small->dim[i] == 1;
    return good || dnn_count(small) == 1;
}

/* No gap between its elements, and none twice. */
static bool is_packed(const struct dnn_tensor *t)
{
    int64_t want = 1;
    bool found = true;
    while (found) {
        found = false;
        for (int i = 0; !found && i < t->rank; i++)
            if (t->dim[i] > 1 && t->stride[i] == want) {
                want *= t->dim[i];
                found = true;
            }
    }
    return want == dnn_count(t);
}

struct window {
    const int64_t *stride, *dilation, *before, *after, *size;
};

static bool slides(
    const struct window *w, int axis, int64_t size, int64_t kernel, int64_t outputs)
{
    int64_t dilation = w->dilation ? w->dilation[axis] : 1;
    int64_t room =
        size + w->before[axis] + w->after[axis] - (dilation * (kernel - 1) + 1);
    return room >= 0 && room / w->stride[axis] + 1 == outputs;
}

/* otherwise: the library's status for another count */
static cudnnStatus_t check_window(const struct dnn_descriptor *d,
    const cudnnBackendAttributeName_t *names, int n, int64_t spatial,
    cudnnStatus_t otherwise)
{
    for (int i = 0; i < n; i++) {
        const struct dnn_value *v = dnn_value(d, names[i]);
        if (v->n != spatial)
            return dnn_refuse(
                otherwise, "a window has as many numbers as spatial dimensions");
    }
    return spatial == 2 ? CUDNN_STATUS_SUCCESS
                        : dnn_stricter("a window of %d dimensions", (int)spatial);
}

static cudnnStatus_t check_convolution(const struct dnn_descriptor *d)
{
    const cudnnBackendAttributeName_t names[] = {ATTR(CONVOLUTION_DILATIONS),
        ATTR(CONVOLUTION_FILTER_STRIDES), ATTR(CONVOLUTION_PRE_PADDINGS),
        ATTR(CONVOLUTION_POST_PADDINGS)};
    cudnnStatus_t status = check_window(d, names, 4,
        *dnn_numbers(d, ATTR(CONVOLUTION_SPATIAL_DIMS)), CUDNN_STATUS_BAD_PARAM);
    for (int i = 0; status == CUDNN_STATUS_SUCCESS && i < 4; i++)
        for (int k = 0; k < 2; k++)
            if (dnn_numbers(d, names[i])[k] < (i < 2))
                return bad("strides and dilations are above 0, paddings not below");
    if (status == CUDNN_STATUS_SUCCESS &&
        dnn_word(d, ATTR(CONVOLUTION_CONV_MODE), 0) != CUDNN_CROSS_CORRELATION)
        return dnn_stricter("a convolution that turns its filters over");
    return status;
}

static cudnnStatus_t check_conv(const struct dnn_descriptor *d,
    cudnnBackendAttributeName_t window, const cudnnBackendAttributeName_t *names,
    cudnnBackendAttributeName_t beta, int made)
{
    const struct dnn_descriptor *c = dnn_inner(d, window);
    const struct window v = {.stride = dnn_numbers(c, ATTR(CONVOLUTION_FILTER_STRIDES)),
        .dilation = dnn_numbers(c, ATTR(CONVOLUTION_DILATIONS)),
        .before = dnn_numbers(c, ATTR(CONVOLUTION_PRE_PADDINGS)),
        .after = dnn_numbers(c, ATTR(CONVOLUTION_POST_PADDINGS))};
    struct dnn_tensor t[3];
    for (int i = 0; i < 3; i++)
        tensor(d, names[i], &t[i]);
    const struct dnn_tensor *x = &t[0], *w = &t[1], *y = &t[2];
    if (x->rank != 4 || w->rank != 4 || y->rank != 4)
        return bad("a convolution's tensors have two dimensions more than its window");
    if (x->dim[0] != y->dim[0] || w->dim[0] != y->dim[1] || x->dim[1] % w->dim[1] != 0)
        return bad("a convolution's channels or samples do not fit");
    if (!is_packed(w))
        return bad("a convolution's filters have gaps");
    if (!slides(&v, 0, x->dim[2], w->dim[2], y->dim[2]) ||
        !slides(&v, 1, x->dim[3], w->dim[3], y->dim[3]))
        return bad("a convolution's rows or columns do not fit");
    if (w->dim[0] % (x->dim[1] / w->dim[1]) != 0)
        return dnn_stricter(
            "%d filters in %d groups", (int)w->dim[0], (int)(x->dim[1] / w->dim[1]));
    if (t[(made + 1) % 3].type != t[(made + 2) % 3].type)
        return dnn_stricter("a convolution of inputs of different types");
    const struct dnn_value *b = dnn_value(d, beta);
    float scale = 0;
    if (b)
        memcpy(&scale, b->data, sizeof scale);
    return scale == 0 ? CUDNN_STATUS_SUCCESS
                      : dnn_stricter("a convolution with beta %g", (double)scale);
}

static cudnnStatus_t check_pointwise(const struct dnn_descriptor *d)
{
    int mode =
        dnn_word(dnn_inner(d, IN(POINTWISE_PW_DESCRIPTOR)), ATTR(POINTWISE_MODE), 0);
    struct dnn_tensor x, b, y, dy, dx;
    tensor(d, IN(POINTWISE_XDESC), &x);
    bool has_b = tensor(d, IN(POINTWISE_BDESC), &b);
    bool has_y = tensor(d, IN(POINTWISE_YDESC), &y);
    bool has_dy = tensor(d, IN(POINTWISE_DYDESC), &dy);
    bool has_dx = tensor(d, IN(POINTWISE_DXDESC), &dx);
    bool backward = mode >= CUDNN_POINTWISE_RELU_BWD && mode < CUDNN_POINTWISE_CMP_EQ;
    bool binary = mode <= CUDNN_POINTWISE_MUL || mode == CUDNN_POINTWISE_SUB ||
                  (mode >= CUDNN_POINTWISE_CMP_EQ && mode <= CUDNN_POINTWISE_CMP_LE);
    if (backward ? !has_dy || !has_dx : !has_y)
        return bad("a pointwise operation without its output");
    if (binary && !has_b)
        return bad("a pointwise operation of two inputs without the second");
    if (backward)
        return same_shape(&dy, &x) && same_shape(&x, &dx)
                   ? CUDNN_STATUS_SUCCESS
                   : dnn_stricter("dy, x and dx of a pointwise operation differ");
    if ((has_b && !binary) || has_dy || has_dx)
        return dnn_stricter("a pointwise operation with tensors that it does not use");
    if (!broadcasts(&x, &y) || (has_b && !broadcasts(&b, &y)))
        return dnn_stricter("inputs of a pointwise operation do not broadcast");
    bool half = false, bfloat = false;
    const struct dnn_tensor *inputs[] = {&x, &b};
    for (int i = 0; i < 1 + has_b; i++) {
        half = half || inputs[i]->type == CUDNN_DATA_HALF;
        bfloat = bfloat || inputs[i]->type == CUDNN_DATA_BFLOAT16;
    }
    return half && bfloat ? dnn_stricter("a pointwise operation of fp16 and bf16")
                          : CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_matmul(const struct dnn_descriptor *d)
{
    struct dnn_tensor a, b, c;
    tensor(d, IN(MATMUL_ADESC), &a);
    tensor(d, IN(MATMUL_BDESC), &b);
    tensor(d, IN(MATMUL_CDESC), &c);
    int row = a.rank - 2, column = a.rank - 1;
    if (a.rank < 3 || b.rank != a.rank || c.rank != a.rank)
        return bad("a matrix product of rank 3 or more, alike for all");
    if (a.dim[column] != b.dim[row] || c.dim[row] != a.dim[row] ||
        c.dim[column] != b.dim[column])
        return bad("a matrix product's rows and columns do not fit");
    for (int i = 0; i < row; i++)
        if (a.dim[i] != b.dim[i] || a.dim[i] != c.dim[i])
            return dnn_stricter("a matrix product of different batches");
    return a.type == b.type || a.is_virtual || b.is_virtual
               ? CUDNN_STATUS_SUCCESS
               : dnn_stricter("a matrix product of different types");
}

static cudnnStatus_t check_reduction(const struct dnn_descriptor *d)
{
    struct dnn_tensor x, y;
    tensor(d, IN(REDUCTION_XDESC), &x);
    tensor(d, IN(REDUCTION_YDESC), &y);
    if (x.rank != y.rank)
        return bad("a reduction of another rank");
    if (!broadcasts(&y, &x))
        return bad("a reduction's output has the extents of x, or 1");
    int op = dnn_word(dnn_inner(d, IN(REDUCTION_DESC)), ATTR(REDUCTION_OPERATOR), -1);
    return op == CUDNN_REDUCE_TENSOR_ADD
               ? CUDNN_STATUS_SUCCESS
               : dnn_stricter("a reduction by other means (%d) than sums", op);
}

static cudnnStatus_t check_reshape(const struct dnn_descriptor *d)
{
    struct dnn_tensor x, y;
    tensor(d, IN(RESHAPE_XDESC), &x);
    tensor(d, IN(RESHAPE_YDESC), &y);
    if (dnn_count(&x) != dnn_count(&y))
        return bad("a reshape keeps the number of values");
    return dnn_extent(&x) == dnn_extent(&y)
               ? CUDNN_STATUS_SUCCESS
               : dnn_stricter("a reshape between extents in memory that differ");
}

static cudnnStatus_t check_resample(const struct dnn_descriptor *d)
{
    const cudnnBackendAttributeName_t names[] = {ATTR(RESAMPLE_WINDOW_DIMS),
        ATTR(RESAMPLE_STRIDES), ATTR(RESAMPLE_PRE_PADDINGS),
        ATTR(RESAMPLE_POST_PADDINGS)};
    int mode = dnn_word(d, ATTR(RESAMPLE_MODE), 0);
    cudnnStatus_t status = check_window(d, names, 4,
        *dnn_numbers(d, ATTR(RESAMPLE_SPATIAL_DIMS)), CUDNN_STATUS_NOT_SUPPORTED);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    for (int k = 0; k < 2; k++)
        if (dnn_numbers(d, names[0])[k] < 1 || dnn_numbers(d, names[1])[k] < 1)
            return dnn_stricter("windows and strides are above 0");
    return mode == CUDNN_RESAMPLE_MAXPOOL ||
                   mode == CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING
               ? CUDNN_STATUS_SUCCESS
               : dnn_stricter("resampling by another mode: %d", mode);
}

/* x and y of the forward pass */
static cudnnStatus_t check_pool(const struct dnn_descriptor *d,
    const struct dnn_descriptor *r, cudnnBackendAttributeName_t large,
    cudnnBackendAttributeName_t small, cudnnBackendAttributeName_t at, bool backward)
{
    const struct window v = {.stride = dnn_numbers(r, ATTR(RESAMPLE_STRIDES)),
        .before = dnn_numbers(r, ATTR(RESAMPLE_PRE_PADDINGS)),
        .after = dnn_numbers(r, ATTR(RESAMPLE_POST_PADDINGS)),
        .size = dnn_numbers(r, ATTR(RESAMPLE_WINDOW_DIMS))};
    struct dnn_tensor x, y, index;
    tensor(d, large, &x);
    tensor(d, small, &y);
    bool has_index = tensor(d, at, &index);
    if (x.rank != 4 || y.rank != 4)
        return bad("pooling of rank 4");
    if (x.dim[0] != y.dim[0] || x.dim[1] != y.dim[1] ||
        !slides(&v, 0, x.dim[2], v.size[0], y.dim[2]) ||
        !slides(&v, 1, x.dim[3], v.size[1], y.dim[3]))
        return dnn_stricter("a pooling window does not make one of the other");
    bool max = dnn_word(r, ATTR(RESAMPLE_MODE), 0) == CUDNN_RESAMPLE_MAXPOOL;
    if (has_index && (!max || !same_shape(&index, &y) || index.type != CUDNN_DATA_INT8))
        return dnn_stricter("an index is of max pooling, like y, int8");
    return max && backward && !has_index
               ? dnn_stricter("the gradient of max pooling without its index")
               : CUDNN_STATUS_SUCCESS;
}

/* ---- normalisation and attention ---- */

static cudnnStatus_t check_norm(const struct dnn_descriptor *d,
    const cudnnBackendAttributeName_t *like_x, int n_x,
    const cudnnBackendAttributeName_t *small, int n_small, int mode)
{
    struct dnn_tensor x, t;
    tensor(d, like_x[0], &x);
    if (mode != CUDNN_BATCH_NORM && mode != CUDNN_LAYER_NORM)
        return dnn_stricter("normalisation of another mode: %d", mode);
    for (int i = 1; i < n_x; i++) {
        tensor(d, like_x[i], &t);
        if (!same_shape(&x, &t))
            return dnn_stricter("normalisation of different shapes");
    }
    for (int i = 0; i < n_small; i++) {
        if (!tensor(d, small[i], &t))
            return dnn_stricter("normalisation without attribute %d", (int)small[i]);
        if (!broadcasts(&t, &x))
            return dnn_stricter("a vector of normalisation does not fit x");
        if (t.type != CUDNN_DATA_FLOAT)
            return dnn_stricter("a vector of normalisation is not fp32");
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_norm_forward(const struct dnn_descriptor *d)
{
    const cudnnBackendAttributeName_t like[] = {IN(NORM_FWD_XDESC), IN(NORM_FWD_YDESC)};
    const cudnnBackendAttributeName_t small[] = {IN(NORM_FWD_SCALE_DESC),
        IN(NORM_FWD_BIAS_DESC), IN(NORM_FWD_EPSILON_DESC), IN(NORM_FWD_MEAN_DESC),
        IN(NORM_FWD_INV_VARIANCE_DESC)};
    if (dnn_word(d, IN(NORM_FWD_PHASE), 0) != CUDNN_NORM_FWD_TRAINING)
        return CUDNN_STATUS_SUCCESS; /* no engine takes it */
    return check_norm(d, like, 2, small, 5, dnn_word(d, IN(NORM_FWD_MODE), 0));
}

static cudnnStatus_t check_norm_backward(const struct dnn_descriptor *d)
{
    const cudnnBackendAttributeName_t like[] = {
        IN(NORM_BWD_XDESC), IN(NORM_BWD_DYDESC), IN(NORM_BWD_DXDESC)};
    const cudnnBackendAttributeName_t small[] = {IN(NORM_BWD_MEAN_DESC),
        IN(NORM_BWD_INV_VARIANCE_DESC), IN(NORM_BWD_SCALE_DESC),
        IN(NORM_BWD_DSCALE_DESC), IN(NORM_BWD_DBIAS_DESC)};
    return check_norm(d, like, 3, small, 5, dnn_word(d, IN(NORM_BWD_MODE), 0));
}

static cudnnStatus_t check_attention(const struct dnn_descriptor *d)
{
    const cudnnBackendAttributeName_t names[] = {
        IN(SDPA_FWD_QDESC), IN(SDPA_FWD_KDESC), IN(SDPA_FWD_VDESC), IN(SDPA_FWD_ODESC)};
    struct dnn_tensor q, t;
    tensor(d, names[0], &q);
    if (q.rank != 4)
        return bad("attention of rank 4");
    for (int i = 1; i < 4; i++) {
        tensor(d, names[i], &t);
        if (!same_shape(&q, &t) || t.type != q.type)
            return dnn_stricter("q, k, v and o of attention differ");
    }
    if (!tensor(d, IN(SDPA_FWD_SCALEDESC), &t) || !t.by_value)
        return dnn_stricter("attention without a scale by value");
    if (tensor(d, IN(SDPA_FWD_STATSDESC), &t) &&
        (!broadcasts(&t, &q) || t.dim[3] != 1 || t.type != CUDNN_DATA_FLOAT))
        return dnn_stricter("attention's statistics are [n][heads][t][1], fp32");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- variant packs and devices ---- */

static cudnnStatus_t check_pack(const struct dnn_descriptor *d)
{
    const struct dnn_value *uids = dnn_value(d, ATTR(VARIANT_PACK_UNIQUE_IDS));
    const struct dnn_value *at = dnn_value(d, ATTR(VARIANT_PACK_DATA_POINTERS));
    if (uids->n != at->n)
        return bad("a variant pack has as many pointers as uids");
    const int64_t *uid = uids->data;
    for (int64_t i = 0; i < uids->n; i++) {
        if (!((void **)at->data)[i])
            return dnn_stricter(
                "a variant pack's pointer of uid %lld is NULL", (long long)uid[i]);
        for (int64_t k = 0; k < i; k++)
            if (uid[i] == uid[k])
                return dnn_stricter(
                    "a variant pack has uid %lld twice", (long long)uid[i]);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t check_device(const struct dnn_descriptor *d)
{
    const struct dnn_value *handle = dnn_value(d, ATTR(DEVICEPROP_HANDLE));
    if (!handle && !dnn_value(d, ATTR(DEVICEPROP_JSON_REPRESENTATION)))
        return bad("a device from neither a handle nor JSON");
    if (handle && !dnn_is_handle(*(struct cudnnContext **)handle->data))
        return dnn_stricter("a device of what is no live handle");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- all ---- */

static cudnnStatus_t check_operation(const struct dnn_descriptor *d)
{
    switch ((int)d->type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return check_conv(d, IN(CONVOLUTION_FORWARD_CONV_DESC),
            (cudnnBackendAttributeName_t[]){IN(CONVOLUTION_FORWARD_X),
                IN(CONVOLUTION_FORWARD_W), IN(CONVOLUTION_FORWARD_Y)},
            IN(CONVOLUTION_FORWARD_BETA), 2);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return check_conv(d, IN(CONVOLUTION_BWD_DATA_CONV_DESC),
            (cudnnBackendAttributeName_t[]){IN(CONVOLUTION_BWD_DATA_DX),
                IN(CONVOLUTION_BWD_DATA_W), IN(CONVOLUTION_BWD_DATA_DY)},
            IN(CONVOLUTION_BWD_DATA_BETA), 0);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return check_conv(d, IN(CONVOLUTION_BWD_FILTER_CONV_DESC),
            (cudnnBackendAttributeName_t[]){IN(CONVOLUTION_BWD_FILTER_X),
                IN(CONVOLUTION_BWD_FILTER_DW), IN(CONVOLUTION_BWD_FILTER_DY)},
            IN(CONVOLUTION_BWD_FILTER_BETA), 1);
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        return check_pointwise(d);
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        return check_matmul(d);
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        return check_reduction(d);
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
        return check_reshape(d);
    case CUDNN_BACKEND_OPERATION_RESAMPLE_FWD_DESCRIPTOR:
        return check_pool(d, dnn_inner(d, IN(RESAMPLE_FWD_DESC)),
            IN(RESAMPLE_FWD_XDESC), IN(RESAMPLE_FWD_YDESC), IN(RESAMPLE_FWD_IDXDESC),
            false);
    case CUDNN_BACKEND_OPERATION_RESAMPLE_BWD_DESCRIPTOR:
        return check_pool(d, dnn_inner(d, IN(RESAMPLE_BWD_DESC)),
            IN(RESAMPLE_BWD_DXDESC), IN(RESAMPLE_BWD_DYDESC), IN(RESAMPLE_BWD_IDXDESC),
            true);
    case CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR:
        return check_norm_forward(d);
    case CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR:
        return check_norm_backward(d);
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR:
        return check_attention(d);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn_check(struct dnn_descriptor *d)
{
    switch ((int)d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return check_tensor(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return check_convolution(d);
    case CUDNN_BACKEND_RESAMPLE_DESCRIPTOR:
        return check_resample(d);
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
        return dnn_pointwise_known(dnn_word(d, ATTR(POINTWISE_MODE), -1))
                   ? CUDNN_STATUS_SUCCESS
                   : dnn_stricter("a pointwise mode that nobody modelled: %d",
                         dnn_word(d, ATTR(POINTWISE_MODE), -1));
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return dnn_graph_new(d);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
        return dnn_engine_check(d);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return dnn_plan_check(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return check_pack(d);
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR:
        return check_device(d);
    }
    return check_operation(d);
}
