/* SPDX-License-Identifier: Apache-2.0
 * Owns image memory, the choice of a decoder, and turning and flattening pixels. Knows
 * no image format. */
#include "image.h"

#include "error.h"
#include "file.h"
#include "mem.h"

#include <string.h>

enum { MAX_FILE_BYTES = 1 << 30, CHANNELS = 3 };

thaw_status th_image_init(struct th_image *image, int w, int h)
{
    *image = (struct th_image){0};
    if (w < 1 || h < 1)
        return th_fail(THAW_E_DATA, "the image is empty (%dx%d)", w, h);
    if (w > TH_IMAGE_MAX_SIDE || h > TH_IMAGE_MAX_SIDE ||
        (int64_t)w * h > TH_IMAGE_MAX_PIXELS)
        return th_fail(THAW_E_DATA,
            "the image claims %dx%d pixels; at most %d a side and %d in all are read",
            w, h, TH_IMAGE_MAX_SIDE, TH_IMAGE_MAX_PIXELS);
    image->rgb = th_alloc((size_t)w * (size_t)h, CHANNELS);
    if (!image->rgb)
        return THAW_E_MEMORY;
    image->w = w;
    image->h = h;
    return THAW_OK;
}

void th_image_release(struct th_image *image)
{
    th_free(image->rgb);
    *image = (struct th_image){0};
}

/* Pillow's division by 255, rounded. */
static inline unsigned div255(unsigned x)
{
    x += 128;
    return ((x >> 8) + x) >> 8;
}

void th_image_over_white(const uint8_t *rgba, size_t n_pixels, uint8_t *rgb)
{
    for (size_t i = 0; i < n_pixels; i++) {
        unsigned alpha = rgba[i * 4 + 3];
        for (size_t c = 0; c < CHANNELS; c++)
            rgb[i * CHANNELS + c] =
                (uint8_t)div255(255 * (255 - alpha) + rgba[i * 4 + c] * alpha);
    }
}

thaw_status th_image_orient(struct th_image *image, int orientation)
{
    if (orientation < 2 || orientation > 8)
        return THAW_OK;
    bool transpose = orientation >= 5;
    /* Where the turned image's x and y run backwards in the source. */
    bool back_x =
        orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool back_y =
        orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    struct th_image turned;
    TRY(th_image_init(
        &turned, transpose ? image->h : image->w, transpose ? image->w : image->h));
    uint8_t *to = turned.rgb;
    for (int y = 0; y < turned.h; y++)
        for (int x = 0; x < turned.w; x++, to += CHANNELS) {
            int u = back_x ? turned.w - 1 - x : x, v = back_y ? turned.h - 1 - y : y;
            size_t at = transpose ? (size_t)u * (size_t)image->w + (size_t)v
                                  : (size_t)v * (size_t)image->w + (size_t)u;
            memcpy(to, image->rgb + at * CHANNELS, CHANNELS);
        }
    th_image_release(image);
    *image = turned;
    return THAW_OK;
}

/* A name for common types that no decoder here reads, so that the sentence helps. */
static const char *unread_type(const uint8_t *bytes, size_t n)
{
    if (n >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp(bytes + 8, "WEBP", 4))
        return "it is WebP; convert it to JPEG or PNG";
    if (n >= 12 && !memcmp(bytes + 4, "ftyp", 4))
        return "it is HEIC, AVIF or a video; convert it to JPEG or PNG";
    if (n >= 4 && (!memcmp(bytes, "II*\0", 4) || !memcmp(bytes, "MM\0*", 4)))
        return "it is TIFF; convert it to JPEG or PNG";
    return "its first bytes are none of JPEG, PNG, BMP, GIF, TGA or PNM";
}

thaw_status th_image_decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    bool unused;
    damaged = damaged ? damaged : &unused;
    *damaged = false;
    *image = (struct th_image){0};
    if (n_bytes == 0)
        return th_fail(THAW_E_DATA, "the file is empty");
    for (const struct th_decoder *const *d = th_decoder_list; *d; d++)
        if ((*d)->recognises(bytes, n_bytes)) {
            thaw_status status = (*d)->decode(bytes, n_bytes, image, damaged);
            if (status != THAW_OK)
                th_image_release(image);
            return status;
        }
    return th_fail(
        THAW_E_DATA, "not a readable image: %s", unread_type(bytes, n_bytes));
}

thaw_status th_image_read(const char *path, struct th_image *image, bool *damaged)
{
    *image = (struct th_image){0};
    if (damaged)
        *damaged = false;
    uint8_t *bytes;
    size_t n_bytes;
    TRY(th_file_read(path, MAX_FILE_BYTES, &bytes, &n_bytes));
    thaw_status status = th_image_decode(bytes, n_bytes, image, damaged);
    th_free(bytes);
    return status == THAW_OK ? THAW_OK : th_fail(status, "%s: %s", path, thaw_error());
}
