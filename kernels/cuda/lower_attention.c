/* SPDX-License-Identifier: Apache-2.0
 * Owns the graphs of attention. Formulas: kernels/attention.c.
 *
 * q, k and v are read where they lie, packed in [n][t][3d]: as [n][heads][t][e] with strides.
 * The gradient is a graph of 18 nodes, the form that cuDNN's engines for it recognise (as
 * NVIDIA's cudnn-frontend builds it, scaled_dot_product_flash_attention.h; the single
 * operation SDPA_BWD is refused by 9.19). With D = rowsum(dy * y), kept in scratch:
 *   p = exp(scale q k^T - lse), dv = p^T dy, ds = p * (dy v^T - D) * scale,
 *   dk = ds^T q, dq = ds k, summed in fp32 in scratch. */
#include "lower_ops.h"

#include <math.h>

/* Part `part` (0 q, 1 k, 2 v) of a packed operand [n][t][parts*d] of call 0. */
static int heads_of(struct th_lower *l, int k, const char *name, int part, int parts)
{
    const struct th_operand *o = th_lower_operand(l, 0, k);
    int64_t heads = th_lower_call(l, 0)->attr.attention.heads;
    if (!o->present || o->shape.rank != 3 || l->g->status != THAW_OK)
        return -1;
    int64_t n = o->shape.dim[0], t = o->shape.dim[1], row = o->shape.dim[2];
    int64_t d = row / parts, e = d / heads;
    size_t size = l->type == CUDNN_DATA_FLOAT ? 4 : 2; /* bytes of an element */
    return th_cudnn_tensor(l->g, &(struct th_cudnn_tensor){.name = name,
                                     .type = l->type,
                                     .rank = 4,
                                     .dim = {n, heads, t, e},
                                     .stride = {t * row, e, row, 1},
                                     .argument = th_lower_argument(l, 0, k),
                                     .offset = (size_t)(part * d) * size});
}

/* lse [n][heads][t] as [n][heads][t][1] */
static int lse_of(struct th_lower *l, int k)
{
    const struct th_operand *o = th_lower_operand(l, 0, k);
    if (!o->present || l->g->status != THAW_OK)
        return -1;
    const int64_t *d = o->shape.dim;
    return th_cudnn_tensor(l->g, &(struct th_cudnn_tensor){.name = "lse",
                                     .type = CUDNN_DATA_FLOAT,
                                     .rank = 4,
                                     .dim = {d[0], d[1], d[2], 1},
                                     .stride = {d[1] * d[2], d[2], 1, 1},
                                     .argument = th_lower_argument(l, 0, k)});
}

static int scale_of(struct th_lower *l, int q)
{
    float e = q >= 0 ? (float)l->g->tensors[q].dim[3] : 1.0F;
    return th_cudnn_scalar(l->g, "scale", 1.0F / sqrtf(e));
}

void th_lower_attention(struct th_lower *l)
{
    int q = heads_of(l, 0, "q", 0, 3), k = heads_of(l, 0, "k", 1, 3);
    int v = heads_of(l, 0, "v", 2, 3), y = heads_of(l, TH_LOWER_OUT, "y", 0, 1);
    th_cudnn_attention(l->g, q, k, v, scale_of(l, q), y, lse_of(l, TH_LOWER_OUT + 1));
}

/* The last two axes change places. */
static void turn(struct th_cudnn_tensor *t)
{
    int64_t dim = t->dim[2], stride = t->stride[2];
    t->dim[2] = t->dim[3];
    t->stride[2] = t->stride[3];
    t->dim[3] = dim;
    t->stride[3] = stride;
}

/* x turned over by a reshape, in the engine's type. */
static int turned(struct th_lower *l, int x)
{
    int y = th_cudnn_virtual(l->g, l->type, x);
    if (y >= 0)
        turn(&l->g->tensors[y]);
    return th_cudnn_reshape(l->g, x, y);
}

/* D = rowsum(dy * y), [n][heads][t][1] */
static int row_sums(struct th_lower *l, int dy, int y, const int64_t *dim)
{
    struct th_cudnn_graph *g = l->g;
    int s = th_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, dy, y, -1);
    s = th_cudnn_reduce(g, CUDNN_REDUCE_TENSOR_ADD, s,
        th_cudnn_virtual_dense(g, CUDNN_DATA_FLOAT, 4, dim));
    return th_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, s,
        th_cudnn_scalar(g, "one", 1.0F), th_cudnn_scratch(g, "sums", 4, dim));
}

struct parts {
    int dy, y, lse, q, k, v, dq, dk, dv, scale;
};

/* ds, [n][heads][t][t]; makes dv on the way. k and v are k^T and v^T here. */
static int score_gradient(struct th_lower *l, const struct parts *a, int sums)
{
    struct th_cudnn_graph *g = l->g;
    int s = th_cudnn_matmul(g, a->q, a->k, -1);
    s = th_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, s, a->scale, -1);
    s = th_cudnn_pointwise(g, CUDNN_POINTWISE_SUB, s, a->lse, -1);
    int p = th_cudnn_pointwise(g, CUDNN_POINTWISE_EXP, s, -1, -1);
    th_cudnn_matmul(g, turned(l, p), a->dy, a->dv);
    int dp = th_cudnn_matmul(g, a->dy, a->v, -1);
    dp = th_cudnn_pointwise(g, CUDNN_POINTWISE_SUB, dp, sums, -1);
    dp = th_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, dp, p, -1);
    return th_cudnn_pointwise(g, CUDNN_POINTWISE_MUL, dp, a->scale, -1);
}

void th_lower_attention_dx(struct th_lower *l)
{
    struct th_cudnn_graph *g = l->g;
    struct parts a = {.dy = heads_of(l, 0, "dy", 0, 1),
        .q = heads_of(l, 1, "q", 0, 3),
        .k = heads_of(l, 1, "k", 1, 3),
        .v = heads_of(l, 1, "v", 2, 3),
        .y = heads_of(l, 2, "y", 0, 1),
        .lse = lse_of(l, 3),
        .dq = heads_of(l, TH_LOWER_OUT, "dq", 0, 3),
        .dk = heads_of(l, TH_LOWER_OUT, "dk", 1, 3),
        .dv = heads_of(l, TH_LOWER_OUT, "dv", 2, 3)};
    if (g->status != THAW_OK || a.dv < 0 || a.lse < 0)
        return;
    a.scale = scale_of(l, a.q);
    turn(&g->tensors[a.k]);
    turn(&g->tensors[a.v]);
    const int64_t *d = g->tensors[a.q].dim;
    int ds = score_gradient(l, &a, row_sums(l, a.dy, a.y, g->tensors[a.lse].dim));
    th_cudnn_matmul(g, turned(l, ds), a.q, a.dk);
    int sum =
        th_cudnn_matmul(g, ds, turned(l, a.k), th_cudnn_scratch(g, "dq sum", 4, d));
    th_cudnn_pointwise(g, CUDNN_POINTWISE_IDENTITY, sum, -1, a.dq);
}
