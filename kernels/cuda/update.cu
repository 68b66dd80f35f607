/* SPDX-License-Identifier: Apache-2.0
 * Owns what ends a training step, in fp32; the scalars are read on the device, so that the
 * host waits for nothing. Formulas: kernels/ref/update.c. */
#include "reduce.cuh"

#include "op.h"

#define CLIP_EPS 1e-6F /* torch.nn.utils.clip_grad_norm_ */

/* part[block] = sum of squares of its values. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sum_squares(const __grid_constant__ struct th_k_sum_squares p)
{
    each_part(p.parts, [&](int t, uint32_t block, uint32_t blocks) {
        const float *grad = p.each[t].grad;
        float sum = 0;
        each_of_part(block, blocks, p.each[t].count, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V];
            load(grad + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum += v[k] * v[k];
        });
        sum = block_sum(sum);
        if (threadIdx.x == 0)
            p.part[p.parts.first[t] + block] = sum;
    });
}

/* One block: tensor after tensor, so that the order is that of one launch each. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sum_squares_end(const __grid_constant__ struct th_k_sum_squares p)
{
    float all = p.before_ ? *p.before_ : 0;
#pragma unroll 1
    for (int t = 0; t < p.parts.n; t++) {
        float sum = 0;
#pragma unroll 1
        for (uint32_t i = p.parts.first[t] + threadIdx.x; i < p.parts.first[t + 1];
             i += TH_THREADS)
            sum += p.part[i];
        all = block_sum(sum) + all;
    }
    if (threadIdx.x == 0)
        *p.sum = all;
}

/* One thread. */
extern "C" __global__ void guard(const struct th_k_guard p)
{
    struct th_scalars *s = p.scalars;
    bool finite = (!p.loss_ || isfinite(*p.loss_)) && (!p.sum_ || isfinite(*p.sum_));
    if (!finite)
        s->skip = 1;
    s->n_skipped += s->skip;
    if (!p.sum_)
        return;
    float norm = s->clip * sqrtf(*p.sum_);
    s->norm = norm;
    if (finite && p.limit > 0 && p.limit < norm + CLIP_EPS)
        s->clip *= p.limit / (norm + CLIP_EPS);
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    accumulate(const struct th_k_accumulate p)
{
    bool first = !(p.scalars->gathered > 0);
    each<float>(p.count, p.count, [&](auto w, int64_t i) {
        constexpr int V = decltype(w)::n;
        float v[V], g[V];
        load(p.total + i, v);
        load(p.grad + i, g);
#pragma unroll
        for (int k = 0; k < V; k++)
            g[k] = first ? g[k] : v[k] + g[k];
        store(p.total + i, g);
    });
}

/* A group's first batch keeps the value; a later one that is not finite puts it back. */
extern "C" __global__ void __launch_bounds__(TH_THREADS) hold(const struct th_k_hold p)
{
    bool first = !(p.scalars->gathered > 0);
    const float *from = first ? p.value : p.kept;
    float *to = first ? p.kept : p.value;
    if (!first && p.scalars->skip == 0)
        return;
#pragma unroll 1
    for (int64_t i = thread(); i < p.count; i += threads())
        to[i] = from[i];
}

/* What the optimizer's own or the step's momentum is. */
static __device__ inline float momentum_now(const struct th_scalars *s, float own)
{
    return s->momentum > 0 ? s->momentum : own;
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sgd(const __grid_constant__ struct th_k_sgd p)
{
    const struct th_scalars *s = p.scalars;
    float clip = s->clip, m = momentum_now(s, p.momentum);
    if (s->skip != 0)
        return;
    each_part(p.parts, [&](int t, uint32_t block, uint32_t blocks) {
        const struct th_k_sgd_of x = p.each[t];
        float lr = s->lr * x.lr_scale;
        each_of_part(block, blocks, x.count, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V], g[V], from[V] = {}, buffer[V];
            load(x.param + i, v);
            load(x.grad + i, g);
            if (x.start_)
                load(x.start_ + i, from);
#pragma unroll
            for (int k = 0; k < V; k++)
                g[k] = clip * g[k] + x.weight_decay * (v[k] - from[k]);
            if (x.momentum_) {
                load(x.momentum_ + i, buffer);
#pragma unroll
                for (int k = 0; k < V; k++) {
                    buffer[k] = m * buffer[k] + g[k];
                    g[k] = p.nesterov ? g[k] + m * buffer[k] : buffer[k];
                }
                store(x.momentum_ + i, buffer);
            }
#pragma unroll
            for (int k = 0; k < V; k++)
                v[k] -= lr * g[k];
            store(x.param + i, v);
        });
    });
}

/* 1 - b^t without cancellation: b - 1 is exact for b above 1/2. */
static __device__ inline float one_minus_power(float b, float t)
{
    return -expm1f(t * log1pf(b - 1));
}

/* One block, a thread a tensor, before adamw, which reads what it leaves. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    adamw_begin(const __grid_constant__ struct th_k_adamw_begin p)
{
    const struct th_scalars *s = p.scalars;
    if ((int)threadIdx.x >= p.n)
        return;
    const struct th_k_adamw_begin_of x = p.each[threadIdx.x];
    float b1 = momentum_now(s, p.beta1), lr = s->lr * x.lr_scale, t = *x.t + 1;
    if (s->skip == 0)
        *x.t = t;
    struct th_k_adamw_now now;
    now.pull = lr * x.weight_decay;
    now.keep = 1 - lr * x.weight_decay;
    now.step = lr / one_minus_power(b1, t);
    now.root = sqrtf(one_minus_power(p.beta2, t));
    now.old1 = b1;
    now.new1 = 1 - b1;
    p.now[threadIdx.x] = now;
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    adamw(const __grid_constant__ struct th_k_adamw p)
{
    float clip = p.scalars->clip, new2 = 1 - p.beta2;
    if (p.scalars->skip != 0)
        return;
    each_part(p.parts, [&](int t, uint32_t block, uint32_t blocks) {
        const struct th_k_adamw_of x = p.each[t];
        const struct th_k_adamw_now now = p.now[t];
        each_of_part(block, blocks, x.count, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float v[V], g[V], first[V], second[V], from[V] = {};
            load(x.param + i, v);
            load(x.grad + i, g);
            load(x.m + i, first);
            load(x.v + i, second);
            if (x.start_)
                load(x.start_ + i, from);
#pragma unroll
            for (int k = 0; k < V; k++) {
                g[k] *= clip;
                float held =
                    x.start_ ? v[k] - now.pull * (v[k] - from[k]) : v[k] * now.keep;
                first[k] = now.old1 * first[k] + now.new1 * g[k];
                second[k] = p.beta2 * second[k] + new2 * g[k] * g[k];
                v[k] =
                    held - now.step * first[k] / (sqrtf(second[k]) / now.root + p.eps);
            }
            store(x.param + i, v);
            store(x.m + i, first);
            store(x.v + i, second);
        });
    });
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    ema(const __grid_constant__ struct th_k_ema p)
{
    float d = p.scalars->ema_decay;
    if (p.scalars->skip != 0)
        return;
    each_part(p.parts, [&](int t, uint32_t block, uint32_t blocks) {
        const struct th_k_ema_of x = p.each[t];
        each_of_part(block, blocks, x.count, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            float a[V], v[V];
            load(x.average + i, a);
            load(x.param + i, v);
#pragma unroll
            for (int k = 0; k < V; k++)
                a[k] = d * a[k] + (1 - d) * v[k];
            store(x.average + i, a);
        });
    });
}
