/* SPDX-License-Identifier: Apache-2.0
 * Owns gmp and the gradients of gap and gmp. Formulas: kernels/pool.c. */
#include "device.cuh"

template <class T> static __device__ inline void gap_dx(const th_k_gap_dx &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *dy = static_cast<const T *>(p.dy) + n * p.channels;
        T *dx = static_cast<T *>(p.dx) + n * p.sample;
        each<T>(p.sample, p.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(dy + (uint32_t)i % p.channels, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] /= p.plane;
            store(dx + i, v);
        });
    });
}
TH_KERNELS(gap_dx, gap_dx)

/* A thread has its channels of a sample; the first of equals, and the last NaN, as the
 * reference has it. */
template <class T> static __device__ inline void gmp(const th_k_gmp &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.sample;
        T *y = static_cast<T *>(p.y) + n * p.channels;
        each<T>(p.channels, p.channels, [&](auto w, int64_t c) {
            constexpr int V = decltype(w)::n;
            float best[V];
            int32_t at[V] = {};
            load(x + c, best);
#pragma unroll 1
            for (uint32_t i = 1; i < p.plane; i++) {
                float v[V];
                load(x + (int64_t)i * p.channels + c, v);
#pragma unroll
                for (int k = 0; k < V; k++) {
                    bool more = v[k] > best[k] || isnan(v[k]);
                    best[k] = more ? v[k] : best[k];
                    at[k] = more ? (int32_t)i : at[k];
                }
            }
            store(y + c, best);
#pragma unroll
            for (int k = 0; k < V && p.index_; k++)
                p.index_[n * p.channels + c + k] = at[k];
        });
    });
}
TH_KERNELS(gmp, gmp)

template <class T> static __device__ inline void gmp_dx(const th_k_gmp_dx &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *dy = static_cast<const T *>(p.dy) + n * p.channels;
        const int32_t *index = p.index + n * p.channels;
        T *dx = static_cast<T *>(p.dx) + n * p.sample;
        each<T>(p.sample, p.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / p.channels;
            float v[V];
            load(dy + c, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] = (uint32_t)index[c + k] == at ? v[k] : 0;
            store(dx + i, v);
        });
    });
}
TH_KERNELS(gmp_dx, gmp_dx)
