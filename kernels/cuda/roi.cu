/* SPDX-License-Identifier: Apache-2.0
 * Owns what the second stage of a detector reads at boxes, and its gradients; maps are NHWC.
 * Formulas: kernels/roi.c. Places are fixed point with 32 bits behind the point, since fp32
 * would have a rest of 15 at the far end of a map.
 *
 * The gradient is gathered: a block has a tile of places and a slice of channels, finds the
 * boxes that reach the tile, and adds up what they give, in their order. */
#include "reduce.cuh"

#define ONE ((int64_t)1 << 32)

/* ---- places ---- */

static __device__ inline int64_t fixed(float v)
{
    float whole = floorf(v);
    return ((int64_t)(int32_t)whole << 32) + (uint32_t)((v - whole) * 0x1p32F);
}

/* Point i of all that a box has in an axis is at from + (2i + 1) step. */
struct axis {
    int64_t from, step;
};

static __device__ inline axis axis_of(
    const th_k_roi &p, float low, float high, float stride)
{
    int64_t from = fixed(low / stride), side = fixed(high / stride) - from;
    return {from, (side > ONE ? side : ONE) / (2 * p.pooled * p.sampling)};
}

/* A point between places `low` and low + 1, of which the latter has this share; low is -1
 * where the point is too far outside to count. */
struct between {
    int32_t low;
    float share;
};

static __device__ inline between point_of(const axis &a, uint32_t i, int32_t n)
{
    int64_t at = a.from + (2 * i + 1) * a.step;
    int32_t low = (int32_t)((at > 0 ? at : 0) >> 32);
    if (at < -ONE || at > n * ONE)
        return {-1, 0};
    if (low >= n - 1)
        return {n - 1, 0};
    return {low, at > 0 ? (float)(uint32_t)at * 0x1p-32F : 0};
}

/* Which map a box is read from. */
static __device__ inline uint32_t map_of(const th_k_roi &p, const float (&box)[4])
{
    float area = (box[2] - box[0]) * (box[3] - box[1]), least = p.least;
    uint32_t map = 0;
#pragma unroll
    for (uint32_t i = 1; i < TH_ROI_MAPS; i++) {
        map += i < p.n_maps && area >= least;
        least *= 4;
    }
    return map;
}

/* ---- roi_align ---- */

template <class T> struct map {
    const T *x;
    int32_t h, w;
};

/* An index would put the parameters into local memory. */
template <class T>
static __device__ inline map<T> choose(const th_k_roi_align &p, uint32_t which)
{
    map<T> m = {static_cast<const T *>(p.x[0]), p.h[0], p.w[0]};
#pragma unroll
    for (uint32_t i = 1; i < TH_ROI_MAPS; i++)
        if (which == i)
            m = {static_cast<const T *>(p.x[i]), p.h[i], p.w[i]};
    return m;
}

/* Adds share times the values at a place. */
template <int V, class T>
static __device__ inline void add(const T *x, float share, float (&sum)[V])
{
    float v[V];
    load(x, v);
#pragma unroll
    for (int k = 0; k < V; k++)
        sum[k] += share * v[k];
}

/* The sum over the points of window (row, column) of a box. */
template <int V, class T>
static __device__ inline void window(const th_k_roi &p, const map<T> &m, const axis &y,
    const axis &x, uint32_t row, uint32_t column, float (&sum)[V])
{
    int64_t down = (int64_t)m.w * p.channels;
#pragma unroll 1
    for (uint32_t i = 0; i < p.sampling * p.sampling; i++) {
        between u = point_of(y, row * p.sampling + i / p.sampling, m.h);
        between v = point_of(x, column * p.sampling + i % p.sampling, m.w);
        if (u.low < 0 || v.low < 0)
            continue;
        const T *at = m.x + u.low * down + v.low * p.channels;
        int64_t below = u.low < m.h - 1 ? down : 0;
        int64_t right = v.low < m.w - 1 ? p.channels : 0;
        add(at, (1 - u.share) * (1 - v.share), sum);
        add(at + right, (1 - u.share) * v.share, sum);
        add(at + below, u.share * (1 - v.share), sum);
        add(at + below + right, u.share * v.share, sum);
    }
}

template <class T> static __device__ inline void roi_align(const th_k_roi_align &p)
{
    uint32_t sample = p.r.pooled * p.r.pooled * p.r.channels;
    float part = 1 / (float)(p.r.sampling * p.r.sampling);
    each_sample(p.images * p.r.boxes, [&](int64_t b) {
        float box[4];
        load(p.rois + b * 4, box);
        bool is = box[0] >= 0;
        uint32_t which = map_of(p.r, box);
        map<T> m = choose<T>(p, which);
        float stride = p.r.stride * (float)(1U << which);
        axis y = axis_of(p.r, box[1], box[3], stride);
        axis x = axis_of(p.r, box[0], box[2], stride);
        m.x += b / p.r.boxes * m.h * m.w * p.r.channels;
        each<T>(sample, p.r.channels, [&](auto w, int64_t i) {
            constexpr int V = decltype(w)::n;
            uint32_t at = (uint32_t)i / p.r.channels;
            map<T> of = {m.x + (uint32_t)i % p.r.channels, m.h, m.w};
            float sum[V] = {};
            if (is)
                window(p.r, of, y, x, at / p.r.pooled, at % p.r.pooled, sum);
#pragma unroll
            for (int k = 0; k < V; k++)
                sum[k] *= part;
            store(static_cast<T *>(p.y) + b * sample + i, sum);
        });
    });
}
TH_ROOMY_KERNELS(roi_align, roi_align)

/* ---- its gradient ---- */

/* Boxes looked at together, and which of them reach the tile: a bit each. */
struct reached {
    axis y[TH_THREADS], x[TH_THREADS];
    uint32_t bits[TH_THREADS / 32];
};

/* Whether a box's points lie around places from .. from + n - 1 of `all`. */
static __device__ inline bool reaches(
    const th_k_roi &p, const axis &a, int32_t from, int32_t n, int32_t all)
{
    int64_t last = a.from + (2 * p.pooled * p.sampling - 1) * a.step;
    int64_t first = a.from >> 32;
    return (first < all ? first : all - 1) < from + n && (last >> 32) + 1 >= from;
}

/* Looks at TH_THREADS boxes from the first on; the whole block calls. */
static __device__ inline void find_boxes(const th_k_roi_align_dx &p, int64_t image,
    uint32_t first, int32_t row, int32_t column, reached &found)
{
    uint32_t b = first + threadIdx.x;
    bool is = false;
    if (b < p.r.boxes) {
        float box[4], stride = p.r.stride * (float)(1U << p.map);
        load(p.rois + (image * p.r.boxes + b) * 4, box);
        axis y = axis_of(p.r, box[1], box[3], stride);
        axis x = axis_of(p.r, box[0], box[2], stride);
        is = box[0] >= 0 && map_of(p.r, box) == p.map &&
             reaches(p.r, y, row, TH_ROI_ROWS, p.h) &&
             reaches(p.r, x, column, TH_ROI_COLUMNS, p.w);
        found.y[threadIdx.x] = y;
        found.x[threadIdx.x] = x;
    }
    uint32_t bits = __ballot_sync(TH_ALL, is);
    if (lane() == 0)
        found.bits[threadIdx.x / 32] = bits;
}

/* What the points of window `i` of an axis have of a place. */
static __device__ inline float share_of(
    const th_k_roi &p, const axis &a, uint32_t i, int32_t place, int32_t n)
{
    float share = 0;
#pragma unroll 1
    for (uint32_t k = 0; k < p.sampling; k++) {
        between b = point_of(a, i * p.sampling + k, n);
        if (b.low >= 0)
            share += b.low == place ? 1 - b.share : b.low + 1 == place ? b.share : 0;
    }
    return share;
}

/* Adds what a box gives to place (row, column); dy is the box's. */
template <int V, class T>
static __device__ inline void gather(const th_k_roi_align_dx &p, const T *dy,
    const axis &y, const axis &x, int32_t row, int32_t column, float (&sum)[V])
{
#pragma unroll 1
    for (uint32_t i = 0; i < p.r.pooled; i++) {
        float high = share_of(p.r, y, i, row, p.h);
        if (high == 0)
            continue;
#pragma unroll 1
        for (uint32_t j = 0; j < p.r.pooled; j++) {
            float share = high * share_of(p.r, x, j, column, p.w);
            if (share != 0)
                add(dy + (i * p.r.pooled + j) * p.r.channels, share, sum);
        }
    }
}

/* Channels in V at a time: a tile of an image's dx. */
template <int V, class T>
static __device__ inline void tile(
    const th_k_roi_align_dx &p, int64_t n, uint32_t at, uint32_t slice, reached &found)
{
    constexpr int lanes = TH_THREADS / (TH_ROI_ROWS * TH_ROI_COLUMNS);
    uint32_t across = (p.w + TH_ROI_COLUMNS - 1) / TH_ROI_COLUMNS;
    int32_t top = at / across * TH_ROI_ROWS, left = at % across * TH_ROI_COLUMNS;
    int32_t row = top + threadIdx.x / lanes / TH_ROI_COLUMNS;
    int32_t column = left + threadIdx.x / lanes % TH_ROI_COLUMNS;
    uint32_t c = (slice * lanes + threadIdx.x % lanes) * V;
    uint32_t window = p.r.pooled * p.r.pooled * p.r.channels;
    bool is = row < p.h && column < p.w && c < p.r.channels;
    float sum[V] = {};
#pragma unroll 1
    for (uint32_t first = 0; first < p.r.boxes; first += TH_THREADS) {
        find_boxes(p, n, first, top, left, found);
        __syncthreads();
        const T *dy = static_cast<const T *>(p.dy) + (n * p.r.boxes + first) * window;
#pragma unroll 1
        for (int w = 0; is && w < TH_THREADS / 32; w++)
#pragma unroll 1
            for (uint32_t bits = found.bits[w]; bits; bits &= bits - 1) {
                int b = w * 32 + 31 - __clz(bits & -bits);
                gather(p, dy + (int64_t)b * window + c, found.y[b], found.x[b], row,
                    column, sum);
            }
        __syncthreads(); /* the next boxes are written over these */
    }
    float part = 1 / (float)(p.r.sampling * p.r.sampling);
#pragma unroll
    for (int k = 0; k < V; k++)
        sum[k] *= part;
    if (is)
        store(static_cast<T *>(p.dx) + ((n * p.h + row) * p.w + column) * p.r.channels +
                  c,
            sum);
}

template <class T>
static __device__ inline void roi_align_dx(const th_k_roi_align_dx &p)
{
    __shared__ reached found;
    constexpr int V = in_vector<T>::n;
    each_sample(p.images, [&](int64_t n) {
#pragma unroll 1
        for (uint32_t i = blockIdx.x; i < p.tiles * p.slices; i += gridDim.x)
            if (p.r.channels % V == 0)
                tile<V, T>(p, n, i / p.slices, i % p.slices, found);
            else
                tile<1, T>(p, n, i / p.slices, i % p.slices, found);
    });
}
TH_ROOMY_KERNELS(roi_align_dx, roi_align_dx)

/* ---- class_rows ---- */

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    class_rows(const struct th_k_class_rows p)
{
#pragma unroll 1
    for (int64_t i = thread(); i < p.rows * p.width; i += threads()) {
        int64_t row = i / p.width;
        int32_t t = p.target[row];
        p.y[i] = t < 0 ? 0 : p.x[row * p.all + (1 + t) * p.width + i % p.width];
    }
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    class_rows_dx(const struct th_k_class_rows_dx p)
{
#pragma unroll 1
    for (int64_t i = thread(); i < p.rows * p.all; i += threads()) {
        int64_t row = i / p.all;
        int32_t t = p.target[row];
        int64_t at = i % p.all - (1 + t) * p.width;
        bool is = t >= 0 && at >= 0 && at < p.width;
        p.dx[i] = is ? p.dy[row * p.width + at] : 0;
    }
}
