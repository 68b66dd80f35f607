/* SPDX-License-Identifier: Apache-2.0
 * Sums over a warp, a block, and over the rows of [rows][columns].
 *
 * Every sum has one order, which depends on shapes alone. A sum over rows has two stages:
 * blocks (x: columns, y: chunks of rows) leave theirs in chunk y of the outputs, and
 * sum_chunks adds these up; with one chunk the first stage is all. */
#ifndef TH_CUDA_REDUCE_CUH
#define TH_CUDA_REDUCE_CUH

#include "device.cuh"

/* The same in each lane. */
static __device__ inline float warp_sum(float v)
{
#pragma unroll
    for (int k = 16; k > 0; k /= 2)
        v += __shfl_xor_sync(TH_ALL, v, k);
    return v;
}

static __device__ inline float warp_max(float v)
{
#pragma unroll
    for (int k = 16; k > 0; k /= 2)
        v = fmaxf(v, __shfl_xor_sync(TH_ALL, v, k));
    return v;
}

/* Of two rows; the same in each lane. */
template <class T> static __device__ inline float dot(const T *a, const T *b, int64_t n)
{
    float sum = 0;
    along<T>(n, [&](auto w, int64_t i) {
        constexpr int V = decltype(w)::n;
        float u[V], v[V];
        load(a + i, u);
        load(b + i, v);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum += u[k] * v[k];
    });
    return warp_sum(sum);
}

/* The same in each thread of a block of TH_THREADS. */
static __device__ inline float block_sum(float v)
{
    __shared__ float warps[TH_THREADS / 32];
    v = warp_sum(v);
    __syncthreads(); /* nobody still reads an earlier sum */
    if (lane() == 0)
        warps[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0;
#pragma unroll
    for (int k = 0; k < TH_THREADS / 32; k++)
        sum += warps[k];
    return sum;
}

/* Rows of this block's chunk. */
struct chunk {
    int64_t begin, end;
};

static __device__ inline chunk chunk_of(const th_k_columns &c, int64_t y)
{
    int64_t begin = y * c.each, end = begin + c.each;
    return {begin, end < c.rows ? end : c.rows};
}

/* Runs f(column) for blocks of columns, each thread with its first of V. A block has `lanes`
 * threads side by side, and TH_THREADS / lanes rows of them, which share the columns. */
template <int V, class F>
static __device__ inline void each_columns(const th_k_columns &c, F f)
{
    int64_t block = (int64_t)c.lanes * V;
#pragma unroll 1
    for (int64_t at = blockIdx.x * block; at < c.columns; at += gridDim.x * block) {
        f(at, at + threadIdx.x % c.lanes * V);
        __syncthreads(); /* what they shared was read */
    }
}

/* sum[n][column] = sum over rows of what add(row, column, sums) adds to sums[n], after
 * begin(column). */
template <int N, int V, class B, class F>
static __device__ inline void sum_rows(const th_k_columns &c, B begin, F add)
{
    __shared__ float part[N * V][TH_THREADS];
    int slot = threadIdx.x / c.lanes, slots = TH_THREADS / c.lanes;
    chunk rows = chunk_of(c, blockIdx.y);
    each_columns<V>(c, [&](int64_t first, int64_t column) {
        float sums[N][V] = {};
        if (column < c.columns) {
            begin(column);
#pragma unroll 1
            for (int64_t row = rows.begin + slot; row < rows.end; row += slots)
                add(row, column, sums);
        }
#pragma unroll
        for (int k = 0; k < N * V; k++)
            part[k][threadIdx.x] = sums[k / V][k % V];
        __syncthreads();
#pragma unroll 1
        for (int i = threadIdx.x; i < N * V * c.lanes; i += TH_THREADS) {
            int x = i / V % c.lanes, n = i / (V * c.lanes), k = n * V + i % V;
            int64_t to = first + x * V + i % V;
            float sum = 0;
#pragma unroll 1
            for (int s = 0; s < slots; s++)
                sum += part[k][s * c.lanes + x];
            float *sums_of =
                n == 0 ? c.sum[0] : c.sum[1]; /* an index would spill them */
            if (to < c.columns)
                sums_of[blockIdx.y * c.columns + to] = sum;
            if constexpr (N * V * 32 <= TH_THREADS) /* lanes: at most 32 */
                break;
        }
    });
}

#endif
