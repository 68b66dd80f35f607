/* SPDX-License-Identifier: Apache-2.0
 * Owns image memory, the choice of a decoder, and turning and flattening pixels. Knows
 * no image format. */
#include "image.h"

#include "error.h"
#include "file.h"
#include "mem.h"

#include <string.h>

enum { MAX_FILE_BYTES = 1 << 30, CHANNELS = 3 };

thaw_status th_image_check_size(int w, int h)
{
    if (w < 1 || h < 1)
        return th_fail(THAW_E_DATA, "the image is empty (%dx%d)", w, h);
    if (w > TH_IMAGE_MAX_SIDE || h > TH_IMAGE_MAX_SIDE ||
        (int64_t)w * h > TH_IMAGE_MAX_PIXELS)
        return th_fail(THAW_E_DATA,
            "the image claims %dx%d pixels; at most %d a side and %d in all are read",
            w, h, TH_IMAGE_MAX_SIDE, TH_IMAGE_MAX_PIXELS);
    return THAW_OK;
}

thaw_status th_image_reuse(struct th_image *image, int w, int h)
{
    TRY(th_image_check_size(w, h));
    struct th_block block = {image->rgb, image->bytes};
    image->rgb = th_block_take(&block, (size_t)w * (size_t)h * CHANNELS);
    image->bytes = block.bytes;
    image->w = image->rgb ? w : 0;
    image->h = image->rgb ? h : 0;
    return image->rgb ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_image_init(struct th_image *image, int w, int h)
{
    *image = (struct th_image){0};
    return th_image_reuse(image, w, h);
}

void th_image_release(struct th_image *image)
{
    th_free(image->rgb);
    *image = (struct th_image){0};
}

void th_image_reader_release(struct th_image_reader *reader)
{
    th_block_release(&reader->file);
    th_image_release(&reader->picture.held);
    *reader = (struct th_image_reader){0};
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
    if (n >= 12 && !memcmp(bytes + 4, "ftyp", 4))
        return "it is HEIC, AVIF or a video; convert it to JPEG or PNG";
    if (n >= 4 && (!memcmp(bytes, "II*\0", 4) || !memcmp(bytes, "MM\0*", 4)))
        return "it is TIFF; convert it to JPEG or PNG";
    return "its first bytes are none of JPEG, PNG, WebP, BMP, GIF, TGA or PNM";
}

/* The decoder of a file's first bytes, or NULL and why there is none. */
static const struct th_decoder *decoder_of(const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes == 0) {
        th_fail(THAW_E_DATA, "the file is empty");
        return NULL;
    }
    for (const struct th_decoder *const *d = th_decoder_list; *d; d++)
        if ((*d)->recognises(bytes, n_bytes))
            return *d;
    th_fail(THAW_E_DATA, "not a readable image: %s", unread_type(bytes, n_bytes));
    return NULL;
}

thaw_status th_picture_decode(const uint8_t *bytes, size_t n_bytes,
    const struct th_wanted *wanted, struct th_picture *picture, bool *damaged)
{
    const struct th_decoder *d = decoder_of(bytes, n_bytes);
    thaw_status status = THAW_E_DATA;
    *damaged = false;
    if (d && d->decode_part && wanted) {
        status = d->decode_part(bytes, n_bytes, wanted, picture, damaged);
    } else if (d) {
        status = d->decode(bytes, n_bytes, &picture->held, damaged);
        *picture = th_picture_of(&picture->held);
    }
    if (status != THAW_OK)
        th_image_release(&picture->held);
    return status;
}

thaw_status th_image_decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    bool unused;
    struct th_picture picture = {0};
    thaw_status status =
        th_picture_decode(bytes, n_bytes, NULL, &picture, damaged ? damaged : &unused);
    *image = picture.held;
    return status;
}

thaw_status th_image_read_part(struct th_image_reader *reader, const char *path,
    const struct th_wanted *wanted, bool *damaged)
{
    uint8_t *bytes;
    size_t n_bytes;
    *damaged = false;
    TRY(th_file_read_into(path, MAX_FILE_BYTES, &reader->file, &bytes, &n_bytes));
    thaw_status status =
        th_picture_decode(bytes, n_bytes, wanted, &reader->picture, damaged);
    return status == THAW_OK ? THAW_OK : th_fail(status, "%s: %s", path, thaw_error());
}

thaw_status th_image_read(const char *path, struct th_image *image, bool *damaged)
{
    bool unused;
    struct th_image_reader reader = {0};
    thaw_status status =
        th_image_read_part(&reader, path, NULL, damaged ? damaged : &unused);
    th_block_release(&reader.file);
    *image = reader.picture.held;
    return status;
}
