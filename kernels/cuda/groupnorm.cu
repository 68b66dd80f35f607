/* SPDX-License-Identifier: Apache-2.0
 * Owns GroupNorm and its gradients. A block has a group of a sample; what it reads again is
 * in the caches. Formulas: kernels/groupnorm.c. */
#include "reduce.cuh"

/* Runs f(group) for each, a block each. */
template <class F> static __device__ inline void each_group(int64_t groups, F f)
{
#pragma unroll 1
    for (int64_t k = blockIdx.x; k < groups; k += gridDim.x)
        f(k);
}

/* Runs f(width<V>{}, i, c) for this thread's values of a group: i in its sample's values, c
 * the channel. */
template <class T, class F>
static __device__ inline void inside(const th_k_groups &g, int64_t group, F f)
{
    constexpr int V = in_vector<T>::n;
    uint32_t first = (uint32_t)group % g.groups * g.each, n = g.plane * g.each;
    int64_t sample = (uint32_t)group / g.groups * (int64_t)g.plane * g.channels;
    if (g.each % V == 0)
#pragma unroll 1
        for (uint32_t i = threadIdx.x * V; i < n; i += TH_THREADS * V) {
            uint32_t c = first + i % g.each;
            f(width<V>{}, sample + i / g.each * g.channels + c, c);
        }
    else
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < n; i += TH_THREADS) {
            uint32_t c = first + i % g.each;
            f(width<1>{}, sample + i / g.each * g.channels + c, c);
        }
}

template <class T> static __device__ inline void groupnorm(const th_k_groupnorm &p)
{
    const T *x = static_cast<const T *>(p.x);
    T *y = static_cast<T *>(p.y);
    float n = (float)p.g.plane * (float)p.g.each;
    each_group(p.g.n, [&](int64_t group) {
        float sum = 0, squares = 0;
        inside<T>(p.g, group, [&](auto w, int64_t i, uint32_t) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += v[k];
        });
        float mean = block_sum(sum) / n;
        inside<T>(p.g, group, [&](auto w, int64_t i, uint32_t) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                squares += (v[k] - mean) * (v[k] - mean);
        });
        float inverse = 1 / sqrtf(block_sum(squares) / n + p.eps);
        inside<T>(p.g, group, [&](auto w, int64_t i, uint32_t c) {
            constexpr int V = decltype(w)::n;
            float v[V], gamma[V], beta[V];
            load(x + i, v);
            load(p.gamma + c, gamma);
            load(p.beta + c, beta);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] = (v[k] - mean) * inverse * gamma[k] + beta[k];
            store(y + i, v);
        });
        if (threadIdx.x == 0) {
            p.mean[group] = mean;
            p.rstd[group] = inverse;
        }
    });
}
TH_KERNELS(groupnorm, groupnorm)

/* h = (x - mean) * rstd and u = dy * gamma */
template <int V, class T>
static __device__ inline void load_group(const T *x, const T *dy, const float *gamma,
    float mean, float inverse, float (&h)[V], float (&u)[V])
{
    float scale[V];
    load(x, h);
    load(dy, u);
    load(gamma, scale);
#pragma unroll
    for (int k = 0; k < V; k++) {
        h[k] = (h[k] - mean) * inverse;
        u[k] *= scale[k];
    }
}

template <class T>
static __device__ inline void groupnorm_dx(const th_k_groupnorm_dx &p)
{
    const T *x = static_cast<const T *>(p.x), *dy = static_cast<const T *>(p.dy);
    T *dx = static_cast<T *>(p.dx);
    float n = (float)p.g.plane * (float)p.g.each;
    each_group(p.g.n, [&](int64_t group) {
        float mean = p.mean[group], inverse = p.rstd[group], sum = 0, product = 0;
        inside<T>(p.g, group, [&](auto w, int64_t i, uint32_t c) {
            constexpr int V = decltype(w)::n;
            float h[V], u[V];
            load_group(x + i, dy + i, p.gamma + c, mean, inverse, h, u);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum += u[k];
                product += u[k] * h[k];
            }
        });
        sum = block_sum(sum) / n;
        product = block_sum(product) / n;
        inside<T>(p.g, group, [&](auto w, int64_t i, uint32_t c) {
            constexpr int V = decltype(w)::n;
            float h[V], u[V];
            load_group(x + i, dy + i, p.gamma + c, mean, inverse, h, u);
#pragma unroll
            for (int k = 0; k < V; k++)
                u[k] = inverse * (u[k] - sum - h[k] * product);
            store(dx + i, u);
        });
    });
}
TH_KERNELS(groupnorm_dx, groupnorm_dx)

/* Rows are pixels of all samples. */
template <class T, int V>
static __device__ inline void groupnorm_sums(const th_k_groupnorm_dw &p)
{
    const T *dy = static_cast<const T *>(p.dy), *x = static_cast<const T *>(p.x);
    uint32_t group[V];
    auto begin = [&](int64_t column) {
#pragma unroll
        for (int k = 0; k < V; k++)
            group[k] = (uint32_t)(column + k) / p.each;
    };
    sum_rows<2, V>(p.c, begin, [&](int64_t row, int64_t column, float(&sums)[2][V]) {
        int64_t sample = row / p.plane * p.groups;
        float d[V], v[V];
        load(dy + row * p.c.columns + column, d);
        load(x + row * p.c.columns + column, v);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float mean = p.mean[sample + group[k]], inverse = p.rstd[sample + group[k]];
            sums[0][k] += d[k] * ((v[k] - mean) * inverse);
            sums[1][k] += d[k];
        }
    });
}

template <class T>
static __device__ inline void groupnorm_dw(const th_k_groupnorm_dw &p)
{
    constexpr int V = in_vector<T>::n;
    if (p.c.columns % V == 0)
        groupnorm_sums<T, V>(p);
    else
        groupnorm_sums<T, 1>(p);
}
TH_KERNELS(groupnorm_dw, groupnorm_dw)
