/* SPDX-License-Identifier: Apache-2.0
 * Where roi_align reads: the map of a box, and the places around the points of a window.
 * Formulas: kernels/roi.c. */
#ifndef TH_ROI_POINTS_H
#define TH_ROI_POINTS_H

#include "op.h"

enum { TH_MAX_SAMPLING = 4, TH_MAX_CORNERS = 4 * TH_MAX_SAMPLING * TH_MAX_SAMPLING };

/* A place of a map, and its share of a value. */
struct th_corner {
    int64_t at; /* row times width, plus column */
    double share;
};

/* Whether there is a box, and the index of its map. */
static inline bool th_roi_is(const float box[4])
{
    return box[0] >= 0;
}
int th_roi_map(const struct th_attr_roi *a, const float box[4]);

/* What window (p, q) of a box reads of its h x w map; how many places. */
int th_roi_corners(const struct th_attr_roi *a, const float box[4], int64_t h,
    int64_t w, int p, int q, struct th_corner corner[TH_MAX_CORNERS]);

#endif
