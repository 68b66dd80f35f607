/* SPDX-License-Identifier: Apache-2.0
 * Objects of images: kept with their image, renamed with the classes, known to the split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataset.h"
#include "error.h"
#include "fingerprint.h"
#include "labels.h"
#include "mem.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

/* n objects of the classes that the digits name, each its own width. */
static void add_image(struct th_dataset *d, const char *path, const char *digits)
{
    must(th_dataset_add_file(d, TH_SPLIT_TRAIN, -1, path));
    for (int i = 0; digits[i]; i++) {
        struct th_object o = {
            .box = {0, 0, (float)(i + 1), 2}, .class = digits[i] - '0'};
        o.area = th_box_area(o.box);
        must(th_dataset_add_object(d, TH_SPLIT_TRAIN, &o));
    }
}

static void an_image_has_its_objects_and_their_distinct_classes(void **state)
{
    (void)state;
    struct th_dataset d = {.many = true, .has_objects = true};
    add_image(&d, "a.png", "10112");
    add_image(&d, "b.png", "");
    add_image(&d, "c.png", "2");
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    const int32_t *class;
    assert_int_equal(th_sample_classes(&s[0], &class), 3);
    assert_int_equal(s[0].n_objects, 5);
    for (int i = 0; i < 5; i++) {
        assert_float_equal(s[0].objects[i].box[2], i + 1, 0);
        assert_int_equal(s[0].objects[i].class, "10112"[i] - '0');
    }
    assert_int_equal(th_sample_classes(&s[1], &class), 0);
    assert_int_equal(s[1].label, -1);
    assert_int_equal(th_sample_classes(&s[2], &class), 1);
    th_dataset_close(&d);
}

static void relabelling_moves_the_objects_too(void **state)
{
    (void)state;
    struct th_dataset d = {.many = true, .has_objects = true};
    add_image(&d, "a.png", "0121");
    th_samples_relabel(&d.split[TH_SPLIT_TRAIN], (const int32_t[]){2, 0, 1});
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    for (int i = 0; i < 4; i++)
        assert_int_equal(s->objects[i].class, "2010"[i] - '0');
    th_dataset_close(&d);
}

static void a_file_listed_twice_keeps_the_objects_of_both(void **state)
{
    (void)state;
    struct th_dataset d = {.many = true, .has_objects = true};
    add_image(&d, "a.png", "01");
    add_image(&d, "b.png", "1");
    add_image(&d, "a.png", "211");
    must(th_dataset_join_repeats(&d));
    const struct th_samples *s = &d.split[TH_SPLIT_TRAIN];
    assert_int_equal(s->n, 2);
    assert_int_equal(s->sample[0].n_objects, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(s->sample[0].objects[i].class, "01211"[i] - '0');
    assert_int_equal(s->sample[0].n_classes, 3);
    th_dataset_close(&d);
}

static void a_moved_box_is_another_dataset(void **state)
{
    (void)state;
    char *classes[] = {"cat", "dog"};
    struct th_dataset d = {.many = true, .has_objects = true};
    add_image(&d, "a.png", "01");
    d.classes = classes;
    d.n_classes = 2;
    int64_t hash = th_dataset_hash(&d);
    struct th_fingerprint print = th_fingerprint_of(&d);
    struct th_object *o = &d.split[TH_SPLIT_TRAIN].sample[0].objects[1];
    const struct th_object was = *o;
    for (int change = 0; change < 4; change++) {
        o->box[3] += (float)(change == 1);
        o->crowd = change == 2;
        o->class = change != 3;
        struct th_fingerprint now = th_fingerprint_of(&d);
        assert_true((th_dataset_hash(&d) == hash) == (change == 0));
        assert_true(th_fingerprint_same(&now, 1, &print, 1) == (change == 0));
        *o = was;
    }
    d.classes = NULL;
    th_dataset_close(&d);
}

static void a_folder_of_classes_is_refused_to_a_detector(void **state)
{
    (void)state;
    struct th_dataset d;
    const struct th_dataset_options o = {.objects = true};
    assert_int_equal(th_dataset_open("/tmp", &o, &d), THAW_E_DATA);
    assert_string_equal(thaw_error(), "/tmp: a folder of classes has no boxes; a "
                                      "detector wants voc:, coco:, yolo: or "
                                      "csv: with boxes");
    assert_int_equal(th_dataset_open("idx:/tmp", &o, &d), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "idx has no boxes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_has_its_objects_and_their_distinct_classes),
        cmocka_unit_test(relabelling_moves_the_objects_too),
        cmocka_unit_test(a_file_listed_twice_keeps_the_objects_of_both),
        cmocka_unit_test(a_moved_box_is_another_dataset),
        cmocka_unit_test(a_folder_of_classes_is_refused_to_a_detector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
