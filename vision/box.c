/* SPDX-License-Identifier: Apache-2.0
 * Owns how far two boxes are one. */
#include "box.h"

#include <math.h>

float th_box_iou(const float a[4], const float b[4])
{
    float w = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
    float h = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    float both = w > 0 && h > 0 ? w * h : 0;
    float all = th_box_area(a) + th_box_area(b) - both;
    return all > 0 ? both / all : 0;
}
