/* SPDX-License-Identifier: Apache-2.0
 * Owns what normalises rows: LayerNorm and unit length, with their gradients. A warp has a
 * row; what it reads again is in the first cache. Formulas: kernels/norm.c. */
#include "reduce.cuh"

template <class T> static __device__ inline void layernorm(const th_k_layernorm &p)
{
    each_row(p.rows, [&](int64_t row) {
        const T *x = static_cast<const T *>(p.x) + row * p.width;
        T *y = static_cast<T *>(p.y) + row * p.width;
        float n = (float)p.width, sum = 0, squares = 0;
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += v[k];
        });
        float mean = warp_sum(sum) / n;
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                squares += (v[k] - mean) * (v[k] - mean);
        });
        float inverse = 1 / sqrtf(warp_sum(squares) / n + p.eps);
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V], gamma[V], beta[V];
            load(x + i, v);
            load(p.gamma + i, gamma);
            load(p.beta + i, beta);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] = (v[k] - mean) * inverse * gamma[k] + beta[k];
            store(y + i, v);
        });
        if (lane() == 0) {
            p.mean[row] = mean;
            p.rstd[row] = inverse;
        }
    });
}
TH_KERNELS(layernorm, layernorm)

/* x and dy of a row as h = (x - mean) * rstd and u = dy * gamma */
template <int V, class T>
static __device__ inline void load_row(const th_k_layernorm_dx &p, const T *x,
    const T *dy, int64_t i, float mean, float inverse, float (&h)[V], float (&u)[V])
{
    float gamma[V];
    load(x + i, h);
    load(dy + i, u);
    load(p.gamma + i, gamma);
#pragma unroll
    for (int k = 0; k < V; k++) {
        h[k] = (h[k] - mean) * inverse;
        u[k] *= gamma[k];
    }
}

template <class T>
static __device__ inline void layernorm_dx(const th_k_layernorm_dx &p)
{
    each_row(p.rows, [&](int64_t row) {
        const T *x = static_cast<const T *>(p.x) + row * p.width;
        const T *dy = static_cast<const T *>(p.dy) + row * p.width;
        T *dx = static_cast<T *>(p.dx) + row * p.width;
        float mean = p.mean[row], inverse = p.rstd[row], n = (float)p.width;
        float sum = 0, product = 0;
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float h[V], u[V];
            load_row(p, x, dy, i, mean, inverse, h, u);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sum += u[k];
                product += u[k] * h[k];
            }
        });
        sum = warp_sum(sum) / n;
        product = warp_sum(product) / n;
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float h[V], u[V];
            load_row(p, x, dy, i, mean, inverse, h, u);
#pragma unroll
            for (int k = 0; k < V; k++)
                u[k] = inverse * (u[k] - sum - h[k] * product);
            store(dx + i, u);
        });
    });
}
TH_KERNELS(layernorm_dx, layernorm_dx)

template <class T, int V>
static __device__ inline void layernorm_sums(const th_k_layernorm_dw &p)
{
    const T *dy = static_cast<const T *>(p.dy), *x = static_cast<const T *>(p.x);
    sum_rows<2, V>(
        p.c, [](int64_t) {},
        [&](int64_t row, int64_t column, float(&sums)[2][V]) {
            float d[V], v[V], mean = p.mean[row], inverse = p.rstd[row];
            load(dy + row * p.c.columns + column, d);
            load(x + row * p.c.columns + column, v);
#pragma unroll
            for (int k = 0; k < V; k++) {
                sums[0][k] += d[k] * ((v[k] - mean) * inverse);
                sums[1][k] += d[k];
            }
        });
}

template <class T>
static __device__ inline void layernorm_dw(const th_k_layernorm_dw &p)
{
    constexpr int V = in_vector<T>::n;
    if (p.c.columns % V == 0)
        layernorm_sums<T, V>(p);
    else
        layernorm_sums<T, 1>(p);
}
TH_KERNELS(layernorm_dw, layernorm_dw)

/* ---- unit length ---- */

template <class T> static __device__ inline void l2norm(const th_k_l2norm &p)
{
    const float least = 1e-12F; /* torch.nn.functional.normalize's eps */
    float scale = p.scale_ ? *p.scale_ : 1;
    each_row(p.rows, [&](int64_t row) {
        const T *x = static_cast<const T *>(p.x) + row * p.width;
        T *y = static_cast<T *>(p.y) + row * p.width;
        float inverse = 1 / fmaxf(sqrtf(dot(x, x, p.width)), least);
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(x + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] *= inverse * scale;
            store(y + i, v);
        });
        if (lane() == 0)
            p.rnorm[row] = inverse;
    });
}
TH_KERNELS(l2norm, l2norm)

template <class T> static __device__ inline void l2norm_dx(const th_k_l2norm_dx &p)
{
    float scale = p.scale_ ? *p.scale_ : 1;
    each_row(p.rows, [&](int64_t row) {
        const T *x = static_cast<const T *>(p.x) + row * p.width;
        const T *dy = static_cast<const T *>(p.dy) + row * p.width;
        T *dx = static_cast<T *>(p.dx) + row * p.width;
        float inverse = p.rnorm[row];
        float along_x = dot(x, dy, p.width) * inverse * inverse;
        along<T>(p.width, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V], d[V];
            load(x + i, v);
            load(dy + i, d);
#pragma unroll
            for (int k = 0; k < V; k++)
                d[k] = (d[k] - v[k] * along_x) * inverse * scale;
            store(dx + i, d);
        });
    });
}
TH_KERNELS(l2norm_dx, l2norm_dx)

/* part[block] = sum over its rows of rnorm * (dy . x) */
template <class T> static __device__ inline void l2norm_dw(const th_k_l2norm_dw &p)
{
    float sum = 0;
    each_row(p.rows, [&](int64_t row) {
        const T *x = static_cast<const T *>(p.x) + row * p.width;
        const T *dy = static_cast<const T *>(p.dy) + row * p.width;
        sum += dot(dy, x, p.width) * p.rnorm[row];
    });
    sum = block_sum(lane() == 0 ? sum : 0);
    if (threadIdx.x == 0)
        p.part[blockIdx.x] = sum;
}
TH_KERNELS(l2norm_dw, l2norm_dw)
