/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of linear, linear_dx, linear_dw, linear_fold, bias_grad. Formulas:
 * kernels/linear.c. */
#include "ref.h"

enum { CHUNK = 64 };

thaw_status th_ref_linear(const struct th_call *call)
{
    const struct th_args_linear *a = (const void *)call->args;
    const float *x = a->x, *w = a->w, *b = a->b_;
    int64_t outputs = call->in[1].shape.dim[0], inputs = call->in[1].shape.dim[1];
    int64_t rows = th_shape_count(&call->in[0].shape) / inputs;
    float *y = a->y;
#pragma omp parallel for collapse(2) num_threads(call->device->threads)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outputs; o++) {
            double sum = b != NULL ? (double)b[o] : 0;
            for (int64_t i = 0; i < inputs; i++)
                sum += (double)x[r * inputs + i] * (double)w[o * inputs + i];
            y[r * outputs + o] = (float)sum;
        }
    return THAW_OK;
}

/* out[j] = sum_k factor[k*stride] rows[k][j] over n rows of `width` values. */
static void sum_rows(const float *factor, int64_t stride, const float *rows, int64_t n,
    int64_t width, float *out)
{
    for (int64_t j0 = 0; j0 < width; j0 += CHUNK) {
        double sum[CHUNK] = {0};
        int64_t m = width - j0 < CHUNK ? width - j0 : CHUNK;
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < m; j++)
                sum[j] += (double)factor[k * stride] * (double)rows[k * width + j0 + j];
        for (int64_t j = 0; j < m; j++)
            out[j0 + j] = (float)sum[j];
    }
}

thaw_status th_ref_linear_dx(const struct th_call *call)
{
    const struct th_args_linear_dx *a = (const void *)call->args;
    const float *dy = a->dy, *w = a->w;
    int64_t outputs = call->in[1].shape.dim[0], inputs = call->in[1].shape.dim[1];
    int64_t rows = th_shape_count(&call->in[0].shape) / outputs;
    float *dx = a->dx;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t r = 0; r < rows; r++)
        sum_rows(dy + r * outputs, 1, w, outputs, inputs, dx + r * inputs);
    return THAW_OK;
}

thaw_status th_ref_linear_dw(const struct th_call *call)
{
    const struct th_args_linear_dw *a = (const void *)call->args;
    const float *x = a->x, *dy = a->dy;
    int64_t outputs = call->out[0].shape.dim[0], inputs = call->out[0].shape.dim[1];
    int64_t rows = th_shape_count(&call->in[0].shape) / inputs;
    float *dw = a->dw;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < outputs; o++)
        sum_rows(dy + o, outputs, x, rows, inputs, dw + o * inputs);
    return THAW_OK;
}

/* Sum of one channel of [n][c][h][w]. */
static double sum_channel(const struct th_operand *o, const float *dy, int64_t c)
{
    double sum = 0;
    for (int64_t n = 0; n < o->shape.dim[0]; n++) {
        const float *plane = dy + th_ref_at(o, n, c, 0, 0);
        for (int64_t i = 0; i < th_ref_plane(o); i++)
            sum += (double)plane[i * th_ref_step(o)];
    }
    return sum;
}

thaw_status th_ref_bias_grad(const struct th_call *call)
{
    const struct th_args_bias_grad *a = (const void *)call->args;
    const struct th_operand *o = &call->in[0];
    const float *dy = a->dy;
    int64_t n = call->out[0].shape.dim[0], rows = th_shape_count(&o->shape) / n;
    float *db = a->db;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t c = 0; c < n; c++) {
        double sum = 0;
        if (o->shape.rank == 4)
            sum = sum_channel(o, dy, c);
        else
            for (int64_t r = 0; r < rows; r++)
                sum += (double)dy[r * n + c];
        db[c] = (float)sum;
    }
    return THAW_OK;
}

thaw_status th_ref_linear_fold(const struct th_call *call)
{
    const struct th_args_linear_fold *a = (const void *)call->args;
    const float *w = a->w, *b = a->b_, *gamma = a->gamma;
    float *to = a->w_folded, *shift = a->b_folded_;
    int64_t outputs = call->in[0].shape.dim[0], inputs = call->in[0].shape.dim[1];
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t o = 0; o < outputs; o++) {
        for (int64_t i = 0; i < inputs; i++)
            to[o * inputs + i] = gamma[o] * w[o * inputs + i];
        if (shift)
            shift[o] = b ? gamma[o] * b[o] : 0;
    }
    return THAW_OK;
}
