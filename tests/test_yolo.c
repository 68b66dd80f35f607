/* SPDX-License-Identifier: Apache-2.0
 * yolo: and csv: with boxes: which files are read, what their boxes become, and what is
 * refused; and the sizes of images, which YOLO's boxes are parts of. */
#include "scratch.h"

#include "image.h"
#include "image_size.h"

/* A picture of 40 x 20 without pixels worth looking at. */
static void put_picture(const char *name)
{
    static char bytes[13 + 40 * 20 * 3] = "P6 40 20 255\n";
    put_bytes(name, bytes, sizeof bytes);
}

static void folders_lists_and_splits_are_read(void **state)
{
    static const char *const texts[] = {
        "path: /content/elsewhere\ntrain: images/train\nval: images/val\nnames: [dog, "
        "'a cat']\n",
        "train: ../images/train\nval:\n  - images/val\nnc: 2\nnames:\n  1: a cat\n  0: "
        "dog\n"
        "download: |\n  wget x\nroboflow:\n  project: {a: [1, 2]}\n",
        "train: train.txt\nval: ./val.txt\nnames:\n- dog\n- a cat\n",
        "path: sub/..\ntrain: images/train\nval: images/val\nnames: {0: dog, 1: a "
        "cat}\n"};
    struct th_dataset d;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        scratch_clear();
        put("data.yaml", texts[i]);
        put("train.txt", "images/train/a.ppm\r\n\n./images/train/b.ppm");
        put("val.txt", "images/val/c.ppm\n");
        put_picture("images/train/a.ppm");
        put_picture("images/train/b.ppm");
        put_picture("images/val/c.ppm");
        put("labels/train/a.txt", "1 0.5 0.5 0.5 0.5\n\n0 0.25 .5 5e-1 1.0\r\n");
        put("labels/val/c.txt", "0 0.1 0.1 0.3 0.1 0.3 0.4 0.2 0.5\n");
        must(open_scratch("yolo", i % 2 ? "" : "/data.yaml", &d));
        assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 2);
        assert_int_equal(d.split[TH_SPLIT_VAL].n, 1);
        const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
        assert_int_equal(s[0].n_objects, 2);
        assert_int_equal(s[1].n_objects, 0);
        expect_object(&d, &s[0].objects[0], "a cat", (const float[]){10, 5, 30, 15});
        expect_object(&d, &s[0].objects[1], "dog", (const float[]){0, 0, 20, 20});
        s = d.split[TH_SPLIT_VAL].sample;
        expect_object(&d, &s[0].objects[0], "dog", (const float[]){4, 2, 12, 10});
        expect_warning(&d, "1 images have no file of labels");
        th_dataset_close(&d);
    }
}

static void labels_lie_beside_images_that_are_in_no_images(void **state)
{
    struct th_dataset d;
    (void)state;
    scratch_clear();
    put("data.yaml", "train: all\nnames: [a]\n");
    put_picture("all/x/a.ppm");
    put("all/x/a.txt", "0 0.5 0.5 2 0.5\n0 0.5 0.5 0 0.5\n0 nan 0.5 1 1\n");
    must(open_scratch("yolo", "", &d));
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    assert_int_equal(s->n_objects, 1);
    expect_object(&d, s->objects, "a", (const float[]){0, 5, 40, 15});
    expect_warning(&d, "a.txt, line 2: box 20 5 20 15 is empty");
    expect_warning(&d, "a.txt, line 3: ");
    expect_warning(&d, ": 1 boxes reach over the image's edge");
    th_dataset_close(&d);
}

static void bad_files_are_refused_by_file_and_line(void **state)
{
    static const struct {
        const char *file, *text, *says;
    } cases[] = {
        {"data.yaml", "", "line 1: not a data.yaml"},
        {"data.yaml", "- a\n", "line 1: not a data.yaml"},
        {"data.yaml", "train: images\n", "no names: in it"},
        {"data.yaml", "train: images\nnames: 3\n", "line 2: names must be a list"},
        {"data.yaml", "names:\n  0: a\n  2: b\n", "gaps in their numbers"},
        {"data.yaml", "names:\n  0: a\n  0: b\n", "line 3: a class's name is wanted"},
        {"data.yaml", "names:\n  x: a\n", "line 2: a class's number is wanted"},
        {"data.yaml", "names: [a, [b]]\n", "line 1: a text is wanted here"},
        {"data.yaml", "names: &x [a]\ntrain: *x\n", "line 2: an alias"},
        {"data.yaml", "names: [a\ntrain: images\n", "data.yaml, line "},
        {"data.yaml", "a: [[[[[[[[[[1]]]]]]]]]]\n", "more than 8 levels"},
        {"data.yaml", "names: [a]\ntrain: /etc\n", "leads out of its folder"},
        {"data.yaml", "names: [a]\ntrain: images/../../..\n",
            "leads out of its folder"},
        {"data.yaml", "names: [a]\ntrain: none\n", "train: there is no folder"},
        {"data.yaml", "names: [a]\ntrain: bad.txt\n",
            "bad.txt, line 2: an image may not"},
        {"data.yaml", "names: [a]\ntrain: gone.txt\n", "gone.txt, line 1: there is no"},
        {"labels/a.txt", "0 0.5 0.5 0.5\n", "a.txt, line 1: neither a class"},
        {"labels/a.txt", "0 0.5 0.5 0.5 0.5 0.5\n", "a.txt, line 1: neither a class"},
        {"labels/a.txt", "\n0 0.5 half 0.5 1\n", "a.txt, line 2: not a number"},
        {"labels/a.txt", "1 0.5 0.5 0.5 0.5\n", "a.txt, line 1: class 1, but "},
        {"labels/a.txt", "-1 0.5 0.5 0.5 0.5\n", "a.txt, line 1: class -1, but "},
        {"labels/a.txt", "0.5 0.5 0.5 0.5 0.5\n", "a.txt, line 1: class 0.5, but "},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_clear();
        put("data.yaml", "train: images\nnames: [a]\n");
        put_picture("images/a.ppm");
        put("labels/a.txt", "0 0.5 0.5 1 1\n");
        put("bad.txt", "images/a.ppm\n../../etc/passwd.png\n");
        put("gone.txt", "images/b.ppm\n");
        put(cases[i].file, cases[i].text);
        expect_refusal("yolo", "", cases[i].says, scratch);
    }
    scratch_clear();
    expect_refusal("yolo", "", "no data.yaml in it", scratch);
    put("data.yaml", "train: images\nnames: [a]\n");
    put_picture("images/a.ppm");
    expect_refusal("yolo", "", "no image has a file of labels", "labels/a.txt");
}

static void every_cut_of_the_yaml_ends_well(void **state)
{
    static const char text[] =
        "path: x\ntrain: [images]\nnames:\n  0: \"a\\tb\"\n  1: 'c'\n"
        "other: {a: [1, {b: 2}]}\n";
    (void)state;
    scratch_clear();
    put_picture("images/a.ppm");
    put("labels/a.txt", "0 0.5 0.5 1 1\n");
    for (size_t cut = 0; cut <= strlen(text); cut++) {
        struct th_dataset d;
        put_bytes("data.yaml", text, cut);
        thaw_status status = open_scratch("yolo", "", &d);
        assert_true(status == THAW_OK || status == THAW_E_DATA);
        if (status == THAW_OK)
            th_dataset_close(&d);
        else
            assert_non_null(strstr(thaw_error(), scratch));
    }
}

static void sizes_are_those_of_the_image_that_is_read(void **state)
{
    char path[512];
    (void)state;
    scratch_clear();
    put_picture("a.ppm");
    struct th_names images = {0};
    must(th_list_images(THAW_SOURCE_DIR "/tests/golden/images", &images, NULL));
    assert_true(images.n > 10);
    int n = 0;
    for (int64_t i = 0; i < images.n; i++) {
        int w = 0, h = 0;
        struct th_image image;
        snprintf(path, sizeof path, "%s/%s", THAW_SOURCE_DIR "/tests/golden/images",
            images.name[i]);
        if (th_image_read(path, &image, NULL) != THAW_OK)
            continue;
        must(th_image_size(path, &w, &h));
        assert_int_equal(w, image.w);
        assert_int_equal(h, image.h);
        th_image_release(&image);
        n++;
    }
    assert_true(n > 10);
    th_names_release(&images);
    snprintf(path, sizeof path, "%s/none.jpg", scratch);
    assert_int_equal(th_image_size(path, &n, &n), THAW_E_IO);
}

/* ---- csv ---- */

static void rows_are_objects_in_any_order_of_columns(void **state)
{
    static const char *const texts[] = {"path,label,xmin,ymin,xmax,ymax\nb.png,dog,1,2,"
                                        "3,4\na.png,,,,,\nb.png,cat,5,6,7.5,8\n",
        "ymax,xmax,label,note,xmin,ymin,path\n4,3,dog,,1,2,b.png\n,,,,,,a.png\n"
        "8,7.5,cat,,5,6,b.png\n",
        "file_name,x,y,width,height,class\nb.png,1,2,2,2,dog\na.png,,,,,\nb.png,5,6,2."
        "5,2,cat\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\nb.png,7.5,100,dog,1,2,3,4\n"
        "a.png,9,9,,,,,\nb.png,7.5,100,cat,5,6,9,8\n"};
    struct th_dataset d;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        put("x.csv", texts[i]);
        must(open_scratch("csv", "/x.csv", &d));
        assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 2);
        const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
        assert_int_equal(s[0].n_objects, 2);
        expect_object(&d, &s[0].objects[0], "dog", (const float[]){1, 2, 3, 4});
        expect_object(&d, &s[0].objects[1], "cat", (const float[]){5, 6, 7.5f, 8});
        assert_true(s[1].n_objects == 0 && s[1].label == -1);
        th_dataset_close(&d);
    }
}

static void bad_rows_are_refused_by_line(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"path,label\na.png,dog\n", "it has no boxes; a detector wants columns xmin"},
        {"path,label,xmin,ymin,xmax,ymax\na.png,dog,1,2,three,4\n",
            "line 2: \"three\" is no number"},
        {"path,label,xmin,ymin,xmax,ymax\na.png,dog,1,2,3\n", "line 2: 5 columns"},
        {"path,label,xmin,ymin,xmax,ymax\na.png,dog,,,,\n",
            "line 2: \"\" is no number"},
        {"path,label,xmin,ymin,xmax,ymax\na.png,,1,2,3,4\n", "the label is empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("x.csv", cases[i].text);
        expect_refusal("csv", "/x.csv", cases[i].says, "x.csv");
    }
    struct th_dataset d;
    put("x.csv",
        "path,label,xmin,ymin,xmax,ymax\na.png,dog,5,2,5,4\na.png,dog,1,2,3,4\n");
    must(open_scratch("csv", "/x.csv", &d));
    expect_warning(&d, "x.csv, line 2: box 5 2 5 4 is empty");
    th_dataset_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_lists_and_splits_are_read),
        cmocka_unit_test(labels_lie_beside_images_that_are_in_no_images),
        cmocka_unit_test(bad_files_are_refused_by_file_and_line),
        cmocka_unit_test(every_cut_of_the_yaml_ends_well),
        cmocka_unit_test(sizes_are_those_of_the_image_that_is_read),
        cmocka_unit_test(rows_are_objects_in_any_order_of_columns),
        cmocka_unit_test(bad_rows_are_refused_by_line),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
