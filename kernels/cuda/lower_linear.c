/* SPDX-License-Identifier: Apache-2.0
 * Owns the graphs of linear layers as matrix products, [1][rows][features]. Formulas:
 * kernels/linear.c. */
#include "lower_ops.h"

/* w [o][i] as [1][o][i], or turned over as [1][i][o]; packed: in the engine's type. */
static int matrix(struct th_lower *l, int k, const char *name, bool turned)
{
    const struct th_operand *o = th_lower_operand(l, 0, k);
    struct th_cudnn_tensor t = {.name = name,
        .type = l->type,
        .rank = 3,
        .source = TH_CUDNN_PACKED,
        .argument = th_lower_argument(l, 0, k)};
    if (!o->present || l->g->status != THAW_OK)
        return -1;
    int64_t rows = o->shape.dim[0], columns = o->shape.dim[1];
    t.dim[0] = 1;
    t.dim[1] = turned ? columns : rows;
    t.dim[2] = turned ? rows : columns;
    t.stride[0] = rows * columns;
    t.stride[1] = turned ? 1 : columns;
    t.stride[2] = turned ? columns : 1;
    return th_cudnn_tensor(l->g, &t);
}

/* x w^T, ending in y (-1: in a new tensor) */
static int product(struct th_lower *l, int y)
{
    int x = th_lower_activation(l, 0, 0, "x"), w = matrix(l, 1, "w", true);
    return th_cudnn_matmul(l->g, x, w, y);
}

static int biased(struct th_lower *l, int s, int y)
{
    return th_cudnn_pointwise(
        l->g, CUDNN_POINTWISE_ADD, s, th_lower_row(l, 0, 2, "b"), y);
}

static int whole(struct th_lower *l, int y)
{
    bool b = th_lower_operand(l, 0, 2)->present;
    return b ? biased(l, product(l, -1), y) : product(l, y);
}

void th_lower_linear(struct th_lower *l)
{
    int y = th_lower_activation(l, 0, TH_LOWER_OUT, "y");
    if (l->group->part == TH_CUDA_PRODUCT)
        product(l, th_lower_product(l, y));
    else if (l->group->part == TH_CUDA_EPILOGUE)
        biased(l, th_lower_product(l, y), y);
    else
        whole(l, y);
}

void th_lower_linear_gelu(struct th_lower *l)
{
    int x = whole(l, th_lower_between(l, 0, TH_LOWER_OUT, "x"));
    th_lower_gelu_of(l, 1, x, th_lower_activation(l, 1, TH_LOWER_OUT, "y"));
}

void th_lower_linear_dx(struct th_lower *l)
{
    int dy = th_lower_activation(l, 0, 0, "dy"), w = matrix(l, 1, "w", false);
    th_cudnn_matmul(l->g, dy, w, th_lower_activation(l, 0, TH_LOWER_OUT, "dx"));
}

void th_lower_linear_dx_gelu_dx(struct th_lower *l)
{
    int dy = th_lower_activation(l, 0, 0, "dy"), w = matrix(l, 1, "w", false);
    int x = th_lower_activation(l, 1, 1, "x");
    int s = th_cudnn_matmul(l->g, dy, w, th_lower_between(l, 0, TH_LOWER_OUT, "dz"));
    th_lower_gelu_dx_of(l, 1, s, x, th_lower_activation(l, 1, TH_LOWER_OUT, "dx"));
}

/* dy^T x: dy [1][rows][o] read as [1][o][rows]; fp32 */
void th_lower_linear_dw(struct th_lower *l)
{
    int x = th_lower_activation(l, 0, 0, "x"), dy = th_lower_activation(l, 0, 1, "dy");
    int dw = matrix(l, TH_LOWER_OUT, "dw", false);
    if (l->g->status != THAW_OK || dw < 0)
        return;
    struct th_cudnn_tensor *t = &l->g->tensors[dy], turned = *t;
    t->dim[1] = turned.dim[2];
    t->dim[2] = turned.dim[1];
    t->stride[1] = turned.stride[2];
    t->stride[2] = turned.stride[1];
    l->g->tensors[dw].type = CUDNN_DATA_FLOAT;
    l->g->tensors[dw].source = TH_CUDNN_ARGUMENT;
    th_cudnn_matmul(l->g, dy, x, dw);
}
