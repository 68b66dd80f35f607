/* SPDX-License-Identifier: Apache-2.0
 * Owns the way from a detector's outputs to boxes: scores, suppression. */
#include "detector.h"

#include "mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading ---- */

thaw_status th_reader_init(struct th_reader *r, const struct th_detector *detector,
    const struct th_pyramid *pyramid, struct th_size size, int n_classes)
{
    size_t rows = (size_t)pyramid->rows, classes = (size_t)n_classes;
    size_t kept = (size_t)pyramid->n * (size_t)detector->top;
    size_t candidates = rows * classes;
    if (detector->background)
        candidates = kept = (size_t)pyramid->boxes * classes;
    *r = (struct th_reader){.detector = detector,
        .pyramid = pyramid,
        .size = size,
        .n_classes = n_classes,
        .score = detector->score,
        .overlap = detector->overlap};
    r->anchor = th_alloc(rows * 4, sizeof *r->anchor);
    r->found = th_alloc((size_t)detector->most, sizeof *r->found);
    r->candidate = th_alloc(candidates, sizeof *r->candidate);
    r->kept = th_alloc(kept, sizeof *r->kept);
    r->sorted = th_alloc(kept, sizeof *r->sorted);
    if (!r->anchor || !r->found || !r->candidate || !r->kept || !r->sorted)
        return THAW_E_MEMORY;
    detector->anchors(pyramid, size, r->anchor);
    return THAW_OK;
}

void th_reader_release(struct th_reader *r)
{
    th_free(r->anchor);
    th_free(r->found);
    th_free(r->candidate);
    th_free(r->kept);
    th_free(r->sorted);
    *r = (struct th_reader){0};
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* Best first; of equal scores the first row and class, so that nothing depends on qsort. */
static int by_score(const void *a, const void *b)
{
    const struct th_candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return (x->class > y->class) - (x->class < y->class);
}

/* All of a level whose score is high enough. A NaN is none. */
static int64_t gather(struct th_reader *r, int64_t first, int64_t end,
    const float *logits, const float *quality)
{
    int64_t n = 0;
    for (int64_t row = first; row < end; row++) {
        float good = quality ? sigmoid(quality[row]) : 1;
        for (int32_t c = 0; c < r->n_classes; c++) {
            float score = sigmoid(logits[row * r->n_classes + c]);
            score = quality ? sqrtf(score * good) : score;
            if (score > r->score)
                r->candidate[n++] = (struct th_candidate){score, row, c};
        }
    }
    return n;
}

/* Cut at the edges of the input. */
static void cut_box(float box[4], struct th_size size)
{
    for (int k = 0; k < 4; k++)
        box[k] = fminf(fmaxf(box[k], 0), (float)(k % 2 ? size.h : size.w));
}

/* The best of a level, decoded and cut at the edges, behind the n that are kept. */
static int64_t keep_level(
    struct th_reader *r, int64_t n, int64_t n_candidates, const float *boxes)
{
    int64_t top = r->detector->top;
    qsort(r->candidate, (size_t)n_candidates, sizeof *r->candidate, by_score);
    for (int64_t i = 0; i < n_candidates && i < top; i++, n++) {
        const struct th_candidate *c = &r->candidate[i];
        struct th_detection *f = &r->kept[n];
        *f = (struct th_detection){.image = -1, .score = c->score, .class = c->class};
        th_box_decode(
            r->detector->code, r->anchor + c->row * 4, boxes + c->row * 4, f->box);
        cut_box(f->box, r->size);
    }
    return n;
}

/* Stable: of equal scores the one of the finer level, then that of the first row. */
static void sort_found(struct th_detection *found, int64_t n,
    struct th_candidate *order, struct th_detection *sorted)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = (struct th_candidate){found[i].score, i, 0};
    qsort(order, (size_t)n, sizeof *order, by_score);
    for (int64_t i = 0; i < n; i++)
        sorted[i] = found[order[i].row];
}

/* Greedy non-maximum suppression by class (torchvision's batched_nms). */
static void suppress(struct th_reader *r, const struct th_detection *found, int64_t n)
{
    r->n_found = 0;
    for (int64_t i = 0; i < n && r->n_found < r->detector->most; i++) {
        bool covered = false;
        for (int k = 0; k < r->n_found && !covered; k++)
            covered = r->found[k].class == found[i].class &&
                      th_box_iou(r->found[k].box, found[i].box) > r->overlap;
        if (!covered)
            r->found[r->n_found++] = found[i];
    }
}

void th_reader_read(
    struct th_reader *r, const float *logits, const float *const *output)
{
    r->detector->read(r, logits, output);
}

void th_read_rows(struct th_reader *r, const float *logits, const float *const *output)
{
    const struct th_pyramid *p = r->pyramid;
    const float *quality = r->detector->n_outputs > 1 ? output[1] : NULL;
    int64_t n = 0;
    for (int i = 0; i < p->n; i++) {
        int64_t end = i + 1 < p->n ? p->level[i + 1].first : p->rows;
        int64_t more = gather(r, p->level[i].first, end, logits, quality);
        n = keep_level(r, n, more, output[0]);
    }
    sort_found(r->kept, n, r->candidate, r->sorted);
    suppress(r, r->sorted, n);
}

/* log(sum(exp(x))) */
static float log_sum(const float *x, int n)
{
    float most = x[0], sum = 0;
    for (int k = 1; k < n; k++)
        most = fmaxf(most, x[k]);
    for (int k = 0; k < n; k++)
        sum += expf(x[k] - most);
    return most + logf(sum);
}

/* Boxes of a proposal's classes whose score is high enough, behind the n that are kept. */
static int64_t keep_roi(struct th_reader *r, int64_t n, const float *logits,
    const float *value, const float *roi)
{
    static const float LEAST = 1e-2F; /* torchvision's remove_small_boxes */
    float all = log_sum(logits, 1 + r->n_classes);
    for (int32_t c = 0; c < r->n_classes; c++) {
        float score = expf(logits[1 + c] - all);
        if (!(score > r->score))
            continue;
        struct th_detection *f = &r->kept[n];
        *f = (struct th_detection){.image = -1, .score = score, .class = c};
        th_roi_decode(roi, value + (1 + c) * 4, f->box);
        cut_box(f->box, r->size);
        n += f->box[2] - f->box[0] >= LEAST && f->box[3] - f->box[1] >= LEAST;
    }
    return n;
}

void th_read_rois(struct th_reader *r, const float *logits, const float *const *output)
{
    int64_t width = 1 + r->n_classes, n = 0;
    for (int64_t i = 0; i < r->pyramid->boxes; i++) {
        const float *roi = output[1] + i * 4;
        if (roi[0] >= 0) /* else there is none */
            n = keep_roi(r, n, logits + i * width, output[0] + i * width * 4, roi);
    }
    sort_found(r->kept, n, r->candidate, r->sorted);
    suppress(r, r->sorted, n);
}

/* ---- Targets ---- */

size_t th_target_bytes(const struct th_pyramid *p, const struct th_row_values *v)
{
    return (size_t)(v->rows ? v->rows : p->rows) * (size_t)v->n * sizeof(float);
}

void th_reader_targets(void *reader, const struct th_object *objects, int32_t n,
    uint64_t key, void *const *target)
{
    const struct th_reader *r = reader;
    r->detector->assign(r->pyramid, r->anchor, objects, n, key, target);
}

void th_reader_weights(
    const struct th_reader *r, const int32_t *target, int64_t n, float *weight)
{
    int64_t rows = r->pyramid->rows, all = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t found = 0;
        for (int64_t row = 0; row < rows; row++)
            found += target[i * rows + row] >= 0;
        weight[i] = 1 / ((float)(found ? found : 1) * (float)n);
        all += found;
    }
    for (int64_t i = 0; i < n && r->detector->by_batch; i++)
        weight[i] = 1 / (float)(all ? all : 1);
}
