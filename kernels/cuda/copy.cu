/* SPDX-License-Identifier: Apache-2.0
 * Owns what moves values: shortcut_a, reorder, concat, and the packing of weights. Formulas:
 * kernels/elementwise.c. */
#include "device.cuh"

template <class T> static __device__ inline void shortcut_a(const th_k_shortcut_a &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.x_sample;
        T *y = static_cast<T *>(p.y) + n * p.sample;
#pragma unroll 1
        for (int64_t i = thread(); i < p.sample; i += threads()) {
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / p.channels;
            uint32_t u = at / p.w * p.stride, v = at % p.w * p.stride;
            bool shown = c >= p.front && c - p.front < p.x_channels;
            float value =
                shown ? to_float(x[(u * p.x_w + v) * p.x_channels + c - p.front]) : 0;
            from_float(value, &y[i]);
        }
    });
}
TH_KERNELS(shortcut_a, shortcut_a)

/* x is dy, y is dx. */
template <class T> static __device__ inline void shortcut_a_dx(const th_k_shortcut_a &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *dy = static_cast<const T *>(p.x) + n * p.x_sample;
        T *dx = static_cast<T *>(p.y) + n * p.sample;
#pragma unroll 1
        for (int64_t i = thread(); i < p.sample; i += threads()) {
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / p.channels;
            uint32_t u = at / p.w, v = at % p.w;
            bool seen = u % p.stride == 0 && v % p.stride == 0;
            uint32_t from = u / p.stride * p.x_w + v / p.stride;
            from_float(
                seen ? to_float(dy[from * p.x_channels + p.front + c]) : 0, &dx[i]);
        }
    });
}
TH_KERNELS(shortcut_a_dx, shortcut_a)

template <class T> static __device__ inline void reorder(const th_k_reorder &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.sample;
        T *y = static_cast<T *>(p.y) + n * p.sample;
#pragma unroll 1
        for (int64_t i = thread(); i < p.sample; i += threads()) {
            uint32_t at = (uint32_t)i / p.to;
            uint32_t c = at / p.plane * p.to + (uint32_t)i % p.to, pixel = at % p.plane;
            y[i] = x[(c / p.from * p.plane + pixel) * p.from + c % p.from];
        }
    });
}
TH_KERNELS(reorder, reorder)

template <class T> static __device__ inline void concat(const th_k_concat &p)
{
    uint32_t width = p.p + p.q;
    each_sample(p.rows, [&](int64_t r) {
        const T *a = static_cast<const T *>(p.a) + r * p.p;
        const T *b = static_cast<const T *>(p.b) + r * p.q;
        T *y = static_cast<T *>(p.y) + r * width;
#pragma unroll 1
        for (int64_t i = thread(); i < width; i += threads())
            y[i] = i < p.p ? a[i] : b[i - p.p];
    });
}
TH_KERNELS(concat, concat)

template <class T> static __device__ inline void concat_dx(const th_k_concat_dx &p)
{
    uint32_t width = p.p + p.q;
    each_sample(p.rows, [&](int64_t r) {
        const T *dy = static_cast<const T *>(p.dy) + r * width;
        T *da = static_cast<T *>(p.da_), *db = static_cast<T *>(p.db_);
#pragma unroll 1
        for (int64_t i = thread(); i < width; i += threads()) {
            if (i < p.p && da)
                da[r * p.p + i] = dy[i];
            if (i >= p.p && db)
                db[r * p.q + i - p.p] = dy[i];
        }
    });
}
TH_KERNELS(concat_dx, concat_dx)

template <class T> static __device__ inline void pack(const th_k_pack &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const float *w = p.w + n * p.sample;
        T *packed = static_cast<T *>(p.packed) + n * p.sample;
#pragma unroll 1
        for (int64_t i = thread(); i < p.sample; i += threads()) {
            uint32_t c = (uint32_t)i % p.inputs, at = (uint32_t)i / p.inputs;
            from_float(w[c * p.plane + at], &packed[i]);
        }
    });
}
TH_KERNELS(pack, pack)

template <class T> static __device__ inline void unpack(const th_k_pack &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *packed = static_cast<const T *>(p.packed) + n * p.sample;
        float *w = p.w + n * p.sample;
#pragma unroll 1
        for (int64_t i = thread(); i < p.sample; i += threads()) {
            uint32_t at = (uint32_t)i % p.plane, c = (uint32_t)i / p.plane;
            w[i] = to_float(packed[at * p.inputs + c]);
        }
    });
}
TH_KERNELS(unpack, pack)
