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

/* A kernel over one element type, `name` being a template over it, and all such. */
#define TH_KERNEL(name, params, type, suffix)                                          \
    extern "C" __global__ void __launch_bounds__(TH_THREADS)                           \
        name##_##suffix(const struct th_k_##params p)                                  \
    {                                                                                  \
        name<type>(p);                                                                 \
    }
#define TH_KERNELS(name, params)                                                       \
    TH_KERNEL(name, params, float, f32)                                                \
    TH_KERNEL(name, params, __nv_bfloat16, bf16)

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
    union {
        uint4 bits;
        T values[16 / sizeof(T)];
    } u;
    if constexpr (V * sizeof(T) == 16) {
        u.bits = *reinterpret_cast<const uint4 *>(p);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = to_float(u.values[k]);
    } else {
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = to_float(p[k]);
    }
}

template <int V, class T> static __device__ inline void store(T *p, const float (&v)[V])
{
    union {
        uint4 bits;
        T values[16 / sizeof(T)];
    } u;
    if constexpr (V * sizeof(T) == 16) {
#pragma unroll
        for (int k = 0; k < V; k++)
            from_float(v[k], &u.values[k]);
        *reinterpret_cast<uint4 *>(p) = u.bits;
    } else {
#pragma unroll
        for (int k = 0; k < V; k++)
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
