/* SPDX-License-Identifier: Apache-2.0
 * Antialiased resize of 8-bit images, bit-identical to Pillow's Image.resize. */
#ifndef TH_RESIZE_H
#define TH_RESIZE_H

#include "image.h"

enum th_filter { TH_BILINEAR, TH_BICUBIC };

/* What to compute: Pillow's image.crop(from).resize((w, h), filter).crop(part), without
 * touching a pixel that the part does not need. */
struct th_resize {
    struct th_box from;
    int w, h;
    struct th_box part;
    enum th_filter filter;
};

/* Where the resize works: memory kept from one to the next, and the loops. Zero: none
 * yet, and the fastest of the machine; all give the same bits. */
struct th_resizer {
    struct th_block memory;
    const struct th_resize_pass *pass;
};

/* The pixels of the picture that the resize reads. THAW_E_USAGE for empty extents or
 * boxes that stick out of a w x h picture. */
thaw_status th_resize_reads(
    const struct th_resize *r, int w, int h, struct th_box *box);

/* Row y of the part goes to dst + y * dst_row_bytes, 3 bytes a pixel. The picture holds
 * what th_resize_reads says; it and dst do not overlap. THAW_E_USAGE, THAW_E_MEMORY. */
thaw_status th_picture_resize(struct th_resizer *resizer, const struct th_picture *src,
    const struct th_resize *r, uint8_t *dst, size_t dst_row_bytes);

/* Likewise for a whole image, with memory for this call alone. */
thaw_status th_image_resize_part(const struct th_image *src, const struct th_resize *r,
    uint8_t *dst, size_t dst_row_bytes);

/* The whole image: dst->w and dst->h say the wanted size and dst->rgb holds w*h*3 bytes. */
thaw_status th_image_resize(
    const struct th_image *src, enum th_filter filter, struct th_image *dst);

#endif
