/* SPDX-License-Identifier: Apache-2.0
 * Resize against Pillow's pixels (golden/resize.py), and its loops against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "golden/resize.h"
#include "resize.h"
#include "resize_pass.h"
#include "rng.h"

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
    struct th_image src = {.w = W, .h = H, .rgb = pixels};
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        struct th_image dst = {.w = golden[i].w, .h = golden[i].h, .rgb = out};
        assert_int_equal(
            th_image_resize(&src, (enum th_filter)golden[i].filter, &dst), THAW_OK);
        assert_memory_equal(out, golden[i].rgb, (size_t)(dst.w * dst.h * 3));
    }
}

static void an_empty_image_is_refused(void **state)
{
    (void)state;
    uint8_t out[3];
    struct th_image src = {.w = 0, .h = 4, .rgb = NULL},
                    dst = {.w = 1, .h = 1, .rgb = out};
    assert_int_equal(th_image_resize(&src, TH_BILINEAR, &dst), THAW_E_USAGE);
}

/* A picture of random pixels whose memory ends with its last one, so that the sanitizers
 * see what is read beyond. */
static struct th_image random_image(uint64_t key, int w, int h)
{
    size_t n = (size_t)w * (size_t)h * 3;
    struct th_image image = {.w = w, .h = h, .rgb = malloc(n)};
    assert_non_null(image.rgb);
    for (size_t i = 0; i < n; i++)
        image.rgb[i] = (uint8_t)(th_rng_u64(key, i / 8) >> i % 8 * 8);
    /* Extremes, where sums may leave 0..255. */
    for (size_t i = 0; key % 3 == 0 && i < n; i++)
        image.rgb[i] = image.rgb[i] < 128 ? 0 : 255;
    return image;
}

static int draw(uint64_t key, uint64_t counter, int most)
{
    return 1 + (int)th_rng_below(key, counter, (uint64_t)most);
}

/* A crop of a random picture, resized, of which a part is wanted. */
static struct th_resize random_resize(uint64_t key, int w, int h)
{
    struct th_resize r = {.filter = key % 2 ? TH_BICUBIC : TH_BILINEAR};
    r.from.w = draw(key, 10, w);
    r.from.h = draw(key, 11, h);
    r.from.x = draw(key, 12, w - r.from.w + 1) - 1;
    r.from.y = draw(key, 13, h - r.from.h + 1) - 1;
    r.w = key % 7 ? draw(key, 14, 90) : r.from.w;
    r.h = key % 5 ? draw(key, 15, 90) : r.from.h;
    r.part.w = draw(key, 16, r.w);
    r.part.h = draw(key, 17, r.h);
    r.part.x = draw(key, 18, r.w - r.part.w + 1) - 1;
    r.part.y = draw(key, 19, r.h - r.part.h + 1) - 1;
    return r;
}

/* Plain C is what the goldens speak for on machines without vectors. */
static void all_loops_give_the_same_bits(void **state)
{
    (void)state;
    static uint8_t plain[90 * 90 * 3 + 1], fast[sizeof plain];
    struct th_resizer a = {.pass = &th_resize_plain}, b = {.pass = th_resize_fastest()};
    for (uint64_t key = 0; key < 4000; key++) {
        int w = draw(key, 1, key % 11 ? 70 : 3), h = draw(key, 2, key % 13 ? 70 : 3);
        struct th_image image = random_image(key, w, h);
        const struct th_picture picture = th_picture_of(&image);
        struct th_resize r = random_resize(key, w, h);
        size_t row = (size_t)r.part.w * 3, n = row * (size_t)r.part.h;
        plain[n] = fast[n] = 77; /* nothing is written behind the part */
        assert_int_equal(th_picture_resize(&a, &picture, &r, plain, row), THAW_OK);
        assert_int_equal(th_picture_resize(&b, &picture, &r, fast, row), THAW_OK);
        assert_memory_equal(plain, fast, n + 1);
        assert_int_equal(plain[n], 77);
        free(image.rgb);
    }
    th_block_release(&a.memory);
    th_block_release(&b.memory);
}

/* A picture that holds just what th_resize_reads names is enough. */
static void only_what_it_says_is_read(void **state)
{
    (void)state;
    static uint8_t whole[90 * 90 * 3], part[sizeof whole];
    struct th_resizer resizer = {0};
    for (uint64_t key = 0; key < 1000; key++) {
        int w = draw(key, 1, 60), h = draw(key, 2, 60);
        struct th_image image = random_image(key, w, h);
        const struct th_picture all = th_picture_of(&image);
        struct th_resize r = random_resize(key, w, h);
        struct th_box box;
        size_t row = (size_t)r.part.w * 3;
        assert_int_equal(th_resize_reads(&r, w, h, &box), THAW_OK);
        struct th_picture some = {
            .w = w, .h = h, .x = box.x, .y = box.y, .held = {.w = box.w, .h = box.h}};
        some.held.rgb = malloc((size_t)box.w * (size_t)box.h * 3);
        assert_non_null(some.held.rgb);
        for (int y = 0; y < box.h; y++)
            memcpy(some.held.rgb + (size_t)y * (size_t)box.w * 3,
                image.rgb + ((size_t)(y + box.y) * (size_t)w + (size_t)box.x) * 3,
                (size_t)box.w * 3);
        assert_int_equal(th_picture_resize(&resizer, &all, &r, whole, row), THAW_OK);
        assert_int_equal(th_picture_resize(&resizer, &some, &r, part, row), THAW_OK);
        assert_memory_equal(whole, part, row * (size_t)r.part.h);
        some.x++; /* one column is missing now */
        some.held.w--;
        if (some.held.w > 0)
            assert_int_equal(
                th_picture_resize(&resizer, &some, &r, part, row), THAW_E_USAGE);
        free(some.held.rgb);
        free(image.rgb);
    }
    th_block_release(&resizer.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resized_pixels_are_pillows_bit_for_bit),
        cmocka_unit_test(all_loops_give_the_same_bits),
        cmocka_unit_test(only_what_it_says_is_read),
        cmocka_unit_test(an_empty_image_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
