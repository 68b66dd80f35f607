/* SPDX-License-Identifier: Apache-2.0
 * Owns the softmax of attention in strict fp32, between matrix products, a warp a row.
 * Formulas: kernels/attention.c. */
#include "reduce.cuh"

/* scores become p = exp(s - lse), lse = log sum exp of the row. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    softmax_rows(const struct th_k_softmax_rows p)
{
    each_row(p.rows, [&](int64_t row) {
        float *s = p.scores + row * p.width, largest = -INFINITY, sum = 0;
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32)
            largest = fmaxf(largest, s[i]);
        largest = warp_max(largest);
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32)
            sum += expf(s[i] - largest);
        float lse = largest + logf(warp_sum(sum));
#pragma unroll 1
        for (int64_t i = lane(); i < p.width; i += 32)
            s[i] = expf(s[i] - lse);
        if (p.lse_ && lane() == 0)
            p.lse_[row] = lse;
    });
}

/* Row of all heads' tokens, 31 bits of them: sample, head, token. scores become p =
 * exp(s - lse); ds, which holds dy v^T, becomes p * (ds - sum of dy*y) * scale. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    softmax_rows_dx(const struct th_k_softmax_rows_dx p)
{
    uint32_t heads = (uint32_t)p.heads, tokens = (uint32_t)p.tokens;
    each_row(p.samples * p.heads * p.tokens, [&](int64_t row) {
        uint32_t i = (uint32_t)row, token = i % tokens, head = i / tokens % heads;
        int64_t sample = i / tokens / heads;
        int64_t at = ((sample * tokens + token) * heads + head) * p.features;
        float lse = p.lse[row], sum = dot(p.dy + at, p.y + at, p.features);
        float *s = p.scores + row * tokens, *ds = p.ds + row * tokens;
#pragma unroll 1
        for (int64_t j = lane(); j < tokens; j += 32) {
            float v = expf(s[j] - lse);
            s[j] = v;
            ds[j] = v * (ds[j] - sum) * p.scale;
        }
    });
}
