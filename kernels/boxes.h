/* SPDX-License-Identifier: Apache-2.0
 * Boxes x0, y0, x1, y1 in pixels of an input: codes relative to an anchor, and the
 * anchors of a grid of places. For kernels and for whoever makes their targets.
 *
 * All of it is operations that every compiler rounds alike (the CUDA engine's kernels are
 * compiled from these lines, and not contracted), but for the logarithm of a code. */
#ifndef TH_BOXES_H
#define TH_BOXES_H

#include "box.h"
#include "size.h"

#include <stdint.h>

/* How four values are a box, relative to an anchor: distances from its centre to the box's
 * left, top, right and bottom (Tian et al. 2019, arXiv:1904.01355, equation 1), over its size;
 * or the way to the box's centre, likewise, and the logarithms of how much wider and higher it
 * is (Girshick et al. 2014, arXiv:1311.2524, appendix C). */
enum th_box_code { TH_CODE_SIDES, TH_CODE_DELTAS };

/* Limits of those logarithms: log(1000/16), torchvision's, and about log(2^-125). */
#define TH_BOX_MOST_LOG 4.135166556742356F
#define TH_BOX_LEAST_LOG (-86.0F)

/* exp(v) between these limits, within a unit in the last place. Not expf: of two boxes that
 * overlap by just the limit, a last bit decides how many there are, and libraries differ
 * in it. e^v = 2^k e^r, |r| <= log(2)/2, of which Taylor's first eight terms are taken. */
TH_BOX_FN float th_box_exp(float v)
{
    /* log(2) in two parts: k times the first is exact */
    const float log2_high = 0.693359375F, log2_low = -2.12194440e-4F;
    float k = rintf(v * 1.44269504F);
    float r = v - k * log2_high - k * log2_low;
    float e = 1.0F / 720 + r * (1.0F / 5040);
    union {
        uint32_t bits;
        float value;
    } power;
    power.bits = (uint32_t)((int32_t)k + 127) << 23;
    e = 1.0F / 24 + r * (1.0F / 120 + r * e);
    e = 0.5F + r * (1.0F / 6 + r * e);
    return (1 + (r + r * r * e)) * power.value;
}

/* Of an anchor: its centre and extent in an axis. */
TH_BOX_FN float th_box_extent(const float box[4], int axis)
{
    return box[2 + axis] - box[axis];
}

TH_BOX_FN float th_box_centre(const float box[4], int axis)
{
    return box[axis] + th_box_extent(box, axis) / 2;
}

/* The values of a code that are this box at this anchor, and the box of such values. */
TH_BOX_FN void th_box_encode(
    enum th_box_code code, const float anchor[4], const float box[4], float out[4])
{
    for (int i = 0; i < 2; i++) {
        float size = th_box_extent(anchor, i), centre = th_box_centre(anchor, i);
        if (code == TH_CODE_SIDES) {
            out[i] = (centre - box[i]) / size;
            out[2 + i] = (box[2 + i] - centre) / size;
        } else {
            out[i] = (th_box_centre(box, i) - centre) / size;
            out[2 + i] = logf(th_box_extent(box, i) / size);
        }
    }
}

TH_BOX_FN void th_box_decode(
    enum th_box_code code, const float anchor[4], const float value[4], float out[4])
{
    for (int i = 0; i < 2; i++) {
        float size = th_box_extent(anchor, i), centre = th_box_centre(anchor, i);
        if (code == TH_CODE_SIDES) {
            out[i] = centre - value[i] * size;
            out[2 + i] = centre + value[2 + i] * size;
        } else {
            float log = fmaxf(fminf(value[2 + i], TH_BOX_MOST_LOG), TH_BOX_LEAST_LOG);
            float half = th_box_exp(log) * size / 2;
            centre += value[i] * size;
            out[i] = centre - half;
            out[2 + i] = centre + half;
        }
    }
}

/* torchvision's weights of the deltas of a box relative to a proposal, as the second stage of
 * Faster R-CNN says them: the centre's, the logarithms'. */
#define TH_ROI_WEIGHT(i) ((i) < 2 ? 10.0F : 5.0F)

TH_BOX_FN void th_roi_encode(const float roi[4], const float box[4], float out[4])
{
    th_box_encode(TH_CODE_DELTAS, roi, box, out);
    for (int i = 0; i < 4; i++)
        out[i] *= TH_ROI_WEIGHT(i);
}

TH_BOX_FN void th_roi_decode(const float roi[4], const float value[4], float out[4])
{
    float deltas[4];
    for (int i = 0; i < 4; i++)
        deltas[i] = value[i] / TH_ROI_WEIGHT(i);
    th_box_decode(TH_CODE_DELTAS, roi, deltas, out);
}

/* ---- anchors ---- */

/* Places of a level of a pyramid. */
struct th_grid {
    int h, w;
    int stride; /* nominal: of the backbone, twice that of the level below */
};

/* Half width and height of an anchor of that many pixels squared and that height over width,
 * rounded as torch.round does. */
TH_BOX_FN void th_anchor_half(float size, float ratio, float half[2])
{
    float high = sqrtf(ratio);
    half[0] = rintf(1 / high * size / 2);
    half[1] = rintf(high * size / 2);
}

/* The anchor around a place, which is the corner of its pixels of an input of that size. */
TH_BOX_FN void th_anchor_at(const struct th_grid *g, struct th_size size, int64_t place,
    const float half[2], float anchor[4])
{
    float x = (float)(place % g->w * (size.w / g->w));
    float y = (float)(place / g->w * (size.h / g->h));
    anchor[0] = x - half[0];
    anchor[1] = y - half[1];
    anchor[2] = x + half[0];
    anchor[3] = y + half[1];
}

/* A region proposal network's: 8 strides squared, heights over widths of 1/2, 1 and 2; row
 * 3 place + i of the level (torchvision's sizes 32 to 512 at strides 4 to 64). */
enum { TH_RPN_ANCHORS = 3 };
TH_BOX_FN void th_rpn_anchor(
    const struct th_grid *g, struct th_size size, int64_t row, float anchor[4])
{
    float half[2], ratio = (float)(1 << row % TH_RPN_ANCHORS) / 2;
    th_anchor_half(8 * (float)g->stride, ratio, half);
    th_anchor_at(g, size, row / TH_RPN_ANCHORS, half, anchor);
}

#endif
