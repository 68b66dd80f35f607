/* SPDX-License-Identifier: Apache-2.0
 * Owns the evaluation preprocessing. Every rounding is torchvision's, so that results
 * compare with PyTorch's to the last bit. Draws nothing: see augment.c. */
#include "preprocess.h"

#include "error.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 3 };

struct th_preprocess th_preprocess_imagenet(int n)
{
    return (struct th_preprocess){.size = {n, n},
        .crop = 0.875,
        .filter = TH_BILINEAR,
        .mean = {0.485f, 0.456f, 0.406f},
        .std = {0.229f, 0.224f, 0.225f}};
}

thaw_status th_preprocess_check(const struct th_preprocess *p)
{
    int most = p->size.w > p->size.h ? p->size.w : p->size.h;
    int least = p->size.w < p->size.h ? p->size.w : p->size.h;
    if (least < 1 || most > TH_IMAGE_MAX_SIDE)
        return th_fail(THAW_E_USAGE, "image size %d: give 1 to %d",
            least < 1 ? least : most, TH_IMAGE_MAX_SIDE);
    if (!(p->crop > 0 && p->crop <= 1) || most / p->crop > TH_IMAGE_MAX_SIDE)
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
    int64_t cover_w = (int64_t)floor(p->size.w / p->crop);
    int64_t cover_h = (int64_t)floor(p->size.h / p->crop);
    bool by_width = w * cover_h <= h * cover_w; /* the picture is the narrower one */
    double longer = by_width ? (double)(cover_w * h) / w : (double)(cover_h * w) / h;
    if (w < 1 || h < 1 || longer >= INT32_MAX)
        return th_fail(
            THAW_E_DATA, "an image of %dx%d is too narrow to be resized", w, h);
    *r = (struct th_resize){.from = {0, 0, w, h}, .filter = p->filter};
    r->w = by_width ? (int)cover_w : (int)longer;
    r->h = by_width ? (int)longer : (int)cover_h;
    r->part = (struct th_box){
        centre(r->w, p->size.w), centre(r->h, p->size.h), p->size.w, p->size.h};
    return THAW_OK;
}

thaw_status th_preprocess_pixels(
    const struct th_preprocess *p, const struct th_image *src, uint8_t *rgb)
{
    struct th_resize r;
    TRY(th_preprocess_resize(p, src->w, src->h, &r));
    return th_image_resize_part(src, &r, rgb, (size_t)p->size.w * CHANNELS);
}

void th_preprocess_normalise(
    const struct th_preprocess *p, const uint8_t *rgb, bool mirror, float *out)
{
    float value[CHANNELS][256];
    for (int c = 0; c < CHANNELS; c++)
        for (int v = 0; v < 256; v++)
            value[c][v] = ((float)v / 255.0f - p->mean[c]) / p->std[c];
    size_t w = (size_t)p->size.w, h = (size_t)p->size.h;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) {
            const uint8_t *from = rgb + (y * w + (mirror ? w - 1 - x : x)) * CHANNELS;
            for (size_t c = 0; c < CHANNELS; c++)
                out[(c * h + y) * w + x] = value[c][from[c]];
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

void th_preprocess_clear(struct th_size size, struct th_box to, float *out)
{
    for (int c = 0; c < CHANNELS; c++)
        for (int y = 0; y < size.h; y++, out += size.w) {
            bool inside = y >= to.y && y < to.y + to.h;
            int left = inside ? to.x : size.w, right = to.x + to.w;
            memset(out, 0, (size_t)left * sizeof *out);
            if (inside)
                memset(out + right, 0, (size_t)(size.w - right) * sizeof *out);
        }
}

thaw_status th_preprocess_input(
    const struct th_preprocess *p, const struct th_image *src, uint8_t *rgb, float *out)
{
    struct th_placement place = th_placement_whole(src->w, src->h, p->size);
    struct th_resize r = th_placement_resize(p, &place);
    size_t row = (size_t)p->size.w * CHANNELS;
    if (p->fit)
        memset(rgb, 0, row * (size_t)p->size.h);
    TRY(p->fit ? th_image_resize_part(src, &r, rgb, row)
               : th_preprocess_pixels(p, src, rgb));
    th_preprocess_normalise(p, rgb, false, out);
    if (p->fit)
        th_preprocess_clear(p->size, place.to, out);
    return THAW_OK;
}
