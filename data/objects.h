/* SPDX-License-Identifier: Apache-2.0
 * Objects in images, and the boxes around them. Coordinates are continuous pixels of the
 * image as it is shown (after EXIF's orientation): 0 is the left or upper edge of the first
 * pixel. They are the file's numbers; VOC's are not moved by one. */
#ifndef TH_OBJECTS_H
#define TH_OBJECTS_H

#include "box.h"

#include <stdbool.h>
#include <stdint.h>

/* What somebody drew a box around. */
struct th_object {
    float box[4]; /* x0, y0, x1, y1; x1 > x0, y1 > y0, finite */
    int32_t class;
    bool
        crowd; /* COCO's iscrowd, a region of many; VOC's difficult: not trained on, and
                   neither a miss nor a false alarm */
    float area; /* what COCO's size ranges go by: the annotated area, else the box's */
};

/* What a detector says that there is. */
struct th_detection {
    int64_t image; /* index of a sample; -1: none */
    int32_t class;
    float score; /* finite */
    float box[4];
};

/* Of all but the class, whose number means something in its dataset only. */
uint64_t th_object_hash(const struct th_object *o, uint64_t seed);

#endif
