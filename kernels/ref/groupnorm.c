/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of GroupNorm. Formulas: kernels/groupnorm.c. */
#include "ref.h"

#include <math.h>

/* A group of a sample: its channels, and the place of a value of them. */
struct group {
    const struct th_operand *x;
    int64_t n, first, channels, plane;
};

static struct group group_of(const struct th_operand *x, int groups, int64_t i)
{
    int64_t channels = x->shape.dim[1] / groups;
    return (struct group){
        x, i / groups, i % groups * channels, channels, th_ref_plane(x)};
}

static int64_t count(struct group g)
{
    return g.channels * g.plane;
}

static int64_t channel(struct group g, int64_t i)
{
    return g.first + i / g.plane;
}

static int64_t place(struct group g, int64_t i)
{
    int64_t w = g.x->shape.dim[3], p = i % g.plane;
    return th_ref_at(g.x, g.n, channel(g, i), p / w, p % w);
}

thaw_status th_ref_groupnorm(const struct th_call *call)
{
    const struct th_args_groupnorm *a = (const void *)call->args;
    const float *x = a->x, *gamma = a->gamma, *beta = a->beta;
    float *y = a->y;
    int groups = call->attr.norm.groups;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t k = 0; k < call->in[0].shape.dim[0] * groups; k++) {
        struct group g = group_of(&call->in[0], groups, k);
        double mean = 0, var = 0, n = (double)count(g);
        for (int64_t i = 0; i < count(g); i++)
            mean += (double)x[place(g, i)] / n;
        for (int64_t i = 0; i < count(g); i++) {
            double d = (double)x[place(g, i)] - mean;
            var += d * d / n;
        }
        double rstd = 1 / sqrt(var + (double)call->attr.norm.eps);
        for (int64_t i = 0; i < count(g); i++) {
            int64_t c = channel(g, i), at = place(g, i);
            y[at] = (float)(((double)x[at] - mean) * rstd * (double)gamma[c] +
                            (double)beta[c]);
        }
        ((float *)a->mean)[k] = (float)mean;
        ((float *)a->rstd)[k] = (float)rstd;
    }
    return THAW_OK;
}

thaw_status th_ref_groupnorm_dx(const struct th_call *call)
{
    const struct th_args_groupnorm_dx *a = (const void *)call->args;
    const float *x = a->x, *dy = a->dy, *gamma = a->gamma;
    float *dx = a->dx;
    int groups = call->attr.norm.groups;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t k = 0; k < call->in[0].shape.dim[0] * groups; k++) {
        struct group g = group_of(&call->in[0], groups, k);
        double mean = (double)((const float *)a->mean)[k], n = (double)count(g);
        double rstd = (double)((const float *)a->rstd)[k], u_mean = 0, uh_mean = 0;
        for (int64_t i = 0; i < count(g); i++) {
            double u = (double)dy[place(g, i)] * (double)gamma[channel(g, i)];
            u_mean += u / n;
            uh_mean += u * ((double)x[place(g, i)] - mean) * rstd / n;
        }
        for (int64_t i = 0; i < count(g); i++) {
            double u = (double)dy[place(g, i)] * (double)gamma[channel(g, i)];
            double h = ((double)x[place(g, i)] - mean) * rstd;
            dx[place(g, i)] = (float)(rstd * (u - u_mean - h * uh_mean));
        }
    }
    return THAW_OK;
}

thaw_status th_ref_groupnorm_dw(const struct th_call *call)
{
    const struct th_args_groupnorm_dw *a = (const void *)call->args;
    const struct th_operand *o = &call->in[1];
    const float *x = a->x, *dy = a->dy, *mean = a->mean, *rstd = a->rstd;
    int64_t channels = o->shape.dim[1], plane = th_ref_plane(o), w = o->shape.dim[3];
    int groups = call->attr.norm.groups;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, product = 0;
        for (int64_t i = 0; i < o->shape.dim[0] * plane; i++) {
            int64_t n = i / plane, p = i % plane;
            int64_t at = th_ref_at(o, n, c, p / w, p % w);
            int64_t k = n * groups + c / (channels / groups);
            sum += (double)dy[at];
            product +=
                (double)dy[at] * ((double)x[at] - (double)mean[k]) * (double)rstd[k];
        }
        ((float *)a->dgamma)[c] = (float)product;
        ((float *)a->dbeta)[c] = (float)sum;
    }
    return THAW_OK;
}
