/* SPDX-License-Identifier: Apache-2.0
 * Owns the way to an image's size through JPEG's markers (ITU T.81, annex B) and PNG's first
 * chunk. A header that is not understood leaves the answer to the decoder. */
#include "image_size.h"

#include "error.h"
#include "exif.h"
#include "image.h"
#include "mem.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { HEAD_BYTES = 1 << 16, PNG_HEAD = 24 };

static unsigned be16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static unsigned be32(const uint8_t *at)
{
    return be16(at) << 16 | be16(at + 2);
}

static bool png_size(const uint8_t *head, size_t n, int *w, int *h)
{
    static const uint8_t start[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    if (n < PNG_HEAD || memcmp(head, start, sizeof start - 1) != 0)
        return false;
    unsigned width = be32(head + 16), height = be32(head + 20);
    if (width < 1 || height < 1 || width > TH_IMAGE_MAX_SIDE ||
        height > TH_IMAGE_MAX_SIDE)
        return false;
    *w = (int)width;
    *h = (int)height;
    return true;
}

static bool is_frame(unsigned marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 &&
           marker != 0xcc;
}

static bool jpeg_size(const uint8_t *head, size_t n, int *w, int *h)
{
    static const uint8_t exif[] = "Exif\0";
    int orientation = 1;
    bool has_exif = false;
    if (n < 4 || head[0] != 0xff || head[1] != 0xd8)
        return false;
    for (size_t at = 2; at + 9 < n;) {
        if (head[at] != 0xff)
            return false;
        unsigned marker = head[at + 1], length = be16(head + at + 2);
        if (marker == 0xff) { /* fill */
            at++;
            continue;
        }
        if (is_frame(marker)) {
            *h = (int)be16(head + at + 5);
            *w = (int)be16(head + at + 7);
            if (orientation >= 5 && orientation <= 8) {
                int side = *w;
                *w = *h;
                *h = side;
            }
            return *w > 0 && *h > 0;
        }
        if (length < 2 || marker < 0xc0 || at + 2 + length > n)
            return false;
        if (marker == 0xe1 && !has_exif && length >= 8 &&
            memcmp(head + at + 4, exif, sizeof exif) == 0) {
            orientation = th_exif_orientation(head + at + 4, length - 2);
            has_exif = true;
        }
        at += 2 + (size_t)length;
    }
    return false;
}

static thaw_status decoded_size(const char *path, int *w, int *h)
{
    struct th_image image;
    TRY(th_image_read(path, &image, NULL));
    *w = image.w;
    *h = image.h;
    th_image_release(&image);
    return THAW_OK;
}

thaw_status th_image_size(const char *path, int *w, int *h)
{
    uint8_t *head = th_alloc(HEAD_BYTES, 1);
    if (!head)
        return THAW_E_MEMORY;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd >= 0 ? read(fd, head, HEAD_BYTES) : -1;
    if (fd >= 0)
        close(fd);
    bool known =
        n > 0 && (png_size(head, (size_t)n, w, h) || jpeg_size(head, (size_t)n, w, h));
    th_free(head);
    return known ? th_image_check_size(*w, *h) : decoded_size(path, w, h);
}
