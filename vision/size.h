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

#endif
