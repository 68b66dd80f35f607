/* SPDX-License-Identifier: Apache-2.0
 * Owns the steps that update parameters: over a tensor's values as one row. Formulas:
 * kernels/ref/update.c; the roundings are the same, but for sum_squares. */
#include "lanes.h"

#include <math.h>

TH_INLINE int64_t part_size(const struct th_call *call, int64_t i)
{
    int64_t rest = th_shape_count(&call->in[0].shape) - i * TH_FLAT_PART;
    return rest < TH_FLAT_PART ? rest : TH_FLAT_PART;
}

TH_INLINE int64_t n_parts(const struct th_call *call)
{
    return th_parts(th_shape_count(&call->in[0].shape), TH_FLAT_PART);
}

static void sum_squares_part(const struct th_call *call, int64_t i)
{
    const struct th_args_sum_squares *a = (const void *)call->args;
    const float *grad = (const float *)a->grad + i * TH_FLAT_PART;
    int64_t n = part_size(call, i), k = 0;
    double sum[TH_GROUP] = {0}, all = 0;
    for (; k + TH_GROUP <= n; k += TH_GROUP)
        for (int l = 0; l < TH_GROUP; l++)
            sum[l] += (double)grad[k + l] * (double)grad[k + l];
    for (; k < n; k++)
        all += (double)grad[k] * (double)grad[k];
    for (int l = 0; l < TH_GROUP; l++)
        all += sum[l];
    ((double *)call->scratch)[i] = all;
}

TH_OWN(sum_squares)
{
    const struct th_args_sum_squares *a = (const void *)call->args;
    const float *before = a->before_;
    const double *partial = call->scratch;
    double sum = before ? (double)*before : 0;
    th_parallel(call, n_parts(call), sum_squares_part);
    for (int64_t i = 0; i < n_parts(call); i++)
        sum += partial[i];
    *(float *)a->sum = (float)sum;
    return THAW_OK;
}

static void accumulate_part(const struct th_call *call, int64_t i)
{
    const struct th_args_accumulate *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    float *restrict total = (float *)a->total + i * TH_FLAT_PART;
    const float *restrict grad = (const float *)a->grad + i * TH_FLAT_PART;
    int64_t n = part_size(call, i);
    if (s->gathered > 0)
        for (int64_t k = 0; k < n; k++)
            total[k] += grad[k];
    else
        memcpy(total, grad, (size_t)n * sizeof *grad);
}

TH_OWN(accumulate)
{
    th_parallel(call, n_parts(call), accumulate_part);
    return THAW_OK;
}

static float momentum_now(const struct th_scalars *s, float own)
{
    return s->momentum > 0 ? s->momentum : own;
}

/* One part; `pulled` is known when compiled: there is a start. */
TH_INLINE void sgd_row(const struct th_call *call, int64_t i, bool pulled)
{
    const struct th_args_sgd *a = (const void *)call->args;
    const struct th_attr_update *t = &call->attr.update;
    const struct th_scalars *s = a->scalars;
    float *restrict p = (float *)a->param + i * TH_FLAT_PART;
    float *restrict buffer = a->momentum_;
    const float *restrict start = a->start_;
    const float *restrict grad = (const float *)a->grad + i * TH_FLAT_PART;
    float lr = (float)((double)s->lr * (double)t->lr_scale), clip = s->clip;
    float decay = t->weight_decay, momentum = momentum_now(s, t->momentum);
    int64_t n = part_size(call, i);
    start = pulled ? start + i * TH_FLAT_PART : NULL;
    buffer = buffer ? buffer + i * TH_FLAT_PART : NULL;
    if (!buffer)
        for (int64_t k = 0; k < n; k++) {
            float off = pulled ? p[k] - start[k] : p[k];
            p[k] -= lr * (clip * grad[k] + decay * off);
        }
    else if (t->nesterov)
        for (int64_t k = 0; k < n; k++) {
            float off = pulled ? p[k] - start[k] : p[k];
            float g = clip * grad[k] + decay * off;
            buffer[k] = momentum * buffer[k] + g;
            p[k] -= lr * (g + momentum * buffer[k]);
        }
    else
        for (int64_t k = 0; k < n; k++) {
            float off = pulled ? p[k] - start[k] : p[k];
            buffer[k] = momentum * buffer[k] + (clip * grad[k] + decay * off);
            p[k] -= lr * buffer[k];
        }
}

static void sgd_part(const struct th_call *call, int64_t i)
{
    if (((const struct th_args_sgd *)(const void *)call->args)->start_)
        sgd_row(call, i, true);
    else
        sgd_row(call, i, false);
}

TH_OWN(sgd)
{
    const struct th_args_sgd *a = (const void *)call->args;
    if (((const struct th_scalars *)a->scalars)->skip == 0)
        th_parallel(call, n_parts(call), sgd_part);
    return THAW_OK;
}

/* One part, t counted up already; `pulled` is known when compiled: there is a start. */
TH_INLINE void adamw_row(const struct th_call *call, int64_t i, bool pulled)
{
    const struct th_args_adamw *a = (const void *)call->args;
    const struct th_attr_update *u = &call->attr.update;
    const struct th_scalars *s = a->scalars;
    float *restrict p = (float *)a->param + i * TH_FLAT_PART;
    float *restrict m = (float *)a->m + i * TH_FLAT_PART;
    float *restrict v = (float *)a->v + i * TH_FLAT_PART;
    const float *restrict start = a->start_;
    const float *restrict grad = (const float *)a->grad + i * TH_FLAT_PART;
    double b1 = (double)momentum_now(s, u->beta1), b2 = (double)u->beta2;
    double t = (double)*(float *)a->t, lr = (double)s->lr * (double)u->lr_scale;
    float pull = (float)(lr * (double)u->weight_decay), clip = s->clip;
    float keep = (float)(1 - lr * (double)u->weight_decay);
    float step = (float)(lr / (1 - pow(b1, t))), root = (float)sqrt(1 - pow(b2, t));
    float old1 = (float)b1, old2 = u->beta2, eps = u->eps;
    float new1 = (float)(1 - b1), new2 = (float)(1 - b2);
    int64_t n = part_size(call, i);
    start = pulled ? start + i * TH_FLAT_PART : NULL;
    for (int64_t k = 0; k < n; k++) {
        float g = clip * grad[k];
        float held = pulled ? p[k] - pull * (p[k] - start[k]) : p[k] * keep;
        m[k] = old1 * m[k] + new1 * g;
        v[k] = old2 * v[k] + new2 * g * g;
        p[k] = held - step * m[k] / (sqrtf(v[k]) / root + eps);
    }
}

static void adamw_part(const struct th_call *call, int64_t i)
{
    if (((const struct th_args_adamw *)(const void *)call->args)->start_)
        adamw_row(call, i, true);
    else
        adamw_row(call, i, false);
}

TH_OWN(adamw)
{
    const struct th_args_adamw *a = (const void *)call->args;
    if (((const struct th_scalars *)a->scalars)->skip != 0)
        return THAW_OK;
    *(float *)a->t += 1;
    th_parallel(call, n_parts(call), adamw_part);
    return THAW_OK;
}

static void ema_part(const struct th_call *call, int64_t i)
{
    const struct th_args_ema *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    float *restrict average = (float *)a->average + i * TH_FLAT_PART;
    const float *restrict param = (const float *)a->param + i * TH_FLAT_PART;
    float d = s->ema_decay, rest = (float)(1 - (double)d);
    int64_t n = part_size(call, i);
    for (int64_t k = 0; k < n; k++)
        average[k] = d * average[k] + rest * param[k];
}

TH_OWN(ema)
{
    const struct th_args_ema *a = (const void *)call->args;
    if (((const struct th_scalars *)a->scalars)->skip == 0)
        th_parallel(call, n_parts(call), ema_part);
    return THAW_OK;
}
