/* SPDX-License-Identifier: Apache-2.0
 * Writes images as new files: none that is there is ever opened. */
#include "error.h"
#include "image.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { QUALITY = 92 };

/* A new file; an existing one is never opened. */
static thaw_status create_file(const char *path, const uint8_t *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!file) {
        if (fd >= 0)
            close(fd);
        return th_fail_errno(THAW_E_IO, "%s: cannot create the file", path);
    }
    bool written = fwrite(bytes, 1, n, file) == n;
    if (fclose(file) != 0 || !written)
        return th_fail_errno(THAW_E_IO, "%s: cannot write the file", path);
    return THAW_OK;
}

thaw_status th_image_write_png(const char *path, const struct th_image *image)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    TRY(th_image_encode_png(image, &bytes, &n));
    thaw_status status = create_file(path, bytes, n);
    th_free(bytes);
    return status;
}

thaw_status th_image_write_jpeg(const char *path, const struct th_image *image)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    TRY(th_image_encode_jpeg(image, QUALITY, &bytes, &n));
    thaw_status status = create_file(path, bytes, n);
    th_free(bytes);
    return status;
}
