/* SPDX-License-Identifier: Apache-2.0
 * Resize against Pillow's pixels (golden/resize.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden/resize.h"
#include "resize.h"

enum { W = 13, H = 9 };

static void resized_pixels_are_pillows_bit_for_bit(void **state)
{
    (void)state;
    uint8_t pixels[W * H * 3], out[17 * 11 * 3];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++)
                pixels[(y * W + x) * 3 + c] =
                    (uint8_t)(x * x * 7 + y * 31 + c * 85 + x * y * 13);
    struct th_image src = {W, H, pixels};
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        struct th_image dst = {golden[i].w, golden[i].h, out};
        assert_int_equal(
            th_image_resize(&src, (enum th_filter)golden[i].filter, &dst), THAW_OK);
        assert_memory_equal(out, golden[i].rgb, (size_t)(dst.w * dst.h * 3));
    }
}

static void an_empty_image_is_refused(void **state)
{
    (void)state;
    uint8_t out[3];
    struct th_image src = {0, 4, NULL}, dst = {1, 1, out};
    assert_int_equal(th_image_resize(&src, TH_BILINEAR, &dst), THAW_E_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resized_pixels_are_pillows_bit_for_bit),
        cmocka_unit_test(an_empty_image_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
