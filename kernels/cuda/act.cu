/* SPDX-License-Identifier: Apache-2.0
 * Owns relu and its gradient. Formulas: kernels/act.c. */
#include "device.cuh"

template <class T, int V> static __device__ void relu_values(const th_k_relu &p)
{
    const T *x = static_cast<const T *>(p.x);
    T *y = static_cast<T *>(p.y);
    for (int64_t i = thread() * V; i - lane() * V < p.count; i += threads() * V) {
        float v[V] = {};
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
    }
}

template <class T> static __device__ inline void relu(const th_k_relu &p)
{
    constexpr int V = in_vector<T>::n;
    if (p.count % V == 0)
        relu_values<T, V>(p);
    else
        relu_values<T, 1>(p);
}
TH_KERNELS(relu, relu)

template <class T, int V> static __device__ void relu_dx_values(const th_k_relu_dx &p)
{
    const T *dy = static_cast<const T *>(p.dy), *add = static_cast<const T *>(p.add_);
    T *dx = static_cast<T *>(p.dx);
    for (int64_t i = thread() * V; i < p.count; i += threads() * V) {
        float v[V], more[V] = {};
        unsigned bits = get_bits<V>(p.mask, i);
        load(dy + i, v);
        if (add)
            load(add + i, more);
#pragma unroll
        for (int k = 0; k < V; k++)
            v[k] = bits >> k & 1 ? v[k] + more[k] : 0;
        store(dx + i, v);
    }
}

template <class T> static __device__ inline void relu_dx(const th_k_relu_dx &p)
{
    constexpr int V = in_vector<T>::n;
    if (p.count % V == 0)
        relu_dx_values<T, V>(p);
    else
        relu_dx_values<T, 1>(p);
}
TH_KERNELS(relu_dx, relu_dx)
