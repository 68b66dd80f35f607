/* SPDX-License-Identifier: Apache-2.0
 * Owns the arithmetic of boxes, their codes and anchors. */
#include "boxes.h"

#include <math.h>

/* Of an anchor: its centre and extent in an axis. */
struct span {
    float centre, size;
};

static struct span span_of(const float box[4], int axis)
{
    float size = box[2 + axis] - box[axis];
    return (struct span){box[axis] + size / 2, size};
}

void th_box_encode(
    enum th_box_code code, const float anchor[4], const float box[4], float out[4])
{
    for (int i = 0; i < 2; i++) {
        struct span a = span_of(anchor, i), b = span_of(box, i);
        if (code == TH_CODE_SIDES) {
            out[i] = (a.centre - box[i]) / a.size;
            out[2 + i] = (box[2 + i] - a.centre) / a.size;
        } else {
            out[i] = (b.centre - a.centre) / a.size;
            out[2 + i] = logf(b.size / a.size);
        }
    }
}

void th_box_decode(
    enum th_box_code code, const float anchor[4], const float value[4], float out[4])
{
    for (int i = 0; i < 2; i++) {
        struct span a = span_of(anchor, i);
        if (code == TH_CODE_SIDES) {
            out[i] = a.centre - value[i] * a.size;
            out[2 + i] = a.centre + value[2 + i] * a.size;
        } else {
            float centre = a.centre + value[i] * a.size;
            float half = expf(fminf(value[2 + i], TH_BOX_MOST_LOG)) * a.size / 2;
            out[i] = centre - half;
            out[2 + i] = centre + half;
        }
    }
}

static const float ROI_WEIGHT[4] = {10, 10, 5, 5};

void th_roi_encode(const float roi[4], const float box[4], float out[4])
{
    th_box_encode(TH_CODE_DELTAS, roi, box, out);
    for (int i = 0; i < 4; i++)
        out[i] *= ROI_WEIGHT[i];
}

void th_roi_decode(const float roi[4], const float value[4], float out[4])
{
    float deltas[4];
    for (int i = 0; i < 4; i++)
        deltas[i] = value[i] / ROI_WEIGHT[i];
    th_box_decode(TH_CODE_DELTAS, roi, deltas, out);
}

/* ---- Anchors ---- */

void th_anchor_half(float size, float ratio, float half[2])
{
    float high = sqrtf(ratio);
    half[0] = rintf(1 / high * size / 2);
    half[1] = rintf(high * size / 2);
}

void th_anchor_at(const struct th_grid *g, struct th_size size, int64_t place,
    const float half[2], float anchor[4])
{
    float x = (float)(place % g->w * (size.w / g->w));
    float y = (float)(place / g->w * (size.h / g->h));
    anchor[0] = x - half[0];
    anchor[1] = y - half[1];
    anchor[2] = x + half[0];
    anchor[3] = y + half[1];
}

void th_rpn_anchor(
    const struct th_grid *g, struct th_size size, int64_t row, float anchor[4])
{
    static const float ratio[TH_RPN_ANCHORS] = {0.5F, 1, 2};
    float half[2];
    th_anchor_half(8 * (float)g->stride, ratio[row % TH_RPN_ANCHORS], half);
    th_anchor_at(g, size, row / TH_RPN_ANCHORS, half, anchor);
}
