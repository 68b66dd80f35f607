/* SPDX-License-Identifier: Apache-2.0
 * Anchors: boxes of fixed sizes at every place of a pyramid, and which object each is to
 * find. As torchvision's AnchorGenerator and Matcher, to the bit of fp32. */
#ifndef TH_ANCHORS_H
#define TH_ANCHORS_H

#include "detector.h"

enum { TH_ANCHORS_A_PLACE = 9 };

/* RetinaNet's (Lin et al. 2017, arXiv:1708.02002, section 4): of each place three ratios of
 * height to width, 1/2, 1, 2, times three sizes, 4 strides times 1, 2^(1/3), 2^(2/3), rounded.
 * anchor [rows][4]; p->anchors is TH_ANCHORS_A_PLACE. */
void th_anchors(const struct th_pyramid *p, struct th_size size, float *anchor);

/* match[row]: the object of the largest IoU where that is `high` or more, or where the row has
 * the largest IoU of all rows with some object; else -1 below `low`, -2 from there on. */
void th_anchors_match(const float *anchor, int64_t rows,
    const struct th_object *objects, int32_t n, float low, float high, int32_t *match);

/* th_detector.assign of what predicts deltas: target [0] the class, [1] the box's code. */
void th_anchors_assign(const struct th_pyramid *p, const float *anchor,
    const struct th_object *objects, int32_t n, uint64_t key, void *const *target);

#endif
