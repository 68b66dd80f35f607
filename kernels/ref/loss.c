/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of the losses. Formulas: kernels/loss.c. */
#include "ref.h"

#include <math.h>

/* p = softmax of a row; returns -sum target log p. */
static double softmax_row(const float *logits, const float *target, int64_t k, float *p)
{
    double largest = -INFINITY, sum = 0, loss = 0;
    for (int64_t j = 0; j < k; j++)
        largest = (double)logits[j] > largest ? (double)logits[j] : largest;
    for (int64_t j = 0; j < k; j++)
        sum += exp((double)logits[j] - largest);
    for (int64_t j = 0; j < k; j++) {
        double log_p = (double)logits[j] - largest - log(sum);
        if (target[j] != 0)
            loss -= (double)target[j] * log_p;
        p[j] = (float)exp(log_p);
    }
    return loss;
}

thaw_status th_ref_softmax_ce(const struct th_call *call)
{
    const struct th_args_softmax_ce *a = (const void *)call->args;
    const float *logits = a->logits, *target = a->target;
    int64_t n = call->in[0].shape.dim[0], k = call->in[0].shape.dim[1];
    double loss = 0;
    for (int64_t r = 0; r < n; r++)
        loss += softmax_row(logits + r * k, target + r * k, k, (float *)a->p + r * k);
    *(float *)a->loss = (float)(loss / (double)n);
    return THAW_OK;
}

thaw_status th_ref_softmax_ce_dx(const struct th_call *call)
{
    const struct th_args_softmax_ce_dx *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    int64_t n = call->in[0].shape.dim[0], k = call->in[0].shape.dim[1];
    double scale = (double)s->loss_scale / (double)n;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t r = 0; r < n; r++) {
        const float *p = (const float *)a->p + r * k;
        const float *target = (const float *)a->target + r * k;
        float *dlogits = (float *)a->dlogits + r * k;
        double weight = 0;
        for (int64_t j = 0; j < k; j++)
            weight += (double)target[j];
        for (int64_t j = 0; j < k; j++)
            dlogits[j] = (float)(((double)p[j] * weight - (double)target[j]) * scale);
    }
    return THAW_OK;
}

thaw_status th_ref_sigmoid_ce(const struct th_call *call)
{
    const struct th_args_sigmoid_ce *a = (const void *)call->args;
    const float *logits = a->logits, *target = a->target, *weight = a->pos_weight;
    float *p = a->p;
    int64_t n = th_shape_count(&call->in[0].shape), k = call->in[0].shape.dim[1];
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        /* e = exp(-|x|) never overflows; -log p is log(1 + e), and |x| more below 0 */
        double x = (double)logits[i], e = exp(-fabs(x)), rest = log1p(e);
        double t = (double)target[i], w = (double)weight[i % k];
        loss += w * t * (rest + fmax(-x, 0)) + (1 - t) * (rest + fmax(x, 0));
        p[i] = (float)(x < 0 ? e / (1 + e) : 1 / (1 + e));
    }
    *(float *)a->loss = (float)(loss / (double)n);
    return THAW_OK;
}

thaw_status th_ref_sigmoid_ce_dx(const struct th_call *call)
{
    const struct th_args_sigmoid_ce_dx *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    const float *p = a->p, *target = a->target, *weight = a->pos_weight;
    float *dlogits = a->dlogits;
    int64_t n = th_shape_count(&call->in[0].shape), k = call->in[0].shape.dim[1];
    double scale = (double)s->loss_scale / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double t = (double)target[i], yes = (double)weight[i % k] * t;
        dlogits[i] = (float)(((yes + 1 - t) * (double)p[i] - yes) * scale);
    }
    return THAW_OK;
}
