/* SPDX-License-Identifier: Apache-2.0
 * Owns what makes weights of weights, in fp32: LayerScale folded in, low-rank adapters and
 * their gradients. Formulas: kernels/linear.c, kernels/lora.c. */
#include "reduce.cuh"

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    linear_fold(const struct th_k_linear_fold p)
{
#pragma unroll 1
    for (int64_t o = blockIdx.x; o < p.rows; o += gridDim.x) {
        float gamma = p.gamma[o];
#pragma unroll 1
        for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
            p.w_folded[o * p.width + i] = gamma * p.w[o * p.width + i];
        if (threadIdx.x == 0 && p.b_folded_)
            p.b_folded_[o] = p.b_ ? gamma * p.b_[o] : 0;
    }
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    scale_rows(const struct th_k_scale_rows p)
{
#pragma unroll 1
    for (int64_t o = blockIdx.x; o < p.rows; o += gridDim.x) {
        float factor = p.scale;
        if (p.gamma_)
            factor *= p.gamma_[o];
        if (p.var_)
            factor /= sqrtf(p.var_[o] + p.eps);
#pragma unroll 1
        for (int64_t i = threadIdx.x; i < p.width; i += blockDim.x)
            p.y[o * p.width + i] = p.x[o * p.width + i] * factor;
    }
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    lora_merge(const struct th_k_lora_merge p)
{
    each_sample(p.rows, [&](int64_t o) {
        each<float>(p.width, p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float sum[V] = {}, a[V], v[V];
#pragma unroll 1
            for (int64_t r = 0; r < p.ranks; r++) {
                float b = p.b[o * p.ranks + r];
                load(p.a + r * p.width + i, a);
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum[k] += b * a[k];
            }
            load(p.w + o * p.width + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] += p.scale * sum[k];
            store(p.y + o * p.width + i, v);
        });
    });
}

/* da[r,k] = scale * sum_o b[o,r] dy[o,k]: block row y has r. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    lora_da(const struct th_k_lora_da p)
{
    each_sample(p.ranks, [&](int64_t r) {
#pragma unroll 1
        for (int64_t i = thread(); i < p.width; i += threads()) {
            float sum = 0;
#pragma unroll 1
            for (int64_t o = 0; o < p.rows; o++)
                sum += p.b[o * p.ranks + r] * p.dy[o * p.width + i];
            p.da[r * p.width + i] = p.scale * sum;
        }
    });
}

/* db[o,r] = scale * sum_k dy[o,k] a[r,k]: a warp has one; there are 31 bits of them. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    lora_db(const struct th_k_lora_db p)
{
    each_row(p.rows * p.ranks, [&](int64_t i) {
        int64_t o = (uint32_t)i / p.ranks, r = (uint32_t)i % p.ranks;
        float sum = dot(p.dy + o * p.width, p.a + r * p.width, p.width);
        if (lane() == 0)
            p.db[i] = p.scale * sum;
    });
}
