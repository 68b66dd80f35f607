/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of low-rank adapters. Formulas: kernels/lora.c. */
#include "ref.h"

#include <math.h>

thaw_status th_ref_lora_merge(const struct th_call *call)
{
    const struct th_args_lora_merge *p = (const void *)call->args;
    const float *w = p->w, *a = p->a, *b = p->b;
    float *y = p->y;
    int64_t outputs = call->in[0].shape.dim[0], ranks = call->in[1].shape.dim[0];
    int64_t k = th_shape_count(&call->in[0].shape) / outputs;
    double scale = (double)call->attr.lora.scale;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0;
            for (int64_t r = 0; r < ranks; r++)
                sum += (double)b[o * ranks + r] * (double)a[r * k + i];
            y[o * k + i] = (float)((double)w[o * k + i] + scale * sum);
        }
    return THAW_OK;
}

/* da[r,k] = scale * sum_o b[o,r] dy[o,k] */
thaw_status th_ref_lora_da(const struct th_call *call)
{
    const struct th_args_lora_da *p = (const void *)call->args;
    const float *dy = p->dy, *b = p->b;
    float *da = p->da;
    int64_t outputs = call->in[0].shape.dim[0], ranks = call->out[0].shape.dim[0];
    int64_t k = th_shape_count(&call->in[0].shape) / outputs;
    double scale = (double)call->attr.lora.scale;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < k; i++)
        for (int64_t r = 0; r < ranks; r++) {
            double sum = 0;
            for (int64_t o = 0; o < outputs; o++)
                sum += (double)b[o * ranks + r] * (double)dy[o * k + i];
            da[r * k + i] = (float)(scale * sum);
        }
    return THAW_OK;
}

/* db[o,r] = scale * sum_k dy[o,k] a[r,k] */
thaw_status th_ref_lora_db(const struct th_call *call)
{
    const struct th_args_lora_db *p = (const void *)call->args;
    const float *dy = p->dy, *a = p->a;
    float *db = p->db;
    int64_t outputs = call->in[0].shape.dim[0], ranks = call->in[1].shape.dim[0];
    int64_t k = th_shape_count(&call->in[0].shape) / outputs;
    double scale = (double)call->attr.lora.scale;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t r = 0; r < ranks; r++) {
            double sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += (double)dy[o * k + i] * (double)a[r * k + i];
            db[o * ranks + r] = (float)(scale * sum);
        }
    return THAW_OK;
}

thaw_status th_ref_scale_rows(const struct th_call *call)
{
    const struct th_args_scale_rows *p = (const void *)call->args;
    const float *x = p->x, *gamma = p->gamma_, *var = p->var_;
    float *y = p->y;
    int64_t rows = call->in[0].shape.dim[0];
    int64_t width = th_shape_count(&call->in[0].shape) / rows;
    const struct th_attr_lora *attr = &call->attr.lora;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < rows; o++) {
        double factor = (double)attr->scale;
        if (gamma)
            factor *= (double)gamma[o];
        if (var)
            factor /= sqrt((double)var[o] + (double)attr->eps);
        for (int64_t i = o * width; i < (o + 1) * width; i++)
            y[i] = (float)((double)x[i] * factor);
    }
    return THAW_OK;
}
