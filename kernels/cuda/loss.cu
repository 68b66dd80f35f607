/* SPDX-License-Identifier: Apache-2.0
 * Owns the losses, in fp32. Formulas: kernels/loss.c. */
#include "reduce.cuh"

#include "op.h"

/* p = softmax of a row; losses[row] = -sum target log p. A warp has a row. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    softmax_ce(const struct th_k_softmax_ce p)
{
    each_row(p.rows, [&](int64_t row) {
        const float *x = p.logits + row * p.width, *target = p.target + row * p.width;
        float largest = -INFINITY, sum = 0, loss = 0;
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32)
            largest = fmaxf(largest, x[i]);
        largest = warp_max(largest);
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32)
            sum += expf(x[i] - largest);
        float log_sum = logf(warp_sum(sum));
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32) {
            float log_p = x[i] - largest - log_sum;
            if (target[i] != 0)
                loss -= target[i] * log_p;
            p.p[row * p.width + i] = expf(log_p);
        }
        loss = warp_sum(loss);
        if (lane() == 0)
            p.losses[row] = loss;
    });
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    softmax_ce_dx(const struct th_k_softmax_ce_dx p)
{
    float scale = p.scalars->loss_scale / (float)p.rows;
    each_row(p.rows, [&](int64_t row) {
        const float *target = p.target + row * p.width;
        float weight = 0;
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32)
            weight += target[i];
        weight = warp_sum(weight);
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32) {
            int64_t at = row * p.width + i;
            p.dlogits[at] = (p.p[at] * weight - target[i]) * scale;
        }
    });
}

/* losses[block]: the sum over its values */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sigmoid_ce(const struct th_k_sigmoid_ce p)
{
    float loss = 0;
#pragma unroll 1
    for (int64_t i = thread(); i < p.count; i += threads()) {
        /* e = exp(-|x|) never overflows; -log p is log(1 + e), and |x| more below 0 */
        float x = p.logits[i], e = expf(-fabsf(x)), rest = log1pf(e);
        float t = p.target[i], w = p.pos_weight[(uint32_t)i % p.classes];
        loss += w * t * (rest + fmaxf(-x, 0)) + (1 - t) * (rest + fmaxf(x, 0));
        p.p[i] = (x < 0 ? e : 1) / (1 + e);
    }
    loss = block_sum(loss);
    if (threadIdx.x == 0)
        p.losses[blockIdx.x] = loss;
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    sigmoid_ce_dx(const struct th_k_sigmoid_ce_dx p)
{
    float scale = p.scalars->loss_scale / (float)p.count;
#pragma unroll 1
    for (int64_t i = thread(); i < p.count; i += threads()) {
        float t = p.target[i], yes = p.pos_weight[(uint32_t)i % p.classes] * t;
        p.dlogits[i] = ((yes + 1 - t) * p.p[i] - yes) * scale;
    }
}
