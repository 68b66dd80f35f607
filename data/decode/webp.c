/* SPDX-License-Identifier: Apache-2.0
 * WebP through libwebp: lossy, lossless, with transparency (laid over white). Animations
 * are refused. Sizes are checked before pixels are allocated; a file that ends early is
 * refused. EXIF orientation is applied; the chunk that holds it is looked for here.
 *
 *     "RIFF" | u32 size | "WEBP" | chunks: four letters, u32 size, bytes, padded to even */
#include "error.h"
#include "exif.h"
#include "image.h"
#include "mem.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <webp/decode.h>

enum { RIFF = 12, CHUNK = 8 };

static size_t le32(const uint8_t *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

/* Of the first EXIF chunk; 1 where there is none. */
static int find_orientation(const uint8_t *bytes, size_t n)
{
    for (size_t at = RIFF; n - at >= CHUNK;) {
        size_t size = le32(bytes + at + 4);
        if (size > n - at - CHUNK)
            return 1;
        if (memcmp(bytes + at, "EXIF", 4) == 0)
            return th_exif_orientation(bytes + at + CHUNK, size);
        at += CHUNK + size + (size & 1);
        if (at > n)
            return 1;
    }
    return 1;
}

static thaw_status damaged_file(void)
{
    return th_fail(THAW_E_DATA, "damaged WebP: libwebp cannot decode it to its end");
}

/* image has the size that the features name. */
static thaw_status read_pixels(
    const uint8_t *bytes, size_t n, bool has_alpha, struct th_image *image)
{
    size_t pixels = (size_t)image->w * (size_t)image->h;
    if (!has_alpha)
        return WebPDecodeRGBInto(bytes, n, image->rgb, pixels * 3, image->w * 3)
                   ? THAW_OK
                   : damaged_file();
    uint8_t *rgba = th_alloc(pixels, 4);
    if (!rgba)
        return THAW_E_MEMORY;
    thaw_status status = WebPDecodeRGBAInto(bytes, n, rgba, pixels * 4, image->w * 4)
                             ? THAW_OK
                             : damaged_file();
    if (status == THAW_OK)
        th_image_over_white(rgba, pixels, image->rgb);
    th_free(rgba);
    return status;
}

static thaw_status decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    WebPBitstreamFeatures f;
    (void)damaged;
    if (WebPGetFeatures(bytes, n_bytes, &f) != VP8_STATUS_OK)
        return th_fail(THAW_E_DATA, "damaged WebP: its header makes no sense");
    if (f.has_animation)
        return th_fail(
            THAW_E_DATA, "an animated WebP: take one of its pictures, as JPEG or PNG");
    TRY(th_image_check_size(f.width, f.height));
    TRY(th_image_reuse(image, f.width, f.height));
    TRY(read_pixels(bytes, n_bytes, f.has_alpha, image));
    return th_image_orient(image, find_orientation(bytes, n_bytes));
}

static bool recognises(const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes >= RIFF && memcmp(bytes, "RIFF", 4) == 0 &&
           memcmp(bytes + 8, "WEBP", 4) == 0;
}

static void library(char *text, size_t size)
{
    int version = WebPGetDecoderVersion(); /* a byte each */
    snprintf(text, size, "libwebp %d.%d.%d", version >> 16, version >> 8 & 255,
        version & 255);
}

const struct th_decoder th_decoder_webp = {
    .name = "webp",
    .endings = "webp",
    .recognises = recognises,
    .decode = decode,
    .library = library,
};
