/* SPDX-License-Identifier: Apache-2.0
 * Antialiased resize of 8-bit images, bit-identical to Pillow's Image.resize. */
#ifndef TH_RESIZE_H
#define TH_RESIZE_H

#include "image.h"

enum th_filter { TH_BILINEAR, TH_BICUBIC };

struct th_box {
    int x, y, w, h;
};

/* What to compute: Pillow's image.crop(from).resize((w, h), filter).crop(part), without
 * touching a pixel that the part does not need. */
struct th_resize {
    struct th_box from;
    int w, h;
    struct th_box part;
    enum th_filter filter;
};

/* Row y of the part goes to dst + y * dst_row_bytes, 3 bytes a pixel. src and dst do not
 * overlap. THAW_E_USAGE for empty extents or boxes that stick out, THAW_E_MEMORY. */
thaw_status th_image_resize_part(const struct th_image *src, const struct th_resize *r,
    uint8_t *dst, size_t dst_row_bytes);

/* The whole image: dst->w and dst->h say the wanted size and dst->rgb holds w*h*3 bytes. */
thaw_status th_image_resize(
    const struct th_image *src, enum th_filter filter, struct th_image *dst);

#endif
