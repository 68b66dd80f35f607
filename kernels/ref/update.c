/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels that end a training step. Each but sum_squares, guard,
 * accumulate and hold leaves everything as it is when scalars->skip is not 0. */
#include "ref.h"

#include <math.h>
#include <string.h>

static const double CLIP_EPS = 1e-6; /* torch.nn.utils.clip_grad_norm_ */

/* sum = before + sum grad^2 */
thaw_status th_ref_sum_squares(const struct th_call *call)
{
    const struct th_args_sum_squares *a = (const void *)call->args;
    const float *grad = a->grad, *before = a->before_;
    double sum = before != NULL ? (double)*before : 0;
    for (int64_t i = 0; i < th_shape_count(&call->in[0].shape); i++)
        sum += (double)grad[i] * (double)grad[i];
    *(float *)a->sum = (float)sum;
    return THAW_OK;
}

/* skip where it was set, or loss or sum is not finite; norm = clip * sqrt(sum);
 * clip *= min(1, c / (norm + 1e-6)). */
thaw_status th_ref_guard(const struct th_call *call)
{
    const struct th_args_guard *a = (const void *)call->args;
    const float *loss = a->loss_, *sum = a->sum_;
    struct th_scalars *s = a->scalars;
    double limit = (double)call->attr.update.clip;
    bool finite = (loss == NULL || isfinite(*loss)) && (sum == NULL || isfinite(*sum));
    if (!finite)
        s->skip = 1;
    s->n_skipped += s->skip;
    if (sum == NULL)
        return THAW_OK;
    double norm = (double)s->clip * sqrt((double)*sum);
    s->norm = (float)norm;
    if (finite && limit > 0 && limit < norm + CLIP_EPS)
        s->clip = (float)((double)s->clip * (limit / (norm + CLIP_EPS)));
    return THAW_OK;
}

/* total += grad; a group's first gradient replaces what was there. */
thaw_status th_ref_accumulate(const struct th_call *call)
{
    const struct th_args_accumulate *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    const float *grad = a->grad;
    float *total = a->total;
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        total[i] = s->gathered > 0 ? total[i] + grad[i] : grad[i];
    return THAW_OK;
}

/* A group's first batch keeps the value; a later one that is not finite puts it back. */
thaw_status th_ref_hold(const struct th_call *call)
{
    const struct th_args_hold *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    size_t bytes = th_operand_bytes(&call->in[0]);
    if (!(s->gathered > 0))
        memcpy(a->kept, a->value, bytes);
    else if (s->skip != 0)
        memcpy(a->value, a->kept, bytes);
    return THAW_OK;
}

/* What the optimizer's own or the step's momentum is (th_scalars.momentum). */
static double momentum_now(const struct th_scalars *s, float own)
{
    return s->momentum > 0 ? (double)s->momentum : (double)own;
}

/* torch.optim.SGD, dampening 0: g = clip*grad + decay*(p - start); buf = m*buf + g;
 * p -= lr * (nesterov ? g + m*buf : buf). Without a slot buf = g. Without start (decay
 * towards 0) start = 0; with it the term is the gradient of L2-SP, decay/2 |p - start|^2
 * (Li, Grandvalet, Davoine, ICML 2018, equation 2), added as torch adds its decay. */
thaw_status th_ref_sgd(const struct th_call *call)
{
    const struct th_args_sgd *a = (const void *)call->args;
    const struct th_attr_update *t = &call->attr.update;
    const struct th_scalars *s = a->scalars;
    const float *grad = a->grad;
    const float *start = a->start_;
    float *p = a->param, *momentum = a->momentum_;
    float lr = (float)((double)s->lr * (double)t->lr_scale), clip = s->clip;
    float m = (float)momentum_now(s, t->momentum);
    int64_t count = th_shape_count(&call->in[0].shape);
    if (s->skip != 0)
        return THAW_OK;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        float from = start != NULL ? start[i] : 0;
        float g = clip * grad[i] + t->weight_decay * (p[i] - from);
        if (momentum != NULL) {
            momentum[i] = m * momentum[i] + g;
            g = t->nesterov ? g + m * momentum[i] : momentum[i];
        }
        p[i] -= lr * g;
    }
    return THAW_OK;
}

/* torch.optim.AdamW: p *= 1 - lr*decay, or with start p -= lr*decay*(p - start); m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g^2;
 * p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps). t counts this tensor's updates. */
thaw_status th_ref_adamw(const struct th_call *call)
{
    const struct th_args_adamw *a = (const void *)call->args;
    const struct th_attr_update *u = &call->attr.update;
    const struct th_scalars *s = a->scalars;
    const float *grad = a->grad;
    const float *start = a->start_;
    float *p = a->param, *m = a->m, *v = a->v, *t = a->t;
    int64_t count = th_shape_count(&call->in[0].shape);
    if (s->skip != 0)
        return THAW_OK;
    *t += 1;
    double b1 = momentum_now(s, u->beta1), b2 = (double)u->beta2;
    double lr = (double)s->lr * (double)u->lr_scale;
    float pull = (float)(lr * (double)u->weight_decay), clip = s->clip;
    float keep = (float)(1 - lr * (double)u->weight_decay), old1 = (float)b1;
    float step = (float)(lr / (1 - pow(b1, (double)*t)));
    float root = (float)sqrt(1 - pow(b2, (double)*t));
    float new1 = (float)(1 - b1), new2 = (float)(1 - b2);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        float g = clip * grad[i];
        float held = start != NULL ? p[i] - pull * (p[i] - start[i]) : p[i] * keep;
        m[i] = old1 * m[i] + new1 * g;
        v[i] = u->beta2 * v[i] + new2 * g * g;
        p[i] = held - step * m[i] / (sqrtf(v[i]) / root + u->eps);
    }
    return THAW_OK;
}

/* average = d*average + (1-d)*param */
thaw_status th_ref_ema(const struct th_call *call)
{
    const struct th_args_ema *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    const float *param = a->param;
    float *average = a->average, d = s->ema_decay, rest = (float)(1 - (double)d);
    int64_t count = th_shape_count(&call->in[0].shape);
    if (s->skip != 0)
        return THAW_OK;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        average[i] = d * average[i] + rest * param[i];
    return THAW_OK;
}
