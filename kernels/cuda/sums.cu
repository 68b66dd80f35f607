/* SPDX-License-Identifier: Apache-2.0
 * Owns the second stage of sums, and sums of rows without a factor: bias_grad, tokens_dw. */
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sum_chunks(const struct th_k_sum_chunks p)
{
#pragma unroll 1
    for (int64_t i = thread(); i < 2 * p.columns; i += threads()) {
        bool first = i < p.columns;
        const float *from = first ? p.sum[0] : p.sum[1] - p.columns;
        float *to = first ? p.to[0] : p.to[1], sum = 0;
        if (!to)
            return;
#pragma unroll 1
        for (int k = 0; k < p.chunks; k++)
            sum += from[k * p.columns + i];
        to[first ? i : i - p.columns] = sum;
    }
}

/* One block. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sum_all(const struct th_k_sum_all p)
{
    float sum = 0;
#pragma unroll 1
    for (int64_t i = threadIdx.x; i < p.n; i += TH_THREADS)
        sum += p.x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *p.to = sum / p.divisor + (p.before_ ? *p.before_ : 0);
}

/* Sums of dy[row * stride + start + column]. */
template <class T, int V>
static __device__ inline void sums_of(
    const th_k_columns &c, const T *dy, int64_t stride, int64_t start)
{
    sum_rows<1, V>(
        c, [](int64_t) {},
        [&](int64_t row, int64_t column, float(&sums)[1][V]) {
            float d[V];
            load(dy + row * stride + start + column, d);
#pragma unroll
            for (int k = 0; k < V; k++)
                sums[0][k] += d[k];
        });
}

template <class T> static __device__ inline void bias_grad(const th_k_bias_grad &p)
{
    constexpr int V = in_vector<T>::n;
    const T *dy = static_cast<const T *>(p.dy);
    if (p.c.columns % V == 0)
        sums_of<T, V>(p.c, dy, p.c.columns, 0);
    else
        sums_of<T, 1>(p.c, dy, p.c.columns, 0);
}
TH_KERNELS(bias_grad, bias_grad)

template <class T> static __device__ inline void tokens_dw(const th_k_tokens_dw &p)
{
    constexpr int V = in_vector<T>::n;
    const T *dy = static_cast<const T *>(p.dy);
    if (p.c.columns % V == 0 && p.sample % V == 0 && p.first % V == 0)
        sums_of<T, V>(p.c, dy, p.sample, p.first);
    else
        sums_of<T, 1>(p.c, dy, p.sample, p.first);
}
TH_KERNELS(tokens_dw, tokens_dw)
