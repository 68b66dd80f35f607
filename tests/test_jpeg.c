/* SPDX-License-Identifier: Apache-2.0
 * Decoding a part of a JPEG: the pixels of the whole, bit for bit, and the same verdict on
 * damaged files, over the kinds of JPEG there are. Files are made here by libjpeg. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jpeglib.h>

#include "image.h"
#include "mem.h"
#include "rng.h"

struct kind {
    const char *name;
    int components, h, v; /* of the first component; the others have 1x1 */
    int chroma_v;         /* unless this says otherwise */
    bool progressive, arithmetic, apart; /* apart: a scan a component */
    int restart;                         /* blocks between markers */
    bool whole; /* nothing can be left out: all of it has to be given */
};

static const struct kind kinds[] = {
    {"4:4:4", 3, 1, 1, 0, 0, 0, 0, 0, false},
    {"4:2:2", 3, 2, 1, 0, 0, 0, 0, 0, false},
    {"4:2:0", 3, 2, 2, 0, 0, 0, 0, 0, false},
    {"4:4:0", 3, 1, 2, 0, 0, 0, 0, 0, false},
    {"2x2 over 1x2", 3, 2, 2, 2, 0, 0, 0, 0, false},
    {"4:1:1", 3, 4, 1, 0, 0, 0, 0, 0, true},
    {"gray", 1, 1, 1, 0, 0, 0, 0, 0, false},
    {"gray as 2x2", 1, 2, 2, 0, 0, 0, 0, 0, false},
    {"cmyk", 4, 1, 1, 0, 0, 0, 0, 0, false},
    {"restarts 4:2:0", 3, 2, 2, 0, 0, 0, 0, 3, false},
    {"restarts 4:4:4", 3, 1, 1, 0, 0, 0, 0, 5, false},
    {"progressive 4:2:0", 3, 2, 2, 0, 1, 0, 0, 0, false},
    {"progressive 4:4:4", 3, 1, 1, 0, 1, 0, 0, 2, false},
    {"progressive gray", 1, 1, 1, 0, 1, 0, 0, 0, false},
    {"apart 4:2:0", 3, 2, 2, 0, 0, 0, 1, 0, false},
    {"arithmetic 4:2:0", 3, 2, 2, 0, 0, 1, 0, 0, false},
    {"arithmetic progressive 4:2:2", 3, 2, 1, 0, 1, 1, 0, 0, false},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static void set_up(struct jpeg_compress_struct *jpeg, const struct kind *k, int quality)
{
    static const jpeg_scan_info scans[] = {
        {1, {0}, 0, 63, 0, 0}, {1, {1}, 0, 63, 0, 0}, {1, {2}, 0, 63, 0, 0}};
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    for (int c = 1; c < k->components && k->chroma_v; c++)
        jpeg->comp_info[c].v_samp_factor = k->chroma_v;
    for (int c = 0; c < k->components; c++)
        if (c == 0 || c == 3) {
            jpeg->comp_info[c].h_samp_factor = k->h;
            jpeg->comp_info[c].v_samp_factor = k->v;
        }
    jpeg->restart_interval = (unsigned)k->restart;
    jpeg->arith_code = k->arithmetic;
    if (k->progressive)
        jpeg_simple_progression(jpeg);
    if (k->apart) {
        jpeg->scan_info = scans;
        jpeg->num_scans = 3;
    }
}

/* Noise over a slope, so that neighbours differ in brightness and in colour. */
static uint8_t value(uint64_t key, int x, int y, int c)
{
    uint64_t noise = th_rng_u64(key, (uint64_t)(y * 999 + x / 2) * 4 + (uint64_t)c);
    return (uint8_t)((x * (c + 2) + y * (5 - c) + (int)(noise % 90)) % 256);
}

static unsigned char *make_jpeg(
    const struct kind *k, uint64_t key, int w, int h, size_t *n)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, row[400 * 4];
    unsigned long size = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &size);
    jpeg.image_width = (JDIMENSION)w;
    jpeg.image_height = (JDIMENSION)h;
    jpeg.input_components = k->components;
    jpeg.in_color_space = k->components == 1   ? JCS_GRAYSCALE
                          : k->components == 4 ? JCS_CMYK
                                               : JCS_RGB;
    set_up(&jpeg, k, 60 + (int)(key % 40));
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        JSAMPROW line = row;
        for (int i = 0; i < w * k->components; i++)
            row[i] = value(
                key, i / k->components, (int)jpeg.next_scanline, i % k->components);
        jpeg_write_scanlines(&jpeg, &line, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    *n = size;
    return bytes;
}

static struct th_box the_box(const void *context, int w, int h)
{
    (void)w;
    (void)h;
    return *(const struct th_box *)context;
}

static struct th_box random_box(uint64_t key, int w, int h)
{
    struct th_box b;
    b.w = 1 + (int)th_rng_below(key, 20, (uint64_t)w);
    b.h = 1 + (int)th_rng_below(key, 21, (uint64_t)h);
    b.x = (int)th_rng_below(key, 22, (uint64_t)(w - b.w + 1));
    b.y = (int)th_rng_below(key, 23, (uint64_t)(h - b.h + 1));
    return b;
}

/* Whether the picture holds the box, with the pixels of the whole image. */
static bool same_pixels(
    const struct th_image *whole, const struct th_picture *p, const struct th_box *b)
{
    if (p->w != whole->w || p->h != whole->h || b->x < p->x || b->y < p->y ||
        b->x + b->w > p->x + p->held.w || b->y + b->h > p->y + p->held.h)
        return false;
    for (int y = b->y; y < b->y + b->h; y++)
        if (memcmp(whole->rgb + ((size_t)y * (size_t)whole->w + (size_t)b->x) * 3,
                p->held.rgb +
                    ((size_t)(y - p->y) * (size_t)p->held.w + (size_t)(b->x - p->x)) *
                        3,
                (size_t)b->w * 3) != 0)
            return false;
    return true;
}

static void a_part_has_the_pixels_of_the_whole(void **state)
{
    (void)state;
    struct th_picture picture = {0}; /* its memory is used again and again */
    for (int kind = 0; kind < N_KINDS; kind++)
        for (uint64_t round = 0; round < 12; round++) {
            uint64_t key = round * N_KINDS + (uint64_t)kind;
            int w = 1 + (int)th_rng_below(key, 1, round % 4 ? 150 : 20);
            int h = 1 + (int)th_rng_below(key, 2, round % 3 ? 150 : 20);
            size_t n;
            unsigned char *bytes = make_jpeg(&kinds[kind], key, w, h, &n);
            struct th_image whole;
            bool damaged = true;
            assert_int_equal(th_image_decode(bytes, n, &whole, &damaged), THAW_OK);
            assert_false(damaged);
            for (uint64_t i = 0; i < 40; i++) {
                struct th_box box = random_box(key * 100 + i, w, h);
                const struct th_wanted wanted = {the_box, &box, i % 2};
                assert_int_equal(
                    th_picture_decode(bytes, n, &wanted, &picture, &damaged), THAW_OK);
                assert_false(damaged);
                if (!same_pixels(&whole, &picture, &box))
                    fail_msg("%s, %dx%d: %dx%d at %d,%d differs", kinds[kind].name, w,
                        h, box.w, box.h, box.x, box.y);
            }
            th_image_release(&whole);
            free(bytes);
        }
    th_image_release(&picture.held);
}

/* Else the test above would pass on whole images alone. */
static void what_is_not_wanted_is_left_out(void **state)
{
    (void)state;
    const struct th_box box = {100, 90, 30, 20};
    const struct th_wanted wanted = {the_box, &box, false};
    for (int kind = 0; kind < N_KINDS; kind++) {
        size_t n;
        bool damaged;
        unsigned char *bytes = make_jpeg(&kinds[kind], 5, 300, 200, &n);
        struct th_picture p = {0};
        assert_int_equal(th_picture_decode(bytes, n, &wanted, &p, &damaged), THAW_OK);
        bool all = p.held.w == 300 && p.held.h == 200;
        if (all != kinds[kind].whole || (!all && p.held.w * p.held.h > 80 * 20))
            fail_msg("%s: %dx%d are held", kinds[kind].name, p.held.w, p.held.h);
        th_image_release(&p.held);
        free(bytes);
    }
}

/* Cut short or with a few bytes changed: what is said of the file is the same for any
 * part, and where it is used so are the pixels. */
static void damage_is_seen_in_whatever_part_it_lies(void **state)
{
    (void)state;
    int refused = 0, damaged_ones = 0;
    struct th_picture picture = {0};
    for (uint64_t key = 0; key < 1500; key++) {
        const struct kind *k = &kinds[key % N_KINDS];
        int w = 20 + (int)th_rng_below(key, 1, 80), h = 20 + (int)(key % 97);
        size_t n;
        unsigned char *bytes = make_jpeg(k, key, w, h, &n);
        size_t length = key % 2 ? n : n - th_rng_below(key, 3, n / (1 + key % 20));
        for (uint64_t i = 0; i < key % 4 && key % 2; i++)
            bytes[n / 3 + th_rng_below(key, 30 + i, n - n / 3)] ^=
                (uint8_t)(1u << th_rng_below(key, 40 + i, 8));
        struct th_image whole;
        bool damaged, part_damaged;
        thaw_status status = th_image_decode(bytes, length, &whole, &damaged);
        refused += status != THAW_OK;
        damaged_ones += status == THAW_OK && damaged;
        for (uint64_t i = 0; i < 6; i++) {
            struct th_box box = random_box(key * 10 + i, w, h);
            const struct th_wanted wanted = {the_box, &box, false};
            thaw_status part =
                th_picture_decode(bytes, length, &wanted, &picture, &part_damaged);
            if (part != status || (status == THAW_OK && part_damaged != damaged))
                fail_msg("%s %d: another verdict: %d %d, %d %d", k->name, (int)key,
                    status, damaged, part, part_damaged);
            if (status == THAW_OK && !same_pixels(&whole, &picture, &box))
                fail_msg("%s %d: other pixels", k->name, (int)key);
        }
        th_image_release(&whole);
        free(bytes);
    }
    th_image_release(&picture.held);
    assert_true(refused > 200 && damaged_ones > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_part_has_the_pixels_of_the_whole),
        cmocka_unit_test(what_is_not_wanted_is_left_out),
        cmocka_unit_test(damage_is_seen_in_whatever_part_it_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
