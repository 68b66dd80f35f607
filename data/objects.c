/* SPDX-License-Identifier: Apache-2.0
 * Owns what tells two objects apart, and how far two boxes are one. */
#include "objects.h"

#include "tensor.h"

#include <math.h>

uint64_t th_object_hash(const struct th_object *o, uint64_t seed)
{
    const float value[6] = {
        o->box[0], o->box[1], o->box[2], o->box[3], o->area, o->crowd};
    return th_hash(value, sizeof value, seed);
}

float th_box_iou(const float a[4], const float b[4])
{
    float w = fminf(a[2], b[2]) - fmaxf(a[0], b[0]);
    float h = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    float both = w > 0 && h > 0 ? w * h : 0;
    float all = th_box_area(a) + th_box_area(b) - both;
    return all > 0 ? both / all : 0;
}
