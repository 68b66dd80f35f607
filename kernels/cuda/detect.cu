/* SPDX-License-Identifier: Apache-2.0
 * Owns the losses of dense detectors, in fp32: losses[block] is the sum over a block's rows.
 * Formulas: kernels/detect.c. */
#include "reduce.cuh"

#include "op.h"

/* Runs f(n, i) for value i of `sample` in image n. */
template <class F>
static __device__ inline void each_image(int64_t images, uint32_t sample, F f)
{
    each_sample(images, [&](int64_t n) {
#pragma unroll 1
        for (int64_t i = thread(); i < sample; i += threads())
            f(n, (uint32_t)i);
    });
}

static __device__ inline void leave(float loss, float *losses)
{
    loss = block_sum(loss);
    if (threadIdx.x == 0)
        losses[blockIdx.y * gridDim.x + blockIdx.x] = loss;
}

/* log(1 + exp(x)) */
static __device__ inline float softplus(float x)
{
    return fmaxf(x, 0) + log1pf(expf(-fabsf(x)));
}

static __device__ inline float sigmoid(float x)
{
    float e = expf(-fabsf(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* ---- focal ---- */

/* z of a logit, alpha' and (1-p)^gamma */
struct focal_terms {
    float z, alpha, power;
};

static __device__ inline focal_terms terms_of(
    float x, bool own, float alpha, float gamma)
{
    float z = own ? x : -x, q = sigmoid(-z);
    return {
        z, own ? alpha : 1 - alpha, gamma == 2 ? q * q : expf(-gamma * softplus(z))};
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    focal(const struct th_k_focal p)
{
    float loss = 0;
    each_image(p.images, p.rows * p.width, [&](int64_t n, uint32_t i) {
        int32_t target = p.target[n * p.rows + i / p.width];
        if (target == -2)
            return;
        float x = p.logits[n * p.rows * p.width + i];
        focal_terms t = terms_of(x, i % p.width == (uint32_t)target, p.alpha, p.gamma);
        loss += p.weight[n] * (t.alpha * t.power * softplus(-t.z));
    });
    leave(loss, p.losses);
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    focal_dx(const struct th_k_focal_dx p)
{
    each_image(p.images, p.rows * p.width, [&](int64_t n, uint32_t i) {
        int32_t target = p.target[n * p.rows + i / p.width];
        int64_t at = n * p.rows * p.width + i;
        bool own = i % p.width == (uint32_t)target;
        focal_terms t = terms_of(p.logits[at], own, p.alpha, p.gamma);
        float slope = sigmoid(-t.z) + p.gamma * sigmoid(t.z) * softplus(-t.z);
        float d = t.alpha * t.power * slope * p.weight[n] * p.scalars->loss_scale;
        p.dlogits[at] = target == -2 ? 0 : own ? -d : d;
    });
}

/* ---- box_loss ---- */

static __device__ inline float extent(float v)
{
    return expf(fminf(v, 4.13516656F)); /* log(1000/16) */
}

/* x0, y0, x1, y1 */
static __device__ inline void corners_of(
    int32_t kind, const float (&v)[4], float (&at)[4])
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float half = kind == TH_BOX_GIOU_DELTAS ? extent(v[2 + i]) / 2 : 0;
        at[i] = kind == TH_BOX_GIOU_DELTAS ? v[i] - half : -v[i];
        at[2 + i] = kind == TH_BOX_GIOU_DELTAS ? v[i] + half : v[2 + i];
    }
}

/* Of boxes a and b, and its derivative by a's corners. */
static __device__ inline float giou(
    const float (&a)[4], const float (&b)[4], float (&d)[4])
{
    const float least = 1e-7F;
    float in[2], out[2], side[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        in[i] = fminf(a[2 + i], b[2 + i]) - fmaxf(a[i], b[i]);
        out[i] = fmaxf(a[2 + i], b[2 + i]) - fminf(a[i], b[i]);
        side[i] = a[2 + i] - a[i];
    }
    bool meet = in[0] > 0 && in[1] > 0;
    float both = meet ? in[0] * in[1] : 0, around = out[0] * out[1];
    float unite = side[0] * side[1] + (b[2] - b[0]) * (b[3] - b[1]) - both;
    float u = unite + least, c = around + least;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float sign = i < 2 ? -1 : 1; /* moved outwards */
        bool inner = sign * a[i] < sign * b[i];
        float shared = inner && meet ? sign * in[1 - i % 2] : 0;
        float own = sign * side[1 - i % 2], wider = inner ? 0 : sign * out[1 - i % 2];
        d[i] = -shared / u + (both / (u * u) - 1 / c) * (own - shared) +
               u / (c * c) * wider;
    }
    return 1 - both / u + (around - unite) / c;
}

static __device__ inline float smooth_l1(
    const float (&x)[4], const float (&box)[4], float beta, float (&d)[4])
{
    float loss = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float e = x[i] - box[i], size = fabsf(e);
        bool near = size < beta;
        loss += near ? e * e / (2 * beta) : size - beta / 2;
        d[i] = near ? e / beta : (float)(e > 0) - (float)(e < 0);
    }
    return loss;
}

/* Of a row, and its derivative by the four values. */
static __device__ inline float row_loss(const th_k_boxes &p, int64_t row, float (&d)[4])
{
    float x[4], box[4], a[4], b[4], by[4];
    load(p.x + row * 4, x);
    load(p.box + row * 4, box);
    if (p.kind == TH_BOX_SMOOTH_L1)
        return smooth_l1(x, box, p.beta, d);
    corners_of(p.kind, x, a);
    corners_of(p.kind, box, b);
    float loss = giou(a, b, by);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool sides = p.kind == TH_BOX_GIOU_SIDES, cut = x[2 + i] > 4.13516656F;
        float wider = (by[2 + i] - by[i]) / 2 * extent(x[2 + i]);
        d[i] = sides ? -by[i] : by[i] + by[2 + i];
        d[2 + i] = sides ? by[2 + i] : cut ? 0 : wider;
    }
    return loss;
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    box_loss(const struct th_k_box_loss p)
{
    float loss = 0, d[4];
    each_image(p.b.images, p.b.rows, [&](int64_t n, uint32_t r) {
        int64_t row = n * p.b.rows + r;
        if (p.b.target[row] >= 0)
            loss += p.b.weight[n] * row_loss(p.b, row, d);
    });
    leave(loss, p.losses);
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    box_loss_dx(const struct th_k_box_loss_dx p)
{
    each_image(p.b.images, p.b.rows, [&](int64_t n, uint32_t r) {
        int64_t row = n * p.b.rows + r;
        float d[4] = {};
        if (p.b.target[row] >= 0)
            row_loss(p.b, row, d);
#pragma unroll
        for (int k = 0; k < 4; k++)
            d[k] *= p.b.weight[n] * p.scalars->loss_scale;
        store(p.dx + row * 4, d);
    });
}

/* ---- masked_ce ---- */

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    masked_ce(const struct th_k_masked_ce p)
{
    float loss = 0;
    each_image(p.images, p.rows, [&](int64_t n, uint32_t r) {
        float t = p.target[n * p.rows + r], x = p.logits[n * p.rows + r];
        if (t >= 0)
            loss += p.weight[n] * (softplus(x) - t * x);
    });
    leave(loss, p.losses);
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    masked_ce_dx(const struct th_k_masked_ce_dx p)
{
    each_image(p.images, p.rows, [&](int64_t n, uint32_t r) {
        int64_t at = n * p.rows + r;
        float t = p.target[at], d = sigmoid(p.logits[at]) - t;
        p.dlogits[at] = t < 0 ? 0 : d * p.weight[n] * p.scalars->loss_scale;
    });
}

/* ---- row_ce ---- */

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    row_weight(const struct th_k_row_weight p)
{
    float found = 0; /* exact: a batch has fewer than 2^24 rows */
#pragma unroll 1
    for (int64_t i = thread(); i < p.rows; i += threads())
        found += p.target[i] != -2;
    found = block_sum(found);
#pragma unroll 1
    for (int64_t n = thread(); n < p.images; n += threads())
        p.weight[n] = 1 / fmaxf(found, 1);
}

/* log(sum(exp(x))); the same in each lane. */
static __device__ inline float log_sum(const float *x, int64_t width)
{
    float most = -INFINITY, sum = 0;
#pragma unroll 1
    for (int64_t i = lane(); i < width; i += 32)
        most = fmaxf(most, x[i]);
    most = warp_max(most);
#pragma unroll 1
    for (int64_t i = lane(); i < width; i += 32)
        sum += expf(x[i] - most);
    return most + logf(warp_sum(sum));
}

/* A warp has a row. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    row_ce(const struct th_k_row_ce p)
{
    each_row(p.rows, [&](int64_t row) {
        const float *x = p.logits + row * p.width;
        int32_t t = p.target[row];
        float loss = t == -2 ? 0 : log_sum(x, p.width) - x[1 + t];
        if (lane() == 0)
            p.losses[row] = p.weight[row / p.each] * loss;
    });
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    row_ce_dx(const struct th_k_row_ce_dx p)
{
    each_row(p.rows, [&](int64_t row) {
        const float *x = p.logits + row * p.width;
        int32_t t = p.target[row];
        float w = t == -2 ? 0 : p.weight[row / p.each] * p.scalars->loss_scale;
        float all = log_sum(x, p.width);
#pragma unroll 1
        for (int64_t k = lane(); k < p.width; k += 32)
            p.dlogits[row * p.width + k] = w * (expf(x[k] - all) - (float)(k == 1 + t));
    });
}
