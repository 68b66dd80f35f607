/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of detectors of two stages. Formulas: kernels/roi.c. */
#include "balance.h"
#include "ref.h"
#include "rng.h"
#include "roi_points.h"

#include <math.h>
#include <string.h>

enum { BOX = 4 };

static void copy_box(float *to, const float *from)
{
    memcpy(to, from, BOX * sizeof *to);
}

static void no_box(float *to)
{
    for (int i = 0; i < BOX; i++)
        to[i] = -1;
}

/* ---- proposals ---- */

/* Of an image: what remains of each grid, one behind the other. */
struct candidates {
    struct th_rank *rank, *kept; /* [most of all grids] */
    float *box;                  /* [most of all grids][4], of the kept ones */
};

static int64_t grid_rows(const struct th_grid *g)
{
    return (int64_t)g->h * g->w * TH_RPN_ANCHORS;
}

/* Of grids before the `end`th: their rows, and how many candidates at most. */
static int64_t rows_before(const struct th_attr_proposals *p, int end, int64_t *most)
{
    int64_t rows = 0;
    *most = 0;
    for (int i = 0; i < end; i++) {
        int64_t n = grid_rows(&p->grid[i]);
        rows += n;
        *most += n < p->level_most ? n : p->level_most;
    }
    return rows;
}

static struct candidates candidates_of(const struct th_call *call, int64_t image)
{
    int64_t most, n = call->in[0].shape.dim[0];
    rows_before(&call->attr.proposals, call->attr.proposals.n_grids, &most);
    struct th_rank *rank = call->scratch;
    float *box = (float *)(rank + 2 * n * most);
    return (struct candidates){rank + 2 * image * most, rank + (2 * image + 1) * most,
        box + image * most * BOX};
}

thaw_status th_ref_proposals_prepare(struct th_call *call)
{
    int64_t most;
    rows_before(&call->attr.proposals, call->attr.proposals.n_grids, &most);
    call->scratch_bytes = (size_t)(call->in[0].shape.dim[0] * most) *
                          (2 * sizeof(struct th_rank) + BOX * sizeof(float));
    return THAW_OK;
}

/* The anchor moved by its deltas, within the input; false where next to nothing is left. */
static bool decode(const struct th_attr_proposals *p, const struct th_grid *g,
    int64_t row, const float *deltas, float box[BOX])
{
    static const float LEAST = 1e-3F; /* torchvision's min_size */
    float anchor[BOX];
    th_rpn_anchor(g, p->size, row, anchor);
    th_box_decode(TH_CODE_DELTAS, anchor, deltas, box);
    for (int i = 0; i < BOX; i++)
        box[i] = fminf(fmaxf(box[i], 0), (float)(i % 2 ? p->size.h : p->size.w));
    return box[2] - box[0] >= LEAST && box[3] - box[1] >= LEAST;
}

static bool is_covered(const float *box, const float *better, int64_t n, float overlap)
{
    for (int64_t i = 0; i < n; i++)
        if (th_box_iou(better + i * BOX, box) > overlap)
            return true;
    return false;
}

/* The rows of one grid of an image -> its share of c->kept and c->box; what is left over of
 * the share ranks last. */
static void keep_grid(const struct th_call *call, int64_t image, int grid)
{
    const struct th_attr_proposals *p = &call->attr.proposals;
    const struct th_args_proposals *a = (const void *)call->args;
    const struct th_grid *g = &p->grid[grid];
    struct candidates c = candidates_of(call, image);
    int64_t share, end, n = 0, n_kept = 0;
    int64_t first = rows_before(p, grid, &share);
    rows_before(p, grid + 1, &end);
    first += image * call->in[0].shape.dim[1];
    const float *logit = (const float *)a->logits + first;
    struct th_rank *rank = c.rank + share, *kept = c.kept + share;
    float *box = c.box + share * BOX;
    for (int64_t row = 0; row < grid_rows(g); row++)
        th_rank_offer(
            rank, &n, end - share, (struct th_rank){th_rank_of(logit[row]), row});
    th_rank_sort(rank, n);
    for (int64_t i = 0; i < n; i++) {
        const float *deltas = (const float *)a->deltas + (first + rank[i].row) * BOX;
        float *next = box + n_kept * BOX;
        if (!decode(p, g, rank[i].row, deltas, next) ||
            is_covered(next, box, n_kept, p->overlap))
            continue;
        kept[n_kept] = (struct th_rank){rank[i].order, share + n_kept};
        n_kept++;
    }
    for (; n_kept < end - share; n_kept++)
        kept[n_kept] = (struct th_rank){UINT64_MAX, INT64_MAX};
}

static void best_of_all(const struct th_call *call, int64_t image)
{
    const struct th_args_proposals *a = (const void *)call->args;
    int64_t most, n = call->out[0].shape.dim[1];
    struct candidates c = candidates_of(call, image);
    rows_before(&call->attr.proposals, call->attr.proposals.n_grids, &most);
    th_rank_sort(c.kept, most);
    for (int64_t i = 0; i < n; i++) {
        float *to = (float *)a->rois + (image * n + i) * BOX;
        if (c.kept[i].row < INT64_MAX)
            copy_box(to, c.box + c.kept[i].row * BOX);
        else
            no_box(to);
    }
}

thaw_status th_ref_proposals(const struct th_call *call)
{
    int64_t images = call->in[0].shape.dim[0], grids = call->attr.proposals.n_grids;
#pragma omp parallel for num_threads(call->device->threads) schedule(dynamic)
    for (int64_t i = 0; i < images * grids; i++)
        keep_grid(call, i / grids, (int)(i % grids));
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < images; i++)
        best_of_all(call, i);
    return THAW_OK;
}

/* ---- sample_rois ---- */

thaw_status th_ref_sample_rois_prepare(struct th_call *call)
{
    int64_t rows = call->in[0].shape.dim[1] + call->in[1].shape.dim[1];
    call->scratch_bytes =
        (size_t)(call->in[0].shape.dim[0] * rows) * 2 * sizeof(int32_t);
    return THAW_OK;
}

/* The boxes of an image and behind them its objects. */
struct pool {
    const float *rois, *box;
    const int32_t *class;
    int64_t n_rois, n_box;
};

static const float *pool_box(const struct pool *p, int64_t row)
{
    return row < p->n_rois ? p->rois + row * BOX : p->box + (row - p->n_rois) * BOX;
}

/* The object that a box overlaps most; -1 below `overlap`. */
static int32_t object_of(const struct pool *p, const float *box, float overlap)
{
    float best = -1;
    int32_t object = -1;
    for (int32_t i = 0; i < p->n_box; i++) {
        float o = p->class[i] < 0 ? -1 : th_box_iou(p->box + i * BOX, box);
        if (o > best) {
            best = o;
            object = i;
        }
    }
    return best >= overlap ? object : -1;
}

static void match_pool(
    const struct pool *p, float overlap, int32_t *target, int32_t *object)
{
    for (int64_t row = 0; row < p->n_rois + p->n_box; row++) {
        bool is = row < p->n_rois ? th_roi_is(pool_box(p, row))
                                  : p->class[row - p->n_rois] >= 0;
        object[row] = is ? object_of(p, pool_box(p, row), overlap) : -1;
        target[row] = !is ? -2 : object[row] < 0 ? -1 : p->class[object[row]];
    }
}

/* Places [place, end), which are left over, have the image's boxes again, in turn. */
static void repeat_rois(
    const struct th_args_sample_rois *a, int64_t first, int64_t place, int64_t end)
{
    float *sampled = (float *)a->sampled;
    int64_t n = place - first;
    for (; place < end; place++) {
        if (n)
            copy_box(sampled + place * BOX, sampled + (place - n) * BOX);
        else
            no_box(sampled + place * BOX);
        ((int32_t *)a->target)[place] = -2;
        memset((float *)a->target_box + place * BOX, 0, BOX * sizeof(float));
    }
}

static void sample_image(const struct th_call *call, int64_t n)
{
    const struct th_args_sample_rois *a = (const void *)call->args;
    const struct th_attr_sample *s = &call->attr.sample;
    int64_t n_rois = call->in[0].shape.dim[1], n_box = call->in[1].shape.dim[1];
    const struct pool p = {(const float *)a->rois + n * n_rois * BOX,
        (const float *)a->box + n * n_box * BOX, (const int32_t *)a->label + n * n_box,
        n_rois, n_box};
    const int32_t *keys = (const int32_t *)a->keys + n * 2;
    uint64_t key = (uint32_t)keys[0] | (uint64_t)(uint32_t)keys[1] << 32;
    int64_t rows = n_rois + n_box, place = n * s->count, end = place + s->count;
    int32_t *target = (int32_t *)call->scratch + n * 2 * rows, *object = target + rows;
    match_pool(&p, s->overlap, target, object);
    th_draw_balanced(
        key ? th_rng_mix_name(key, TH_ROIS_DRAW) : 0, rows, target, s->count, s->positive);
    for (int64_t row = 0; row < rows; row++) {
        float *code = (float *)a->target_box + place * BOX;
        if (target[row] == -2)
            continue;
        copy_box((float *)a->sampled + place * BOX, pool_box(&p, row));
        ((int32_t *)a->target)[place++] = target[row];
        memset(code, 0, BOX * sizeof *code);
        if (target[row] >= 0)
            th_roi_encode(pool_box(&p, row), p.box + object[row] * BOX, code);
    }
    repeat_rois(a, n * s->count, place, end);
}

thaw_status th_ref_sample_rois(const struct th_call *call)
{
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t n = 0; n < call->in[0].shape.dim[0]; n++)
        sample_image(call, n);
    return THAW_OK;
}

/* ---- roi_align ---- */

enum { ROIS = 4 }; /* its input */

static void read_box(const struct th_call *call, int64_t b)
{
    const struct th_args_roi_align *a = (const void *)call->args;
    const struct th_attr_roi *attr = &call->attr.roi;
    const float *box = (const float *)a->rois + b * BOX;
    int64_t image = b / call->in[ROIS].shape.dim[1];
    bool is = th_roi_is(box);
    int map = is ? th_roi_map(attr, box) : 0, pooled = attr->pooled;
    const struct th_operand *x = &call->in[map], *y = &call->out[0];
    const int64_t *d = x->shape.dim;
    struct th_corner corner[TH_MAX_CORNERS];
    for (int i = 0; i < pooled * pooled; i++) {
        int p = i / pooled, q = i % pooled;
        int n = is ? th_roi_corners(attr, box, d[2], d[3], p, q, corner) : 0;
        for (int64_t c = 0; c < d[1]; c++) {
            const float *plane = call->args[map];
            double sum = 0;
            plane += th_ref_at(x, image, c, 0, 0);
            for (int k = 0; k < n; k++)
                sum += corner[k].share * (double)plane[corner[k].at * th_ref_step(x)];
            ((float *)a->y)[th_ref_at(y, b, c, p, q)] = (float)sum;
        }
    }
}

thaw_status th_ref_roi_align(const struct th_call *call)
{
    const int64_t *d = call->in[ROIS].shape.dim;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t b = 0; b < d[0] * d[1]; b++)
        read_box(call, b);
    return THAW_OK;
}

thaw_status th_ref_roi_align_dx_prepare(struct th_call *call)
{
    call->scratch_bytes = sizeof(double) * (size_t)th_shape_count(&call->out[0].shape);
    return THAW_OK;
}

enum { TOGETHER = 16 }; /* channels that a thread sums at once */

/* Adds what a box gives to channels [c, end) of its image; sum [channels][h*w]. */
static void spread_box(
    const struct th_call *call, int64_t b, int64_t c, int64_t end, double *sum)
{
    const struct th_args_roi_align_dx *a = (const void *)call->args;
    const struct th_attr_roi *attr = &call->attr.roi;
    const struct th_operand *dy = &call->in[0];
    const float *box = (const float *)a->rois + b * BOX;
    const int64_t *d = call->out[0].shape.dim;
    struct th_corner corner[TH_MAX_CORNERS];
    for (int i = 0; i < attr->pooled * attr->pooled; i++) {
        int p = i / attr->pooled, q = i % attr->pooled;
        int n = th_roi_corners(attr, box, d[2], d[3], p, q, corner);
        for (int64_t k = c; k < end; k++) {
            double by = (double)((const float *)a->dy)[th_ref_at(dy, b, k, p, q)];
            for (int j = 0; j < n; j++)
                sum[k * d[2] * d[3] + corner[j].at] += corner[j].share * by;
        }
    }
}

static void spread_channels(const struct th_call *call, int64_t image, int64_t c)
{
    const struct th_args_roi_align_dx *a = (const void *)call->args;
    const struct th_operand *dx = &call->out[0];
    const int64_t *d = dx->shape.dim;
    int64_t boxes = call->in[1].shape.dim[1], places = d[2] * d[3];
    int64_t end = c + TOGETHER < d[1] ? c + TOGETHER : d[1];
    double *sum = (double *)call->scratch + image * d[1] * places;
    memset(sum + c * places, 0, (size_t)((end - c) * places) * sizeof *sum);
    for (int64_t b = image * boxes; b < (image + 1) * boxes; b++) {
        const float *box = (const float *)a->rois + b * BOX;
        if (th_roi_is(box) && th_roi_map(&call->attr.roi, box) == call->attr.roi.map)
            spread_box(call, b, c, end, sum);
    }
    for (int64_t k = c; k < end; k++)
        for (int64_t i = 0; i < places; i++)
            ((float *)a->dx)[th_ref_at(dx, image, k, i / d[3], i % d[3])] =
                (float)sum[k * places + i];
}

thaw_status th_ref_roi_align_dx(const struct th_call *call)
{
    const int64_t *d = call->out[0].shape.dim;
    int64_t parts = (d[1] + TOGETHER - 1) / TOGETHER;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < d[0] * parts; i++)
        spread_channels(call, i / parts, i % parts * TOGETHER);
    return THAW_OK;
}

/* ---- class_rows ---- */

/* Where row r's values are among those of all classes. */
static int64_t class_place(const struct th_operand *x, int64_t r, int64_t k, int32_t t)
{
    return r * x->shape.dim[2] + (1 + t) * k;
}

thaw_status th_ref_class_rows(const struct th_call *call)
{
    const struct th_args_class_rows *a = (const void *)call->args;
    int64_t k = call->attr.rows.width;
    int64_t rows = th_shape_count(&call->in[1].shape);
    for (int64_t r = 0; r < rows; r++) {
        int32_t t = ((const int32_t *)a->target)[r];
        const float *x = (const float *)a->x;
        for (int64_t j = 0; j < k; j++)
            ((float *)a->y)[r * k + j] =
                t < 0 ? 0 : x[class_place(&call->in[0], r, k, t) + j];
    }
    return THAW_OK;
}

thaw_status th_ref_class_rows_dx(const struct th_call *call)
{
    const struct th_args_class_rows_dx *a = (const void *)call->args;
    int64_t k = call->attr.rows.width;
    int64_t rows = th_shape_count(&call->in[1].shape);
    memset(a->dx, 0, th_operand_bytes(&call->out[0]));
    for (int64_t r = 0; r < rows; r++) {
        int32_t t = ((const int32_t *)a->target)[r];
        if (t >= 0)
            memcpy((float *)a->dx + class_place(&call->out[0], r, k, t),
                (const float *)a->dy + r * k, (size_t)k * sizeof(float));
    }
    return THAW_OK;
}
