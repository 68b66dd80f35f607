/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of attention. Formulas: kernels/attention.c. */
#include "ref.h"

#include <math.h>

/* One head of one sample. Token i of q is q + i*stride, e values. */
struct head {
    int64_t t, e, stride; /* tokens, values of a head, 3d */
    int64_t qkv;          /* where q of token 0 starts; k is d further, v 2d */
    int64_t y;            /* where y of token 0 starts; tokens are d apart */
    int64_t table;        /* where its [t][t] starts */
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
        .table = index * t * t,
        .scale = 1 / sqrt((double)e)};
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* The scores of token i into s, and their log-sum-exp. */
static double score_row(const struct head *h, const float *qkv, int64_t i, double *s)
{
    const float *q = qkv + h->qkv, *k = q + h->stride / 3;
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < h->t; j++) {
        s[j] = h->scale * dot(q + i * h->stride, k + j * h->stride, h->e);
        largest = s[j] > largest ? s[j] : largest;
    }
    for (int64_t j = 0; j < h->t; j++)
        sum += exp(s[j] - largest);
    return largest + log(sum);
}

static size_t table_bytes(const struct th_call *call, const struct th_operand *qkv)
{
    const int64_t *d = qkv->shape.dim;
    return (size_t)(d[0] * call->attr.attention.heads * d[1] * d[1]) * sizeof(double);
}

thaw_status th_ref_attention_prepare(struct th_call *call)
{
    call->scratch_bytes = table_bytes(call, &call->in[0]);
    return THAW_OK;
}

thaw_status th_ref_attention(const struct th_call *call)
{
    const struct th_args_attention *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const float *qkv = a->qkv;
    float *lse_out = a->lse_;
    int64_t n_heads = o->shape.dim[0] * call->attr.attention.heads;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t index = 0; index < n_heads; index++) {
        struct head h = head_of(call, o, index);
        const float *v = qkv + h.qkv + h.stride / 3 * 2;
        for (int64_t i = 0; i < h.t; i++) {
            double *s = (double *)call->scratch + h.table + i * h.t;
            float *y = (float *)a->y + h.y + i * (h.stride / 3);
            double lse = score_row(&h, qkv, i, s);
            for (int64_t j = 0; j < h.t; j++)
                s[j] = exp(s[j] - lse);
            for (int64_t c = 0; c < h.e; c++) {
                double sum = 0;
                for (int64_t j = 0; j < h.t; j++)
                    sum += s[j] * (double)v[j * h.stride + c];
                y[c] = (float)sum;
            }
            if (lse_out)
                lse_out[index * h.t + i] = (float)lse;
        }
    }
    return THAW_OK;
}

thaw_status th_ref_attention_dx_prepare(struct th_call *call)
{
    call->scratch_bytes = 2 * table_bytes(call, &call->in[1]);
    return THAW_OK;
}

/* p[i][j], and ds[i][j], the gradient of the scores before their scale. */
static void score_gradient(const struct head *h, const struct th_args_attention_dx *a,
    int64_t index, double *p, double *ds)
{
    const float *q = (const float *)a->qkv + h->qkv, *k = q + h->stride / 3;
    const float *v = k + h->stride / 3, *lse = (const float *)a->lse + index * h->t;
    for (int64_t i = 0; i < h->t; i++) {
        const float *dy = (const float *)a->dy + h->y + i * (h->stride / 3);
        const float *y = (const float *)a->y + h->y + i * (h->stride / 3);
        double *row = ds + i * h->t, sum = dot(dy, y, h->e);
        for (int64_t j = 0; j < h->t; j++) {
            double s = h->scale * dot(q + i * h->stride, k + j * h->stride, h->e);
            p[i * h->t + j] = exp(s - (double)lse[i]);
            row[j] =
                p[i * h->t + j] * (dot(dy, v + j * h->stride, h->e) - sum) * h->scale;
        }
    }
}

/* dq, dk, dv of value c of token i. */
static void token_gradient(const struct head *h, const struct th_args_attention_dx *a,
    const double *p, const double *ds, int64_t i, int64_t c)
{
    int64_t d = h->stride / 3;
    const float *q = (const float *)a->qkv + h->qkv + c, *k = q + d;
    const float *dy = (const float *)a->dy + h->y + c;
    float *to = (float *)a->dqkv + h->qkv + i * h->stride + c;
    double dq = 0, dk = 0, dv = 0;
    for (int64_t j = 0; j < h->t; j++) {
        dq += ds[i * h->t + j] * (double)k[j * h->stride];
        dk += ds[j * h->t + i] * (double)q[j * h->stride];
        dv += p[j * h->t + i] * (double)dy[j * d];
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
    double *tables = call->scratch;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t index = 0; index < n_heads; index++) {
        struct head h = head_of(call, o, index);
        double *p = tables + h.table, *ds = p + n_heads * h.t * h.t;
        score_gradient(&h, a, index, p, ds);
        for (int64_t i = 0; i < h.t; i++)
            for (int64_t c = 0; c < h.e; c++)
                token_gradient(&h, a, p, ds, i, c);
    }
    return THAW_OK;
}
