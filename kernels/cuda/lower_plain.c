/* SPDX-License-Identifier: Apache-2.0
 * Owns the graphs of pooling, of activation functions, and of what works element by element
 * or sums. Formulas: kernels/pool.c, act.c, elementwise.c, token.c. */
#include "lower_ops.h"

static int in(struct th_lower *l, int k, const char *name)
{
    return th_lower_activation(l, 0, k, name);
}

static int out(struct th_lower *l, const char *name)
{
    return th_lower_activation(l, 0, TH_LOWER_OUT, name);
}

/* ---- pooling ---- */

static struct th_cudnn_window window_of(const struct th_attr_pool *a)
{
    struct th_cudnn_window v = {.groups = 1};
    for (int i = 0; i < 2; i++) {
        v.size[i] = a->kernel[i];
        v.stride[i] = a->stride[i];
        v.before[i] = a->pad[i];
        v.after[i] = a->pad[i + 2];
    }
    return v;
}

static void pool(struct th_lower *l, cudnnResampleMode_t mode)
{
    struct th_cudnn_window v = window_of(&th_lower_call(l, 0)->attr.pool);
    int index = th_lower_activation(l, 0, TH_LOWER_OUT + 1, "index");
    th_cudnn_pool(l->g, mode, &v, in(l, 0, "x"), out(l, "y"), index);
}

static void pool_dx(struct th_lower *l, cudnnResampleMode_t mode)
{
    struct th_cudnn_window v = window_of(&th_lower_call(l, 0)->attr.pool);
    int index = th_lower_activation(l, 0, 1, "index");
    th_cudnn_pool_dx(l->g, mode, &v, in(l, 0, "dy"), out(l, "dx"), index);
}

void th_lower_maxpool(struct th_lower *l)
{
    pool(l, CUDNN_RESAMPLE_MAXPOOL);
}

void th_lower_maxpool_dx(struct th_lower *l)
{
    pool_dx(l, CUDNN_RESAMPLE_MAXPOOL);
}

void th_lower_avgpool(struct th_lower *l)
{
    pool(l, CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING);
}

void th_lower_avgpool_dx(struct th_lower *l)
{
    pool_dx(l, CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING);
}

/* One window as large as the image; [n][c] is [n][c][1][1], channels innermost. */
static int whole(
    struct th_lower *l, int k, const char *name, int image, struct th_cudnn_window *v)
{
    const struct th_operand *o = th_lower_operand(l, 0, k);
    if (l->g->status != THAW_OK || image < 0)
        return -1;
    const int64_t *d = o->shape.dim, *i = l->g->tensors[image].dim;
    struct th_cudnn_tensor t = {.name = name,
        .type = l->type,
        .rank = 4,
        .dim = {d[0], d[1], 1, 1},
        .stride = {d[1], 1, d[1], d[1]},
        .argument = th_lower_argument(l, 0, k)};
    *v = (struct th_cudnn_window){
        .groups = 1, .size = {i[2], i[3]}, .stride = {i[2], i[3]}};
    return th_cudnn_tensor(l->g, &t);
}

void th_lower_gap(struct th_lower *l)
{
    struct th_cudnn_window v;
    int x = in(l, 0, "x"), y = whole(l, TH_LOWER_OUT, "y", x, &v);
    th_cudnn_pool(l->g, CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING, &v, x, y, -1);
}

void th_lower_gap_dx(struct th_lower *l)
{
    struct th_cudnn_window v;
    int dx = out(l, "dx"), dy = whole(l, 0, "dy", dx, &v);
    th_cudnn_pool_dx(l->g, CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING, &v, dy, dx, -1);
}

/* ---- activation functions ---- */

void th_lower_relu(struct th_lower *l)
{
    int x = in(l, 0, "x"), y = out(l, "y");
    int mask = th_lower_activation(l, 0, TH_LOWER_OUT + 1, "mask");
    th_cudnn_pointwise(l->g, CUDNN_POINTWISE_RELU_FWD, x, -1, y);
    th_lower_positive(l, y, mask);
}

void th_lower_relu_dx(struct th_lower *l)
{
    int dy = in(l, 0, "dy"), mask = in(l, 1, "mask"), add = in(l, 2, "add");
    if (add >= 0)
        dy = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_ADD, dy, add, -1);
    th_lower_masked(l, dy, mask, out(l, "dx"));
}

/* x / (1 + exp(-1.702 x)) is Swish with that beta, which no engine of cuDNN is asked for. */
static bool has_mode(
    struct th_lower *l, int c, bool backward, cudnnPointwiseMode_t *mode)
{
    enum th_gelu kind = th_lower_call(l, c)->attr.act.kind;
    if (kind == TH_GELU_ERF)
        *mode = backward ? CUDNN_POINTWISE_GELU_BWD : CUDNN_POINTWISE_GELU_FWD;
    else if (kind == TH_GELU_TANH)
        *mode = backward ? CUDNN_POINTWISE_GELU_APPROX_TANH_BWD
                         : CUDNN_POINTWISE_GELU_APPROX_TANH_FWD;
    else if (l->g->status == THAW_OK)
        l->g->status = th_fail(
            THAW_E_USAGE, "%s: there is no cuDNN graph for the quick form", l->g->name);
    return l->g->status == THAW_OK;
}

void th_lower_gelu_of(struct th_lower *l, int c, int x, int y)
{
    cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;
    if (has_mode(l, c, false, &mode))
        th_cudnn_pointwise(l->g, mode, x, -1, y);
}

void th_lower_gelu_dx_of(struct th_lower *l, int c, int dy, int x, int dx)
{
    cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;
    if (has_mode(l, c, true, &mode))
        th_cudnn_pointwise_dx(l->g, mode, dy, x, dx);
}

void th_lower_gelu(struct th_lower *l)
{
    int x = in(l, 0, "x");
    th_lower_gelu_of(l, 0, x, out(l, "y"));
}

void th_lower_gelu_dx(struct th_lower *l)
{
    int dy = in(l, 0, "dy"), x = in(l, 1, "x");
    th_lower_gelu_dx_of(l, 0, dy, x, out(l, "dx"));
}

/* ---- element by element, and sums ---- */

void th_lower_add(struct th_lower *l)
{
    int a = in(l, 0, "a"), b = in(l, 1, "b");
    th_cudnn_pointwise(l->g, CUDNN_POINTWISE_ADD, a, b, out(l, "y"));
}

void th_lower_scale(struct th_lower *l)
{
    int x = in(l, 0, "x");
    int factor =
        th_cudnn_scalar(l->g, "factor", th_lower_call(l, 0)->attr.scale.factor);
    th_cudnn_pointwise(l->g, CUDNN_POINTWISE_MUL, x, factor, out(l, "y"));
}

void th_lower_layerscale(struct th_lower *l)
{
    int x = in(l, 0, "x"), gamma = th_lower_row(l, 0, 1, "gamma");
    th_cudnn_pointwise(l->g, CUDNN_POINTWISE_MUL, x, gamma, out(l, "y"));
}

void th_lower_layerscale_dx(struct th_lower *l)
{
    th_lower_layerscale(l);
}

void th_lower_layerscale_dw(struct th_lower *l)
{
    int dy = in(l, 0, "dy"), x = in(l, 1, "x");
    int product = th_cudnn_pointwise(l->g, CUDNN_POINTWISE_MUL, dy, x, -1);
    th_cudnn_reduce(l->g, CUDNN_REDUCE_TENSOR_ADD, product,
        th_lower_row(l, 0, TH_LOWER_OUT, "dgamma"));
}

void th_lower_bias_grad(struct th_lower *l)
{
    bool image = th_lower_operand(l, 0, 0)->shape.rank == 4;
    int dy = image ? in(l, 0, "dy") : th_lower_rows(l, 0, 0, "dy");
    int db = th_lower_channels(l, 0, TH_LOWER_OUT, "db");
    th_cudnn_reduce(l->g, CUDNN_REDUCE_TENSOR_ADD, dy, db);
}
