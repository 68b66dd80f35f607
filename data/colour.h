/* SPDX-License-Identifier: Apache-2.0
 * Changes to the colours of an image, in place: the arithmetic of Pillow's ImageEnhance
 * and ImageOps and of torchvision's adjust_hue, to the bit. Draws nothing. */
#ifndef TH_COLOUR_H
#define TH_COLOUR_H

#include "image.h"

/* Away from (factor above 1) or towards (below) black, the mean gray, each pixel's gray,
 * and a smoothed copy; 1 leaves an image as it is. `copy` is scratch of the image's
 * bytes. */
void th_adjust_brightness(struct th_image *image, double factor);
void th_adjust_contrast(struct th_image *image, double factor);
void th_adjust_saturation(struct th_image *image, double factor);
void th_adjust_sharpness(struct th_image *image, double factor, uint8_t *copy);

/* Turn the hue by a share of the circle, -0.5 to 0.5. HSV in 8 bits loses a little even
 * where nothing turns, as torchvision's does. */
void th_adjust_hue(struct th_image *image, double turn);

/* Keep the upper `bits` of each value, 1 to 8. */
void th_posterize(struct th_image *image, int bits);
/* Invert values from the threshold on. */
void th_solarize(struct th_image *image, double threshold);
/* Stretch each channel to 0..255; even out its histogram. */
void th_autocontrast(struct th_image *image);
void th_equalize(struct th_image *image);

#endif
