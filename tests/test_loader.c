/* SPDX-License-Identifier: Apache-2.0
 * The loader: the same batches for any number of workers, resumed or not; unreadable
 * images; shutting down at any time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader.h"
#include "mem.h"
#include "tensor.h"

enum { N_CLASSES = 3, PER_CLASS = 11, N = N_CLASSES * PER_CLASS, SIDE = 8 };

static char root[64]; /* of this test's images; removed after it */

/* 33 images of odd sizes in three classes. */
static int make_images(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/thaw_loader_XXXXXX");
    if (!mkdtemp(root))
        return -1;
    for (int i = 0; i < N; i++) {
        char path[128];
        struct th_image image;
        snprintf(path, sizeof path, "%s/%c", root, 'a' + i / PER_CLASS);
        mkdir(path, 0700);
        snprintf(path, sizeof path, "%s/%c/%02d.png", root, 'a' + i / PER_CLASS, i);
        if (th_image_init(&image, 9 + i % 5, 8 + i % 7) != THAW_OK)
            return -1;
        for (int k = 0; k < image.w * image.h * 3; k++)
            image.rgb[k] = (uint8_t)(i * 37 + k * 11 + k * k / 7);
        thaw_status status = th_image_write_png(path, &image);
        th_image_release(&image);
        if (status != THAW_OK)
            return -1;
    }
    return 0;
}

static int remove_images(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

/* Make image i of the listing unreadable. */
static void spoil(int i)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%c/%02d.png", root, 'a' + i / PER_CLASS, i);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs("spoilt", file);
    fclose(file);
}

static struct th_dataset open_data(void)
{
    struct th_dataset d;
    struct th_dataset_options options = {.val = "0"};
    if (th_dataset_open(root, &options, &d) != THAW_OK)
        fail_msg("%s", thaw_error());
    return d;
}

static struct th_loader_options usual(void)
{
    struct th_loader_options o = {.batch = 4,
        .seed = 7,
        .shuffle = true,
        .preprocess = th_preprocess_imagenet(SIDE)};
    assert_int_equal(th_augment_named("strong", &o.augment), THAW_OK);
    return o;
}

static struct th_loader *open_loader(
    const struct th_dataset *d, const struct th_loader_options *options)
{
    struct th_loader *loader;
    if (th_loader_open(d, options, &loader) != THAW_OK)
        fail_msg("%s", thaw_error());
    return loader;
}

static struct th_batch next_ok(struct th_loader *loader)
{
    struct th_batch batch;
    if (th_loader_next(loader, &batch) != THAW_OK)
        fail_msg("%s", thaw_error());
    return batch;
}

static uint64_t hash_batch(const struct th_batch *b, uint64_t seed)
{
    size_t n = (size_t)b->n;
    seed = th_hash(b->images, n * 3 * SIDE * SIDE * sizeof *b->images, seed);
    seed = th_hash(b->labels, n * sizeof *b->labels, seed);
    seed = th_hash(b->occurrence, n * sizeof *b->occurrence, seed);
    return th_hash(b->ids, n * sizeof *b->ids, seed);
}

/* A hash of all batches of an epoch from first_batch on, chained per batch into `hash`. */
static uint64_t hash_epoch(struct th_loader *loader, int64_t epoch, int64_t first_batch)
{
    uint64_t hash = 0;
    struct th_batch batch;
    assert_int_equal(th_loader_start(loader, epoch, first_batch), THAW_OK);
    for (int64_t i = first_batch; (batch = next_ok(loader)).n; i++) {
        assert_int_equal(batch.index, i);
        hash ^= hash_batch(&batch, (uint64_t)i);
    }
    return hash;
}

static uint64_t hash_with(
    const struct th_dataset *d, struct th_loader_options o, int workers, int64_t epoch)
{
    o.workers = workers;
    o.prefetch = workers % 3;
    struct th_loader *loader = open_loader(d, &o);
    uint64_t hash = hash_epoch(loader, epoch, 0);
    th_loader_close(loader);
    return hash;
}

static void batches_are_the_same_for_any_number_of_workers(void **state)
{
    (void)state;
    spoil(5);
    spoil(6);
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.max_bad = 0.2;
    uint64_t hash = hash_with(&d, o, 1, 3);
    const int workers[] = {2, 3, 8, 0};
    for (int i = 0; i < 4; i++)
        assert_true(hash_with(&d, o, workers[i], 3) == hash);
    assert_true(hash_with(&d, o, 2, 4) != hash);
    o.seed++;
    assert_true(hash_with(&d, o, 2, 3) != hash);
    th_dataset_close(&d);
}

static void an_epoch_shows_each_image_once(void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    struct th_loader *loader = open_loader(&d, &o);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int seen[N] = {0}, in_order = 0, at = 0;
        struct th_batch batch;
        assert_int_equal(th_loader_start(loader, epoch, 0), THAW_OK);
        while ((batch = next_ok(loader)).n)
            for (int64_t i = 0; i < batch.n; i++) {
                seen[batch.ids[i]]++;
                in_order += batch.ids[i] == at++;
                assert_int_equal(batch.labels[i], batch.ids[i] / PER_CLASS);
                assert_int_equal(batch.occurrence[i], 0);
            }
        assert_true(in_order < N / 2);
        for (int i = 0; i < N; i++)
            assert_int_equal(seen[i], 1);
    }
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void a_start_in_mid_epoch_gives_the_rest_of_it(void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.workers = 3;
    struct th_loader *loader = open_loader(&d, &o);
    uint64_t whole = hash_epoch(loader, 2, 0), first = 0;
    assert_int_equal(th_loader_start(loader, 2, 0), THAW_OK);
    for (uint64_t i = 0; i < 5; i++) {
        struct th_batch batch = next_ok(loader);
        first ^= hash_batch(&batch, i);
    }
    assert_true((first ^ hash_epoch(loader, 2, 5)) == whole);
    assert_int_equal(th_loader_start(loader, 2, 9), THAW_OK);
    assert_int_equal(next_ok(loader).n, 0);
    assert_int_equal(th_loader_start(loader, 2, 10), THAW_E_USAGE);
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void without_shuffle_and_augmentation_pixels_are_the_evaluation_ones(
    void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.shuffle = false;
    o.augment = (struct th_augment){0};
    o.preprocess.crop = 0.6;
    struct th_loader *loader = open_loader(&d, &o);
    struct th_batch batch;
    int64_t at = 0;
    assert_int_equal(th_loader_start(loader, 0, 0), THAW_OK);
    while ((batch = next_ok(loader)).n)
        for (int64_t i = 0; i < batch.n; i++, at++) {
            struct th_image image;
            uint8_t rgb[SIDE * SIDE * 3];
            float want[3 * SIDE * SIDE];
            const struct th_sample *s = &d.split[TH_SPLIT_TRAIN].sample[at];
            assert_int_equal(batch.ids[i], at);
            assert_int_equal(th_sample_read(s, &image, NULL), THAW_OK);
            assert_int_equal(th_preprocess_pixels(&o.preprocess, &image, rgb), THAW_OK);
            th_preprocess_normalise(&o.preprocess, rgb, false, want);
            assert_memory_equal(batch.images + i * 3 * SIDE * SIDE, want, sizeof want);
            th_image_release(&image);
        }
    assert_int_equal(at, N);
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void a_last_batch_of_one_joins_the_batch_before_it(void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    for (int join = 0; join < 2; join++) {
        struct th_loader_options o = usual();
        o.join_single = join;
        struct th_loader *loader = open_loader(&d, &o);
        int64_t last = 0, n = 0, total = 0;
        struct th_batch batch;
        assert_int_equal(th_loader_start(loader, 0, 0), THAW_OK);
        for (; (batch = next_ok(loader)).n; n++) {
            assert_true(batch.n <= th_loader_max_batch(loader));
            last = batch.n;
            total += batch.n;
        }
        assert_int_equal(n, join ? 8 : 9);
        assert_int_equal(n, th_loader_n_batches(loader));
        assert_int_equal(last, join ? 5 : 1);
        assert_int_equal(total, N);
        th_loader_close(loader);
    }
    th_dataset_close(&d);
}

static void views_repeat_with_their_period(void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.views = 2;
    o.shuffle = false;
    assert_true(hash_with(&d, o, 2, 0) == hash_with(&d, o, 2, 4));
    assert_true(hash_with(&d, o, 2, 0) != hash_with(&d, o, 2, 1));
    th_dataset_close(&d);
}

struct reports {
    int n, n_replaced;
    char text[8][256];
};

static void take_report(void *context, const struct th_bad_image *bad)
{
    struct reports *r = context;
    r->n_replaced += bad->replaced;
    if (r->n < 8)
        snprintf(r->text[r->n], sizeof r->text[0], "%s: %s", bad->path, bad->reason);
    r->n++;
}

static void an_unreadable_image_is_reported_once_and_replaced_in_its_class(void **state)
{
    (void)state;
    spoil(12);
    struct reports reports = {0};
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.report = take_report;
    o.context = &reports;
    struct th_loader *loader = open_loader(&d, &o);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        struct th_batch batch;
        int replaced = 0;
        assert_int_equal(th_loader_start(loader, epoch, 0), THAW_OK);
        while ((batch = next_ok(loader)).n)
            for (int64_t i = 0; i < batch.n; i++) {
                assert_true(batch.ids[i] != 12);
                if (!batch.occurrence[i])
                    continue;
                replaced++;
                assert_int_equal(batch.occurrence[i], 13);
                assert_int_equal(batch.labels[i], 1);
                assert_int_equal(batch.n_replaced, 1);
            }
        assert_int_equal(replaced, 1);
    }
    assert_int_equal(reports.n, 1);
    assert_int_equal(reports.n_replaced, 1);
    assert_non_null(strstr(reports.text[0], "b/12.png: not a readable image"));
    assert_int_equal(th_loader_n_unreadable(loader), 1);
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void an_image_damaged_at_its_end_is_reported_and_used(void **state)
{
    (void)state;
    char link[128];
    snprintf(link, sizeof link, "%s/a/late.jpg", root);
    assert_int_equal(symlink(THAW_SOURCE_DIR "/tests/golden/images/late.jpg", link), 0);
    struct reports reports = {0};
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.report = take_report;
    o.context = &reports;
    o.max_bad = -1;
    struct th_loader *loader = open_loader(&d, &o);
    for (int64_t epoch = 0; epoch < 2; epoch++)
        hash_epoch(loader, epoch, 0);
    assert_int_equal(reports.n, 1);
    assert_int_equal(reports.n_replaced, 0);
    assert_non_null(strstr(reports.text[0], "a/late.jpg: damaged"));
    assert_int_equal(th_loader_n_unreadable(loader), 0);
    th_loader_close(loader);
    th_dataset_close(&d);
}

/* The first epoch, until it ends or fails. */
static thaw_status run_epoch(struct th_loader *loader)
{
    struct th_batch batch = {0};
    thaw_status status = th_loader_start(loader, 0, 0);
    while (status == THAW_OK && !(status = th_loader_next(loader, &batch)) && batch.n)
        ;
    return status;
}

static void too_many_unreadable_images_end_it_with_their_number(void **state)
{
    (void)state;
    spoil(3);
    spoil(30);
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.shuffle = false;
    struct th_loader *loader = open_loader(&d, &o); /* 1 % of 33: always one */
    assert_int_equal(run_epoch(loader), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "2 of 33 images"));
    assert_non_null(strstr(thaw_error(), "a/03.png"));
    struct th_batch batch = {0};
    assert_int_equal(th_loader_next(loader, &batch), THAW_E_DATA); /* and stays so */
    th_loader_close(loader);
    th_dataset_close(&d);
}

/* Of 33 images 7 % are 2.3: two may be unreadable, the third is too many. */
static void the_allowance_is_not_rounded_up(void **state)
{
    (void)state;
    spoil(3);
    spoil(14);
    spoil(30);
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.max_bad = 0.07;
    struct th_loader *loader = open_loader(&d, &o);
    assert_int_equal(run_epoch(loader), THAW_E_DATA);
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void a_class_without_one_readable_image_ends_it(void **state)
{
    (void)state;
    for (int i = 0; i < PER_CLASS; i++)
        spoil(PER_CLASS + i);
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.max_bad = 1;
    struct th_loader *loader = open_loader(&d, &o);
    assert_int_equal(run_epoch(loader), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "none of the 11 images of class \"b\""));
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void closing_is_clean_at_any_time(void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    for (int i = 0; i < 20; i++) {
        o.workers = 1 + i % 4;
        struct th_loader *loader = open_loader(&d, &o);
        if (i % 5)
            assert_int_equal(th_loader_start(loader, i, i % 3), THAW_OK);
        for (int n = 0; n < i % 5 - 1; n++)
            next_ok(loader);
        if (i % 2)
            assert_int_equal(th_loader_start(loader, i, 0), THAW_OK);
        th_loader_close(loader);
    }
    th_loader_close(NULL);
    th_dataset_close(&d);
}

static void senseless_options_are_refused(void **state)
{
    (void)state;
    struct th_dataset d = open_data();
    struct th_loader *loader;
    struct th_loader_options o = usual();
    o.batch = 0;
    assert_int_equal(th_loader_open(&d, &o, &loader), THAW_E_USAGE);
    o = usual();
    o.preprocess.std[1] = 0;
    assert_int_equal(th_loader_open(&d, &o, &loader), THAW_E_USAGE);
    o = usual();
    o.split = TH_SPLIT_TEST;
    assert_int_equal(th_loader_open(&d, &o, &loader), THAW_E_DATA);
    th_dataset_close(&d);
}

/* Leave images of a class: 2 of a, 11 of b, 5 of c. */
static void thin_out(void)
{
    for (int i = 0; i < N; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%c/%02d.png", root, 'a' + i / PER_CLASS, i);
        if ((i >= 2 && i < PER_CLASS) || i >= 2 * PER_CLASS + 5)
            assert_int_equal(unlink(path), 0);
    }
}

/* 18 places, 6 a class; the two images of a come three times, looking different. */
static void a_balanced_epoch_repeats_small_classes_in_other_variants(void **state)
{
    (void)state;
    thin_out();
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.balanced = true;
    struct th_loader *loader = open_loader(&d, &o);
    enum { PIXELS = 3 * SIDE * SIDE };
    static float first[2][3][PIXELS];
    int per_class[N_CLASSES] = {0}, n = 0, seen[2][3] = {{0}};
    struct th_batch batch;
    assert_int_equal(th_loader_start(loader, 4, 0), THAW_OK);
    while ((batch = next_ok(loader)).n) {
        assert_int_equal(batch.n_replaced, 0);
        for (int64_t i = 0; i < batch.n; i++, n++) {
            int64_t repeat = batch.occurrence[i] >> 32;
            per_class[batch.labels[i]]++;
            if (batch.labels[i])
                continue;
            assert_in_range(repeat, 0, 2);
            seen[batch.ids[i]][repeat]++;
            memcpy(first[batch.ids[i]][repeat], batch.images + i * PIXELS,
                sizeof first[0][0]);
        }
    }
    assert_int_equal(n, 18);
    for (int c = 0; c < N_CLASSES; c++)
        assert_int_equal(per_class[c], 6);
    for (int i = 0; i < 2; i++)
        for (int r = 0; r < 3; r++) {
            assert_int_equal(seen[i][r], 1);
            assert_memory_not_equal(
                first[i][r], first[i][(r + 1) % 3], sizeof first[0][0]);
        }
    th_loader_close(loader);
    th_dataset_close(&d);
}

static void balanced_batches_are_the_same_for_any_workers_and_start(void **state)
{
    (void)state;
    thin_out();
    spoil(1); /* of the two of class a */
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.balanced = true;
    uint64_t hash = hash_with(&d, o, 1, 3);
    const int workers[] = {2, 3, 8};
    for (int i = 0; i < 3; i++)
        assert_true(hash_with(&d, o, workers[i], 3) == hash);
    assert_true(hash_with(&d, o, 2, 4) != hash);
    struct th_loader *loader = open_loader(&d, &o);
    uint64_t first = 0;
    assert_int_equal(th_loader_start(loader, 3, 0), THAW_OK);
    for (uint64_t i = 0; i < 2; i++) {
        struct th_batch batch = next_ok(loader);
        first ^= hash_batch(&batch, i);
    }
    assert_true((first ^ hash_epoch(loader, 3, 2)) == hash);
    assert_int_equal(th_loader_n_unreadable(loader), 1);
    th_loader_close(loader);
    o.shuffle = false;
    assert_int_equal(th_loader_open(&d, &o, &loader), THAW_E_USAGE);
    th_dataset_close(&d);
}

/* The unreadable image's three places go to the other image of its class, told apart. */
static void a_substitute_of_a_repeat_is_told_apart_and_counted_once(void **state)
{
    (void)state;
    thin_out();
    spoil(1);
    struct reports reports = {0};
    struct th_dataset d = open_data();
    struct th_loader_options o = usual();
    o.balanced = true;
    o.report = take_report;
    o.context = &reports;
    struct th_loader *loader = open_loader(&d, &o);
    int64_t seen[6], n = 0, replaced = 0;
    struct th_batch batch;
    assert_int_equal(th_loader_start(loader, 0, 0), THAW_OK);
    while ((batch = next_ok(loader)).n) {
        replaced += batch.n_replaced;
        for (int64_t i = 0; i < batch.n; i++) {
            if (batch.labels[i])
                continue;
            assert_int_equal(batch.ids[i], 0);
            for (int64_t k = 0; k < n; k++)
                assert_true(seen[k] != batch.occurrence[i]);
            seen[n++] = batch.occurrence[i];
        }
    }
    assert_int_equal(n, 6);
    assert_int_equal(replaced, 3);
    assert_int_equal(reports.n, 1);
    th_loader_close(loader);
    th_dataset_close(&d);
}

/* 5-class flowers, from the folder THAW_TEST_ASSETS: photographs of all sizes. */
static void real_photographs_give_the_same_epoch_for_one_worker_and_four(void **state)
{
    (void)state;
    const char *assets = getenv("THAW_TEST_ASSETS");
    char path[512];
    struct th_dataset d;
    struct th_dataset_options options = {0};
    snprintf(path, sizeof path, "%s/data/flowers", assets ? assets : "");
    if (!assets || !th_is_folder(path)) {
        print_message("THAW_TEST_ASSETS names no folder with data/flowers\n");
        skip();
    }
    assert_int_equal(th_dataset_open(path, &options, &d), THAW_OK);
    struct th_loader_options o = usual();
    o.batch = 32;
    o.split = TH_SPLIT_VAL;
    assert_true(hash_with(&d, o, 1, 0) == hash_with(&d, o, 4, 0));
    th_dataset_close(&d);
}

#define WITH_IMAGES(test)                                                              \
    cmocka_unit_test_setup_teardown(test, make_images, remove_images)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_IMAGES(batches_are_the_same_for_any_number_of_workers),
        WITH_IMAGES(an_epoch_shows_each_image_once),
        WITH_IMAGES(a_start_in_mid_epoch_gives_the_rest_of_it),
        WITH_IMAGES(without_shuffle_and_augmentation_pixels_are_the_evaluation_ones),
        WITH_IMAGES(a_last_batch_of_one_joins_the_batch_before_it),
        WITH_IMAGES(views_repeat_with_their_period),
        WITH_IMAGES(an_unreadable_image_is_reported_once_and_replaced_in_its_class),
        WITH_IMAGES(an_image_damaged_at_its_end_is_reported_and_used),
        WITH_IMAGES(too_many_unreadable_images_end_it_with_their_number),
        WITH_IMAGES(the_allowance_is_not_rounded_up),
        WITH_IMAGES(a_class_without_one_readable_image_ends_it),
        WITH_IMAGES(a_balanced_epoch_repeats_small_classes_in_other_variants),
        WITH_IMAGES(balanced_batches_are_the_same_for_any_workers_and_start),
        WITH_IMAGES(a_substitute_of_a_repeat_is_told_apart_and_counted_once),
        WITH_IMAGES(closing_is_clean_at_any_time),
        WITH_IMAGES(senseless_options_are_refused),
        cmocka_unit_test(real_photographs_give_the_same_epoch_for_one_worker_and_four),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
