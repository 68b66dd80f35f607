/* SPDX-License-Identifier: Apache-2.0
 * Owns anchors and their matching. */
#include "anchors.h"

#include <math.h>

enum { SCALES = 3, FLAG = -3 };
static const float LOW = 0.4F, HIGH = 0.5F; /* RetinaNet's */

void th_anchors(const struct th_pyramid *p, struct th_size size, float *anchor)
{
    static const float ratio[] = {0.5F, 1, 2};
    static const double scale[SCALES] = {
        1, 1.2599210498948732, 1.5874010519681994}; /* 2^(1/3), 2^(2/3) */
    for (int i = 0; i < p->n; i++) {
        const struct th_grid g = th_level_grid(&p->level[i]);
        for (int j = 0; j < g.h * g.w * TH_ANCHORS_A_PLACE; j++, anchor += 4) {
            int k = j % TH_ANCHORS_A_PLACE;
            float half[2];
            th_anchor_half((float)(int)(4 * g.stride * scale[k % SCALES]),
                ratio[k / SCALES], half);
            th_anchor_at(&g, size, j / TH_ANCHORS_A_PLACE, half, anchor);
        }
    }
}

/* Mark the rows that lie best on an object. */
static void flag_best(
    const float *anchor, int64_t rows, const float box[4], int32_t *match)
{
    float best = 0;
    for (int64_t row = 0; row < rows; row++)
        best = fmaxf(best, th_box_iou(box, anchor + row * 4));
    for (int64_t row = 0; row < rows; row++)
        if (th_box_iou(box, anchor + row * 4) >= best)
            match[row] = FLAG;
}

void th_anchors_match(const float *anchor, int64_t rows,
    const struct th_object *objects, int32_t n, float low, float high, int32_t *match)
{
    for (int64_t row = 0; row < rows; row++)
        match[row] = -1;
    for (int32_t i = 0; i < n; i++)
        flag_best(anchor, rows, objects[i].box, match);
    for (int64_t row = 0; row < rows && n; row++) {
        float most = -1;
        int32_t object = 0;
        for (int32_t i = 0; i < n; i++) {
            float overlap = th_box_iou(objects[i].box, anchor + row * 4);
            if (overlap > most) {
                most = overlap;
                object = i;
            }
        }
        bool taken = most >= high || match[row] == FLAG;
        match[row] = taken ? object : most < low ? -1 : -2;
    }
}

void th_anchors_assign(const struct th_pyramid *p, const float *anchor,
    const struct th_object *objects, int32_t n, uint64_t key, void *const *target)
{
    (void)key; /* nothing is drawn */
    int32_t *class = target[0];
    float *box = target[1];
    th_anchors_match(anchor, p->rows, objects, n, LOW, HIGH, class);
    for (int64_t row = 0; row < p->rows; row++, anchor += 4, box += 4) {
        int32_t object = class[row];
        for (int k = 0; k < 4; k++)
            box[k] = 0;
        if (object < 0)
            continue;
        class[row] = objects[object].class;
        th_box_encode(TH_CODE_DELTAS, anchor, objects[object].box, box);
    }
}
