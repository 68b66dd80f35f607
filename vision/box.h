/* SPDX-License-Identifier: Apache-2.0
 * Boxes x0, y0, x1, y1: how large, and how far two are one. */
#ifndef TH_BOX_H
#define TH_BOX_H

#include <math.h>

/* What the arithmetic of boxes is declared with, here and in kernels/boxes.h: device code,
 * which is compiled from the same lines, defines another. */
#ifndef TH_BOX_FN
#define TH_BOX_FN static inline
#endif

TH_BOX_FN float th_box_area(const float box[4])
{
    return (box[2] - box[0]) * (box[3] - box[1]);
}

/* Intersection over union; 0 where both are empty. */
TH_BOX_FN float th_box_iou(const float a[4], const float b[4])
{
    float w = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
    float h = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    float both = w > 0 && h > 0 ? w * h : 0;
    float all = th_box_area(a) + th_box_area(b) - both;
    return all > 0 ? both / all : 0;
}

#endif
