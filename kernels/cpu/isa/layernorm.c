/* SPDX-License-Identifier: Apache-2.0
 * Owns layernorm and its gradients: rows of `width` values. Formulas: kernels/norm.c. */
#include "lanes.h"

#include <math.h>

struct rows {
    int64_t n, width;
};

TH_INLINE struct rows rows_of(const struct th_operand *o)
{
    int64_t width = o->shape.dim[o->shape.rank - 1];
    return (struct rows){th_shape_count(&o->shape) / width, width};
}

/* Sum of all lanes, in double. */
TH_INLINE double v_sum(v16 a)
{
    double sum = 0;
    for (int i = 0; i < TH_VECTORS; i++)
        sum += vf_sum(a.v[i]);
    return sum;
}

TH_INLINE v16 v_fma(v16 a, v16 b, v16 c)
{
    for (int i = 0; i < TH_VECTORS; i++)
        a.v[i] = vf_fma(a.v[i], b.v[i], c.v[i]);
    return a;
}

/* Rows [from,end) of part i. */
TH_INLINE int64_t rows_end(struct rows s, int64_t i)
{
    return s.n < (i + 1) * TH_LAYERNORM_ROWS ? s.n : (i + 1) * TH_LAYERNORM_ROWS;
}

/* Mean, then the mean square of what is left: two passes over a row in L1. */
static void layernorm_row(
    const struct th_call *call, const struct th_args_layernorm *a, int64_t r)
{
    int64_t width = rows_of(&call->in[0]).width;
    const float *x = (const float *)a->x + r * width, *gamma = a->gamma;
    const float *beta = a->beta;
    float *y = (float *)a->y + r * width;
    v16 sum = v_all(0);
    for (int64_t j = 0; j < width; j += TH_GROUP)
        sum = v_add(sum, v_load_n(x + j, v_left(j, width), v_all(0)));
    double mean = v_sum(sum) / (double)width;
    v16 m = v_all((float)mean), square = v_all(0);
    for (int64_t j = 0; j < width; j += TH_GROUP) {
        v16 d = v_sub(v_load_n(x + j, v_left(j, width), m), m);
        square = v_fma(d, d, square);
    }
    double off = mean - (double)(float)mean; /* m is rounded: var = E(x-m)^2 - off^2 */
    double var = v_sum(square) / (double)width - off * off;
    double rstd = 1 / sqrt((var > 0 ? var : 0 * var) + (double)call->attr.norm.eps);
    for (int64_t j = 0; j < width; j += TH_GROUP) {
        int n = v_left(j, width);
        v16 h = v_mul(v_sub(v_load_n(x + j, n, m), m), v_all((float)rstd));
        v16 g = v_load_n(gamma + j, n, m), b = v_load_n(beta + j, n, m);
        v_store_n(y + j, n, v_fma(h, g, b));
    }
    ((float *)a->mean)[r] = (float)mean;
    ((float *)a->rstd)[r] = (float)rstd;
}

static void layernorm_part(const struct th_call *call, int64_t i)
{
    struct rows s = rows_of(&call->in[0]);
    for (int64_t r = i * TH_LAYERNORM_ROWS; r < rows_end(s, i); r++)
        layernorm_row(call, (const void *)call->args, r);
}

TH_OWN(layernorm)
{
    struct rows s = rows_of(&call->in[0]);
    th_parallel(call, th_parts(s.n, TH_LAYERNORM_ROWS), layernorm_part);
    return THAW_OK;
}

/* u = dy*gamma, h = (x - mean)*rstd: dx = rstd*(u - mean(u) - h*mean(u*h)) */
static void dx_row(int64_t width, const struct th_args_layernorm_dx *a, int64_t r)
{
    const float *x = (const float *)a->x + r * width, *gamma = a->gamma;
    const float *dy = (const float *)a->dy + r * width;
    float *dx = (float *)a->dx + r * width;
    v16 mean = v_all(((const float *)a->mean)[r]);
    v16 rstd = v_all(((const float *)a->rstd)[r]), sum = v_all(0), product = v_all(0);
    for (int64_t j = 0; j < width; j += TH_GROUP) {
        int n = v_left(j, width);
        v16 h = v_mul(v_sub(v_load_n(x + j, n, mean), mean), rstd);
        v16 u = v_mul(v_load_n(dy + j, n, v_all(0)), v_load_n(gamma + j, n, v_all(0)));
        sum = v_add(sum, u);
        product = v_fma(u, h, product);
    }
    v16 u_mean = v_all((float)(v_sum(sum) / (double)width));
    v16 uh_mean = v_all((float)(-v_sum(product) / (double)width));
    for (int64_t j = 0; j < width; j += TH_GROUP) {
        int n = v_left(j, width);
        v16 h = v_mul(v_sub(v_load_n(x + j, n, mean), mean), rstd);
        v16 u = v_mul(v_load_n(dy + j, n, v_all(0)), v_load_n(gamma + j, n, v_all(0)));
        v_store_n(dx + j, n, v_mul(rstd, v_fma(h, uh_mean, v_sub(u, u_mean))));
    }
}

static void layernorm_dx_part(const struct th_call *call, int64_t i)
{
    struct rows s = rows_of(&call->in[0]);
    for (int64_t r = i * TH_LAYERNORM_ROWS; r < rows_end(s, i); r++)
        dx_row(s.width, (const void *)call->args, r);
}

TH_OWN(layernorm_dx)
{
    struct rows s = rows_of(&call->in[0]);
    th_parallel(call, th_parts(s.n, TH_LAYERNORM_ROWS), layernorm_dx_part);
    return THAW_OK;
}

/* Sums over a part's rows into scratch [parts][2][width] floats: sums of TH_LAYERNORM_ROWS
 * floats, which then go into doubles. */
static void layernorm_dw_part(const struct th_call *call, int64_t i)
{
    const struct th_args_layernorm_dw *a = (const void *)call->args;
    struct rows s = rows_of(&call->in[0]);
    float *gammas = (float *)call->scratch + i * 2 * s.width, *betas = gammas + s.width;
    memset(gammas, 0, sizeof(float) * 2 * (size_t)s.width);
    for (int64_t r = i * TH_LAYERNORM_ROWS; r < rows_end(s, i); r++) {
        const float *x = (const float *)a->x + r * s.width;
        const float *dy = (const float *)a->dy + r * s.width;
        v16 mean = v_all(((const float *)a->mean)[r]);
        v16 rstd = v_all(((const float *)a->rstd)[r]);
        for (int64_t j = 0; j < s.width; j += TH_GROUP) {
            int n = v_left(j, s.width);
            v16 d = v_load_n(dy + j, n, v_all(0));
            v16 h = v_mul(v_sub(v_load_n(x + j, n, mean), mean), rstd);
            v_store_n(gammas + j, n, v_fma(d, h, v_load_n(gammas + j, n, d)));
            v_store_n(betas + j, n, v_add(d, v_load_n(betas + j, n, d)));
        }
    }
}

TH_OWN(layernorm_dw)
{
    const struct th_args_layernorm_dw *a = (const void *)call->args;
    struct rows s = rows_of(&call->in[0]);
    int64_t parts = th_parts(s.n, TH_LAYERNORM_ROWS);
    th_parallel(call, parts, layernorm_dw_part);
    for (int64_t j = 0; j < s.width; j++) {
        const float *at = (const float *)call->scratch + j;
        double gamma = 0, beta = 0;
        for (int64_t i = 0; i < parts; i++, at += 2 * s.width) {
            gamma += (double)at[0];
            beta += (double)at[s.width];
        }
        ((float *)a->dgamma)[j] = (float)gamma;
        ((float *)a->dbeta)[j] = (float)beta;
    }
    return THAW_OK;
}
