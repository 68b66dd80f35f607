/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of BatchNorm and LayerNorm. Formulas: kernels/norm.c. */
#include "ref.h"

#include <math.h>

static double rstd(const struct th_call *call, float var)
{
    return 1 / sqrt((double)var + (double)call->attr.norm.eps);
}

thaw_status th_ref_bn_stats(const struct th_call *call)
{
    const struct th_args_bn_stats *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const int64_t *d = o->shape.dim, step = th_ref_step(o), plane = th_ref_plane(o);
    float *mean = a->mean, *var = a->var;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t c = 0; c < d[1]; c++) {
        double sum = 0, squares = 0, count = (double)(d[0] * plane);
        for (int64_t n = 0; n < d[0]; n++)
            for (int64_t i = 0; i < plane; i++)
                sum +=
                    (double)((const float *)a->x)[th_ref_at(o, n, c, 0, 0) + i * step];
        double m = sum / count;
        for (int64_t n = 0; n < d[0]; n++)
            for (int64_t i = 0; i < plane; i++) {
                double v = ((const float *)a->x)[th_ref_at(o, n, c, 0, 0) + i * step];
                squares += (v - m) * (v - m);
            }
        mean[c] = (float)m;
        var[c] = (float)(squares / count);
    }
    return THAW_OK;
}

/* Eight values from place i0: one byte of the mask. */
static void apply_byte(const struct th_call *call, int64_t i0, int64_t count)
{
    const struct th_args_bn_apply *a = (const void *)call->args;
    const float *x = a->x, *mean = a->mean, *var = a->var;
    const float *gamma = a->gamma, *beta = a->beta, *add = a->add_;
    float *y = a->y;
    unsigned bits = 0;
    for (int64_t i = i0; i < i0 + 8 && i < count; i++) {
        int64_t c = th_ref_channel(&call->in[0], i);
        double h = ((double)x[i] - (double)mean[c]) * rstd(call, var[c]);
        double v = (double)gamma[c] * h + (double)beta[c];
        if (add != NULL)
            v += (double)add[i];
        if (call->attr.norm.relu && v <= 0)
            v = 0;
        y[i] = (float)v;
        bits |= (unsigned)(y[i] > 0) << (i - i0);
    }
    if (a->mask_ != NULL)
        ((uint8_t *)a->mask_)[i0 / 8] = (uint8_t)bits;
}

thaw_status th_ref_bn_apply(const struct th_call *call)
{
    int64_t count = th_shape_count(&call->in[0].shape);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i += 8)
        apply_byte(call, i, count);
    return THAW_OK;
}

thaw_status th_ref_bn_update(const struct th_call *call)
{
    const struct th_args_bn_update *a = (const void *)call->args;
    const struct th_scalars *s = a->scalars;
    const float *mean = a->mean, *var = a->var;
    float *running_mean = a->running_mean, *running_var = a->running_var;
    double m = call->attr.norm.momentum, n = (double)call->attr.norm.count;
    if (s->skip != 0)
        return THAW_OK;
    for (int64_t c = 0; c < call->in[0].shape.dim[0]; c++) {
        double unbiased = (double)var[c] * n / (n - 1);
        running_mean[c] =
            (float)((1 - m) * (double)running_mean[c] + m * (double)mean[c]);
        running_var[c] = (float)((1 - m) * (double)running_var[c] + m * unbiased);
    }
    return THAW_OK;
}

thaw_status th_ref_bn_reduce(const struct th_call *call)
{
    const struct th_args_bn_reduce *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const int64_t *d = o->shape.dim, step = th_ref_step(o), plane = th_ref_plane(o);
    const float *dy = a->dy, *x = a->x, *mean = a->mean, *var = a->var;
    float *dgamma = a->dgamma, *dbeta = a->dbeta;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t c = 0; c < d[1]; c++) {
        double sum = 0, product = 0;
        for (int64_t n = 0; n < d[0]; n++)
            for (int64_t i = 0; i < plane; i++) {
                int64_t at = th_ref_at(o, n, c, 0, 0) + i * step;
                if (a->mask_ != NULL && !th_ref_bit(a->mask_, at))
                    continue;
                sum += (double)dy[at];
                product += (double)dy[at] * ((double)x[at] - (double)mean[c]);
            }
        dgamma[c] = (float)(product * rstd(call, var[c]));
        dbeta[c] = (float)sum;
    }
    return THAW_OK;
}

thaw_status th_ref_bn_dx_batch(const struct th_call *call)
{
    const struct th_args_bn_dx_batch *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const float *dy = a->dy, *x = a->x, *mean = a->mean, *var = a->var;
    const float *gamma = a->gamma, *dgamma = a->dgamma, *dbeta = a->dbeta;
    int64_t count = th_shape_count(&o->shape);
    double n = (double)(o->shape.dim[0] * th_ref_plane(o));
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        int64_t c = th_ref_channel(o, i);
        bool kept = a->mask_ == NULL || th_ref_bit(a->mask_, i);
        double inv = rstd(call, var[c]), h = ((double)x[i] - (double)mean[c]) * inv;
        double terms = n * (kept ? (double)dy[i] : 0) - (double)dbeta[c];
        dx[i] = (float)((double)gamma[c] * inv / n * (terms - h * (double)dgamma[c]));
    }
    return THAW_OK;
}

thaw_status th_ref_bn_dx_running(const struct th_call *call)
{
    const struct th_args_bn_dx_running *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const float *dy = a->dy, *var = a->var, *gamma = a->gamma;
    int64_t count = th_shape_count(&o->shape);
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < count; i++) {
        int64_t c = th_ref_channel(o, i);
        bool kept = a->mask_ == NULL || th_ref_bit(a->mask_, i);
        double scale = (double)gamma[c] * rstd(call, var[c]);
        dx[i] = kept ? (float)(scale * (double)dy[i]) : 0;
    }
    return THAW_OK;
}

thaw_status th_ref_bn_fold(const struct th_call *call)
{
    const struct th_args_bn_fold *a = (const void *)call->args;
    const float *w = a->w, *b = a->b_, *gamma = a->gamma, *beta = a->beta;
    const float *mean = a->mean, *var = a->var;
    float *w_folded = a->w_folded, *b_folded = a->b_folded;
    int64_t outputs = call->in[0].shape.dim[0];
    int64_t weights = th_shape_count(&call->in[0].shape) / outputs;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < outputs; o++) {
        double scale = (double)gamma[o] * rstd(call, var[o]);
        double bias = b != NULL ? (double)b[o] : 0;
        b_folded[o] = (float)((bias - (double)mean[o]) * scale + (double)beta[o]);
        for (int64_t i = o * weights; i < (o + 1) * weights; i++)
            w_folded[i] = (float)((double)w[i] * scale);
    }
    return THAW_OK;
}

/* Rows of a LayerNorm, and values in one. */
struct rows {
    int64_t n, width;
};

static struct rows rows_of(const struct th_operand *x)
{
    int64_t width = x->shape.dim[x->shape.rank - 1];
    return (struct rows){th_shape_count(&x->shape) / width, width};
}

thaw_status th_ref_layernorm(const struct th_call *call)
{
    const struct th_args_layernorm *a = (const void *)call->args;
    const float *gamma = a->gamma, *beta = a->beta;
    float *mean_out = a->mean, *rstd_out = a->rstd;
    struct rows rows = rows_of(&call->in[0]);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t r = 0; r < rows.n; r++) {
        const float *x = (const float *)a->x + r * rows.width;
        float *y = (float *)a->y + r * rows.width;
        double mean = 0, var = 0, width = (double)rows.width;
        for (int64_t j = 0; j < rows.width; j++)
            mean += (double)x[j] / width;
        for (int64_t j = 0; j < rows.width; j++)
            var += ((double)x[j] - mean) * ((double)x[j] - mean) / width;
        double inv = 1 / sqrt(var + (double)call->attr.norm.eps);
        for (int64_t j = 0; j < rows.width; j++)
            y[j] = (float)(((double)x[j] - mean) * inv * (double)gamma[j] +
                           (double)beta[j]);
        mean_out[r] = (float)mean;
        rstd_out[r] = (float)inv;
    }
    return THAW_OK;
}

thaw_status th_ref_layernorm_dx(const struct th_call *call)
{
    const struct th_args_layernorm_dx *a = (const void *)call->args;
    const float *gamma = a->gamma, *mean = a->mean, *inv = a->rstd;
    struct rows rows = rows_of(&call->in[0]);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t r = 0; r < rows.n; r++) {
        const float *x = (const float *)a->x + r * rows.width;
        const float *dy = (const float *)a->dy + r * rows.width;
        float *dx = (float *)a->dx + r * rows.width;
        double m = mean[r], i = inv[r], u_mean = 0, uh_mean = 0;
        for (int64_t j = 0; j < rows.width; j++) {
            double u = (double)dy[j] * (double)gamma[j];
            u_mean += u / (double)rows.width;
            uh_mean += u * ((double)x[j] - m) * i / (double)rows.width;
        }
        for (int64_t j = 0; j < rows.width; j++) {
            double u = (double)dy[j] * (double)gamma[j], h = ((double)x[j] - m) * i;
            dx[j] = (float)(i * (u - u_mean - h * uh_mean));
        }
    }
    return THAW_OK;
}

thaw_status th_ref_layernorm_dw(const struct th_call *call)
{
    const struct th_args_layernorm_dw *a = (const void *)call->args;
    const float *dy = a->dy, *x = a->x, *mean = a->mean, *inv = a->rstd;
    float *dgamma = a->dgamma, *dbeta = a->dbeta;
    struct rows rows = rows_of(&call->in[0]);
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t j = 0; j < rows.width; j++) {
        double sum = 0, product = 0;
        for (int64_t r = 0; r < rows.n; r++) {
            int64_t at = r * rows.width + j;
            double h = ((double)x[at] - (double)mean[r]) * (double)inv[r];
            sum += (double)dy[at];
            product += (double)dy[at] * h;
        }
        dgamma[j] = (float)product;
        dbeta[j] = (float)sum;
    }
    return THAW_OK;
}

/* ---- Unit length ---- */

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

thaw_status th_ref_l2norm(const struct th_call *call)
{
    static const double least = 1e-12; /* torch.nn.functional.normalize's eps */
    const struct th_args_l2norm *a = (const void *)call->args;
    int64_t n = call->in[0].shape.dim[0], k = call->in[0].shape.dim[1];
    double scale = a->scale_ ? (double)*(const float *)a->scale_ : 1;
    float *y = a->y, *rnorm = a->rnorm;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t r = 0; r < n; r++) {
        const float *x = (const float *)a->x + r * k;
        double inverse = 1 / fmax(sqrt(dot(x, x, k)), least);
        rnorm[r] = (float)inverse;
        for (int64_t i = 0; i < k; i++)
            y[r * k + i] = (float)((double)x[i] * inverse * scale);
    }
    return THAW_OK;
}

thaw_status th_ref_l2norm_dx(const struct th_call *call)
{
    const struct th_args_l2norm_dx *a = (const void *)call->args;
    int64_t n = call->in[1].shape.dim[0], k = call->in[1].shape.dim[1];
    double scale = a->scale_ ? (double)*(const float *)a->scale_ : 1;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t r = 0; r < n; r++) {
        const float *x = (const float *)a->x + r * k,
                    *dy = (const float *)a->dy + r * k;
        double inverse = (double)((const float *)a->rnorm)[r];
        double along = dot(x, dy, k) * inverse * inverse;
        for (int64_t i = 0; i < k; i++)
            dx[r * k + i] =
                (float)(((double)dy[i] - (double)x[i] * along) * inverse * scale);
    }
    return THAW_OK;
}

thaw_status th_ref_l2norm_dw(const struct th_call *call)
{
    const struct th_args_l2norm_dw *a = (const void *)call->args;
    int64_t n = call->in[1].shape.dim[0], k = call->in[1].shape.dim[1];
    double sum = 0;
    for (int64_t r = 0; r < n; r++)
        sum += dot((const float *)a->dy + r * k, (const float *)a->x + r * k, k) *
               (double)((const float *)a->rnorm)[r];
    *(float *)a->dscale = (float)sum;
    return THAW_OK;
}
