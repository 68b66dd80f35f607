/* SPDX-License-Identifier: Apache-2.0
 * Moves of an image's pixels within its frame, nearest neighbour, black outside: Pillow's
 * transform and rotate with the matrices of torchvision's affine, to the bit. In place;
 * `copy` is scratch of the image's bytes. Draws nothing. */
#ifndef TH_AFFINE_H
#define TH_AFFINE_H

#include "image.h"

/* Pixels are taken from (x + shear * y, y), or (x, y + shear * x): the upper left corner
 * stays. */
void th_shear_x(struct th_image *image, double shear, uint8_t *copy);
void th_shear_y(struct th_image *image, double shear, uint8_t *copy);
/* To the right, downwards, by whole pixels. */
void th_translate(struct th_image *image, int dx, int dy, uint8_t *copy);
/* Counter-clockwise about the centre, by degrees. */
void th_rotate(struct th_image *image, double degrees, uint8_t *copy);

void th_mirror(struct th_image *image); /* left and right change places */
void th_flip(struct th_image *image);   /* up and down do */

#endif
