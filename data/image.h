/* SPDX-License-Identifier: Apache-2.0
 * 8-bit RGB images in memory, and reading them from files nobody vouches for.
 *
 * The type of a file is what its first bytes say, never its name. Sizes are checked
 * before pixels are allocated. EXIF orientation is applied, transparency is laid over
 * white, colour profiles and gamma are ignored. Adding a decoder is adding one file to
 * decode/. */
#ifndef TH_IMAGE_H
#define TH_IMAGE_H

#include "mem.h"
#include "thaw.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TH_IMAGE_MAX_SIDE = 65500, TH_IMAGE_MAX_PIXELS = 89478485 /* Pillow's limit */ };

struct th_box {
    int x, y, w, h;
};

/* Rows of interleaved pixels, [h][w][3], without padding. */
struct th_image {
    int w, h;
    uint8_t *rgb;
    size_t bytes; /* that rgb has, where they are kept for the next image; else 0 */
};

/* A picture w x h of which only a part need be in memory: `held`, whose top left pixel is
 * the picture's x, y. A whole image is a picture that holds all of itself. */
struct th_picture {
    int w, h, x, y;
    struct th_image held;
};

/* The part of a w x h picture that somebody will look at: a reader may leave out the
 * rest. It depends on the size alone, which a file's header says. */
struct th_wanted {
    struct th_box (*part)(const void *context, int w, int h);
    const void *context;
    bool sound; /* the file was once read to its end and nothing was wrong with it: what
                   comes after the part need not be looked at again */
};

/* Memory for reading one image after the other, and the last one; zero at first. */
struct th_image_reader {
    struct th_block file;
    struct th_picture picture;
};

/* THAW_E_DATA for sizes beyond the limits above. */
thaw_status th_image_check_size(int w, int h);

/* A black image of w x h within the limits; THAW_E_DATA beyond them. */
thaw_status th_image_init(struct th_image *image, int w, int h);

/* Likewise over an image that was zeroed or used before, in its memory where that is
 * enough: its pixels are anything. */
thaw_status th_image_reuse(struct th_image *image, int w, int h);
void th_image_release(struct th_image *image);
void th_image_reader_release(struct th_image_reader *reader);

/* The picture that shows the whole of an image, whose pixels are borrowed. */
static inline struct th_picture th_picture_of(const struct th_image *image)
{
    return (struct th_picture){.w = image->w, .h = image->h, .held = *image};
}

/* The file's pixels into `image`, which the caller releases after success only.
 * *damaged (may be NULL) is set when a JPEG ended early or was corrupt, but at least
 * 95 % of its rows were there. THAW_E_DATA for what is not a readable image, THAW_E_IO
 * for a file that cannot be read or is no regular one (a FIFO never blocks the process),
 * THAW_E_MEMORY; the sentence names the file. */
thaw_status th_image_read(const char *path, struct th_image *image, bool *damaged);

/* As th_image_read into reader->picture, which holds at least what is wanted (NULL: all).
 * Its pixels there are those of the whole image, bit for bit, and so is the verdict on
 * the file: damage is found whether or not it lies in the part. */
thaw_status th_image_read_part(struct th_image_reader *reader, const char *path,
    const struct th_wanted *wanted, bool *damaged);

/* As th_image_read for a file's bytes; the sentence names no file. */
thaw_status th_image_decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged);

/* As th_image_read_part for a file's bytes, over a picture that was zeroed or used
 * before. */
thaw_status th_picture_decode(const uint8_t *bytes, size_t n_bytes,
    const struct th_wanted *wanted, struct th_picture *picture, bool *damaged);

/* A PNG's bytes (gray where every pixel is), for th_free. */
thaw_status th_image_encode_png(
    const struct th_image *image, uint8_t **bytes, size_t *n);

/* A JPEG's bytes, without subsampling of colours, for th_free; quality 1 to 100. */
thaw_status th_image_encode_jpeg(
    const struct th_image *image, int quality, uint8_t **bytes, size_t *n);

/* Write a PNG (gray where every pixel is), or a JPEG of quality 92. The file must not exist
 * yet: THAW_E_IO. */
thaw_status th_image_write_png(const char *path, const struct th_image *image);
thaw_status th_image_write_jpeg(const char *path, const struct th_image *image);

/* Turn the image as its EXIF orientation, 2 to 8, asks; others leave it as it is. */
thaw_status th_image_orient(struct th_image *image, int orientation);

/* Lay RGBA pixels, [n][4], over white: Pillow's Image.paste on a white image. */
void th_image_over_white(const uint8_t *rgba, size_t n_pixels, uint8_t *rgb);

struct th_decoder {
    const char *name;
    const char *endings; /* of file names, for listing folders: "jpg jpeg" */
    bool (*recognises)(const uint8_t *bytes, size_t n_bytes);
    /* image is zeroed or used before: th_image_reuse. What stands in it after a failure
     * is released by the caller. */
    thaw_status (*decode)(
        const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged);
    /* Likewise a part; NULL where the format has no way to leave anything out. */
    thaw_status (*decode_part)(const uint8_t *bytes, size_t n_bytes,
        const struct th_wanted *wanted, struct th_picture *picture, bool *damaged);
    /* Name and version of the library that does it; NULL: it has none. */
    void (*library)(char *text, size_t size);
};
extern const struct th_decoder *const th_decoder_list[]; /* NULL-terminated */

#endif
