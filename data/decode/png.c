/* SPDX-License-Identifier: Apache-2.0
 * PNG through libpng's row interface, reading and writing. 16 bits become 8 by their
 * high byte (Pillow does so for colour, but clips 16-bit gray to white: not copied),
 * transparency is laid over white, gamma and profiles are ignored. A file with a wrong
 * checksum or a missing end is refused.
 *
 * Invariants: libpng leaves by longjmp, so the frame that calls setjmp owns nothing; all
 * state is in struct reader or struct writer, and libpng never prints. */
#include "error.h"
#include "image.h"
#include "mem.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

enum { SIGNATURE = 8, MAX_CHUNKS = 16, MAX_CHUNK_BYTES = 1 << 20 };

struct reader {
    png_structp png;
    png_infop info;
    const uint8_t *bytes; /* what is left */
    size_t n_bytes;
    jmp_buf leave;
    char reason[128];
    thaw_status status;
    struct th_image *image; /* the caller's */
    uint8_t *rgba;          /* [h][w][4], if the file has transparency */
};

static void on_error(png_structp png, png_const_charp message)
{
    struct reader *r = png_get_error_ptr(png);
    snprintf(r->reason, sizeof r->reason, "%s", message);
    longjmp(r->leave, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    struct reader *r = png_get_io_ptr(png);
    if (n > r->n_bytes)
        png_error(png, "the file ends early");
    memcpy(to, r->bytes, n);
    r->bytes += n;
    r->n_bytes -= n;
}

static void open_reader(struct reader *r)
{
    png_structp png = r->png;
    png_set_read_fn(png, r, on_read);
    png_set_user_limits(png, TH_IMAGE_MAX_SIDE, TH_IMAGE_MAX_SIDE);
    png_set_chunk_cache_max(png, MAX_CHUNKS);
    png_set_chunk_malloc_max(png, MAX_CHUNK_BYTES);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, r->info);
}

/* Ask for 8-bit RGB or RGBA rows; returns the number of passes over the rows. */
static int set_conversions(struct reader *r)
{
    png_structp png = r->png;
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, r->info);
    return passes;
}

/* Everything between setjmp and clean-up; owns nothing. */
static void read_image(struct reader *r)
{
    if (setjmp(r->leave)) {
        r->status = th_fail(THAW_E_DATA, "damaged PNG: %s", r->reason);
        return;
    }
    open_reader(r);
    size_t w = png_get_image_width(r->png, r->info);
    size_t h = png_get_image_height(r->png, r->info);
    r->status = th_image_reuse(r->image, (int)w, (int)h);
    if (r->status != THAW_OK)
        return;
    int passes = set_conversions(r);
    size_t channels = png_get_channels(r->png, r->info);
    if (png_get_rowbytes(r->png, r->info) != w * channels || channels < 3)
        png_error(r->png, "its rows have an unexpected size");
    if (channels == 4 && !(r->rgba = th_alloc(w * h, 4))) {
        r->status = THAW_E_MEMORY;
        return;
    }
    uint8_t *rows = channels == 4 ? r->rgba : r->image->rgb;
    for (int pass = 0; pass < passes; pass++)
        for (size_t y = 0; y < h; y++)
            png_read_row(r->png, rows + y * w * channels, NULL);
    png_read_end(r->png, NULL);
}

static thaw_status decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    (void)damaged;
    struct reader r = {.bytes = bytes, .n_bytes = n_bytes, .image = image};
    r.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, on_error, on_warning);
    r.info = r.png ? png_create_info_struct(r.png) : NULL;
    if (r.info)
        read_image(&r);
    else
        r.status = th_fail(THAW_E_MEMORY, "out of memory: libpng could not start");
    if (r.status == THAW_OK && r.rgba)
        th_image_over_white(r.rgba, (size_t)image->w * (size_t)image->h, image->rgb);
    png_destroy_read_struct(&r.png, &r.info, NULL);
    th_free(r.rgba);
    return r.status;
}

static bool recognises(const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes >= SIGNATURE && png_sig_cmp(bytes, 0, SIGNATURE) == 0;
}

struct writer {
    png_structp png;
    png_infop info;
    uint8_t *bytes; /* of the file so far */
    size_t n, capacity;
    jmp_buf leave;
    bool failed;
    const struct th_image *image;
    uint8_t *gray; /* [w], if the image is written as gray */
};

static void on_write_error(png_structp png, png_const_charp message)
{
    struct writer *w = png_get_error_ptr(png);
    (void)message;
    longjmp(w->leave, 1);
}

static void on_write(png_structp png, png_bytep from, size_t n)
{
    struct writer *w = png_get_io_ptr(png);
    if (w->n + n > w->capacity) {
        size_t capacity = 2 * (w->n + n) + 4096;
        uint8_t *grown = th_realloc(w->bytes, w->n, capacity, 1);
        if (!grown)
            png_error(png, "out of memory");
        w->bytes = grown;
        w->capacity = capacity;
    }
    memcpy(w->bytes + w->n, from, n);
    w->n += n;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static bool is_gray(const struct th_image *image)
{
    const uint8_t *p = image->rgb;
    for (size_t n = (size_t)image->w * (size_t)image->h; n; n--, p += 3)
        if (p[0] != p[1] || p[0] != p[2])
            return false;
    return true;
}

static void write_image(struct writer *w)
{
    const struct th_image *image = w->image;
    size_t width = (size_t)image->w;
    if (setjmp(w->leave)) {
        w->failed = true;
        return;
    }
    png_set_write_fn(w->png, w, on_write, on_flush);
    png_set_IHDR(w->png, w->info, (png_uint_32)image->w, (png_uint_32)image->h, 8,
        w->gray ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
        PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (size_t y = 0; y < (size_t)image->h; y++) {
        const uint8_t *row = image->rgb + y * width * 3;
        for (size_t x = 0; w->gray && x < width; x++)
            w->gray[x] = row[x * 3];
        png_write_row(w->png, w->gray ? w->gray : row);
    }
    png_write_end(w->png, NULL);
}

thaw_status th_image_encode_png(
    const struct th_image *image, uint8_t **bytes, size_t *n)
{
    struct writer w = {.image = image};
    if (is_gray(image) && !(w.gray = th_alloc((size_t)image->w, 1)))
        return THAW_E_MEMORY;
    w.png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, &w, on_write_error, on_warning);
    w.info = w.png ? png_create_info_struct(w.png) : NULL;
    w.failed = !w.info;
    if (w.info)
        write_image(&w);
    png_destroy_write_struct(&w.png, &w.info);
    th_free(w.gray);
    *bytes = w.bytes;
    *n = w.n;
    if (!w.failed)
        return THAW_OK;
    th_free(w.bytes);
    *bytes = NULL;
    return th_fail(THAW_E_MEMORY, "out of memory while a PNG was written");
}

static void library(char *text, size_t size)
{
    snprintf(text, size, "libpng %s", png_get_libpng_ver(NULL));
}

const struct th_decoder th_decoder_png = {
    .name = "png",
    .endings = "png",
    .recognises = recognises,
    .decode = decode,
    .library = library,
};
