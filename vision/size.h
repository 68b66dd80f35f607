/* SPDX-License-Identifier: Apache-2.0
 * Width and height, in pixels: of pictures, and of networks' inputs. */
#ifndef TH_SIZE_H
#define TH_SIZE_H

#include <stdbool.h>
#include <stddef.h>

struct th_size {
    int w, h;
};

static inline bool th_size_same(struct th_size a, struct th_size b)
{
    return a.w == b.w && a.h == b.h;
}

static inline size_t th_size_pixels(struct th_size s)
{
    return (size_t)s.w * (size_t)s.h;
}

/* As it is written: "320" of a square, "320x240" where width and height differ. */
struct th_size_text {
    char text[24];
};
struct th_size_text th_size_text(struct th_size s);

/* Of such a text, or "320x320"; no signs, no more than seven digits a side. */
bool th_size_parse(const char *text, struct th_size *out);

#endif
