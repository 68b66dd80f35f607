/* SPDX-License-Identifier: Apache-2.0
 * Owns what makes tokens and reads them. NHWC patches lie as tokens do: most of it is copies
 * at another place. Formulas: kernels/token.c. */
#include "device.cuh"

template <class T> static __device__ inline void tokens(const th_k_tokens &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * (p.sample - p.before);
        T *y = static_cast<T *>(p.y) + n * p.sample;
        each<T>(p.sample, p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V], pos[V] = {};
            if (i >= p.before)
                load(x + i - p.before, v);
            else if (i < p.first)
                load(p.cls_ + i, v);
            else
                load(p.more_ + i - p.first, v);
            if (i >= p.bare)
                load(p.pos_ + i - p.bare, pos);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] += pos[k];
            store(y + i, v);
        });
    });
}
TH_KERNELS(tokens, tokens)

template <class T> static __device__ inline void tokens_dx(const th_k_tokens_dx &p)
{
    each_sample(p.samples, [&](int64_t n) {
        uint32_t patches = p.sample - p.before;
        const T *dy = static_cast<const T *>(p.dy) + n * p.sample + p.before;
        T *dx = static_cast<T *>(p.dx) + n * patches;
        each<T>(patches, p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(dy + i, v);
            store(dx + i, v);
        });
    });
}
TH_KERNELS(tokens_dx, tokens_dx)

template <class T> static __device__ inline void token_mean(const th_k_token_mean &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.sample + p.first;
        T *y = static_cast<T *>(p.y) + n * p.width;
        each<T>(p.width, p.width, [&](auto w, int64_t c) {
            constexpr int V = decltype(w)::n;
            float sum[V] = {};
#pragma unroll 1
            for (uint32_t t = 0; t < p.n; t++) {
                float v[V];
                load(x + (int64_t)t * p.width + c, v);
#pragma unroll
                for (int k = 0; k < V; k++)
                    sum[k] += v[k];
            }
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] /= (float)p.n;
            store(y + c, sum);
        });
    });
}
TH_KERNELS(token_mean, token_mean)

template <class T>
static __device__ inline void token_mean_dx(const th_k_token_mean_dx &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *dy = static_cast<const T *>(p.dy) + n * p.width;
        T *dx = static_cast<T *>(p.dx) + n * p.sample;
        each<T>(p.sample, p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V] = {};
            if (i >= p.first && i < p.first + p.n * p.width)
                load(dy + (uint32_t)i % p.width, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] /= (float)p.n;
            store(dx + i, v);
        });
    });
}
TH_KERNELS(token_mean_dx, token_mean_dx)
