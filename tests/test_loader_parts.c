/* SPDX-License-Identifier: Apache-2.0
 * The loader over JPEGs, which it decodes in part: its inputs are those of whole files; and
 * what it has ready, seen before it is given. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader.h"

#define GOLDEN_IMAGES THAW_SOURCE_DIR "/tests/golden/images/"

enum { SIDE = 40 };

/* A list of the golden JPEGs: all samplings, turned and damaged ones. */
static struct th_dataset open_jpegs(void)
{
    static const char *const names[] = {"rgb420", "rgb422", "rgb444", "gray", "cmyk",
        "progressive", "exif1", "exif6", "late", "no_end"};
    const struct th_dataset_options as_is = {.as_is = true};
    char data[64], *path = data + 4;
    struct th_dataset d;
    snprintf(data, sizeof data, "csv:/tmp/thaw_parts_%d.csv", (int)getpid());
    FILE *list = fopen(path, "w");
    assert_non_null(list);
    fprintf(list, "path,label\n");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fprintf(list, GOLDEN_IMAGES "%s.jpg,%c\n", names[i], "ab"[i % 2]);
    fclose(list);
    if (th_dataset_open(data, &as_is, &d) != THAW_OK)
        fail_msg("%s", thaw_error());
    unlink(path);
    return d;
}

static struct th_batch next_ok(struct th_loader *loader)
{
    struct th_batch batch;
    if (th_loader_next(loader, &batch) != THAW_OK)
        fail_msg("%s", thaw_error());
    return batch;
}

/* The input that an epoch shows of a sample, from the whole file in fresh memory. */
static void input_of(const struct th_loader_options *o, const struct th_sample *s,
    int64_t epoch, float *out)
{
    const struct th_example e = {.preprocess = &o->preprocess,
        .augment = &o->augment,
        .view = {.seed = o->seed, .epoch = epoch, .sample = s->id}};
    struct th_example_maker maker = {0};
    struct th_image image;
    assert_int_equal(th_sample_read(s, &image, NULL), THAW_OK);
    const struct th_picture whole = th_picture_of(&image);
    assert_int_equal(th_example_make(&maker, &e, &whole, out), THAW_OK);
    th_image_release(&image);
    th_example_maker_release(&maker);
}

static void compare_epochs(
    const struct th_dataset *d, const struct th_loader_options *o)
{
    static float want[3 * SIDE * SIDE];
    struct th_loader *loader;
    struct th_batch b;
    assert_int_equal(th_loader_open(d, o, &loader), THAW_OK);
    for (int64_t epoch = 0; epoch < 4; epoch++) {
        assert_int_equal(th_loader_start(loader, epoch, 0), THAW_OK);
        for (b = next_ok(loader); b.n; b = next_ok(loader))
            for (int64_t i = 0; i < b.n; i++) {
                input_of(o, &d->split[TH_SPLIT_TRAIN].sample[b.ids[i]], epoch, want);
                assert_memory_equal(want, b.images + i * 3 * SIDE * SIDE, sizeof want);
            }
    }
    assert_int_equal(th_loader_n_unreadable(loader), 0);
    th_loader_close(loader);
}

/* Leaving out what is not wanted, remembering which files are sound and using memory
 * again leave no trace, epoch after epoch. */
static void inputs_from_parts_equal_inputs_from_whole_files(void **state)
{
    (void)state;
    static const char *const augment[] = {"none", "basic", "strong"};
    struct th_dataset d = open_jpegs();
    for (int kind = 0; kind < 3; kind++) {
        struct th_loader_options o = {.batch = 4,
            .seed = 7,
            .shuffle = true,
            .preprocess = th_preprocess_imagenet(SIDE)};
        assert_int_equal(th_augment_named(augment[kind], &o.augment), THAW_OK);
        compare_epochs(&d, &o);
    }
    th_dataset_close(&d);
}

/* The next batch is looked at while the one before it is in use; none is there at the end. */
static void a_whole_batch_is_seen_before_it_is_given(void **state)
{
    (void)state;
    struct th_dataset d = open_jpegs();
    const struct th_loader_options o = {
        .batch = 3, .seed = 7, .preprocess = th_preprocess_imagenet(SIDE)};
    struct th_loader *loader;
    assert_int_equal(th_loader_open(&d, &o, &loader), THAW_OK);
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        struct th_batch seen, again;
        assert_int_equal(th_loader_start(loader, epoch, 1), THAW_OK);
        struct th_batch b = next_ok(loader);
        for (int64_t k = 2; k < th_loader_n_batches(loader); k++) {
            float first = b.images[0];
            while (!th_loader_peek(loader, &seen))
                sched_yield();
            assert_true(th_loader_peek(loader, &again) && again.images == seen.images);
            assert_true(b.images != seen.images && b.images[0] == first);
            assert_int_equal(seen.index, k);
            float sum = 0, given = 0;
            for (int64_t i = 0; i < seen.n * 3 * SIDE * SIDE; i++)
                sum += seen.images[i];
            b = next_ok(loader);
            for (int64_t i = 0; i < b.n * 3 * SIDE * SIDE; i++)
                given += b.images[i];
            assert_int_equal(b.index, k);
            assert_int_equal(b.n, seen.n);
            assert_true(b.images == seen.images && given == sum);
        }
        assert_false(th_loader_peek(loader, &seen));
        assert_int_equal(next_ok(loader).n, 0);
    }
    th_loader_close(loader);
    th_dataset_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_from_parts_equal_inputs_from_whole_files),
        cmocka_unit_test(a_whole_batch_is_seen_before_it_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
