/* SPDX-License-Identifier: Apache-2.0
 * Owns what a detector of two stages chooses on its way: the boxes that it looks at, and those
 * that it learns from. Formulas: kernels/roi.c.
 *
 * A choice is by comparisons, so that a last bit would make it another one. Ranks are whole
 * numbers, of equal ones the lower row's is first, and the arithmetic of boxes is that of
 * kernels/boxes.h itself, compiled without contractions: the boxes are plain C's, bit by bit.
 *
 *   proposals_rank   of a grid of an image, the first so many rows, in order
 *   proposals_keep   their boxes, and which of them no better one covers
 *   proposals_merge  of all grids the best
 *   rois_match       which object a box is of, and where it stands in the draw
 *   rois_draw        whether it is drawn
 *   rois_place       where it goes */
#define TH_BOX_FN static __device__ inline
#include "philox.cuh"

#include "op.h"

enum { DIGITS = 16, DIGIT_BITS = 4, WARPS = TH_RANK_THREADS / 32 };

/* ---- proposals_rank ---- */

/* th_rank_of, whose last one, a NaN's, is here the last of 32 bits. */
static __device__ inline uint32_t rank_of(float value)
{
    uint32_t bits = __float_as_uint(value + 0.0F);
    return value != value ? UINT32_MAX : bits >> 31 ? bits : ~(bits | 0x80000000U);
}

/* The rows of a grid, while the first ones are looked for. */
struct ranks {
    union {
        uint16_t count[DIGITS][TH_RANK_THREADS]; /* of each digit, by thread */
        uint64_t first[TH_RANK_MOST];
    };
    uint32_t sum[DIGITS];
    uint32_t before[WARPS], equal[WARPS]; /* rows in the part of a warp */
};

/* sum[d] = rows whose order begins with `prefix` and then has digit d; the block calls. */
static __device__ inline void count_digits(
    const float *logit, uint32_t rows, uint32_t prefix, int shift, ranks &r)
{
#pragma unroll
    for (int d = 0; d < DIGITS; d++)
        r.count[d][threadIdx.x] = 0;
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < rows; i += blockDim.x) {
        uint32_t order = rank_of(logit[i]) >> shift;
        if (order >> DIGIT_BITS == prefix)
            r.count[order % DIGITS][threadIdx.x]++;
    }
    __syncthreads();
#pragma unroll 1
    for (uint32_t d = threadIdx.x / 32; d < DIGITS; d += blockDim.x / 32) {
        uint32_t sum = 0;
#pragma unroll 1
        for (uint32_t t = lane(); t < blockDim.x; t += 32)
            sum += r.count[d][t];
#pragma unroll
        for (int k = 16; k > 0; k /= 2)
            sum += __shfl_xor_sync(TH_ALL, sum, k);
        if (lane() == 0)
            r.sum[d] = sum;
    }
    __syncthreads();
}

/* The order of the last row of the first `n`, and how many of that order are among them. */
struct limit {
    uint32_t order, equal;
};

static __device__ inline limit limit_of(
    const float *logit, uint32_t rows, uint32_t n, ranks &r)
{
    limit at = {0, n};
#pragma unroll 1
    for (int shift = 32 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        uint32_t d = 0;
        count_digits(logit, rows, at.order, shift, r);
#pragma unroll 1
        while (at.equal > r.sum[d])
            at.equal -= r.sum[d++];
        at.order = at.order << DIGIT_BITS | d;
    }
    return at;
}

/* Runs f(row, order, before, equal) for the rows of this warp's part, which are one behind the
 * other; the latter two are the warp's bits of rows that come before and stand at the limit. */
template <class F>
static __device__ inline void each_in_part(
    const float *logit, uint32_t rows, uint32_t limit, F f)
{
    uint32_t step = blockDim.x, each = (rows + step - 1) / step * 32;
    uint32_t begin = threadIdx.x / 32 * each, end = begin + each;
    end = end < rows ? end : rows;
#pragma unroll 1
    for (uint32_t i = begin + lane(); i - lane() < end; i += 32) {
        bool is = i < end;
        uint32_t order = is ? rank_of(logit[i]) : 0;
        f(i, order, __ballot_sync(TH_ALL, is && order < limit),
            __ballot_sync(TH_ALL, is && order == limit));
    }
}

/* first[] = the first n rows, in the order in which they stand. */
static __device__ inline void gather(
    const float *logit, uint32_t rows, uint32_t n, limit at, ranks &r)
{
    uint32_t before = 0, equal = 0, warp = threadIdx.x / 32;
    each_in_part(
        logit, rows, at.order, [&](uint32_t, uint32_t, uint32_t less, uint32_t same) {
            before += __popc(less);
            equal += __popc(same);
        });
    if (lane() == 0) {
        r.before[warp] = before;
        r.equal[warp] = equal;
    }
    __syncthreads();
    before = equal = 0;
#pragma unroll 1
    for (uint32_t w = 0; w < warp; w++) {
        before += r.before[w];
        equal += r.equal[w];
    }
    uint32_t lower = (1U << lane()) - 1;
    each_in_part(logit, rows, at.order,
        [&](uint32_t row, uint32_t order, uint32_t less, uint32_t same) {
            uint64_t rank = (uint64_t)order << 32 | row;
            uint32_t place = equal + __popc(same & lower);
            if (less >> lane() & 1)
                r.first[before + __popc(less & lower)] = rank;
            if ((same >> lane() & 1) && place < at.equal)
                r.first[n - at.equal + place] = rank;
            before += __popc(less);
            equal += __popc(same);
        });
}

/* Batcher's bitonic sort of n, a power of 2. */
static __device__ inline void sort(uint64_t *v, uint32_t n)
{
#pragma unroll 1
    for (uint32_t k = 2; k <= n; k *= 2)
#pragma unroll 1
        for (uint32_t j = k / 2; j > 0; j /= 2) {
#pragma unroll 1
            for (uint32_t t = threadIdx.x; t < n / 2; t += blockDim.x) {
                uint32_t i = 2 * t - t % j;
                uint64_t a = v[i], b = v[i + j];
                if ((a > b) == ((i & k) == 0)) {
                    v[i] = b;
                    v[i + j] = a;
                }
            }
            __syncthreads();
        }
}

/* Runs f(image, grid) for the blocks' grids. */
template <class F> static __device__ inline void each_grid(const th_k_grids &g, F f)
{
#pragma unroll 1
    for (uint32_t b = blockIdx.x; b < g.images * g.n; b += gridDim.x)
        f(b / g.n, b % g.n);
}

extern "C" __global__ void __launch_bounds__(TH_RANK_THREADS)
    proposals_rank(const struct th_k_proposals_rank p)
{
    __shared__ ranks r;
    each_grid(p.g, [&](uint32_t image, uint32_t grid) {
        const float *logit =
            p.logits + (uint64_t)image * p.g.row[p.g.n] + p.g.row[grid];
        uint64_t *rank =
            p.rank + (uint64_t)image * p.g.candidate[p.g.n] + p.g.candidate[grid];
        uint32_t rows = p.g.row[grid + 1] - p.g.row[grid], power = 1;
        uint32_t n = p.g.candidate[grid + 1] - p.g.candidate[grid];
        limit at = limit_of(logit, rows, n, r);
        gather(logit, rows, n, at, r);
#pragma unroll 1
        while (power < n)
            power *= 2;
#pragma unroll 1
        for (uint32_t i = n + threadIdx.x; i < power; i += blockDim.x)
            r.first[i] = UINT64_MAX;
        __syncthreads();
        sort(r.first, power);
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
            rank[i] = r.first[i];
        __syncthreads(); /* the next grid's rows are counted over these */
    });
}

/* ---- proposals_keep ---- */

struct candidates {
    float box[TH_RANK_MOST][4];
    bool gone[TH_RANK_MOST];
};

/* The anchor moved by its deltas, within the input; false where next to nothing is left. */
static __device__ inline bool decode(
    const th_grid &g, th_size size, uint32_t row, const float *deltas, float (&box)[4])
{
    const float least = 1e-3F; /* torchvision's min_size */
    float anchor[4], delta[4];
    load(deltas + (uint64_t)row * 4, delta);
    th_rpn_anchor(&g, size, row, anchor);
    th_box_decode(TH_CODE_DELTAS, anchor, delta, box);
#pragma unroll
    for (int i = 0; i < 4; i++)
        box[i] = fminf(fmaxf(box[i], 0), (float)(i % 2 ? size.h : size.w));
    return box[2] - box[0] >= least && box[3] - box[1] >= least;
}

/* One box after another: each that is still there takes away all behind it that it covers. What
 * is left moves to the front, by the hand of the one thread that reads what it writes. */
static __device__ inline uint32_t keep(
    candidates &c, uint32_t n, float overlap, uint64_t *rank, float *box)
{
    uint32_t kept = 0;
#pragma unroll 1
    for (uint32_t i = 0; i < n; i++) {
        if (c.gone[i])
            continue;
        if (threadIdx.x == 0) {
            rank[kept] = rank[i];
            store(box + (uint64_t)kept * 4, c.box[i]);
        }
        kept++;
#pragma unroll 1
        for (uint32_t j = i + 1 + threadIdx.x; j < n; j += blockDim.x)
            if (!c.gone[j] && th_box_iou(c.box[i], c.box[j]) > overlap)
                c.gone[j] = true;
        __syncthreads();
    }
    return kept;
}

extern "C" __global__ void __launch_bounds__(TH_RANK_THREADS)
    proposals_keep(const struct th_k_proposals_keep p)
{
    __shared__ candidates c;
    each_grid(p.g, [&](uint32_t image, uint32_t grid) {
        const float *deltas =
            p.deltas + ((uint64_t)image * p.g.row[p.g.n] + p.g.row[grid]) * 4;
        uint64_t first = (uint64_t)image * p.g.candidate[p.g.n] + p.g.candidate[grid];
        uint32_t n = p.g.candidate[grid + 1] - p.g.candidate[grid];
        const th_grid g = {p.g.h[grid], p.g.w[grid], p.g.stride[grid]};
        const th_size size = {p.g.size[0], p.g.size[1]};
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
            float box[4];
            uint32_t row = (uint32_t)p.rank[first + i];
            c.gone[i] = !decode(g, size, row, deltas, box);
            store(c.box[i], box);
        }
        __syncthreads();
        uint32_t kept = keep(c, n, p.overlap, p.rank + first, p.box + first * 4);
        if (threadIdx.x == 0)
            p.kept[(uint64_t)image * p.g.n + grid] = kept;
        __syncthreads(); /* the next grid's boxes are written over these */
    });
}

/* ---- proposals_merge ---- */

/* How many of n, which are in order, have a lower one. */
static __device__ inline uint32_t lower_than(
    const uint64_t *rank, uint32_t n, uint64_t order)
{
    uint32_t from = 0;
#pragma unroll 1
    while (from < n) {
        uint32_t middle = (from + n) / 2;
        bool lower = rank[middle] >> 32 < order;
        from = lower ? middle + 1 : from;
        n = lower ? n : middle;
    }
    return from;
}

/* The place among all grids' of candidate `i` of a grid, which is kept: of equal ones the
 * lower grid's is first. */
static __device__ inline uint32_t place_of(const th_k_grids &g, const uint64_t *rank,
    const uint32_t *kept, uint32_t grid, uint32_t i)
{
    uint64_t order = rank[g.candidate[grid] + i] >> 32;
    uint32_t place = i;
#pragma unroll 1
    for (uint32_t k = 0; k < g.n; k++)
        if (k != grid)
            place += lower_than(rank + g.candidate[k], kept[k], order + (k < grid));
    return place;
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    proposals_merge(const struct th_k_proposals_merge p)
{
    const float none[4] = {-1, -1, -1, -1};
    uint32_t candidates = p.g.candidate[p.g.n];
    each_sample(p.g.images, [&](int64_t image) {
        const uint64_t *rank = p.rank + image * candidates;
        const uint32_t *kept = p.kept + image * p.g.n;
        float *rois = p.rois + image * p.most * 4, box[4];
        uint32_t all = 0;
#pragma unroll 1
        for (uint32_t grid = 0; grid < p.g.n; grid++) {
            all += kept[grid];
#pragma unroll 1
            for (uint32_t i = (uint32_t)thread(); i < kept[grid]; i += threads()) {
                uint32_t place = place_of(p.g, rank, kept, grid, i);
                if (place >= p.most)
                    continue;
                load(p.box + (image * candidates + p.g.candidate[grid] + i) * 4, box);
                store(rois + place * 4, box);
            }
        }
#pragma unroll 1
        for (uint32_t i = all + (uint32_t)thread(); i < p.most; i += threads())
            store(rois + i * 4, none);
    });
}

/* ---- rois_match ---- */

static __device__ inline uint32_t rows_of(const th_k_rois &r)
{
    return r.n_rois + r.n_box;
}

static __device__ inline void box_of(
    const th_k_rois &r, int64_t image, uint32_t row, float (&box)[4])
{
    const float *from = row < r.n_rois ? r.rois + (image * r.n_rois + row) * 4
                                       : r.box + (image * r.n_box + row - r.n_rois) * 4;
    load(from, box);
}

/* Runs f(image, row) for all rows of all images. */
template <class F> static __device__ inline void each_roi(const th_k_rois &r, F f)
{
    each_sample(r.images, [&](int64_t image) {
#pragma unroll 1
        for (uint32_t row = (uint32_t)thread(); row < rows_of(r); row += threads())
            f(image, row);
    });
}

/* The object that a box overlaps most; -1 below `overlap`. */
static __device__ inline int32_t object_of(
    const th_k_rois &r, int64_t image, const float (&box)[4], float overlap)
{
    float best = -1;
    int32_t object = -1;
#pragma unroll 1
    for (uint32_t i = 0; i < r.n_box; i++) {
        float b[4];
        load(r.box + (image * r.n_box + i) * 4, b);
        float o = r.label[image * r.n_box + i] < 0 ? -1 : th_box_iou(b, box);
        if (o > best) {
            best = o;
            object = (int32_t)i;
        }
    }
    return best >= overlap ? object : -1;
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    rois_match(const struct th_k_rois_match p)
{
    each_roi(p.r, [&](int64_t image, uint32_t row) {
        const int32_t *label = p.r.label + image * p.r.n_box;
        float box[4];
        box_of(p.r, image, row, box);
        bool is = row < p.r.n_rois ? box[0] >= 0 : label[row - p.r.n_rois] >= 0;
        int32_t object = is ? object_of(p.r, image, box, p.overlap) : -1;
        int32_t target = !is ? -2 : object < 0 ? -1 : label[object];
        uint64_t key = key_of(p.keys, image);
        philox drawn = draw_block(mix(key, p.purpose), row);
        uint64_t order = (uint64_t)drawn.word[0] << 32 | drawn.word[1];
        p.r.row[image * rows_of(p.r) + row] = {key ? order : row, target, object};
    });
}

/* ---- rois_draw ---- */

/* A row is drawn where few enough of its kind come before it; with a class up to `positive`,
 * and as many of the background as are left of `count`. */
extern "C" __global__ void __launch_bounds__(TH_THREADS)
    rois_draw(const struct th_k_rois_draw p)
{
    each_roi(p.r, [&](int64_t image, uint32_t row) {
        const th_k_drawn *all = p.r.row + image * rows_of(p.r), own = all[row];
        uint32_t with_class = 0, before = 0, i = 0;
        bool is = own.target >= 0;
        do { /* there is a row: this one */
            th_k_drawn d = all[i];
            bool alike = (d.target >= 0) == is & d.target != -2;
            bool first = d.order < own.order | (d.order == own.order & i < row);
            with_class += d.target >= 0;
            before += alike & first;
        } while (++i < rows_of(p.r));
        with_class = with_class < p.positive ? with_class : p.positive;
        uint32_t most = is ? p.positive : p.count - with_class;
        p.is[image * rows_of(p.r) + row] = own.target != -2 && before < most;
    });
}

/* ---- rois_place ---- */

static __device__ inline void put_row(const th_k_rois_place &p, int64_t to,
    const float (&box)[4], int32_t target, const float (&code)[4])
{
    store(p.sampled + to * 4, box);
    store(p.target_box + to * 4, code);
    p.target[to] = target;
}

/* What a drawn row is to be, at its place; and the box again, in turn, where there are not
 * enough. */
static __device__ inline void put(
    const th_k_rois_place &p, int64_t image, uint32_t row, uint32_t place, uint32_t n)
{
    th_k_drawn d = p.r.row[image * rows_of(p.r) + row];
    float box[4], code[4] = {};
    box_of(p.r, image, row, box);
    if (d.target >= 0) {
        float object[4];
        load(p.r.box + (image * p.r.n_box + d.object) * 4, object);
        th_roi_encode(box, object, code);
    }
#pragma unroll 1
    for (uint32_t i = place; i < p.count; i += n) {
        put_row(p, image * p.count + i, box, d.target, code);
        d.target = -2;
#pragma unroll
        for (int k = 0; k < 4; k++)
            code[k] = 0;
    }
}

extern "C" __global__ void __launch_bounds__(TH_THREADS)
    rois_place(const struct th_k_rois_place p)
{
    each_roi(p.r, [&](int64_t image, uint32_t row) {
        const uint8_t *is = p.is + image * rows_of(p.r);
        uint32_t place = 0, n = 0, i = 0;
        do {
            place += i < row & is[i];
            n += is[i];
        } while (++i < rows_of(p.r));
        if (is[row])
            put(p, image, row, place, n);
        const float none[4] = {-1, -1, -1, -1}, zero[4] = {};
#pragma unroll 1
        for (i = row; n == 0 && i < p.count; i += rows_of(p.r))
            put_row(p, image * p.count + i, none, -2, zero);
    });
}
