/* SPDX-License-Identifier: Apache-2.0
 * Position embeddings of one grid of patches from those of another. */
#ifndef TH_POSITIONS_H
#define TH_POSITIONS_H

#include "size.h"
#include "tensor.h"

/* Embeddings [1][before + grid][d] of the patches of an input; of its size only the ratio of
 * the sides is looked at, which is the grid's. */
struct th_positions {
    const struct th_shape *shape;
    struct th_size input;
    int before;
};

/* The first `before` rows, of which both have as many, are copied, the grid is resized, bicubic
 * and antialiased, as timm's resample_abs_pos_embed does with torch's interpolate. False where
 * the shapes are not such. `to` NULL only asks. */
bool th_positions_refit(const struct th_positions *from, const float *values,
    const struct th_positions *grid, float *to);

#endif
