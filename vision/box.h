/* SPDX-License-Identifier: Apache-2.0
 * Boxes x0, y0, x1, y1: how large, and how far two are one. */
#ifndef TH_BOX_H
#define TH_BOX_H

static inline float th_box_area(const float box[4])
{
    return (box[2] - box[0]) * (box[3] - box[1]);
}

/* Intersection over union; 0 where both are empty. */
float th_box_iou(const float a[4], const float b[4]);

#endif
