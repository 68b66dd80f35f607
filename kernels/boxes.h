/* SPDX-License-Identifier: Apache-2.0
 * Boxes x0, y0, x1, y1 in pixels of an input: codes relative to an anchor, and the
 * anchors of a grid of places. For kernels and for whoever makes their targets. */
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
static const float TH_BOX_MOST_LOG =
    4.135166556742356F; /* log(1000/16): torchvision's limit of those logarithms */

/* The values of a code that are this box at this anchor, and the box of such values. */
void th_box_encode(
    enum th_box_code code, const float anchor[4], const float box[4], float out[4]);
void th_box_decode(
    enum th_box_code code, const float anchor[4], const float value[4], float out[4]);

/* The deltas of a box relative to a proposal, as the second stage of Faster R-CNN says them: the
 * centre's times 10, the logarithms times 5 (torchvision's weights). */
void th_roi_encode(const float roi[4], const float box[4], float out[4]);
void th_roi_decode(const float roi[4], const float value[4], float out[4]);

/* Places of a level of a pyramid. */
struct th_grid {
    int h, w;
    int stride; /* nominal: of the backbone, twice that of the level below */
};

/* Half width and height of an anchor of that many pixels squared and that height over width,
 * rounded as torch.round does. */
void th_anchor_half(float size, float ratio, float half[2]);
/* The anchor around a place, which is the corner of its pixels of an input of that size. */
void th_anchor_at(const struct th_grid *g, struct th_size size, int64_t place,
    const float half[2], float anchor[4]);

/* A region proposal network's: 8 strides squared, heights over widths of 1/2, 1 and 2; row
 * 3 place + i of the level (torchvision's sizes 32 to 512 at strides 4 to 64). */
enum { TH_RPN_ANCHORS = 3 };
void th_rpn_anchor(
    const struct th_grid *g, struct th_size size, int64_t row, float anchor[4]);

#endif
