/* SPDX-License-Identifier: Apache-2.0
 * Owns the graphs of convolutions. Formulas: kernels/conv.c. */
#include "lower_ops.h"

static struct th_cudnn_window window_of(const struct th_attr_conv *a)
{
    struct th_cudnn_window v = {.groups = a->groups};
    for (int i = 0; i < 2; i++) {
        v.stride[i] = a->stride[i];
        v.dilation[i] = a->dilation[i];
        v.before[i] = a->pad[i];
        v.after[i] = a->pad[i + 2];
    }
    return v;
}

/* The convolution, ending in y. */
static int product(struct th_lower *l, int y)
{
    struct th_cudnn_window v = window_of(&th_lower_call(l, 0)->attr.conv);
    int x = th_lower_activation(l, 0, 0, "x"), w = th_lower_weight(l, 0, 1, "w");
    return th_cudnn_conv(l->g, &v, x, w, y);
}

/* s + b + add, then ReLU; what comes last ends in y (-1: in a new tensor). */
static int epilogue(struct th_lower *l, int s, int y)
{
    bool relu = th_lower_call(l, 0)->attr.conv.relu;
    int b = th_lower_channels(l, 0, 2, "b");
    int add = th_lower_activation(l, 0, 3, "add");
    if (b >= 0)
        s = th_cudnn_pointwise(
            l->g, CUDNN_POINTWISE_ADD, s, b, add < 0 && !relu ? y : -1);
    if (add >= 0)
        s = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_ADD, s, add, relu ? -1 : y);
    return relu ? th_cudnn_pointwise(l->g, CUDNN_POINTWISE_RELU_FWD, s, -1, y) : s;
}

void th_lower_conv(struct th_lower *l)
{
    int y = th_lower_activation(l, 0, TH_LOWER_OUT, "y");
    if (l->group->part == TH_CUDA_PRODUCT)
        product(l, th_lower_product(l, y));
    else if (l->group->part == TH_CUDA_EPILOGUE)
        epilogue(l, th_lower_product(l, y), y);
    else if (!th_cuda_splits(l->group))
        product(l, y);
    else
        epilogue(l, product(l, th_cudnn_virtual(l->g, CUDNN_DATA_FLOAT, y)), y);
}

void th_lower_conv_bn_apply(struct th_lower *l)
{
    int y = th_lower_activation(l, 1, TH_LOWER_OUT, "y");
    int s = product(l, th_cudnn_virtual(l->g, CUDNN_DATA_FLOAT, y));
    th_lower_bn_epilogue(l, 1, epilogue(l, s, -1), y);
}

void th_lower_conv_dx(struct th_lower *l)
{
    struct th_cudnn_window v = window_of(&th_lower_call(l, 0)->attr.conv);
    int dy = th_lower_activation(l, 0, 0, "dy"), w = th_lower_weight(l, 0, 1, "w");
    th_cudnn_conv_dx(l->g, &v, dy, w, th_lower_activation(l, 0, TH_LOWER_OUT, "dx"));
}

void th_lower_conv_dx_relu_dx(struct th_lower *l)
{
    struct th_cudnn_window v = window_of(&th_lower_call(l, 0)->attr.conv);
    int dy = th_lower_activation(l, 0, 0, "dy"), w = th_lower_weight(l, 0, 1, "w");
    int mask = th_lower_activation(l, 1, 1, "mask");
    int add = th_lower_activation(l, 1, 2, "add");
    int dx = th_lower_activation(l, 1, TH_LOWER_OUT, "dx");
    int s =
        th_cudnn_conv_dx(l->g, &v, dy, w, th_lower_between(l, 0, TH_LOWER_OUT, "dz"));
    if (add >= 0)
        s = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_ADD, s, add, -1);
    th_lower_masked(l, s, mask, dx);
}

/* dw as w is packed; a kernel of ours puts it into the plain order, in fp32. */
void th_lower_conv_dw(struct th_lower *l)
{
    struct th_cudnn_window v = window_of(&th_lower_call(l, 0)->attr.conv);
    int x = th_lower_activation(l, 0, 0, "x"), dy = th_lower_activation(l, 0, 1, "dy");
    int dw = th_lower_weight(l, 0, TH_LOWER_OUT, "dw");
    th_cudnn_conv_dw(l->g, &v, x, dy, dw);
}
