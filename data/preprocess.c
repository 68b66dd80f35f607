/* SPDX-License-Identifier: Apache-2.0
 * Owns the evaluation preprocessing. Every rounding is torchvision's, so that results
 * compare with PyTorch's to the last bit. Draws nothing: see augment.c. */
#include "preprocess.h"

#include "error.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 3 };

struct th_preprocess th_preprocess_imagenet(int size)
{
    return (struct th_preprocess){.size = size,
        .crop = 0.875,
        .filter = TH_BILINEAR,
        .mean = {0.485f, 0.456f, 0.406f},
        .std = {0.229f, 0.224f, 0.225f}};
}

thaw_status th_preprocess_check(const struct th_preprocess *p)
{
    if (p->size < 1 || p->size > TH_IMAGE_MAX_SIDE)
        return th_fail(
            THAW_E_USAGE, "image size %d: give 1 to %d", p->size, TH_IMAGE_MAX_SIDE);
    if (!(p->crop > 0 && p->crop <= 1) || p->size / p->crop > TH_IMAGE_MAX_SIDE)
        return th_fail(
            THAW_E_USAGE, "crop %g: give a fraction above 0 and up to 1", p->crop);
    for (int c = 0; c < CHANNELS; c++)
        if (!isfinite(p->mean[c]) || !isfinite(p->std[c]) || !(p->std[c] > 0))
            return th_fail(THAW_E_USAGE,
                "mean %g, std %g: give finite values, std above 0", (double)p->mean[c],
                (double)p->std[c]);
    return THAW_OK;
}

/* The offset of n out of `of` pixels: int(round((of - n) / 2.0)), half to even. */
static int centre(int of, int n)
{
    return (int)lrint((of - n) / 2.0);
}

thaw_status th_preprocess_resize(
    const struct th_preprocess *p, int w, int h, struct th_resize *r)
{
    int shorter = (int)floor(p->size / p->crop);
    int narrow = w < h ? w : h, wide = w < h ? h : w;
    double longer = (double)((int64_t)shorter * wide) / narrow;
    if (narrow < 1 || longer >= INT32_MAX)
        return th_fail(
            THAW_E_DATA, "an image of %dx%d is too narrow to be resized", w, h);
    *r = (struct th_resize){.from = {0, 0, w, h}, .filter = p->filter};
    r->w = w <= h ? shorter : (int)longer;
    r->h = w <= h ? (int)longer : shorter;
    r->part =
        (struct th_box){centre(r->w, p->size), centre(r->h, p->size), p->size, p->size};
    return THAW_OK;
}

thaw_status th_preprocess_pixels(
    const struct th_preprocess *p, const struct th_image *src, uint8_t *rgb)
{
    struct th_resize r;
    TRY(th_preprocess_resize(p, src->w, src->h, &r));
    return th_image_resize_part(src, &r, rgb, (size_t)p->size * CHANNELS);
}

void th_preprocess_normalise(
    const struct th_preprocess *p, const uint8_t *rgb, bool mirror, float *out)
{
    float value[CHANNELS][256];
    for (int c = 0; c < CHANNELS; c++)
        for (int v = 0; v < 256; v++)
            value[c][v] = ((float)v / 255.0f - p->mean[c]) / p->std[c];
    size_t n = (size_t)p->size;
    for (size_t y = 0; y < n; y++)
        for (size_t x = 0; x < n; x++) {
            const uint8_t *from = rgb + (y * n + (mirror ? n - 1 - x : x)) * CHANNELS;
            for (size_t c = 0; c < CHANNELS; c++)
                out[(c * n + y) * n + x] = value[c][from[c]];
        }
}

struct th_resize th_placement_resize(
    const struct th_preprocess *p, const struct th_placement *placement)
{
    return (struct th_resize){.from = placement->from,
        .w = placement->to.w,
        .h = placement->to.h,
        .part = {0, 0, placement->to.w, placement->to.h},
        .filter = p->filter};
}

void th_preprocess_clear(int n, struct th_box to, float *out)
{
    for (int c = 0; c < CHANNELS; c++)
        for (int y = 0; y < n; y++, out += n) {
            bool inside = y >= to.y && y < to.y + to.h;
            int left = inside ? to.x : n, right = to.x + to.w;
            memset(out, 0, (size_t)left * sizeof *out);
            if (inside)
                memset(out + right, 0, (size_t)(n - right) * sizeof *out);
        }
}

thaw_status th_preprocess_input(
    const struct th_preprocess *p, const struct th_image *src, uint8_t *rgb, float *out)
{
    struct th_placement place = th_placement_whole(src->w, src->h, p->size);
    struct th_resize r = th_placement_resize(p, &place);
    size_t row = (size_t)p->size * CHANNELS;
    if (p->fit)
        memset(rgb, 0, row * (size_t)p->size);
    TRY(p->fit ? th_image_resize_part(src, &r, rgb, row)
               : th_preprocess_pixels(p, src, rgb));
    th_preprocess_normalise(p, rgb, false, out);
    if (p->fit)
        th_preprocess_clear(p->size, place.to, out);
    return THAW_OK;
}
