/* SPDX-License-Identifier: Apache-2.0
 * Owns relu, gelu, dropout, drop_path and their gradients. Formulas: kernels/act.c and
 * kernels/ref/act.c. */
#include "philox.cuh"

#include "op.h"

template <class T> static __device__ inline void relu(const th_k_relu &p)
{
    const T *x = static_cast<const T *>(p.x);
    T *y = static_cast<T *>(p.y);
    each_warp<T>(p.count, p.count, [&](auto w, int64_t i) {
        constexpr int V = decltype(w)::n;
        float v[V];
        unsigned bits = 0;
        if (i < p.count) {
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++) {
                v[k] = v[k] <= 0 ? 0 : v[k]; /* NaN stays NaN */
                bits |= (unsigned)(v[k] > 0) << k;
            }
            store(y + i, v);
        }
        if (p.mask_)
            put_bits<V>(p.mask_, i, p.count, bits);
    });
}
TH_KERNELS(relu, relu)

template <class T> static __device__ inline void relu_dx(const th_k_relu_dx &p)
{
    const T *dy = static_cast<const T *>(p.dy), *add = static_cast<const T *>(p.add_);
    T *dx = static_cast<T *>(p.dx);
    each<T>(p.count, p.count, [&](auto w, int64_t i) {
        constexpr int V = decltype(w)::n;
        float v[V], more[V] = {};
        unsigned bits = get_bits<V>(p.mask, i);
        load(dy + i, v);
        if (add)
            load(add + i, more);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = bits >> k & 1 ? v[k] + more[k] : 0;
        store(dx + i, v);
    });
}
TH_KERNELS(relu_dx, relu_dx)

/* ---- gelu ---- */

#define SQRT_HALF 0.70710678118654752440F      /* 1/sqrt(2) */
#define NORMAL_DENSITY 0.39894228040143267794F /* 1/sqrt(2 pi) */
#define SQRT_2_PI 0.79788456080286535588F      /* sqrt(2/pi) */
#define CUBIC 0.044715F
#define QUICK 1.702F

/* The part of v that passes: f(v) = v * below. */
template <int KIND> static __device__ inline float below(float v)
{
    if constexpr (KIND == TH_GELU_QUICK)
        return 1 / (1 + expf(-QUICK * v));
    else if constexpr (KIND == TH_GELU_TANH)
        return 0.5F * (1 + tanhf(SQRT_2_PI * (v + CUBIC * v * v * v)));
    else
        return 0.5F * erfcf(-v * SQRT_HALF);
}

template <int KIND> static __device__ inline float slope(float v)
{
    float b = below<KIND>(v);
    if constexpr (KIND == TH_GELU_QUICK)
        return b * (1 + QUICK * v * (1 - b));
    else if constexpr (KIND == TH_GELU_TANH) /* 1 - t^2 = 4 b (1 - b) */
        return b + 2 * v * b * (1 - b) * SQRT_2_PI * (1 + 3 * CUBIC * v * v);
    else
        return b + v * NORMAL_DENSITY * expf(-0.5F * v * v);
}

template <class T, int KIND> static __device__ inline void gelu_of(const th_k_gelu &p)
{
    const T *x = static_cast<const T *>(p.x);
    T *y = static_cast<T *>(p.y);
    each<T>(p.count, p.count, [&](auto w, int64_t i) {
        constexpr int V = decltype(w)::n;
        float v[V];
        load(x + i, v);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] *= below<KIND>(v[k]);
        store(y + i, v);
    });
}

template <class T> static __device__ inline void gelu(const th_k_gelu &p)
{
    if (p.kind == TH_GELU_QUICK)
        gelu_of<T, TH_GELU_QUICK>(p);
    else if (p.kind == TH_GELU_TANH)
        gelu_of<T, TH_GELU_TANH>(p);
    else
        gelu_of<T, TH_GELU_ERF>(p);
}
TH_KERNELS(gelu, gelu)

template <class T, int KIND>
static __device__ inline void gelu_dx_of(const th_k_gelu_dx &p)
{
    const T *dy = static_cast<const T *>(p.dy), *x = static_cast<const T *>(p.x);
    T *dx = static_cast<T *>(p.dx);
    each<T>(p.count, p.count, [&](auto w, int64_t i) {
        constexpr int V = decltype(w)::n;
        float v[V], d[V];
        load(x + i, v);
        load(dy + i, d);
#pragma unroll
        for (int k = 0; k < V; k++)
            d[k] *= slope<KIND>(v[k]);
        store(dx + i, d);
    });
}

template <class T> static __device__ inline void gelu_dx(const th_k_gelu_dx &p)
{
    if (p.kind == TH_GELU_QUICK)
        gelu_dx_of<T, TH_GELU_QUICK>(p);
    else if (p.kind == TH_GELU_TANH)
        gelu_dx_of<T, TH_GELU_TANH>(p);
    else
        gelu_dx_of<T, TH_GELU_ERF>(p);
}
TH_KERNELS(gelu_dx, gelu_dx)

/* ---- dropout: the draws of vision/rng.c, from each sample's key ---- */

static __device__ inline float uniform(uint64_t key, uint32_t counter)
{
    philox p = draw_block(key, counter / 4);
    uint32_t low = counter & 1 ? p.word[1] : p.word[0];
    uint32_t high = counter & 1 ? p.word[3] : p.word[2];
    return (float)((counter & 2 ? high : low) >> 8) * 0x1p-24F;
}

template <class T, bool WHOLE> static __device__ inline void drop(const th_k_dropout &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.sample;
        T *y = static_cast<T *>(p.y) + n * p.sample;
        uint64_t key = mix(key_of(p.keys, n), p.layer);
        bool kept = WHOLE && uniform(key, 0) >= p.p;
        each<T>(p.sample, p.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++) {
                uint32_t at = (uint32_t)i + k;
                uint32_t draw = at % p.channels * p.plane + at / p.channels;
                bool keep = WHOLE ? kept : uniform(key, draw) >= p.p;
                v[k] = keep ? v[k] * p.scale : 0;
            }
            store(y + i, v);
        });
    });
}

template <class T> static __device__ inline void dropout(const th_k_dropout &p)
{
    drop<T, false>(p);
}
TH_KERNELS(dropout, dropout)

template <class T> static __device__ inline void drop_path(const th_k_dropout &p)
{
    drop<T, true>(p);
}
TH_KERNELS(drop_path, dropout)
