/* SPDX-License-Identifier: Apache-2.0
 * Owns normalisation and attention, made of products, sums and what works element by element.
 * Values with one mean are a set. */
#include "dnn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t count_of(const struct dnn_view *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->rank; i++)
        n *= v->dim[i];
    return n;
}

/* A view of the same shape on memory of its own. */
static struct dnn_view like(const struct dnn_view *v)
{
    struct dnn_view own = *v;
    int64_t last = 0;
    for (int i = 0; i < v->rank; i++)
        last += (v->dim[i] - 1) * v->stride[i];
    own.v = dnn_temporary(last + 1);
    return own;
}

static struct dnn_view number(float *x)
{
    return (struct dnn_view){.v = x};
}

/* h = (x - mean) rstd */
static void normalise(const struct dnn_norm *n, struct dnn_view h)
{
    dnn_pointwise(CUDNN_POINTWISE_SUB, n->x, n->mean, h);
    dnn_pointwise(CUDNN_POINTWISE_MUL, h, n->rstd, h);
}

void dnn_norm(const struct dnn_norm *n)
{
    float share = (float)count_of(&n->mean) / (float)count_of(&n->x), eps = n->eps;
    struct dnn_view h = like(&n->x);
    dnn_sum(n->x, n->mean);
    dnn_pointwise(CUDNN_POINTWISE_MUL, n->mean, number(&share), n->mean);
    dnn_pointwise(CUDNN_POINTWISE_SUB, n->x, n->mean, h);
    dnn_pointwise(CUDNN_POINTWISE_MUL, h, h, h);
    dnn_sum(h, n->rstd);
    dnn_pointwise(CUDNN_POINTWISE_MUL, n->rstd, number(&share), n->rstd);
    dnn_pointwise(CUDNN_POINTWISE_ADD, n->rstd, number(&eps), n->rstd);
    dnn_pointwise(
        CUDNN_POINTWISE_RSQRT, n->rstd, (struct dnn_view){.v = NULL}, n->rstd);
    normalise(n, h);
    dnn_pointwise(CUDNN_POINTWISE_MUL, h, n->gamma, h);
    dnn_pointwise(CUDNN_POINTWISE_ADD, h, n->beta, n->y);
    free(h.v);
}

/* With u = dy gamma, h normalised x, and means over the set:
 * dx = rstd (u - mean(u) - h mean(u h)). */
void dnn_norm_dx(const struct dnn_norm *n)
{
    float share = (float)count_of(&n->mean) / (float)count_of(&n->x);
    struct dnn_view h = like(&n->x), u = like(&n->x), uh = like(&n->x);
    struct dnn_view mean_u = like(&n->mean), mean_uh = like(&n->mean);
    normalise(n, h);
    dnn_sum(n->dy, n->dbeta);
    dnn_pointwise(CUDNN_POINTWISE_MUL, n->dy, h, u);
    dnn_sum(u, n->dgamma);
    dnn_pointwise(CUDNN_POINTWISE_MUL, n->dy, n->gamma, u);
    dnn_pointwise(CUDNN_POINTWISE_MUL, u, h, uh);
    dnn_sum(u, mean_u);
    dnn_sum(uh, mean_uh);
    dnn_pointwise(CUDNN_POINTWISE_MUL, mean_u, number(&share), mean_u);
    dnn_pointwise(CUDNN_POINTWISE_MUL, mean_uh, number(&share), mean_uh);
    dnn_pointwise(CUDNN_POINTWISE_SUB, u, mean_u, u);
    dnn_pointwise(CUDNN_POINTWISE_MUL, h, mean_uh, h);
    dnn_pointwise(CUDNN_POINTWISE_SUB, u, h, u);
    dnn_pointwise(CUDNN_POINTWISE_MUL, u, n->rstd, n->dx);
    free(h.v);
    free(u.v);
    free(uh.v);
    free(mean_u.v);
    free(mean_uh.v);
}

/* ---- attention ---- */

/* p = softmax(scale s) of a row; returns log sum exp. */
static float softmax(float *s, int64_t n, float scale)
{
    float most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        s[i] *= scale;
        most = s[i] > most ? s[i] : most;
    }
    for (int64_t i = 0; i < n; i++) {
        s[i] = expf(s[i] - most);
        sum += s[i];
    }
    for (int64_t i = 0; i < n; i++)
        s[i] /= sum;
    return most + logf(sum);
}

/* y = softmax(scale q k^T) v, all [n][heads][t][e]. */
void dnn_attention(struct dnn_view q, struct dnn_view k, struct dnn_view v, float scale,
    struct dnn_view y, struct dnn_view lse, bool tf32)
{
    int64_t t = q.dim[2];
    struct dnn_view turned = k;
    turned.dim[2] = k.dim[3];
    turned.dim[3] = k.dim[2];
    turned.stride[2] = k.stride[3];
    turned.stride[3] = k.stride[2];
    struct dnn_view s = {.rank = 4,
        .dim = {q.dim[0], q.dim[1], t, t},
        .stride = {q.dim[1] * t * t, t * t, t, 1}};
    int64_t rows = q.dim[0] * q.dim[1] * t;
    s.v = dnn_temporary(rows * t);
    dnn_matmul(q, turned, s, tf32);
    for (int64_t i = 0; i < rows; i++) {
        float log_sum = softmax(s.v + i * t, t, scale);
        int64_t head = i / t;
        if (lse.v)
            lse.v[head / q.dim[1] * lse.stride[0] + head % q.dim[1] * lse.stride[1] +
                  i % t * lse.stride[2]] = log_sum;
    }
    dnn_matmul(s, v, y, tf32);
    free(s.v);
}
