/* SPDX-License-Identifier: Apache-2.0
 * The draws of vision/rng.c on a device. */
#ifndef TH_CUDA_PHILOX_CUH
#define TH_CUDA_PHILOX_CUH

#include "device.cuh"

/* th_rng_mix */
static __device__ inline uint64_t mix(uint64_t key, uint64_t coordinate)
{
    uint64_t z = key ^ (coordinate + 0x9e3779b97f4a7c15U + (key << 6) + (key >> 2));
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* The key of sample n, of [samples][2] words. */
static __device__ inline uint64_t key_of(const int32_t *keys, int64_t n)
{
    const uint32_t *key = reinterpret_cast<const uint32_t *>(keys) + n * 2;
    return key[0] | (uint64_t)key[1] << 32;
}

/* th_rng_block of a counter of 32 bits: Philox4x32-10. */
struct philox {
    uint32_t word[4];
};

static __device__ inline philox draw_block(uint64_t key, uint32_t counter)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = counter, c1 = 0, c2 = 0, c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53U * c0, p1 = (uint64_t)0xCD9E8D57U * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    return {{c0, c1, c2, c3}};
}

#endif
