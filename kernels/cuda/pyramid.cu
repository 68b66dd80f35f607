/* SPDX-License-Identifier: Apache-2.0
 * Owns what is done with several feature maps at once. Formulas: kernels/pyramid.c. */
#include "device.cuh"

template <class T> static __device__ inline void upsample(const th_k_upsample &p)
{
    uint32_t sample = p.h * p.w * p.channels;
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.x_h * p.x_w * p.channels;
        const T *add = static_cast<const T *>(p.add_);
        T *y = static_cast<T *>(p.y) + n * sample;
        each<T>(sample, p.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / p.channels;
            uint32_t u = at / p.w * p.x_h / p.h, v = at % p.w * p.x_w / p.w;
            float value[V], more[V] = {};
            load(x + (u * p.x_w + v) * p.channels + c, value);
            if (add)
                load(add + n * sample + i, more);
#pragma unroll
            for (int k = 0; k < V; k++)
                value[k] += more[k];
            store(y + i, value);
        });
    });
}
TH_KERNELS(upsample, upsample)

/* The first of `to` places that shows i of `from`. */
static __device__ inline uint32_t first_of(uint32_t i, uint32_t from, uint32_t to)
{
    return (i * to + from - 1) / from;
}

/* x is dy, y is dx; the extents are those of upsample. */
template <class T> static __device__ inline void upsample_dx(const th_k_upsample &p)
{
    uint32_t sample = p.x_h * p.x_w * p.channels;
    each_sample(p.samples, [&](int64_t n) {
        const T *dy = static_cast<const T *>(p.x) + n * p.h * p.w * p.channels;
        T *dx = static_cast<T *>(p.y) + n * sample;
        each<T>(sample, p.channels, [&](auto width, int64_t i) {
            constexpr int V = decltype(width)::n;
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / p.channels;
            uint32_t u = at / p.x_w, v = at % p.x_w;
            uint32_t left = first_of(v, p.x_w, p.w),
                     right = first_of(v + 1, p.x_w, p.w);
            uint32_t end = first_of(u + 1, p.x_h, p.h);
            float sum[V] = {};
#pragma unroll 1
            for (uint32_t row = first_of(u, p.x_h, p.h); row < end; row++)
#pragma unroll 1
                for (uint32_t q = left; q < right; q++) {
                    float d[V];
                    load(dy + (row * p.w + q) * p.channels + c, d);
#pragma unroll
                    for (int k = 0; k < V; k++)
                        sum[k] += d[k];
                }
            store(dx + i, sum);
        });
    });
}
TH_KERNELS(upsample_dx, upsample)

/* NHWC maps lie as their rows do. */
template <class T> static __device__ inline void map_rows(const th_k_map_rows &p)
{
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + n * p.x_sample + p.x_first;
        T *y = static_cast<T *>(p.y) + n * p.y_sample + p.y_first;
        each<T>(p.count, p.step, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
            store(y + i, v);
        });
    });
}
TH_KERNELS(map_rows, map_rows)

/* Where the values of a row's part begin in a map: of row p of the grid, part u * factor + v. */
static __device__ inline uint32_t place_of(
    const th_k_rows_map &p, uint32_t row, uint32_t part)
{
    uint32_t f = p.factor, u = row / p.grid_w * f + part / f,
             v = row % p.grid_w * f + part % f;
    return (u * p.grid_w * f + v) * p.channels;
}

/* By the values of the rows, which all go somewhere. */
template <class T> static __device__ inline void rows_map(const th_k_rows_map &p)
{
    uint32_t width = p.factor * p.factor * p.channels;
    uint32_t count = (p.rows - p.first) * width;
    each_sample(p.samples, [&](int64_t n) {
        const T *x = static_cast<const T *>(p.x) + (n * p.rows + p.first) * width;
        T *y = static_cast<T *>(p.y) + n * count;
        each<T>(count, p.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / width;
            uint32_t part = (uint32_t)i % width / p.channels;
            float v[V], b[V] = {};
            load(x + i, v);
            if (p.b_)
                load(p.b_ + c, b);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] += b[k];
            store(y + place_of(p, at, part) + c, v);
        });
    });
}
TH_KERNELS(rows_map, rows_map)

template <class T> static __device__ inline void rows_map_dx(const th_k_rows_map &p)
{
    uint32_t width = p.factor * p.factor * p.channels;
    uint32_t before = p.first * width, count = p.rows * width;
    each_sample(p.samples, [&](int64_t n) {
        const T *dy = static_cast<const T *>(p.x) + n * (count - before);
        T *dx = static_cast<T *>(p.y) + n * count;
        each<T>(count, p.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            uint32_t c = (uint32_t)i % p.channels, at = (uint32_t)i / width;
            uint32_t part = (uint32_t)i % width / p.channels;
            float v[V] = {};
            if (at >= p.first)
                load(dy + place_of(p, at - p.first, part) + c, v);
            store(dx + i, v);
        });
    });
}
TH_KERNELS(rows_map_dx, rows_map)
