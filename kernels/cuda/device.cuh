/* SPDX-License-Identifier: Apache-2.0
 * What our kernels share: element types, 128-bit access, bit masks, loops over the grid.
 *
 * Rules of the .cu files: device code only; one struct of params.h a kernel; sums in an
 * order that depends on shapes alone, so no atomics; offsets of 64 bits; blocks of a
 * multiple of 32 threads, in one dimension. A warp goes through a loop as a whole wherever
 * it shuffles in it. */
#ifndef TH_CUDA_DEVICE_CUH
#define TH_CUDA_DEVICE_CUH

#include "params.h"

#include <cuda_bf16.h>

#define TH_THREADS 256 /* TH_OWN_THREADS: the most a block has */
#define TH_ALL 0xffffffffU

/* A kernel over one element type, `name` being a template over it, and all such. ROOMY ones
 * may have any registers that one block can: ptxas aims at more blocks, and spills for that. */
#define TH_KERNEL_BOUND(name, params, type, suffix, bounds)                            \
    extern "C" __global__ void __launch_bounds__ bounds name##_##suffix(               \
        const struct th_k_##params p)                                                  \
    {                                                                                  \
        name<type>(p);                                                                 \
    }
#define TH_KERNEL(name, params, type, suffix)                                          \
    TH_KERNEL_BOUND(name, params, type, suffix, (TH_THREADS))
#define TH_KERNELS(name, params)                                                       \
    TH_KERNEL(name, params, float, f32)                                                \
    TH_KERNEL(name, params, __nv_bfloat16, bf16)
#define TH_ROOMY_KERNELS(name, params)                                                 \
    TH_KERNEL_BOUND(name, params, float, f32, (TH_THREADS, 1))                         \
    TH_KERNEL_BOUND(name, params, __nv_bfloat16, bf16, (TH_THREADS, 1))

/* ---- elements ---- */

static __device__ inline float to_float(float v)
{
    return v;
}

static __device__ inline float to_float(__nv_bfloat16 v)
{
    return __bfloat162float(v);
}

static __device__ inline void from_float(float v, float *to)
{
    *to = v;
}

static __device__ inline void from_float(float v, __nv_bfloat16 *to)
{
    *to = __float2bfloat16_rn(v);
}

/* How many values of T go in 128 bits. */
template <class T> struct in_vector {
    static constexpr int n = 16 / sizeof(T);
};

/* V values from p, which is a multiple of V values from an aligned start. */
template <int V, class T> static __device__ inline void load(const T *p, float (&v)[V])
{
    constexpr int n = in_vector<T>::n;
    union {
        uint4 bits;
        T values[n];
    } u;
#pragma unroll
    for (int k = 0; k < V; k++) {
        if constexpr (V % n == 0) {
            if (k % n == 0)
                u.bits = *reinterpret_cast<const uint4 *>(p + k);
            v[k] = to_float(u.values[k % n]);
        } else
            v[k] = to_float(p[k]);
    }
}

template <int V, class T> static __device__ inline void store(T *p, const float (&v)[V])
{
    constexpr int n = in_vector<T>::n;
    union {
        uint4 bits;
        T values[n];
    } u;
#pragma unroll
    for (int k = 0; k < V; k++) {
        if constexpr (V % n == 0) {
            from_float(v[k], &u.values[k % n]);
            if (k % n == n - 1)
                *reinterpret_cast<uint4 *>(p + k - k % n) = u.bits;
        } else
            from_float(v[k], &p[k]);
    }
}

/* ---- loops ---- */

static __device__ inline int lane(void)
{
    return threadIdx.x & 31;
}

/* This thread's place among all, and how many there are. */
static __device__ inline int64_t thread(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ inline int64_t threads(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

/* Runs f(width<V>{}, i) for values i .. i+V-1, over all values; V is one vector where these
 * have no rest (channels: of each pixel), else 1. */
template <int V> struct width {
    static constexpr int n = V;
};

template <class T, class F>
static __device__ inline void each_by(
    int64_t thread, int64_t threads, int64_t count, int64_t channels, F f)
{
    constexpr int V = in_vector<T>::n;
    if (channels % V == 0)
#pragma unroll 1
        for (int64_t i = thread * V; i < count; i += threads * V)
            f(width<V>{}, i);
    else
#pragma unroll 1
        for (int64_t i = thread; i < count; i += threads)
            f(width<1>{}, i);
}

template <class T, class F>
static __device__ inline void each(int64_t count, int64_t channels, F f)
{
    each_by<T>(thread(), threads(), count, channels, f);
}

/* Runs f(tensor, block, blocks) for the blocks of all tensors; the whole block calls. */
template <class F> static __device__ inline void each_part(const th_k_parts &parts, F f)
{
#pragma unroll 1
    for (uint32_t b = blockIdx.x; b < parts.first[parts.n]; b += gridDim.x) {
        int t = 0;
#pragma unroll 1
        while (b >= parts.first[t + 1])
            t++;
        f(t, b - parts.first[t], parts.first[t + 1] - parts.first[t]);
    }
}

/* Runs f(width<V>{}, i) for the values that a block of a tensor's blocks has. */
template <class F>
static __device__ inline void each_of_part(
    uint32_t block, uint32_t blocks, int64_t count, F f)
{
    each_by<float>((int64_t)block * blockDim.x + threadIdx.x,
        (int64_t)blocks * blockDim.x, count, count, f);
}

/* The channel of value i, without a division a step. */
struct channel {
    int64_t at, step, n;

    template <int V>
    __device__ channel(width<V>, int64_t channels)
        : at((uint32_t)(thread() * V) % (uint32_t)channels),
          step((uint32_t)(threads() * V) % (uint32_t)channels), n(channels)
    {
    }

    __device__ void next(void)
    {
        at += step;
        at -= at >= n ? n : 0;
    }
};

/* each_warp() with the channel of value i: f(width<V>{}, i, channel). */
template <class T, class F>
static __device__ inline void each_channel(int64_t count, int64_t channels, F f)
{
    constexpr int V = in_vector<T>::n;
    if (channels % V == 0) {
        channel c(width<V>{}, channels);
#pragma unroll 1
        for (int64_t i = thread() * V; i - lane() * V < count; i += threads() * V) {
            f(width<V>{}, i, c.at);
            c.next();
        }
    } else {
        channel c(width<1>{}, channels);
#pragma unroll 1
        for (int64_t i = thread(); i - lane() < count; i += threads()) {
            f(width<1>{}, i, c.at);
            c.next();
        }
    }
}

/* Runs f(row) for each row, a warp each. */
template <class F> static __device__ inline void each_row(int64_t rows, F f)
{
#pragma unroll 1
    for (int64_t row = thread() / 32; row < rows; row += threads() / 32)
        f(row);
}

/* Runs f(width<V>{}, i) for this lane's values of a row. */
template <class T, class F> static __device__ inline void along(int64_t n, F f)
{
    constexpr int V = in_vector<T>::n;
    if (n % V == 0)
#pragma unroll 1
        for (int64_t i = lane() * V; i < n; i += 32 * V)
            f(width<V>{}, i);
    else
#pragma unroll 1
        for (int64_t i = lane(); i < n; i += 32)
            f(width<1>{}, i);
}

/* Runs f(n) for each sample: block row y has it, blocks x share its values. */
template <class F> static __device__ inline void each_sample(int64_t samples, F f)
{
#pragma unroll 1
    for (int64_t n = blockIdx.y; n < samples; n += gridDim.y)
        f(n);
}

/* The same, a whole warp at a time: f is also called for i >= count. */
template <class T, class F>
static __device__ inline void each_warp(int64_t count, int64_t channels, F f)
{
    constexpr int V = in_vector<T>::n;
    if (channels % V == 0)
#pragma unroll 1
        for (int64_t i = thread() * V; i - lane() * V < count; i += threads() * V)
            f(width<V>{}, i);
    else
#pragma unroll 1
        for (int64_t i = thread(); i - lane() < count; i += threads())
            f(width<1>{}, i);
}

/* ---- masks: bit i % 8 of byte i / 8 ---- */

/* Bits of values i .. i+V-1. */
template <int V> static __device__ inline unsigned get_bits(const void *mask, int64_t i)
{
    return static_cast<const uint8_t *>(mask)[i / 8] >> (i % 8) & ((1U << V) - 1);
}

/* The bits of values i .. i+V-1 of `count`, i ascending by lane; the whole warp calls. The
 * bits behind the last are 0, and no byte behind theirs is written. */
template <int V>
static __device__ inline void put_bits(
    uint32_t *mask, int64_t i, int64_t count, unsigned bits)
{
    constexpr int lanes = 32 / V; /* that make a word */
    if constexpr (V == 1) {
        bits = __ballot_sync(TH_ALL, bits);
    } else {
        bits <<= V * (lane() % lanes);
#pragma unroll
        for (int k = 1; k < lanes; k *= 2)
            bits |= __shfl_xor_sync(TH_ALL, bits, k);
    }
    if (lane() % lanes != 0 || i >= count)
        return;
    if (i + 32 <= count) {
        mask[i / 32] = bits;
        return;
    }
    for (int k = 0; i + k < count; k += 8)
        reinterpret_cast<uint8_t *>(mask)[(i + k) / 8] = (uint8_t)(bits >> k);
}

#endif
