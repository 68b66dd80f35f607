/* SPDX-License-Identifier: Apache-2.0
 * Decoders against Pillow's pixels (golden/images.py), broken files, preprocessing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "augment.h"
#include "golden/images.h"
#include "image.h"
#include "mem.h"
#include "preprocess.h"
#include "rng.h"

#define IMAGES THAW_SOURCE_DIR "/tests/golden/images/"

static unsigned crc_of(const struct th_image *image)
{
    size_t n = (size_t)image->w * (size_t)image->h * 3;
    return (unsigned)crc32(0, image->rgb, (unsigned)n);
}

static void check_golden(const char *from, const char *to)
{
    bool on = false;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        char path[512];
        struct th_image image;
        bool damaged = true;
        on = on || !strcmp(golden[i].name, from);
        if (!on)
            continue;
        snprintf(path, sizeof path, IMAGES "%s", golden[i].name);
        if (th_image_read(path, &image, &damaged) != THAW_OK)
            fail_msg("%s", thaw_error());
        assert_false(damaged);
        if (image.w != golden[i].w || image.h != golden[i].h ||
            crc_of(&image) != golden[i].crc)
            fail_msg(
                "%s: %dx%d, crc %08x differ", path, image.w, image.h, crc_of(&image));
        th_image_release(&image);
        on = strcmp(golden[i].name, to) != 0;
    }
}

static void jpeg_pixels_equal_pillow(void **state)
{
    (void)state;
    check_golden("rgb420.jpg", "progressive.jpg");
}

static void exif_orientation_is_applied(void **state)
{
    (void)state;
    check_golden("exif1.jpg", "exif8.jpg");
}

static void the_first_bytes_decide_not_the_name(void **state)
{
    (void)state;
    check_golden("text.png", "text.png");
}

static void png_pixels_equal_pillow_and_alpha_lies_on_white(void **state)
{
    (void)state;
    check_golden("rgb8.png", "gamma.png");
}

static void bmp_gif_tga_pnm_pixels_equal_pillow(void **state)
{
    (void)state;
    check_golden("plain.gif", "shallow.ppm");
}

static void expect_refusal(const char *name, const char *word)
{
    char path[512];
    struct th_image image;
    snprintf(path, sizeof path, IMAGES "%s", name);
    assert_int_equal(th_image_read(path, &image, NULL), THAW_E_DATA);
    assert_null(image.rgb);
    if (!strstr(thaw_error(), word) || !strstr(thaw_error(), name))
        fail_msg("%s: \"%s\" lacks \"%s\"", name, thaw_error(), word);
}

static void broken_files_are_refused_with_their_reason(void **state)
{
    (void)state;
    expect_refusal("half.jpg", "% of the rows");
    expect_refusal("half_progressive.jpg", "damaged JPEG");
    expect_refusal("words.jpg", "not a readable image");
    expect_refusal("webp.jpg", "damaged WebP");
    expect_refusal("empty.png", "empty");
    expect_refusal("short.png", "damaged PNG");
    expect_refusal("checksum.png", "damaged PNG");
}

static void a_size_beyond_the_limit_is_refused_before_its_pixels_exist(void **state)
{
    (void)state;
    expect_refusal("huge.png", "30000x30000");
    expect_refusal("huge.bmp", "40000x40000");
}

static void a_jpeg_whose_last_rows_are_missing_is_used_and_marked(void **state)
{
    (void)state;
    const char *const names[] = {"late.jpg", "no_end.jpg"};
    for (int i = 0; i < 2; i++) {
        char path[512];
        struct th_image image;
        bool damaged = false;
        snprintf(path, sizeof path, IMAGES "%s", names[i]);
        assert_int_equal(th_image_read(path, &image, &damaged), THAW_OK);
        assert_true(damaged);
        assert_int_equal(image.h, 29 * 14);
        th_image_release(&image);
    }
}

static void folders_and_fifos_are_refused_without_blocking(void **state)
{
    (void)state;
    struct th_image image;
    char fifo[64];
    snprintf(fifo, sizeof fifo, "/tmp/thaw_fifo_%d", (int)getpid());
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(th_image_read(fifo, &image, NULL), THAW_E_IO);
    unlink(fifo);
    assert_int_equal(th_image_read("/tmp", &image, NULL), THAW_E_IO);
    assert_int_equal(th_image_read("/tmp/no such file", &image, NULL), THAW_E_IO);
}

/* Every prefix of each small file, and single flipped bytes: a status, never a crash
 * (the sanitizers watch). */
static void mangled_files_never_crash_a_decoder(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        char path[512];
        uint8_t bytes[8192];
        snprintf(path, sizeof path, IMAGES "%s", golden[i].name);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        size_t n = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        for (size_t round = 0; round < 300; round++) {
            uint8_t copy[sizeof bytes];
            size_t length = th_rng_below(i, round, 4) ? n : th_rng_below(i, round, n);
            memcpy(copy, bytes, n);
            for (uint64_t flip = 0; flip < round % 4; flip++)
                copy[th_rng_below(i * 5 + flip, round, n)] ^=
                    (uint8_t)(1u << th_rng_below(i, round + 1000, 8));
            struct th_image image;
            if (th_image_decode(copy, length, &image, NULL) == THAW_OK)
                th_image_release(&image);
            else
                assert_null(image.rgb);
        }
    }
}

static void a_written_png_reads_back_the_same(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "/tmp/thaw_png_%d.png", (int)getpid());
    for (int gray = 0; gray < 2; gray++) {
        struct th_image image, again;
        assert_int_equal(th_image_init(&image, 7, 5), THAW_OK);
        for (int i = 0; i < 7 * 5 * 3; i++)
            image.rgb[i] = (uint8_t)((gray ? i / 3 : i) * 7);
        assert_int_equal(th_image_write_png(path, &image), THAW_OK);
        assert_int_equal(th_image_write_png(path, &image), THAW_E_IO);
        assert_int_equal(th_image_read(path, &again, NULL), THAW_OK);
        assert_memory_equal(image.rgb, again.rgb, 7 * 5 * 3);
        th_image_release(&image);
        th_image_release(&again);
        unlink(path);
    }
}

static void fill(struct th_image *image, int w, int h)
{
    assert_int_equal(th_image_init(image, w, h), THAW_OK);
    for (size_t i = 0; i < (size_t)w * (size_t)h * 3; i++)
        image->rgb[i] = (uint8_t)(i * 131 + i / 97 * 17);
}

static void a_part_of_a_resize_equals_the_whole_cut(void **state)
{
    (void)state;
    struct th_image src, box, whole;
    fill(&src, 61, 43);
    fill(&box, 40, 31);
    for (size_t y = 0; y < 31; y++)
        memcpy(box.rgb + y * 120, src.rgb + ((y + 5) * 61 + 7) * 3, 120);
    const int sizes[][2] = {{17, 13}, {40, 50}, {90, 31}, {40, 31}, {95, 77}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t part[9 * 11 * 3];
        fill(&whole, sizes[i][0], sizes[i][1]);
        struct th_resize r = {
            .from = {7, 5, 40, 31}, .w = sizes[i][0], .h = sizes[i][1]};
        r.part = (struct th_box){3, 2, 9, 11};
        r.filter = i % 2 ? TH_BICUBIC : TH_BILINEAR;
        assert_int_equal(th_image_resize(&box, r.filter, &whole), THAW_OK);
        assert_int_equal(th_image_resize_part(&src, &r, part, 27), THAW_OK);
        for (size_t y = 0; y < 11; y++)
            assert_memory_equal(
                part + y * 27, whole.rgb + ((y + 2) * (size_t)sizes[i][0] + 3) * 3, 27);
        th_image_release(&whole);
    }
    th_image_release(&box);
    th_image_release(&src);
}

static void crop_one_on_a_square_image_is_the_identity(void **state)
{
    (void)state;
    struct th_image src;
    uint8_t out[32 * 32 * 3];
    struct th_preprocess p = th_preprocess_imagenet(32);
    p.crop = 1.0;
    fill(&src, 32, 32);
    assert_int_equal(th_preprocess_pixels(&p, &src, out), THAW_OK);
    assert_memory_equal(out, src.rgb, sizeof out);
    th_image_release(&src);
}

static void normalised_values_are_those_of_fp32_arithmetic(void **state)
{
    (void)state;
    struct th_preprocess p = th_preprocess_imagenet(1);
    const uint8_t rgb[3] = {0, 77, 255};
    float out[3];
    th_preprocess_normalise(&p, rgb, false, out);
    assert_true(out[0] == (0.0f / 255.0f - 0.485f) / 0.229f);
    assert_true(out[1] == (77.0f / 255.0f - 0.456f) / 0.224f);
    assert_true(out[2] == (255.0f / 255.0f - 0.406f) / 0.225f);
}

static void evaluation_inputs_equal_torchvisions_bit_for_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden_input / sizeof *golden_input; i++) {
        char path[512];
        struct th_image image;
        struct th_preprocess p = th_preprocess_imagenet(golden_input[i].size);
        p.crop = golden_input[i].crop;
        p.filter = (enum th_filter)golden_input[i].filter;
        size_t n = th_size_pixels(p.size) * 3;
        uint8_t *rgb = th_alloc(n, 1);
        float *out = th_alloc(n, sizeof *out);
        snprintf(path, sizeof path, IMAGES "%s", golden_input[i].name);
        assert_int_equal(th_image_read(path, &image, NULL), THAW_OK);
        assert_int_equal(th_preprocess_pixels(&p, &image, rgb), THAW_OK);
        th_preprocess_normalise(&p, rgb, false, out);
        if (crc32(0, (const Bytef *)out, (unsigned)(n * sizeof *out)) !=
            golden_input[i].crc)
            fail_msg("case %zu: %s to %d differs", i, path, p.size.w);
        th_image_release(&image);
        th_free(rgb);
        th_free(out);
    }
}

static void random_crops_lie_inside_and_depend_on_the_key_alone(void **state)
{
    (void)state;
    const int sizes[][2] = {{32, 32}, {500, 375}, {1, 1}, {1, 900}, {900, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t key = 0; key < 200; key++) {
            int w = sizes[i][0], h = sizes[i][1];
            struct th_box a = th_augment_crop(key, 0, w, h),
                          b = th_augment_crop(key, 0, w, h);
            assert_memory_equal(&a, &b, sizeof a);
            assert_true(a.x >= 0 && a.y >= 0 && a.w >= 1 && a.h >= 1);
            assert_true(a.x + a.w <= w && a.y + a.h <= h);
        }
}

/* The input of a whole image, and its 8-bit pixels. */
static thaw_status make(const struct th_preprocess *p, const struct th_augment *a,
    const struct th_view *v, const struct th_image *image, uint8_t *rgb, float *out)
{
    const struct th_example input = {.preprocess = p, .augment = a, .view = *v};
    const struct th_picture whole = th_picture_of(image);
    struct th_example_maker maker = {0};
    thaw_status status = th_example_make(&maker, &input, &whole, out);
    if (status == THAW_OK)
        memcpy(rgb, maker.pixels.p, th_size_pixels(p->size) * 3);
    th_example_maker_release(&maker);
    return status;
}

static void variants_differ_by_epoch_and_repeat_by_key(void **state)
{
    (void)state;
    struct th_preprocess p = th_preprocess_imagenet(16);
    struct th_image src;
    uint8_t rgb[16 * 16 * 3];
    static const char *const names[] = {"basic", "strong"};
    static float a[3 * 16 * 16], b[3 * 16 * 16], c[3 * 16 * 16];
    fill(&src, 50, 40);
    for (int i = 0; i < 2; i++) {
        struct th_augment kind;
        assert_int_equal(th_augment_named(names[i], &kind), THAW_OK);
        struct th_view v = {.seed = 1, .epoch = 2, .sample = 3}, w = v;
        w.epoch++;
        assert_int_equal(make(&p, &kind, &v, &src, rgb, a), THAW_OK);
        assert_int_equal(make(&p, &kind, &w, &src, rgb, c), THAW_OK);
        assert_int_equal(make(&p, &kind, &v, &src, rgb, b), THAW_OK);
        assert_memory_equal(a, b, sizeof a);
        assert_memory_not_equal(a, c, sizeof a);
    }
    th_image_release(&src);
}

/* Where every pixel is told apart, an input shows by how much it was moved. */
static void padded_variants_are_the_evaluation_pixels_moved_over_black(void **state)
{
    (void)state;
    enum { W = 13, H = 11, PAD = 4 };
    struct th_preprocess p = {.size = {W, H}, .crop = 1, .std = {1, 1, 1}};
    const struct th_augment pad = {.mirror = 0.5, .pad = PAD};
    struct th_image src;
    uint8_t rgb[W * H * 3];
    float out[3 * W * H];
    bool seen[2 * PAD + 1][2 * PAD + 1] = {{false}};
    fill(&src, W, H);
    for (int64_t sample = 0; sample < 400; sample++) {
        const struct th_view v = {.seed = 5, .sample = sample};
        int matches = 0;
        assert_int_equal(make(&p, &pad, &v, &src, rgb, out), THAW_OK);
        for (int move = 0; move < (2 * PAD + 1) * (2 * PAD + 1); move++) {
            int dx = move % (2 * PAD + 1) - PAD, dy = move / (2 * PAD + 1) - PAD;
            bool same = true;
            for (int i = 0; i < W * H * 3 && same; i++) {
                int x = i / 3 % W + dx, y = i / 3 / W + dy;
                bool inside = x >= 0 && x < W && y >= 0 && y < H;
                same = rgb[i] == (inside ? src.rgb[(y * W + x) * 3 + i % 3] : 0);
            }
            matches += same;
            seen[dy + PAD][dx + PAD] |= same;
        }
        assert_int_equal(matches, 1);
    }
    int n_seen = 0;
    for (int i = 0; i < (2 * PAD + 1) * (2 * PAD + 1); i++)
        n_seen += seen[i / (2 * PAD + 1)][i % (2 * PAD + 1)];
    assert_true(n_seen > 70); /* of 81 */
    th_image_release(&src);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(padded_variants_are_the_evaluation_pixels_moved_over_black),
        cmocka_unit_test(jpeg_pixels_equal_pillow),
        cmocka_unit_test(exif_orientation_is_applied),
        cmocka_unit_test(the_first_bytes_decide_not_the_name),
        cmocka_unit_test(png_pixels_equal_pillow_and_alpha_lies_on_white),
        cmocka_unit_test(bmp_gif_tga_pnm_pixels_equal_pillow),
        cmocka_unit_test(broken_files_are_refused_with_their_reason),
        cmocka_unit_test(a_size_beyond_the_limit_is_refused_before_its_pixels_exist),
        cmocka_unit_test(a_jpeg_whose_last_rows_are_missing_is_used_and_marked),
        cmocka_unit_test(folders_and_fifos_are_refused_without_blocking),
        cmocka_unit_test(mangled_files_never_crash_a_decoder),
        cmocka_unit_test(a_written_png_reads_back_the_same),
        cmocka_unit_test(a_part_of_a_resize_equals_the_whole_cut),
        cmocka_unit_test(crop_one_on_a_square_image_is_the_identity),
        cmocka_unit_test(normalised_values_are_those_of_fp32_arithmetic),
        cmocka_unit_test(evaluation_inputs_equal_torchvisions_bit_for_bit),
        cmocka_unit_test(random_crops_lie_inside_and_depend_on_the_key_alone),
        cmocka_unit_test(variants_differ_by_epoch_and_repeat_by_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
