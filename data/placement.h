/* SPDX-License-Identifier: Apache-2.0
 * Where a picture is on a network's input, and its objects with it. A detector sees the
 * whole picture (th_preprocess.fit): as large as the input has room for, the rest of the input
 * is 0 after normalising. On a square, torchvision's GeneralizedRCNNTransform with min_size and
 * max_size both N and N divisible by 32. */
#ifndef TH_PLACEMENT_H
#define TH_PLACEMENT_H

#include "image.h"
#include "objects.h"
#include "size.h"

/* `from` of a picture, resized to w x h of `to`, with its left and right exchanged or not. */
struct th_placement {
    struct th_box from, to; /* of the picture; of the input */
    bool mirror, flip;      /* left and right, up and down: within `to` */
    bool by_centre;         /* objects whose centre is not shown are left out, too */
};

/* The whole of a w x h picture at the upper left of an input. */
struct th_placement th_placement_whole(int w, int h, struct th_size input);

/* Whether the centre of x0, y0, x1, y1 lies in that part. */
bool th_box_shows_centre(const struct th_box *part, const float box[4]);

/* Objects of the picture as objects of the input: cut at the edges of what is shown. Left
 * out: crowds, what is not shown, and of what was cut, that of which less than a tenth is
 * shown. Returns how many; `out` has place for n. */
int32_t th_placement_objects(const struct th_placement *p,
    const struct th_object *objects, int32_t n, struct th_object *out);

/* A box of the input as a box of the picture, cut at its edges. */
void th_placement_back(
    const struct th_placement *p, int w, int h, const float box[4], float out[4]);

#endif
