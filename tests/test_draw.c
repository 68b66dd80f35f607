/* SPDX-License-Identifier: Apache-2.0
 * Drawing: what is painted and what stays, at edges and beyond them; JPEGs that are read back
 * as they were written. */
#include "draw.h"
#include "file.h"
#include "must.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = 40, H = 30 };
static const uint8_t red[3] = {200, 0, 0};

static const uint8_t *pixel(const struct th_image *image, int x, int y)
{
    return image->rgb + (y * image->w + x) * 3;
}

static int count(const struct th_image *image, const uint8_t rgb[3])
{
    int n = 0;
    for (int i = 0; i < image->w * image->h; i++)
        n += memcmp(image->rgb + i * 3, rgb, 3) == 0;
    return n;
}

static void an_outline_is_its_border(void **state)
{
    struct th_image image;
    (void)state;
    must(th_image_init(&image, W, H));
    th_draw_outline(&image, (const float[]){3, 4, 13, 11}, 2, red);
    assert_int_equal(count(&image, red), 10 * 7 - 6 * 3);
    assert_memory_equal(pixel(&image, 3, 4), red, 3);
    assert_memory_equal(pixel(&image, 12, 10), red, 3);
    assert_int_equal(pixel(&image, 6, 7)[0], 0);
    assert_int_equal(pixel(&image, 13, 10)[0], 0);
    th_image_release(&image);
}

/* Under ASan a pixel outside would be found. */
static void what_lies_outside_is_cut(void **state)
{
    struct th_image image;
    (void)state;
    must(th_image_init(&image, W, H));
    th_draw_outline(&image, (const float[]){-5, -5, W + 5, H + 5}, 1, red);
    assert_int_equal(count(&image, red), 0);
    th_draw_label(&image, -20, -3, 2, "at the corner", red);
    th_draw_label(&image, W - 4, H - 4, 3, "beyond", red);
    assert_true(count(&image, red) > 0);
    th_image_release(&image);
}

static void a_label_is_text_on_a_bar(void **state)
{
    static const uint8_t white[3] = {255, 255, 255};
    struct th_image image;
    (void)state;
    must(th_image_init(&image, W, H));
    th_draw_label(&image, 1, 2, 1, "I\xC3\xA9", red);
    int w = th_draw_label_width("I\xC3\xA9", 1), h = th_draw_label_height(1);
    assert_int_equal(w, 2 * TH_GLYPH_W + 1);
    assert_int_equal(w, th_draw_label_width("I?", 1));
    /* I has a stem of 7 dots and two serifs of 2, ? has 10 dots */
    assert_int_equal(count(&image, white), 11 + 10);
    assert_int_equal(count(&image, red), w * h - 21);
    assert_memory_equal(pixel(&image, 1 + 1 + 2, 2 + 1), white, 3);
    th_image_release(&image);
}

static void classes_have_colours_of_their_own(void **state)
{
    uint8_t a[3], b[3];
    (void)state;
    for (int i = 0; i < 40; i++)
        for (int k = 0; k < i; k++) {
            th_draw_colour(i, a);
            th_draw_colour(k, b);
            assert_memory_not_equal(a, b, 3);
        }
}

static void a_jpeg_is_what_was_written_and_never_overwrites(void **state)
{
    char path[] = "/tmp/thaw_draw_XXXXXX", file[64];
    struct th_image image, back;
    (void)state;
    assert_non_null(mkdtemp(path));
    snprintf(file, sizeof file, "%s/a.jpg", path);
    must(th_image_init(&image, 131, 67));
    for (int i = 0; i < 131 * 67; i++)
        for (int c = 0; c < 3; c++)
            image.rgb[i * 3 + c] = (uint8_t)(c == 0 ? 200 : i % 131);
    must(th_image_write_jpeg(file, &image));
    must(th_image_read(file, &back, NULL));
    assert_int_equal(back.w, 131);
    assert_int_equal(back.h, 67);
    for (int i = 0; i < 131 * 67 * 3; i++)
        assert_in_range(back.rgb[i] - image.rgb[i] + 8, 0, 16);
    assert_int_equal(th_image_write_jpeg(file, &image), THAW_E_IO);
    th_image_release(&back);
    th_image_release(&image);
    unlink(file);
    rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_outline_is_its_border),
        cmocka_unit_test(what_lies_outside_is_cut),
        cmocka_unit_test(a_label_is_text_on_a_bar),
        cmocka_unit_test(classes_have_colours_of_their_own),
        cmocka_unit_test(a_jpeg_is_what_was_written_and_never_overwrites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
