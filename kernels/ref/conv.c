/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of conv, conv_dx, conv_dw. Formulas: kernels/conv.c.
 *
 * A row of outputs is summed CHUNK values at a time, so that the innermost loop runs
 * along a row. */
#include "ref.h"

enum { CHUNK = 64 };

/* Values q of 0..count-1 for which lo <= q*stride + offset < hi. */
struct range {
    int64_t begin, end;
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return a >= 0 ? (a + b - 1) / b : -(-a / b);
}

static struct range inside(
    int64_t count, int64_t stride, int64_t offset, int64_t lo, int64_t hi)
{
    struct range r = {ceil_div(lo - offset, stride), ceil_div(hi - offset, stride)};
    if (r.begin < 0)
        r.begin = 0;
    if (r.end > count)
        r.end = count;
    return r;
}

/* sum += the products of the filter of output o with the image around y[n,o,p,q0...]. */
static void sum_row(const struct th_call *call, int64_t n, int64_t o, int64_t p,
    int64_t q0, int64_t width, double *sum)
{
    const struct th_args_conv *a = (const void *)call->args;
    const struct th_attr_conv *t = &call->attr.conv;
    const struct th_operand *xo = &call->in[0];
    const int64_t *x = xo->shape.dim, *w = call->in[1].shape.dim;
    const float *weight = (const float *)a->w + o * w[1] * w[2] * w[3];
    int64_t first = o / (w[0] / t->groups) * w[1], step = th_ref_step(xo);
    for (int64_t i = 0; i < w[1]; i++)
        for (int64_t r = 0; r < w[2]; r++) {
            int64_t row = p * t->stride[0] + r * t->dilation[0] - t->pad[0];
            if (row < 0 || row >= x[2])
                continue;
            const float *from =
                (const float *)a->x + th_ref_at(xo, n, first + i, row, 0);
            for (int64_t s = 0; s < w[3]; s++) {
                double f = weight[(i * w[2] + r) * w[3] + s];
                int64_t off = q0 * t->stride[1] + s * t->dilation[1] - t->pad[1];
                struct range in = inside(width, t->stride[1], off, 0, x[3]);
                for (int64_t q = in.begin; q < in.end; q++)
                    sum[q] += f * (double)from[(q * t->stride[1] + off) * step];
            }
        }
}

/* y = sum + b + add, cut off at 0 with attr.relu. */
static void store_row(const struct th_call *call, int64_t n, int64_t o, int64_t p,
    int64_t q0, int64_t width, const double *sum)
{
    const struct th_args_conv *a = (const void *)call->args;
    const float *bias = a->b_, *add = a->add_;
    float *y = a->y;
    for (int64_t q = 0; q < width; q++) {
        double v = sum[q] + (bias != NULL ? (double)bias[o] : 0);
        if (add != NULL)
            v += (double)add[th_ref_at(&call->in[3], n, o, p, q0 + q)];
        if (call->attr.conv.relu && v <= 0)
            v = 0;
        y[th_ref_at(&call->out[0], n, o, p, q0 + q)] = (float)v;
    }
}

thaw_status th_ref_conv(const struct th_call *call)
{
    const int64_t *y = call->out[0].shape.dim;
#pragma omp parallel for collapse(2) num_threads(call->device->threads)
    for (int64_t m = 0; m < y[0] * y[1]; m++)
        for (int64_t p = 0; p < y[2]; p++)
            for (int64_t q0 = 0; q0 < y[3]; q0 += CHUNK) {
                double sum[CHUNK] = {0};
                int64_t width = y[3] - q0 < CHUNK ? y[3] - q0 : CHUNK;
                sum_row(call, m / y[1], m % y[1], p, q0, width, sum);
                store_row(call, m / y[1], m % y[1], p, q0, width, sum);
            }
    return THAW_OK;
}

/* sum += what dy sends back through the filters to dx[n,c,u,v0...]. */
static void sum_row_back(const struct th_call *call, int64_t n, int64_t c, int64_t u,
    int64_t v0, int64_t width, double *sum)
{
    const struct th_args_conv_dx *a = (const void *)call->args;
    const struct th_attr_conv *t = &call->attr.conv;
    const struct th_operand *dyo = &call->in[0];
    const int64_t *dy = dyo->shape.dim, *w = call->in[1].shape.dim;
    int64_t outputs = w[0] / t->groups, first = c / w[1] * outputs;
    int64_t step = th_ref_step(dyo);
    for (int64_t o = first; o < first + outputs; o++)
        for (int64_t r = 0; r < w[2]; r++) {
            int64_t row = u + t->pad[0] - r * t->dilation[0];
            if (row < 0 || row % t->stride[0] != 0 || row / t->stride[0] >= dy[2])
                continue;
            const float *from =
                (const float *)a->dy + th_ref_at(dyo, n, o, row / t->stride[0], 0);
            const float *f =
                (const float *)a->w + ((o * w[1] + c % w[1]) * w[2] + r) * w[3];
            for (int64_t s = 0; s < w[3]; s++) {
                int64_t off = s * t->dilation[1] - t->pad[1] - v0;
                struct range in = inside(dy[3], t->stride[1], off, 0, width);
                for (int64_t q = in.begin; q < in.end; q++)
                    sum[q * t->stride[1] + off] +=
                        (double)f[s] * (double)from[q * step];
            }
        }
}

thaw_status th_ref_conv_dx(const struct th_call *call)
{
    const struct th_args_conv_dx *a = (const void *)call->args;
    const int64_t *dx = call->out[0].shape.dim;
    float *out = a->dx;
#pragma omp parallel for collapse(2) num_threads(call->device->threads)
    for (int64_t m = 0; m < dx[0] * dx[1]; m++)
        for (int64_t u = 0; u < dx[2]; u++)
            for (int64_t v0 = 0; v0 < dx[3]; v0 += CHUNK) {
                double sum[CHUNK] = {0};
                int64_t n = m / dx[1], c = m % dx[1];
                int64_t width = dx[3] - v0 < CHUNK ? dx[3] - v0 : CHUNK;
                sum_row_back(call, n, c, u, v0, width, sum);
                for (int64_t v = 0; v < width; v++)
                    out[th_ref_at(&call->out[0], n, c, u, v0 + v)] = (float)sum[v];
            }
    return THAW_OK;
}

/* dw[o,i,r,s] for one weight; c is its input channel. */
static double sum_weight(
    const struct th_call *call, int64_t o, int64_t c, int64_t r, int64_t s)
{
    const struct th_args_conv_dw *a = (const void *)call->args;
    const struct th_attr_conv *t = &call->attr.conv;
    const struct th_operand *xo = &call->in[0], *dyo = &call->in[1];
    const int64_t *x = xo->shape.dim, *dy = dyo->shape.dim;
    int64_t xs = th_ref_step(xo), dys = th_ref_step(dyo);
    int64_t off = s * t->dilation[1] - t->pad[1];
    struct range in = inside(dy[3], t->stride[1], off, 0, x[3]);
    double sum = 0;
    for (int64_t n = 0; n < dy[0]; n++)
        for (int64_t p = 0; p < dy[2]; p++) {
            int64_t row = p * t->stride[0] + r * t->dilation[0] - t->pad[0];
            if (row < 0 || row >= x[2])
                continue;
            const float *from = (const float *)a->x + th_ref_at(xo, n, c, row, 0);
            const float *back = (const float *)a->dy + th_ref_at(dyo, n, o, p, 0);
            for (int64_t q = in.begin; q < in.end; q++)
                sum +=
                    (double)back[q * dys] * (double)from[(q * t->stride[1] + off) * xs];
        }
    return sum;
}

thaw_status th_ref_conv_dw(const struct th_call *call)
{
    const struct th_args_conv_dw *a = (const void *)call->args;
    const int64_t *w = call->out[0].shape.dim;
    int64_t window = w[2] * w[3], outputs = w[0] / call->attr.conv.groups;
    float *dw = a->dw;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t k = 0; k < w[0] * w[1] * window; k++) {
        int64_t o = k / (w[1] * window), i = k / window % w[1];
        int64_t c = o / outputs * w[1] + i;
        dw[k] = (float)sum_weight(call, o, c, k % window / w[3], k % w[3]);
    }
    return THAW_OK;
}
