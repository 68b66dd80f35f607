/* SPDX-License-Identifier: Apache-2.0
 * Owns BatchNorm, alone: statistics, application, gradients. Formulas: kernels/norm.c. */
#include "reduce.cuh"

#include "op.h"

static __device__ inline float rstd(float var, float eps)
{
    return 1 / sqrtf(var + eps);
}

/* ---- statistics: Welford in each thread, Chan et al. between them ---- */

struct moments {
    float mean, m2, n;
};

/* Chan, Golub, LeVeque 1979, "Updating formulae", equations 2.1. */
static __device__ inline moments together(moments a, moments b)
{
    float n = a.n + b.n, d = b.mean - a.mean, part = b.n / n;
    return {a.mean + d * part, a.m2 + b.m2 + d * d * a.n * part, n};
}

static __device__ inline int slot_rows(int64_t rows, int slot, int slots)
{
    return rows > slot ? (int)(rows - slot - 1) / slots + 1 : 0;
}

template <class T, int V> static __device__ inline void stats(const th_k_bn_stats &p)
{
    __shared__ float mean[V][TH_THREADS], m2[V][TH_THREADS];
    const T *x = static_cast<const T *>(p.x);
    int slot = threadIdx.x / p.c.lanes, slots = TH_THREADS / p.c.lanes;
    chunk rows = chunk_of(p.c, blockIdx.y);
    each_columns<V>(p.c, [&](int64_t first, int64_t column) {
        float m[V] = {}, s[V] = {}, n = 0;
        if (column < p.c.columns)
#pragma unroll 1
            for (int64_t row = rows.begin + slot; row < rows.end; row += slots) {
                float v[V];
                load(x + row * p.c.columns + column, v);
                n += 1;
                float inverse = 1 / n;
#pragma unroll
                for (int k = 0; k < V; k++) {
                    float d = v[k] - m[k];
                    m[k] += d * inverse;
                    s[k] += d * (v[k] - m[k]);
                }
            }
#pragma unroll
        for (int k = 0; k < V; k++) {
            mean[k][threadIdx.x] = m[k];
            m2[k][threadIdx.x] = s[k];
        }
        __syncthreads();
        int i = threadIdx.x, at = i / V;
        int64_t to = first + i;
        if (i >= V * p.c.lanes || to >= p.c.columns) /* as many as threads at most */
            return;
        moments sum = {0, 0, 0};
#pragma unroll 1
        for (int r = 0; r < slots; r++, at += p.c.lanes) {
            float count = (float)slot_rows(rows.end - rows.begin, r, slots);
            sum = together(sum, {mean[i % V][at], m2[i % V][at], count});
        }
        p.mean[blockIdx.y * p.c.columns + to] = sum.mean;
        p.m2[blockIdx.y * p.c.columns + to] = sum.m2;
    });
}

template <class T> static __device__ inline void bn_stats(const th_k_bn_stats &p)
{
    constexpr int V = in_vector<T>::n;
    if (p.c.columns % V == 0)
        stats<T, V>(p);
    else
        stats<T, 1>(p);
}
TH_KERNELS(bn_stats, bn_stats)

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    bn_stats_end(const struct th_k_bn_stats_end p)
{
#pragma unroll 1
    for (int64_t c = thread(); c < p.c.columns; c += threads()) {
        moments sum = {0, 0, 0};
#pragma unroll 1
        for (int k = 0; k < p.c.chunks; k++) {
            chunk rows = chunk_of(p.c, k);
            int64_t at = k * p.c.columns + c;
            sum =
                together(sum, {p.means[at], p.m2s[at], (float)(rows.end - rows.begin)});
        }
        p.mean[c] = sum.mean;
        p.var[c] = sum.m2 / sum.n;
    }
}

/* ---- application ---- */

template <class T> static __device__ inline void bn_apply(const th_k_bn_apply &p)
{
    const T *x = static_cast<const T *>(p.x), *add = static_cast<const T *>(p.add_);
    T *y = static_cast<T *>(p.y);
    each_channel<T>(p.count, p.channels, [&](auto w, int64_t i, int64_t c) {
        constexpr int V = decltype(w)::n;
        float v[V], mean[V], var[V], gamma[V], beta[V], more[V] = {};
        unsigned bits = 0;
        if (i < p.count) {
            load(x + i, v);
            load(p.mean + c, mean);
            load(p.var + c, var);
            load(p.gamma + c, gamma);
            load(p.beta + c, beta);
            if (add)
                load(add + i, more);
#pragma unroll
            for (int k = 0; k < V; k++) {
                float h = (v[k] - mean[k]) * rstd(var[k], p.eps);
                v[k] = gamma[k] * h + beta[k] + more[k];
                if (p.relu && v[k] <= 0)
                    v[k] = 0;
                bits |= (unsigned)(v[k] > 0) << k;
            }
            store(y + i, v);
        }
        if (p.mask_)
            put_bits<V>(p.mask_, i, p.count, bits);
    });
}
TH_KERNELS(bn_apply, bn_apply)

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    bn_update(const struct th_k_bn_update p)
{
    if (p.scalars->skip != 0)
        return;
    float m = p.momentum;
#pragma unroll 1
    for (int64_t c = thread(); c < p.count; c += threads()) {
        float mean = p.running_mean[c], var = p.running_var[c];
        p.running_mean[c] = mean + m * (p.mean[c] - mean);
        p.running_var[c] = var + m * (p.var[c] * p.unbiased - var);
    }
}

/* ---- gradients ---- */

/* dy where the mask lets it through. */
template <int V, class T>
static __device__ inline void load_masked(
    const T *dy, const uint32_t *mask, int64_t i, float (&v)[V])
{
    unsigned bits = mask ? get_bits<V>(mask, i) : ~0U;
    load(dy + i, v);
#pragma unroll
    for (int k = 0; k < V; k++)
        v[k] = bits >> k & 1 ? v[k] : 0;
}

template <class T, int V> static __device__ inline void reduce(const th_k_bn_reduce &p)
{
    const T *dy = static_cast<const T *>(p.dy), *x = static_cast<const T *>(p.x);
    float mean[V], inverse[V];
    auto begin = [&](int64_t column) {
        load(p.mean + column, mean);
        load(p.var + column, inverse);
#pragma unroll
        for (int k = 0; k < V; k++)
            inverse[k] = rstd(inverse[k], p.eps);
    };
    sum_rows<2, V>(p.c, begin, [&](int64_t row, int64_t column, float(&sums)[2][V]) {
        float d[V], v[V];
        load_masked(dy, p.mask_, row * p.c.columns + column, d);
        load(x + row * p.c.columns + column, v);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sums[0][k] += d[k] * ((v[k] - mean[k]) * inverse[k]);
            sums[1][k] += d[k];
        }
    });
}

template <class T> static __device__ inline void bn_reduce(const th_k_bn_reduce &p)
{
    constexpr int V = in_vector<T>::n;
    if (p.c.columns % V == 0)
        reduce<T, V>(p);
    else
        reduce<T, 1>(p);
}
TH_KERNELS(bn_reduce, bn_reduce)

template <class T> static __device__ inline void bn_dx_batch(const th_k_bn_dx_batch &p)
{
    const T *dy = static_cast<const T *>(p.dy), *x = static_cast<const T *>(p.x);
    T *dx = static_cast<T *>(p.dx);
    each_channel<T>(p.count, p.channels, [&](auto w, int64_t i, int64_t c) {
        constexpr int V = decltype(w)::n;
        float d[V], v[V], mean[V], var[V], gamma[V], dgamma[V], dbeta[V];
        if (i >= p.count)
            return;
        load_masked(dy, p.mask_, i, d);
        load(x + i, v);
        load(p.mean + c, mean);
        load(p.var + c, var);
        load(p.gamma + c, gamma);
        load(p.dgamma + c, dgamma);
        load(p.dbeta + c, dbeta);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float inverse = rstd(var[k], p.eps), h = (v[k] - mean[k]) * inverse;
            float terms = p.n * d[k] - dbeta[k] - h * dgamma[k];
            d[k] = gamma[k] * inverse / p.n * terms;
        }
        store(dx + i, d);
    });
}
TH_KERNELS(bn_dx_batch, bn_dx_batch)

template <class T>
static __device__ inline void bn_dx_running(const th_k_bn_dx_running &p)
{
    const T *dy = static_cast<const T *>(p.dy);
    T *dx = static_cast<T *>(p.dx);
    each_channel<T>(p.count, p.channels, [&](auto w, int64_t i, int64_t c) {
        constexpr int V = decltype(w)::n;
        float d[V], var[V], gamma[V];
        if (i >= p.count)
            return;
        load_masked(dy, p.mask_, i, d);
        load(p.var + c, var);
        load(p.gamma + c, gamma);
#pragma unroll
        for (int k = 0; k < V; k++)
            d[k] *= gamma[k] * rstd(var[k], p.eps);
        store(dx + i, d);
    });
}
TH_KERNELS(bn_dx_running, bn_dx_running)

/* A block a row, of the weights of one output. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    bn_fold(const struct th_k_bn_fold p)
{
#pragma unroll 1
    for (int64_t o = blockIdx.x; o < p.rows; o += gridDim.x) {
        float scale = p.gamma[o] * rstd(p.var[o], p.eps), bias = p.b_ ? p.b_[o] : 0;
#pragma unroll 1
        for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
            p.w_folded[o * p.width + i] = p.w[o * p.width + i] * scale;
        if (threadIdx.x == 0)
            p.b_folded[o] = (bias - p.mean[o]) * scale + p.beta[o];
    }
}
