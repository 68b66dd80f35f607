/* SPDX-License-Identifier: Apache-2.0
 * WebP against Pillow's pixels (golden/webp.py), broken files, and files cut short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "file.h"
#include "golden/webp.h"
#include "image.h"
#include "mem.h"

#define IMAGES THAW_SOURCE_DIR "/tests/golden/images/"

static void webp_pixels_equal_pillow_upright_and_over_white(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        char path[512];
        struct th_image image;
        bool damaged = true;
        snprintf(path, sizeof path, IMAGES "%s", golden[i].name);
        if (th_image_read(path, &image, &damaged) != THAW_OK)
            fail_msg("%s", thaw_error());
        unsigned crc =
            (unsigned)crc32(0, image.rgb, (unsigned)image.w * (unsigned)image.h * 3);
        assert_false(damaged);
        if (image.w != golden[i].w || image.h != golden[i].h || crc != golden[i].crc)
            fail_msg("%s: %dx%d, crc %08x", path, image.w, image.h, crc);
        th_image_release(&image);
    }
}

static void what_is_no_single_picture_of_a_sane_size_is_refused(void **state)
{
    (void)state;
    static const char *const refused[][2] = {{"animated.webp", "an animated WebP"},
        {"huge.webp", "16383x16383"}, {"webp.jpg", "damaged WebP"}};
    for (int i = 0; i < 3; i++) {
        char path[512];
        struct th_image image;
        snprintf(path, sizeof path, IMAGES "%s", refused[i][0]);
        assert_int_equal(th_image_read(path, &image, NULL), THAW_E_DATA);
        if (!strstr(thaw_error(), refused[i][1]))
            fail_msg("%s", thaw_error());
    }
}

/* Every byte of the picture's own chunks counts; what follows them may be missing. */
static void a_file_cut_short_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {
        "lossy.webp", "lossless.webp", "alpha.webp", "lossy_alpha.webp", "exif6.webp"};
    for (int i = 0; i < 5; i++) {
        char path[512];
        unsigned char *bytes = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, IMAGES "%s", names[i]);
        assert_int_equal(th_file_read(path, 1 << 20, &bytes, &n), THAW_OK);
        for (size_t at = 0; at < n; at += 11) {
            struct th_image image = {0};
            unsigned char *part = malloc(at ? at : 1);
            assert_non_null(part);
            memcpy(part, bytes, at);
            thaw_status status = th_image_decode(part, at, &image, NULL);
            if (status == THAW_OK) {
                assert_true(i == 4 && at > n / 2); /* the Exif chunk alone is cut */
                th_image_release(&image);
            } else {
                assert_int_equal(status, THAW_E_DATA);
            }
            free(part);
        }
        th_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(webp_pixels_equal_pillow_upright_and_over_white),
        cmocka_unit_test(what_is_no_single_picture_of_a_sane_size_is_refused),
        cmocka_unit_test(a_file_cut_short_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
