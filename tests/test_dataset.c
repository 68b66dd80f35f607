/* SPDX-License-Identifier: Apache-2.0
 * Datasets: folders, csv, idx, what is held back, and the errors users will meet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "dataset.h"

static char root[64]; /* of this test's files; removed after it */

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/thaw_dataset_XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void in_root(const char *name, char *path)
{
    snprintf(path, 500, "%s/%s", root, name);
}

/* A file below root, with the folders it needs. */
static void put(const char *name, const char *text, size_t n)
{
    char path[512];
    in_root(name, path);
    for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    fclose(file);
}

static void put_images(const char *folder, int n)
{
    for (int i = 0; i < n; i++) {
        char name[256];
        snprintf(name, sizeof name, "%s/%02d.ppm", folder, i);
        put(name, "P6 1 1 255\nabc", 14);
    }
}

static const struct th_dataset_options plain = {.val = "0"};

static struct th_dataset open_ok(const char *data, struct th_dataset_options options)
{
    struct th_dataset d;
    if (th_dataset_open(data, &options, &d) != THAW_OK)
        fail_msg("%s", thaw_error());
    return d;
}

static void expect_error(const char *data, struct th_dataset_options options,
    thaw_status status, const char *word)
{
    struct th_dataset d;
    assert_int_equal(th_dataset_open(data, &options, &d), status);
    if (!strstr(thaw_error(), word))
        fail_msg("\"%s\" lacks \"%s\"", thaw_error(), word);
    assert_null(d.classes);
}

static void classes_and_files_of_a_folder_are_in_byte_order(void **state)
{
    (void)state;
    put_images("b", 2);
    put_images("B", 1);
    put_images("a/deep/er", 1);
    put_images("a", 1);
    put("a/Z.PPM", "P6 1 1 255\nabc", 14);
    put("a/.hidden.ppm", "x", 1);
    put("a/__MACOSX/00.ppm", "x", 1);
    put("a/notes.txt", "x", 1);
    put("readme.txt", "x", 1);
    struct th_dataset d = open_ok(root, plain);
    assert_int_equal(d.n_classes, 3);
    assert_string_equal(d.classes[0], "B");
    assert_string_equal(d.classes[1], "a");
    assert_string_equal(d.classes[2], "b");
    const struct th_samples *train = &d.split[TH_SPLIT_TRAIN];
    const char *const ends[] = {
        "B/00.ppm", "a/00.ppm", "a/Z.PPM", "a/deep/er/00.ppm", "b/00.ppm", "b/01.ppm"};
    const int labels[] = {0, 1, 1, 1, 2, 2};
    assert_int_equal(train->n, 6);
    for (int i = 0; i < 6; i++) {
        assert_string_equal(train->sample[i].path + strlen(root) + 1, ends[i]);
        assert_int_equal(train->sample[i].label, labels[i]);
        assert_int_equal(train->sample[i].id, i);
    }
    assert_int_equal(d.warnings.n, 1);
    assert_non_null(strstr(d.warnings.name[0], "1 files"));
    th_dataset_close(&d);
}

static void links_that_form_a_loop_end(void **state)
{
    (void)state;
    char link[512];
    put_images("a/sub", 2);
    put_images("b", 2);
    in_root("a/sub/up", link);
    assert_int_equal(symlink("..", link), 0);
    struct th_dataset d = open_ok(root, plain);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 4);
    th_dataset_close(&d);
}

static void train_val_and_test_folders_become_splits(void **state)
{
    (void)state;
    put_images("train/x", 3);
    put_images("train/y", 3);
    put_images("val/y", 2);
    put_images("test/x", 1);
    put_images("test/y", 1);
    put_images("other/z", 1);
    struct th_dataset d = open_ok(root, (struct th_dataset_options){0});
    assert_int_equal(d.n_classes, 2);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 6);
    assert_int_equal(d.split[TH_SPLIT_VAL].n, 2);
    assert_int_equal(d.split[TH_SPLIT_VAL].sample[0].label, 1);
    assert_int_equal(d.split[TH_SPLIT_TEST].n, 2);
    assert_int_equal(d.warnings.n, 2); /* other is not used, x has no image in val */
    th_dataset_close(&d);
    d = open_ok(root, plain);
    assert_int_equal(d.split[TH_SPLIT_VAL].n, 0);
    th_dataset_close(&d);
    put_images("val/z", 1);
    expect_error(root, plain, THAW_E_DATA, "no folder in train");
}

static void a_fifth_of_each_class_is_held_back_by_seed(void **state)
{
    (void)state;
    put_images("a", 20);
    put_images("b", 10);
    put_images("c", 1);
    struct th_dataset d = open_ok(root, (struct th_dataset_options){.seed = 5});
    struct th_dataset same = open_ok(root, (struct th_dataset_options){.seed = 5});
    struct th_dataset other = open_ok(root, (struct th_dataset_options){.seed = 6});
    const struct th_samples *val = &d.split[TH_SPLIT_VAL];
    int per_class[3] = {0}, same_as_other = 0;
    assert_int_equal(val->n, 6);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 25);
    for (int i = 0; i < 6; i++) {
        per_class[val->sample[i].label]++;
        assert_int_equal(val->sample[i].id, same.split[TH_SPLIT_VAL].sample[i].id);
        same_as_other += val->sample[i].id == other.split[TH_SPLIT_VAL].sample[i].id;
        assert_true(i == 0 || val->sample[i].id > val->sample[i - 1].id);
    }
    assert_int_equal(per_class[0], 4);
    assert_int_equal(per_class[1], 2);
    assert_int_equal(per_class[2], 0);
    assert_true(same_as_other < 6);
    th_dataset_close(&d);
    th_dataset_close(&same);
    th_dataset_close(&other);
    d = open_ok(root, (struct th_dataset_options){.val = "0.95"});
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 1 + 1 + 1);
    th_dataset_close(&d);
    expect_error(
        root, (struct th_dataset_options){.val = "1"}, THAW_E_USAGE, "fraction");
}

static void validation_images_may_come_from_another_folder(void **state)
{
    (void)state;
    char val[512], data[512];
    put_images("data/a", 2);
    put_images("data/b", 2);
    put_images("more/b", 3);
    in_root("data", data);
    in_root("more", val);
    struct th_dataset d = open_ok(data, (struct th_dataset_options){.val = val});
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 4);
    assert_int_equal(d.split[TH_SPLIT_VAL].n, 3);
    assert_int_equal(d.split[TH_SPLIT_VAL].sample[0].label, 1);
    assert_int_equal(d.split[TH_SPLIT_VAL].sample[0].id, 4);
    th_dataset_close(&d);
    put_images("more/c", 1);
    expect_error(data, (struct th_dataset_options){.val = val}, THAW_E_DATA, "\"c\"");
}

static void data_that_cannot_be_trained_on_is_refused(void **state)
{
    (void)state;
    expect_error(root, plain, THAW_E_DATA, "no class folders");
    expect_error("/no/such", plain, THAW_E_IO, "/no/such: cannot be opened");
    put_images("a", 3);
    expect_error(root, plain, THAW_E_DATA, "only one class");
    struct th_dataset d = open_ok(root, (struct th_dataset_options){.as_is = true});
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 3);
    th_dataset_close(&d);
    put("b/notes.txt", "x", 1);
    expect_error(root, plain, THAW_E_DATA, "\"b\" has no training images");
}

static void csv_rows_keep_their_order_and_labels_are_names(void **state)
{
    (void)state;
    char data[512] = "csv:";
    const char text[] = "\xEF\xBB\xBFwidth,label,path\r\n"
                        "1,10,z.png\r\n\r\n"
                        "2,9,\"a, \"\"b\"\".png\"\r\n"
                        "3,\"two\nlines\",/abs/c.png\r\n"
                        "4,10,d.png";
    put("list.csv", text, sizeof text - 1);
    in_root("list.csv", data + 4);
    struct th_dataset d = open_ok(data, plain);
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    assert_int_equal(d.n_classes, 3);
    assert_string_equal(d.classes[0], "10");
    assert_string_equal(d.classes[1], "9");
    assert_string_equal(d.classes[2], "two\nlines");
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 4);
    assert_string_equal(s[0].path + strlen(root), "/z.png");
    assert_string_equal(s[1].path + strlen(root), "/a, \"b\".png");
    assert_string_equal(s[2].path, "/abs/c.png");
    assert_int_equal(s[0].label, 0);
    assert_int_equal(s[1].label, 1);
    assert_int_equal(s[2].label, 2);
    assert_int_equal(s[3].label, 0);
    th_dataset_close(&d);
}

static void a_broken_csv_names_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = {{"", "first line must name"},
        {"path,klass\na,b\n", "first line must name"},
        {"path,label\na.png,x\nb.png\n", "line 3"},
        {"path,label\na.png,\n", "label is empty"},
        {"path,label\n\"a.png,x\n", "never closed"},
        {"path,label\n\"a\"b,x\n", "after a closing quote"},
        {"path,label\n", "no images"}};
    char data[512] = "csv:";
    in_root("list.csv", data + 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("list.csv", cases[i].text, strlen(cases[i].text));
        expect_error(data, plain, THAW_E_DATA, cases[i].word);
    }
    put("list.csv", "a\0b", 3);
    expect_error(data, plain, THAW_E_DATA, "zero bytes");
    expect_error("csv:/no/such", plain, THAW_E_IO, "cannot be opened");
}

/* n images of 2x3 whose pixels and labels count up. */
static void put_idx(const char *prefix, int n)
{
    char name[128], bytes[512] = "\0\0\10\3";
    bytes[7] = (char)n;
    bytes[11] = 3; /* rows */
    bytes[15] = 2;
    for (int i = 0; i < n * 6; i++)
        bytes[16 + i] = (char)i;
    snprintf(name, sizeof name, "fashion/%s-images-idx3-ubyte", prefix);
    put(name, bytes, (size_t)(16 + n * 6));
    memcpy(bytes, "\0\0\10\1\0\0\0\0", 8);
    bytes[7] = (char)n;
    for (int i = 0; i < n; i++)
        bytes[8 + i] = (char)(i % 3);
    snprintf(name, sizeof name, "fashion/%s-labels-idx1-ubyte", prefix);
    put(name, bytes, (size_t)(8 + n));
}

static void idx_files_become_samples_and_a_folder_of_pngs(void **state)
{
    (void)state;
    char data[512] = "idx:", out[512];
    put_idx("train", 9);
    put_idx("t10k", 4);
    in_root("fashion", data + 4);
    in_root("out", out);
    struct th_dataset d = open_ok(data, plain);
    assert_int_equal(d.n_classes, 3);
    assert_string_equal(d.classes[0], "Pullover");
    assert_string_equal(d.classes[1], "T-shirt");
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 9);
    assert_int_equal(d.split[TH_SPLIT_TEST].n, 4);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].sample[0].label, 1);
    assert_int_equal(th_dataset_export_folder(&d, out, 2), THAW_OK);
    assert_int_equal(th_dataset_export_folder(&d, out, 2), THAW_E_IO);
    struct th_dataset folder = open_ok(out, plain);
    assert_int_equal(folder.n_classes, 3);
    assert_int_equal(folder.split[TH_SPLIT_TRAIN].n, 6);
    assert_int_equal(folder.split[TH_SPLIT_TEST].n, 4);
    struct th_image a, b;
    assert_int_equal(
        th_sample_read(&d.split[TH_SPLIT_TRAIN].sample[3], &a, NULL), THAW_OK);
    assert_int_equal(
        th_sample_read(&folder.split[TH_SPLIT_TRAIN].sample[3], &b, NULL), THAW_OK);
    assert_int_equal(a.w, 2);
    assert_int_equal(b.h, 3);
    assert_memory_equal(a.rgb, b.rgb, 18); /* the second T-shirt */
    th_image_release(&a);
    th_image_release(&b);
    th_dataset_close(&folder);
    th_dataset_close(&d);
    put("fashion/t10k-labels-idx1-ubyte", "\0\0\10\1\0\0\0\5", 8);
    expect_error(data, plain, THAW_E_DATA, "5 labels for 4 images");
    put("fashion/t10k-labels-idx1-ubyte", "\0\0\10\1\0\0\0\4ab", 10);
    expect_error(data, plain, THAW_E_DATA, "ends early");
    /* 16 bytes that speak of a GiB: nothing is taken for it */
    put("fashion/train-images-idx3-ubyte", "\0\0\10\3\0\1\0\0\0\0\0\200\0\0\0\200", 16);
    put("fashion/train-labels-idx1-ubyte", "\0\0\10\1\0\1\0\0", 8);
    expect_error(data, plain, THAW_E_DATA, "ends early");
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    assert_true(used.ru_maxrss < 1 << 20); /* KiB */
}

static void unlabelled_images_are_a_file_or_all_below_a_folder(void **state)
{
    (void)state;
    struct th_dataset d;
    char path[512];
    put_images("b/c", 2);
    put_images("a", 1);
    assert_int_equal(th_dataset_open_unlabelled(root, &d), THAW_OK);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 3);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].sample[0].label, -1);
    th_dataset_close(&d);
    in_root("a/00.ppm", path);
    assert_int_equal(th_dataset_open_unlabelled(path, &d), THAW_OK);
    assert_int_equal(d.split[TH_SPLIT_TRAIN].n, 1);
    th_dataset_close(&d);
    in_root("none", path);
    mkdir(path, 0700);
    assert_int_equal(th_dataset_open_unlabelled(path, &d), THAW_E_DATA);
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ROOT(classes_and_files_of_a_folder_are_in_byte_order),
        WITH_ROOT(links_that_form_a_loop_end),
        WITH_ROOT(train_val_and_test_folders_become_splits),
        WITH_ROOT(a_fifth_of_each_class_is_held_back_by_seed),
        WITH_ROOT(validation_images_may_come_from_another_folder),
        WITH_ROOT(data_that_cannot_be_trained_on_is_refused),
        WITH_ROOT(csv_rows_keep_their_order_and_labels_are_names),
        WITH_ROOT(a_broken_csv_names_the_line),
        WITH_ROOT(idx_files_become_samples_and_a_folder_of_pngs),
        WITH_ROOT(unlabelled_images_are_a_file_or_all_below_a_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
