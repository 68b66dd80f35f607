/* SPDX-License-Identifier: Apache-2.0
 * A kernel that is right, and mistakes as people make them, one a kernel: test_interpreter.c
 * says what has to be found. Each is launched with blocks of 64 threads. */
#include <cuda_runtime.h>

#define ALL 0xffffffffU

static __device__ inline float warp_sum(float v)
{
    for (int k = 16; k > 0; k /= 2)
        v += __shfl_xor_sync(ALL, v, k);
    return v;
}

/* y = x - mean, over the 64 values of a block; *sum is their sum of squares. */
template <bool BARRIER, bool TWO_BUFFERS>
static __device__ inline void centre(const float *x, float *y, float *sum)
{
    __shared__ float part[2], other[2];
    float *second = TWO_BUFFERS ? other : part;
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    float total = warp_sum(x[i]);
    if (t % 32 == 0)
        part[t / 32] = total;
    if (BARRIER)
        __syncthreads();
    float v = x[i] - (part[0] + part[1]) / 64;
    float squares = warp_sum(v * v);
    if (t % 32 == 0)
        second[t / 32] = squares;
    __syncthreads();
    y[i] = v;
    if (t == 0)
        sum[blockIdx.x] = second[0] + second[1];
}

extern "C" __global__ void right(const float *x, float *y, float *sum)
{
    centre<true, true>(x, y, sum);
}

extern "C" __global__ void missing_barrier(const float *x, float *y, float *sum)
{
    centre<false, true>(x, y, sum);
}

extern "C" __global__ void one_buffer_for_two_sums(const float *x, float *y, float *sum)
{
    centre<true, false>(x, y, sum);
}

extern "C" __global__ void behind_the_end(const float *x, float *y, float *sum)
{
    int i = blockIdx.x * 64 + threadIdx.x;
    y[i] = x[i + 1];
}

extern "C" __global__ void behind_shared_memory(const float *x, float *y, float *sum)
{
    __shared__ float part[64];
    int t = threadIdx.x;
    part[t + 1] = x[t];
    __syncthreads();
    y[t] = part[t];
}

extern "C" __global__ void misaligned_vector(const float *x, float *y, float *sum)
{
    int t = threadIdx.x;
    if (t < 8)
        *reinterpret_cast<float4 *>(y + 4 * t + 1) = make_float4(0, 0, 0, x[t]);
}

extern "C" __global__ void half_of_shared_memory(const float *x, float *y, float *sum)
{
    __shared__ float part[64];
    int t = threadIdx.x;
    if (t < 32)
        part[t] = x[t];
    __syncthreads();
    y[t] = part[63 - t];
}

extern "C" __global__ void register_never_written(const float *x, float *y, float *sum)
{
    float v;
    asm("{ .reg .f32 nothing; add.f32 %0, nothing, %1; }"
        : "=f"(v)
        : "f"(x[threadIdx.x]));
    y[threadIdx.x] = v;
}

extern "C" __global__ void memory_never_written(const float *x, float *y, float *sum)
{
    y[threadIdx.x] += x[threadIdx.x];
}

extern "C" __global__ void blocks_write_the_same(const float *x, float *y, float *sum)
{
    y[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
}

extern "C" __global__ void block_reads_another(const float *x, float *y, float *sum)
{
    int i = blockIdx.x * 64 + threadIdx.x;
    y[i] = x[i];
    __syncthreads();
    if (threadIdx.x == 0)
        sum[blockIdx.x] = y[(i + 64) % 128];
}

extern "C" __global__ void threads_of_a_block(const float *x, float *y, float *sum)
{
    int t = threadIdx.x, i = blockIdx.x * 64;
    y[i + t] = x[t];
    if (t == 0)
        sum[blockIdx.x] = y[i + 63];
}

extern "C" __global__ void barrier_in_a_branch(const float *x, float *y, float *sum)
{
    if (threadIdx.x % 32 < 16)
        __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void barrier_after_a_return(const float *x, float *y, float *sum)
{
    if (threadIdx.x >= 32)
        return;
    y[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
}

extern "C" __global__ void two_barriers(const float *x, float *y, float *sum)
{
    if (threadIdx.x < 32) {
        y[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
    } else {
        y[threadIdx.x] = 2 * x[threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 32)
            sum[blockIdx.x] = 1;
    }
}

extern "C" __global__ void shuffle_in_a_branch(const float *x, float *y, float *sum)
{
    float v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        v += __shfl_xor_sync(ALL, v, 16);
    y[threadIdx.x] = v;
}

extern "C" __global__ void shuffle_from_outside(const float *x, float *y, float *sum)
{
    float v = x[threadIdx.x];
    if (threadIdx.x % 32 < 16)
        v = __shfl_sync(0xffffU, v, 20);
    y[threadIdx.x] = v;
}

extern "C" __global__ void __launch_bounds__(64)
    made_for_64_threads(const float *x, float *y, float *sum)
{
    y[threadIdx.x] = x[threadIdx.x];
}

/* Lanes of a warp change values through shared memory. */
template <bool SYNC>
static __device__ inline void change(const float *x, float *y, float *sum)
{
    __shared__ float part[64];
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    part[t] = x[i];
    if (SYNC)
        __syncwarp();
    y[i] = part[t ^ 1];
    if (t == 0)
        sum[blockIdx.x] = 0;
}

extern "C" __global__ void synced_warp(const float *x, float *y, float *sum)
{
    change<true>(x, y, sum);
}

extern "C" __global__ void warp_not_synced(const float *x, float *y, float *sum)
{
    change<false>(x, y, sum);
}

/* Not a mistake: what approximate instructions may give. */
extern "C" __global__ void exponentials(const float *x, float *y, float *sum)
{
    int i = blockIdx.x * 64 + threadIdx.x;
    y[i] = __expf(x[i]);
}

/* Not a mistake: a warp's lanes in several branches, which meet again. */
extern "C" __global__ void branches(const float *x, float *y, float *sum)
{
    int i = blockIdx.x * 64 + threadIdx.x;
    float v = x[i];
    for (int k = 0; k < (int)(threadIdx.x % 7); k++) {
        if (v < 0)
            v = -v * 0.5F;
        else if (k % 2)
            v = v + 1;
        else
            v = 3 - v;
    }
    y[i] = warp_sum(v);
}
