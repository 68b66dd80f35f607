/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of attention. Formulas: kernels/attention.c. */
#include "ref.h"

#include <math.h>

/* One head of one sample. Token i of q is q + i*stride, e values. */
struct head {
    int64_t t, e, stride; /* tokens, values of a head, 3d */
    int64_t qkv;          /* where q of token 0 starts; k is d further, v 2d */
    int64_t y;            /* where y of token 0 starts; tokens are d apart */
    int64_t p;            /* where its [t][t] starts */
    double scale;
};

static struct head head_of(
    const struct th_call *call, const struct th_operand *qkv, int64_t index)
{
    int64_t heads = call->attr.attention.heads, t = qkv->shape.dim[1];
    int64_t d = qkv->shape.dim[2] / 3, e = d / heads;
    int64_t n = index / heads, h = index % heads;
    return (struct head){.t = t,
        .e = e,
        .stride = 3 * d,
        .qkv = n * t * 3 * d + h * e,
        .y = n * t * d + h * e,
        .p = index * t * t,
        .scale = 1 / sqrt((double)e)};
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Row i of p: softmax of the scores of token i. */
static void score_row(const struct head *h, const float *qkv, int64_t i, float *p)
{
    const float *q = qkv + h->qkv, *k = q + h->stride / 3;
    float largest = -INFINITY;
    double sum = 0;
    for (int64_t j = 0; j < h->t; j++) {
        p[j] = (float)(h->scale * dot(q + i * h->stride, k + j * h->stride, h->e));
        largest = p[j] > largest ? p[j] : largest;
    }
    for (int64_t j = 0; j < h->t; j++)
        sum += exp((double)p[j] - (double)largest);
    for (int64_t j = 0; j < h->t; j++)
        p[j] = (float)(exp((double)p[j] - (double)largest) / sum);
}

thaw_status th_ref_attention(const struct th_call *call)
{
    const struct th_args_attention *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const float *qkv = a->qkv;
    int64_t n_heads = o->shape.dim[0] * call->attr.attention.heads;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t index = 0; index < n_heads; index++) {
        struct head h = head_of(call, o, index);
        const float *v = qkv + h.qkv + h.stride / 3 * 2;
        for (int64_t i = 0; i < h.t; i++) {
            float *p = (float *)a->p + h.p + i * h.t;
            float *y = (float *)a->y + h.y + i * (h.stride / 3);
            score_row(&h, qkv, i, p);
            for (int64_t c = 0; c < h.e; c++) {
                double sum = 0;
                for (int64_t j = 0; j < h.t; j++)
                    sum += (double)p[j] * (double)v[j * h.stride + c];
                y[c] = (float)sum;
            }
        }
    }
    return THAW_OK;
}

thaw_status th_ref_attention_dx_prepare(struct th_call *call)
{
    call->scratch_bytes = (size_t)th_shape_count(&call->in[2].shape) * sizeof(double);
    return THAW_OK;
}

/* ds[i][j], the gradient of the scores before their scale. */
static void score_gradient(
    const struct head *h, const struct th_args_attention_dx *a, double *ds)
{
    const float *v = (const float *)a->qkv + h->qkv + h->stride / 3 * 2;
    const float *p = (const float *)a->p + h->p, *dy = (const float *)a->dy + h->y;
    for (int64_t i = 0; i < h->t; i++) {
        double *row = ds + i * h->t, sum = 0;
        for (int64_t j = 0; j < h->t; j++) {
            row[j] = dot(dy + i * (h->stride / 3), v + j * h->stride, h->e);
            sum += row[j] * (double)p[i * h->t + j];
        }
        for (int64_t j = 0; j < h->t; j++)
            row[j] = (double)p[i * h->t + j] * (row[j] - sum) * h->scale;
    }
}

/* dq, dk, dv of value c of token i. */
static void token_gradient(const struct head *h, const struct th_args_attention_dx *a,
    const double *ds, int64_t i, int64_t c)
{
    int64_t d = h->stride / 3;
    const float *q = (const float *)a->qkv + h->qkv + c, *k = q + d;
    const float *p = (const float *)a->p + h->p, *dy = (const float *)a->dy + h->y + c;
    float *to = (float *)a->dqkv + h->qkv + i * h->stride + c;
    double dq = 0, dk = 0, dv = 0;
    for (int64_t j = 0; j < h->t; j++) {
        dq += ds[i * h->t + j] * (double)k[j * h->stride];
        dk += ds[j * h->t + i] * (double)q[j * h->stride];
        dv += (double)p[j * h->t + i] * (double)dy[j * d];
    }
    to[0] = (float)dq;
    to[d] = (float)dk;
    to[2 * d] = (float)dv;
}

thaw_status th_ref_attention_dx(const struct th_call *call)
{
    const struct th_args_attention_dx *a = (const void *)call->args;
    const struct th_operand *o = &call->in[1];
    int64_t n_heads = o->shape.dim[0] * call->attr.attention.heads;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t index = 0; index < n_heads; index++) {
        struct head h = head_of(call, o, index);
        double *ds = (double *)call->scratch + h.p;
        score_gradient(&h, a, ds);
        for (int64_t i = 0; i < h.t; i++)
            for (int64_t c = 0; c < h.e; c++)
                token_gradient(&h, a, ds, i, c);
    }
    return THAW_OK;
}
