/* SPDX-License-Identifier: Apache-2.0
 * Pixel operations against torchvision on Pillow images (golden/augment.py), and what is
 * drawn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "affine.h"
#include "augment.h"
#include "colour.h"
#include "golden/augment.h"
#include "mem.h"
#include "randaugment.h"

enum { MAX_SIDE = 224, CUBE_SIDE = 86 };

static size_t bytes_of(const struct th_image *image)
{
    return (size_t)image->w * (size_t)image->h * 3;
}

static unsigned crc_of(const struct th_image *image)
{
    return (unsigned)crc32(0, image->rgb, (unsigned)bytes_of(image));
}

/* The script's picture. */
static void paint(struct th_image *image)
{
    uint8_t *to = image->rgb;
    for (int y = 0; y < image->h; y++)
        for (int x = 0; x < image->w; x++)
            for (int c = 0; c < 3; c++)
                *to++ = (uint8_t)((x * x * 7 + y * 31 + c * 85 + x * y * 13) % 256 *
                                  (3 + c) / 5);
}

static const struct th_randaugment_op *find_op(const char *name)
{
    for (int i = 0; i < TH_RANDAUGMENT_OPS; i++)
        if (!strcmp(th_randaugment_ops[i].name, name))
            return &th_randaugment_ops[i];
    fail_msg("no operation %s", name);
    return NULL;
}

static void randaugments_operations_equal_torchvisions_bit_for_bit(void **state)
{
    (void)state;
    static uint8_t rgb[MAX_SIDE * MAX_SIDE * 3], copy[sizeof rgb];
    for (size_t i = 0; i < sizeof golden_op / sizeof golden_op[0]; i++) {
        struct th_image image = {.w = golden_op[i].w, .h = golden_op[i].h, .rgb = rgb};
        paint(&image);
        find_op(golden_op[i].name)->apply(&image, golden_op[i].magnitude, copy);
        if (crc_of(&image) != golden_op[i].crc)
            fail_msg("%s %g of %dx%d differs", golden_op[i].name,
                golden_op[i].magnitude, image.w, image.h);
    }
}

/* torch.linspace rounds its vectors' lanes another way than its single values: one unit
 * in the last place of fp32. */
static void randaugments_list_and_magnitudes_are_torchvisions(void **state)
{
    (void)state;
    assert_int_equal(
        sizeof golden_magnitude / sizeof golden_magnitude[0], TH_RANDAUGMENT_OPS);
    for (int i = 0; i < TH_RANDAUGMENT_OPS; i++) {
        const struct th_randaugment_op *op = &th_randaugment_ops[i];
        assert_string_equal(op->name, golden_magnitude[i].name);
        assert_int_equal(op->is_signed, golden_magnitude[i].is_signed);
        for (int bin = 0; bin < TH_RANDAUGMENT_BINS; bin++) {
            double want = golden_magnitude[i].magnitude[bin];
            double is = th_randaugment_magnitude(op, bin, 224, 18);
            if (!strcmp(op->name, "Posterize"))
                is = (int)(is + 0.5);
            if (!(is >= want * (1 - 0x1p-23) && is <= want * (1 + 0x1p-23)))
                fail_msg("%s, bin %d: %.9g, not %.9g", op->name, bin, is, want);
        }
    }
}

static void adjust(struct th_image *image, const char *kind, double factor)
{
    if (!strcmp(kind, "brightness"))
        th_adjust_brightness(image, factor);
    else if (!strcmp(kind, "contrast"))
        th_adjust_contrast(image, factor);
    else if (!strcmp(kind, "saturation"))
        th_adjust_saturation(image, factor);
    else
        th_adjust_hue(image, factor);
}

static void adjusted_colours_equal_torchvisions_bit_for_bit(void **state)
{
    (void)state;
    struct th_image image = {.w = CUBE_SIDE * CUBE_SIDE, .h = CUBE_SIDE, .rgb = NULL};
    image.rgb = th_alloc(bytes_of(&image), 1);
    assert_non_null(image.rgb);
    for (size_t i = 0; i < sizeof golden_adjust / sizeof golden_adjust[0]; i++) {
        uint8_t *to = image.rgb;
        for (int k = 0; k < CUBE_SIDE * CUBE_SIDE * CUBE_SIDE; k++) {
            *to++ = (uint8_t)(k % CUBE_SIDE * 3);
            *to++ = (uint8_t)(k / CUBE_SIDE % CUBE_SIDE * 3);
            *to++ = (uint8_t)(k / CUBE_SIDE / CUBE_SIDE * 3);
        }
        adjust(&image, golden_adjust[i].kind, golden_adjust[i].factor);
        if (crc_of(&image) != golden_adjust[i].crc)
            fail_msg(
                "%s by %g differs", golden_adjust[i].kind, golden_adjust[i].factor);
    }
    th_free(image.rgb);
}

static void flat_images_stay_as_they_are(void **state)
{
    (void)state;
    uint8_t rgb[5 * 4 * 3], want[sizeof rgb];
    struct th_image image = {.w = 5, .h = 4, .rgb = rgb};
    memset(rgb, 77, sizeof rgb);
    memcpy(want, rgb, sizeof rgb);
    th_autocontrast(&image);
    th_equalize(&image);
    assert_memory_equal(rgb, want, sizeof rgb);
}

/* ---- What is drawn ---- */

/* One operation of bin 15 is told from the others, and from its opposite, by its pixels. */
static void operations_and_signs_are_drawn_equally_often(void **state)
{
    (void)state;
    enum { W = 24, H = 18, BIN = 15, DRAWS = 2800 };
    uint8_t rgb[W * H * 3], copy[sizeof rgb];
    struct th_image image = {.w = W, .h = H, .rgb = rgb};
    unsigned crc[TH_RANDAUGMENT_OPS][2];
    int seen[TH_RANDAUGMENT_OPS][2] = {{0}};
    for (int i = 0; i < TH_RANDAUGMENT_OPS; i++)
        for (int minus = 0; minus < 2; minus++) {
            const struct th_randaugment_op *op = &th_randaugment_ops[i];
            double m = th_randaugment_magnitude(op, BIN, W, H);
            paint(&image);
            op->apply(&image, op->is_signed && minus ? -m : m, copy);
            crc[i][minus] = crc_of(&image);
        }
    for (uint64_t key = 0; key < DRAWS; key++) {
        int matches = 0;
        paint(&image);
        th_randaugment(&image, key, 1, BIN, copy);
        for (int i = 0; i < TH_RANDAUGMENT_OPS; i++)
            for (int minus = 0; minus <= th_randaugment_ops[i].is_signed; minus++)
                if (crc_of(&image) == crc[i][minus]) {
                    seen[i][minus]++;
                    matches++;
                }
        assert_int_equal(matches, 1);
    }
    for (int i = 0; i < TH_RANDAUGMENT_OPS; i++) { /* 200 of each, 5 deviations */
        assert_in_range(seen[i][0] + seen[i][1], 132, 268);
        if (th_randaugment_ops[i].is_signed)
            assert_in_range(seen[i][0], 51, 149);
    }
}

/* Two of them are one after the other. */
static void operations_follow_one_another(void **state)
{
    (void)state;
    uint8_t rgb[24 * 18 * 3], copy[sizeof rgb];
    struct th_image image = {.w = 24, .h = 18, .rgb = rgb};
    int differ = 0;
    for (uint64_t key = 0; key < 50; key++) {
        paint(&image);
        th_randaugment(&image, key, 1, 9, copy);
        unsigned one = crc_of(&image);
        paint(&image);
        th_randaugment(&image, key, 2, 9, copy);
        differ += crc_of(&image) != one;
    }
    assert_in_range(differ, 30, 50); /* a second Identity changes nothing */
}

enum { N = 20 }; /* of the inputs below */

static const struct th_preprocess plain = {
    .size = {N, N}, .crop = 1, .std = {1, 1, 1}, .mean = {-1, -1, -1}};

/* The input of variant `sample`, values 1..2. */
static void make_input(const struct th_augment *a, int64_t sample, float *out)
{
    uint8_t rgb[N * N * 3];
    struct th_image image = {.w = N, .h = N, .rgb = rgb};
    const struct th_picture whole = {N, N, 0, 0, image};
    const struct th_example example = {
        .preprocess = &plain, .augment = a, .view = {.seed = 3, .sample = sample}};
    struct th_example_maker maker = {0};
    paint(&image);
    assert_int_equal(th_example_make(&maker, &example, &whole, out), THAW_OK);
    th_example_maker_release(&maker);
}

static void mirrors_and_flips_come_as_often_as_asked(void **state)
{
    (void)state;
    static float as_is[3 * N * N], out[3 * N * N];
    const struct th_augment none = {0}, ways[] = {{.mirror = 0.25}, {.flip = 0.25}};
    make_input(&none, 0, as_is);
    for (int way = 0; way < 2; way++) {
        int turned = 0;
        for (int64_t sample = 0; sample < 1000; sample++) {
            bool same = true, opposite = true;
            make_input(&ways[way], sample, out);
            for (int i = 0; i < 3 * N * N; i++) {
                int x = i % N, y = i / N % N, c = i / N / N;
                x = way == 0 ? N - 1 - x : x;
                y = way == 1 ? N - 1 - y : y;
                same = same && !memcmp(&out[i], &as_is[i], sizeof *out);
                opposite = opposite &&
                           !memcmp(&out[i], &as_is[(c * N + y) * N + x], sizeof *out);
            }
            assert_true(same != opposite);
            turned += opposite;
        }
        assert_in_range(turned, 182, 318); /* 250, 5 deviations */
    }
}

/* A rectangle of 2 to 33 % is zero in all channels, the rest as it was. */
static void erased_rectangles_have_the_sizes_of_random_erasing(void **state)
{
    (void)state;
    static float as_is[3 * N * N], out[3 * N * N];
    const struct th_augment none = {0}, erase = {.erase = 0.5};
    int erased = 0;
    make_input(&none, 0, as_is);
    for (int64_t sample = 0; sample < 1000; sample++) {
        int n = 0, left = N, right = -1, top = N, bottom = -1;
        make_input(&erase, sample, out);
        for (int i = 0; i < N * N; i++) {
            bool zero = !(out[i] > 0);
            for (int c = 0; c < 3; c++)
                assert_float_equal(
                    out[c * N * N + i], zero ? 0 : as_is[c * N * N + i], 0);
            if (!zero)
                continue;
            n++;
            left = i % N < left ? i % N : left;
            right = i % N > right ? i % N : right;
            top = i / N < top ? i / N : top;
            bottom = i / N;
        }
        if (!n)
            continue;
        erased++;
        assert_int_equal(n, (right - left + 1) * (bottom - top + 1));
        assert_in_range(n, N * N * 2 / 100 - 2, N * N * 33 / 100 + N);
    }
    assert_in_range(erased, 420, 580); /* 500, 5 deviations */
}

static void no_jitter_is_no_change_and_some_is_some(void **state)
{
    (void)state;
    static float as_is[3 * N * N], out[3 * N * N];
    const struct th_augment none = {0}, jitter = {.jitter = 0.4}, hue = {.hue = 0.2};
    int by_jitter = 0, by_hue = 0;
    make_input(&none, 0, as_is);
    for (int64_t sample = 0; sample < 20; sample++) {
        make_input(&none, sample, out);
        assert_memory_equal(out, as_is, sizeof out);
        make_input(&jitter, sample, out);
        by_jitter += memcmp(out, as_is, sizeof out) != 0;
        make_input(&hue, sample, out);
        by_hue += memcmp(out, as_is, sizeof out) != 0;
    }
    assert_int_equal(by_jitter, 20);
    assert_int_equal(by_hue, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(randaugments_operations_equal_torchvisions_bit_for_bit),
        cmocka_unit_test(randaugments_list_and_magnitudes_are_torchvisions),
        cmocka_unit_test(adjusted_colours_equal_torchvisions_bit_for_bit),
        cmocka_unit_test(flat_images_stay_as_they_are),
        cmocka_unit_test(operations_and_signs_are_drawn_equally_often),
        cmocka_unit_test(operations_follow_one_another),
        cmocka_unit_test(mirrors_and_flips_come_as_often_as_asked),
        cmocka_unit_test(erased_rectangles_have_the_sizes_of_random_erasing),
        cmocka_unit_test(no_jitter_is_no_change_and_some_is_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
