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

/* ---- Several: buckets of pictures ---- */

enum { TH_MAX_SIZES = 8 };

/* Sizes that inputs may have, the network's own first; no two are the same. */
struct th_sizes {
    int n;
    struct th_size at[TH_MAX_SIZES];
};

/* Which of them shows a whole w x h picture largest; of equal ones that of fewest pixels, then
 * the first. Of a picture without a size the first. */
int th_sizes_choose(const struct th_sizes *s, int w, int h);

/* "320x256,256x320". */
struct th_sizes_text {
    char text[TH_MAX_SIZES * sizeof(struct th_size_text)];
};
struct th_sizes_text th_sizes_text(const struct th_sizes *s);

/* Of such a text; false where there are too many, or one twice. */
bool th_sizes_parse(const char *text, struct th_sizes *out);

#endif
