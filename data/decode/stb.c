/* SPDX-License-Identifier: Apache-2.0
 * BMP, GIF (its first picture) and TGA through stb_image, which is given the file only
 * after its own info call has named a size within our limits. Holds the only copy of
 * stb_image, private to this file, allocating through mem.h. */
#include "error.h"
#include "image.h"
#include "mem.h"

#include <limits.h>
#include <string.h>

/* Third-party code, as Debian ships it: its warnings are not ours to fix. It declares
 * more than the formats chosen here define, which is only known at the file's end. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS 65500
#define STBI_ASSERT(x) ((void)(x))
#define STBI_MALLOC(n) th_alloc(n, 1)
#define STBI_REALLOC_SIZED(p, old_n, n) th_realloc(p, old_n, n, 1)
#define STBI_FREE(p) th_free(p)
#include <stb_image.h>
#pragma GCC diagnostic pop

static thaw_status read_image(
    const uint8_t *bytes, int n_bytes, struct th_image *image, int channels)
{
    int w = 0, h = 0, unused = 0;
    uint8_t *pixels =
        stbi_load_from_memory(bytes, n_bytes, &w, &h, &unused, channels == 4 ? 4 : 3);
    if (!pixels)
        return th_fail(THAW_E_DATA, "damaged image: %s", stbi_failure_reason());
    size_t n = (size_t)image->w * (size_t)image->h;
    bool same_size = w == image->w && h == image->h;
    if (same_size && channels == 4)
        th_image_over_white(pixels, n, image->rgb);
    else if (same_size)
        memcpy(image->rgb, pixels, n * 3);
    stbi_image_free(pixels);
    return same_size
               ? THAW_OK
               : th_fail(THAW_E_DATA, "damaged image: its size contradicts itself");
}

static thaw_status decode(
    const uint8_t *bytes, size_t n_bytes, struct th_image *image, bool *damaged)
{
    (void)damaged;
    int w = 0, h = 0, channels = 0;
    if (!stbi_info_from_memory(bytes, (int)n_bytes, &w, &h, &channels))
        return th_fail(THAW_E_DATA, "damaged image: %s", stbi_failure_reason());
    TRY(th_image_reuse(image, w, h));
    /* Two channels are gray and alpha. */
    return read_image(
        bytes, (int)n_bytes, image, channels == 2 || channels == 4 ? 4 : 3);
}

static bool recognises(const uint8_t *bytes, size_t n_bytes)
{
    int w, h, channels;
    return n_bytes <= INT_MAX &&
           stbi_info_from_memory(bytes, (int)n_bytes, &w, &h, &channels);
}

const struct th_decoder th_decoder_stb = {
    .name = "stb",
    .endings = "bmp dib gif tga",
    .recognises = recognises,
    .decode = decode,
};
