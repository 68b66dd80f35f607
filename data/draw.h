/* SPDX-License-Identifier: Apache-2.0
 * Boxes and labels on an image, for people to look at. Everything is cut at its edges. */
#ifndef TH_DRAW_H
#define TH_DRAW_H

#include "image.h"

enum { TH_GLYPH_W = 6, TH_GLYPH_H = 8 }; /* of a character, with the space behind it */

/* A class's colour: neighbours far apart, the same in every image. */
void th_draw_colour(int class, uint8_t rgb[3]);

/* The outline of x0, y0, x1, y1, `width` pixels inwards. */
void th_draw_outline(
    struct th_image *image, const float box[4], int width, const uint8_t rgb[3]);

/* UTF-8 in black or white, whichever is seen, on a bar of that colour whose upper left
 * corner is x, y; a dot of a letter is scale x scale pixels. What is not ASCII is "?". */
void th_draw_label(struct th_image *image, int x, int y, int scale, const char *text,
    const uint8_t rgb[3]);

/* Pixels of that bar. */
int th_draw_label_width(const char *text, int scale);
int th_draw_label_height(int scale);

#endif
