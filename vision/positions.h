/* SPDX-License-Identifier: Apache-2.0
 * Position embeddings of one grid of patches from those of another. */
#ifndef TH_POSITIONS_H
#define TH_POSITIONS_H

#include "tensor.h"

/* Rows [before + g*g][d] become rows [before + h*h][d]: the first `before` are copied, the
 * grid is resized, bicubic and antialiased, as timm's resample_abs_pos_embed does with
 * torch's interpolate. False where the shapes are not such: [1][rows][d] both, with a
 * square of rows behind `before`. `to` NULL only asks. */
bool th_positions_refit(
    const struct th_tensor *from, const struct th_shape *shape, int before, float *to);

#endif
