/* SPDX-License-Identifier: Apache-2.0
 * Antialiased resize of 8-bit images, bit-identical to Pillow's Image.resize. */
#ifndef TH_RESIZE_H
#define TH_RESIZE_H

#include "thaw.h"

#include <stdint.h>

enum th_filter { TH_BILINEAR, TH_BICUBIC };

/* Rows of interleaved pixels, [h][w][3], without padding. */
struct th_image {
    int w, h;
    uint8_t *rgb;
};

/* dst->w and dst->h say the wanted size and dst->rgb holds w*h*3 bytes; src and dst do
 * not overlap. THAW_E_USAGE for an extent below 1, THAW_E_MEMORY. */
thaw_status th_image_resize(
    const struct th_image *src, enum th_filter filter, struct th_image *dst);

#endif
