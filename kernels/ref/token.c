/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of tokens, token_mean, layerscale. Formulas: kernels/token.c. */
#include "ref.h"

/* y[n][t][d]: token `t` is the class token, one of `more`, or patch t - before. */
thaw_status th_ref_tokens(const struct th_call *call)
{
    const struct th_args_tokens *a = (const void *)call->args;
    const float *x = a->x, *cls = a->cls_, *more = a->more_, *pos = a->pos_;
    const struct th_operand *image = &call->in[0];
    const int64_t *o = call->out[0].shape.dim, w = image->shape.dim[3];
    int64_t t = o[1], d = o[2], before = t - th_ref_plane(image);
    int64_t first = call->attr.token.first;
    int64_t bare = pos ? t - call->in[3].shape.dim[1] : t; /* tokens without position */
    float *y = a->y;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t row = 0; row < o[0] * t; row++)
        for (int64_t c = 0; c < d; c++) {
            int64_t n = row / t, i = row % t, p = i - before;
            float v = p >= 0      ? x[th_ref_at(image, n, c, p / w, p % w)]
                      : i < first ? cls[c]
                                  : more[(i - first) * d + c];
            y[row * d + c] = i >= bare ? v + pos[(i - bare) * d + c] : v;
        }
    return THAW_OK;
}

thaw_status th_ref_tokens_dx(const struct th_call *call)
{
    const struct th_args_tokens_dx *a = (const void *)call->args;
    const struct th_operand *image = &call->out[0];
    const int64_t *s = image->shape.dim, *o = call->in[0].shape.dim;
    int64_t t = o[1], d = o[2], plane = th_ref_plane(image);
    const float *dy = a->dy;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t row = 0; row < s[0] * d; row++)
        for (int64_t p = 0; p < plane; p++) {
            int64_t n = row / d, c = row % d;
            dx[th_ref_at(image, n, c, p / s[3], p % s[3])] =
                dy[(n * t + t - plane + p) * d + c];
        }
    return THAW_OK;
}

/* to[r][d] = sum over samples of dy[n][first + r][d]. */
static void sum_rows(
    const struct th_call *call, const float *dy, int64_t first, int64_t rows, float *to)
{
    const int64_t *s = call->in[0].shape.dim;
    int64_t samples = s[0], t = s[1], d = s[2];
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < rows * d; i++) {
        double sum = 0;
        for (int64_t n = 0; n < samples; n++)
            sum += (double)dy[(n * t + first) * d + i];
        to[i] = (float)sum;
    }
}

thaw_status th_ref_tokens_dw(const struct th_call *call)
{
    const struct th_args_tokens_dw *a = (const void *)call->args;
    int64_t t = call->in[0].shape.dim[1], first = call->attr.token.first;
    if (a->dcls_)
        sum_rows(call, a->dy, 0, 1, a->dcls_);
    if (a->dmore_)
        sum_rows(call, a->dy, first, call->out[1].shape.dim[1], a->dmore_);
    if (a->dpos_) {
        int64_t p = call->out[2].shape.dim[1];
        sum_rows(call, a->dy, t - p, p, a->dpos_);
    }
    return THAW_OK;
}

thaw_status th_ref_token_mean(const struct th_call *call)
{
    const struct th_args_token_mean *a = (const void *)call->args;
    const int64_t *s = call->in[0].shape.dim, t = s[1], d = s[2];
    int64_t first = call->attr.token.first, count = call->attr.token.count;
    const float *x = a->x;
    float *y = a->y;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < s[0] * d; i++) {
        double sum = 0;
        for (int64_t k = first; k < first + count; k++)
            sum += (double)x[(i / d * t + k) * d + i % d];
        y[i] = (float)(sum / (double)count);
    }
    return THAW_OK;
}

thaw_status th_ref_token_mean_dx(const struct th_call *call)
{
    const struct th_args_token_mean_dx *a = (const void *)call->args;
    const int64_t *s = call->out[0].shape.dim, t = s[1], d = s[2];
    int64_t first = call->attr.token.first, count = call->attr.token.count;
    const float *dy = a->dy;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t row = 0; row < s[0] * t; row++)
        for (int64_t c = 0; c < d; c++) {
            bool read = row % t >= first && row % t < first + count;
            dx[row * d + c] = read ? dy[row / t * d + c] / (float)count : 0;
        }
    return THAW_OK;
}

/* to = gamma*from along the last axis; to may be from. */
static void scale(
    const struct th_call *call, const float *from, const float *gamma, float *to)
{
    int64_t count = th_shape_count(&call->in[0].shape), d = call->in[1].shape.dim[0];
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++)
        to[i] = from[i] * gamma[i % d];
}

thaw_status th_ref_layerscale(const struct th_call *call)
{
    const struct th_args_layerscale *a = (const void *)call->args;
    scale(call, a->x, a->gamma, a->y);
    return THAW_OK;
}

thaw_status th_ref_layerscale_dx(const struct th_call *call)
{
    const struct th_args_layerscale_dx *a = (const void *)call->args;
    scale(call, a->dy, a->gamma, a->dx);
    return THAW_OK;
}

thaw_status th_ref_layerscale_dw(const struct th_call *call)
{
    const struct th_args_layerscale_dw *a = (const void *)call->args;
    int64_t d = call->out[0].shape.dim[0];
    int64_t rows = th_shape_count(&call->in[0].shape) / d;
    const float *dy = a->dy, *x = a->x;
    float *to = a->dgamma;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t c = 0; c < d; c++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++)
            sum += (double)dy[r * d + c] * (double)x[r * d + c];
        to[c] = (float)sum;
    }
    return THAW_OK;
}
