/* SPDX-License-Identifier: Apache-2.0
 * Weight files: every kind of golden/weights (made by golden/weights.py), round trips,
 * damage, and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "error.h"
#include "file.h"
#include "mem.h"
#include "pickle.h"
#include "weights.h"

#define GOLDEN THAW_SOURCE_DIR "/tests/golden/weights/"

/* Every good file, and every one that is refused. */
static const char *const good[] = {"zip.pth", "half.pth", "bfloat16.pth", "double.pth",
    "long.pth", "char.pth", "legacy.th", "checkpoint.pth", "protocol4.pth",
    "protocol4.th", "parameter.pth", "flat.h5", "nested.h5", "gzip.h5", "types.h5",
    "flat.safetensors", "half.safetensors", "bfloat16.safetensors",
    "double.safetensors", "long.safetensors", "char.safetensors"};
static const char *const refused[][2] = {
    {"evil.pth", ".system: refused, nothing was executed"},
    {"evil.th", ".system: refused, nothing was executed"},
    {"model.pth", "save model.state_dict() alone"},
    {"lie.pth", "a tensor larger than its storage"},
    {"soft.h5", "a soft link"},
    {"external_link.h5", "a link to another file"},
    {"external_storage.h5", "external storage"},
    {"virtual.h5", "a virtual data set"},
    {"lzf.h5", "another filter than deflate"},
    {"bomb.h5", "than a file of this size may unpack to"},
    {"cycle.h5", "deeper than 32"},
};

enum {
    N_GOOD = sizeof good / sizeof good[0],
    N_REFUSED = sizeof refused / sizeof refused[0]
};

static const struct {
    const char *name;
    struct th_shape shape;
} tensors[] = {
    {"conv1.weight", {4, {4, 3, 3, 3}}},
    {"bn1.weight", {1, {4}}},
    {"layer1.0.conv1.weight", {4, {2, 4, 1, 1}}},
    {"fc.weight", {2, {5, 2}}},
    {"fc.bias", {1, {5}}},
    {"scale", {0, {0}}},
};

enum { N_TENSORS = sizeof tensors / sizeof tensors[0] };

static void check_ok(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

/* The formula of weights.py. */
static float golden_value(int64_t i, int64_t k, float step)
{
    return (float)((i * 7 + k * 13) % 29 - 14) * step;
}

static void check_golden(const struct th_weights *w, float step)
{
    for (int k = 0; k < N_TENSORS; k++) {
        const struct th_weight *t = th_weights_find(w, tensors[k].name);
        assert_non_null(t);
        assert_true(th_shape_equal(&t->tensor.shape, &tensors[k].shape));
        const float *data = t->tensor.data;
        for (int64_t i = 0; i < th_shape_count(&tensors[k].shape); i++)
            assert_true(data[i] == golden_value(i, k, step));
    }
}

static void every_kind_of_file_gives_the_same_tensors(void **state)
{
    (void)state;
    char path[512];
    for (int i = 0; i < N_GOOD; i++) {
        struct th_weights w;
        th_weights_init(&w);
        snprintf(path, sizeof path, GOLDEN "%s", good[i]);
        check_ok(th_weights_read(path, &w));
        bool is_int =
            strncmp(good[i], "long.", 5) == 0 || strncmp(good[i], "char.", 5) == 0;
        check_golden(&w, is_int ? 1.0f : 0.25f);
        assert_int_equal(
            w.n, strcmp(good[i], "types.h5") == 0 ? N_TENSORS + 2 : N_TENSORS);
        assert_string_equal(w.format, strstr(good[i], ".h5")            ? "hdf5"
                                      : strstr(good[i], ".safetensors") ? "safetensors"
                                                                        : "pth");
        th_weights_release(&w);
    }
}

static void dangerous_and_broken_files_are_refused_by_name(void **state)
{
    (void)state;
    char path[512];
    for (int i = 0; i < N_REFUSED; i++) {
        struct th_weights w;
        th_weights_init(&w);
        snprintf(path, sizeof path, GOLDEN "%s", refused[i][0]);
        assert_int_equal(th_weights_read(path, &w), THAW_E_DATA);
        if (!strstr(thaw_error(), refused[i][1]) ||
            !strstr(thaw_error(), refused[i][0]))
            fail_msg("%s: %s", refused[i][0], thaw_error());
        assert_int_equal(w.n, 0);
        th_weights_release(&w);
    }
}

static void a_global_outside_the_table_is_refused_by_its_name(void **state)
{
    (void)state;
    struct th_weights w;
    th_weights_init(&w);
    assert_int_equal(th_weights_read(GOLDEN "evil.pth", &w), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "refers to posix.system"));
}

static void numbers_of_every_type_are_converted(void **state)
{
    (void)state;
    struct th_weights w;
    th_weights_init(&w);
    check_ok(th_weights_read(GOLDEN "types.h5", &w));
    const float *i64 = th_weights_find(&w, "int64")->tensor.data;
    const float *u8 = th_weights_find(&w, "uint8")->tensor.data;
    assert_true(i64[0] == -3.0f && i64[1] == 0x1p30f);
    assert_true(u8[0] == 0.0f && u8[1] == 255.0f);
    th_weights_release(&w);
}

static void strided_tensors_are_made_dense(void **state)
{
    (void)state;
    struct th_weights w;
    th_weights_init(&w);
    check_ok(th_weights_read(GOLDEN "strided.pth", &w));
    const struct th_weight *t = th_weights_find(&w, "transposed");
    assert_int_equal(t->tensor.shape.dim[0], 5); /* of [4][6][5], axes 2, 0, 1 */
    const float *data = t->tensor.data;
    for (int64_t a = 0, n = 0; a < 5; a++)
        for (int64_t b = 0; b < 4; b++)
            for (int64_t c = 0; c < 6; c++)
                assert_true(data[n++] == golden_value((b * 6 + c) * 5 + a, 0, 0.25f));
    data = th_weights_find(&w, "sliced")->tensor.data; /* [1:3, ::2, 1] */
    for (int64_t b = 1, n = 0; b < 3; b++)
        for (int64_t c = 0; c < 6; c += 2)
            assert_true(data[n++] == golden_value((b * 6 + c) * 5 + 1, 0, 0.25f));
    data = th_weights_find(&w, "expanded")->tensor.data;
    for (int i = 0; i < 6; i++)
        assert_true(data[i] == golden_value(0, 0, 0.25f));
    data = th_weights_find(&w, "tail")->tensor.data;
    for (int64_t i = 0; i < 30; i++)
        assert_true(data[i] == golden_value(90 + i, 0, 0.25f));
    assert_int_equal(th_weights_find(&w, "empty")->tensor.shape.dim[0], 0);
    th_weights_release(&w);
}

static void attributes_of_h5py_are_read(void **state)
{
    (void)state;
    struct th_weights w;
    size_t n = 0;
    th_weights_init(&w);
    check_ok(th_weights_read(GOLDEN "flat.h5", &w));
    assert_int_equal(*th_weights_ints(&w, "thaw_format", &n), 1);
    assert_string_equal(th_weights_string(&w, "backbone"), "resnet18");
    assert_string_equal(th_weights_string(&w, "fixed"), "bytes");
    const char *const *classes = th_weights_strings(&w, "classes", &n);
    assert_int_equal(n, 3);
    assert_string_equal(classes[1], "d\xc3\xb6g");
    assert_string_equal(classes[2], "");
    assert_string_equal(th_weights_strings(&w, "fixed_list", &n)[1], "c");
    assert_true(th_weights_floats(&w, "mean", &n)[2] == 0.406);
    assert_true(*th_weights_floats(&w, "crop", &n) == 0.875);
    assert_int_equal(th_weights_ints(&w, "input_size", &n)[1], 224);
    assert_true(th_weights_floats(&w, "input_size", &n)[1] == 224);
    assert_null(th_weights_ints(&w, "mean", NULL));
    assert_null(th_weights_string(&w, "nothing"));
    th_weights_release(&w);
}

/* A set with all kinds of content; n_classes of them in an attribute. */
static void fill(struct th_weights *w, size_t n_classes)
{
    const double mean[] = {0.485, 0.456, 0.1}, crop = 0.875;
    const int64_t format = 1, sizes[] = {INT64_MAX, INT64_MIN, 0};
    float odd[] = {-0.0f, 1e-45f, 3.4e38f, 0.1f, 1.0f / 3.0f, -7.0f};
    th_weights_init(w);
    check_ok(th_weights_add(w, "z.last", TH_SHAPE(2, 3), odd, NULL));
    check_ok(th_weights_add(w, "a.first", TH_SHAPE(1), odd, NULL));
    check_ok(th_weights_add(w, "scalar", (struct th_shape){0}, odd + 3, NULL));
    check_ok(th_weights_add(w, "empty", TH_SHAPE(3, 0), NULL, NULL));
    check_ok(th_weights_add(w, "adam.m/z/a.weight", TH_SHAPE(2), odd + 2, NULL));
    check_ok(th_weights_add(w, "adam.m/z/fc.weight", TH_SHAPE(2), odd, NULL));
    for (int i = 0; i < 200; i++) {
        char name[64];
        float *data = NULL;
        snprintf(name, sizeof name, "layer%d.0.conv1.weight", 200 - i);
        check_ok(th_weights_add(w, name, TH_SHAPE(1, i + 1, 1), NULL, &data));
        for (int j = 0; j <= i; j++)
            data[j] = golden_value(j, i, 0.3f);
    }
    const char **classes = th_alloc(n_classes, sizeof *classes);
    for (size_t i = 0; i < n_classes; i++)
        classes[i] = i % 2 ? "odd \xf0\x9f\x90\x88" : "";
    check_ok(th_weights_set_strings(w, "classes", classes, n_classes));
    th_free(classes);
    check_ok(th_weights_set_string(w, "backbone", "resnet18"));
    check_ok(th_weights_set_floats(w, "mean", mean, 3));
    check_ok(th_weights_set_floats(w, "crop", &crop, 1));
    check_ok(th_weights_set_ints(w, "thaw_format", &format, 1));
    check_ok(th_weights_set_ints(w, "sizes", sizes, 3));
}

static void check_same_attribute(
    const struct th_attribute *x, const struct th_attribute *y)
{
    assert_string_equal(x->name, y->name);
    assert_int_equal(x->kind, y->kind);
    assert_int_equal(x->n, y->n);
    for (size_t i = 0; i < x->n; i++) {
        if (x->strings)
            assert_string_equal(x->strings[i], y->strings[i]);
        if (x->floats)
            assert_true(x->floats[i] == y->floats[i]);
        if (x->ints)
            assert_true(x->ints[i] == y->ints[i]);
    }
}

static void check_same(const struct th_weights *a, const struct th_weights *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) { /* the order too */
        const struct th_tensor *x = &a->weight[i].tensor, *y = &b->weight[i].tensor;
        assert_string_equal(a->weight[i].name, b->weight[i].name);
        assert_true(th_shape_equal(&x->shape, &y->shape));
        assert_memory_equal(x->data, y->data, (size_t)th_shape_count(&x->shape) * 4);
    }
    assert_int_equal(a->n_attributes, b->n_attributes);
    for (size_t i = 0; i < a->n_attributes; i++)
        for (size_t j = 0; j < b->n_attributes; j++)
            if (strcmp(a->attribute[i].name, b->attribute[j].name) == 0)
                check_same_attribute(&a->attribute[i], &b->attribute[j]);
}

static void what_is_written_is_read_bit_for_bit(void **state)
{
    (void)state;
    const size_t n_classes[] = {0, 1, 3, 20000}; /* the last is more than 64 KiB */
    for (int i = 0; i < 4; i++) {
        struct th_weights a, b;
        unsigned char *bytes = NULL;
        size_t n = 0;
        fill(&a, n_classes[i]);
        th_weights_init(&b);
        check_ok(th_weights_to_image(&a, &bytes, &n));
        check_ok(th_weights_read_image(bytes, n, "image", &b));
        check_same(&a, &b);
        th_weights_release(&b);
        th_weights_init(&b); /* and all of its bytes are needed */
        assert_int_equal(th_weights_read_image(bytes, n - 1, "image", &b), THAW_E_DATA);
        th_free(bytes);
        th_weights_release(&a);
        th_weights_release(&b);
    }
}

static void equal_content_gives_equal_bytes(void **state)
{
    (void)state;
    unsigned char *bytes[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        struct th_weights w;
        fill(&w, 3);
        check_ok(th_weights_to_image(&w, &bytes[i], &n[i]));
        th_weights_release(&w);
        char *dirt = malloc(1 << 20); /* what uninitialised bytes would show */
        assert_non_null(dirt);
        memset(dirt, 0x55, 1 << 20);
        free(dirt);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    th_free(bytes[0]);
    th_free(bytes[1]);
}

/* The same file as of a copy; the numbers stay their owner's. */
static void borrowed_numbers_are_written_and_left(void **state)
{
    (void)state;
    static const float numbers[6] = {1, -2, 3, -4, 5, -6};
    unsigned char *bytes[2] = {NULL, NULL};
    size_t n[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        struct th_weights w;
        th_weights_init(&w);
        check_ok(i ? th_weights_borrow(&w, "fc.weight", TH_SHAPE(2, 3), numbers)
                   : th_weights_add(&w, "fc.weight", TH_SHAPE(2, 3), numbers, NULL));
        assert_int_equal(w.weight[0].tensor.data == numbers, i);
        check_ok(th_weights_to_image(&w, &bytes[i], &n[i]));
        th_weights_release(&w);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    th_free(bytes[0]);
    th_free(bytes[1]);
}

static void a_written_file_is_read_by_its_path(void **state)
{
    (void)state;
    char path[] = "/tmp/thaw-weights-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct th_weights a, b;
    fill(&a, 3);
    th_weights_init(&b);
    check_ok(th_weights_write(path, NULL, &a));
    check_ok(th_weights_read(path, &b));
    assert_int_equal(a.n, b.n);
    assert_non_null(th_weights_find(&b, "adam.m.z.fc.weight"));
    assert_int_equal(th_weights_write(path, "pth", &a), THAW_E_USAGE);
    check_ok(th_weights_add(&a, "adam.m.z.fc.weight", TH_SHAPE(1), NULL, NULL));
    check_ok(th_weights_write(path, NULL, &a));
    th_weights_release(&b);
    assert_int_equal(th_weights_read(path, &b), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "two tensors of this name"));
    unlink(path);
    th_weights_release(&a);
    th_weights_release(&b);
}

/* Damage: cut at about a hundred places (HDF5, which starts processes: twelve), and each
 * of as many bytes turned over. */
static void damage(const char *path, bool cut)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    check_ok(th_file_read(path, 1 << 20, &bytes, &n));
    size_t places = strstr(path, ".h5") ? 12 : 100, step = n > places ? n / places : 1;
    for (size_t at = 0; at < n; at += step) {
        struct th_weights w;
        th_weights_init(&w);
        unsigned char *copy = malloc(n ? n : 1); /* exact, for ASan's sake */
        assert_non_null(copy);
        memcpy(copy, bytes, n);
        copy = cut ? realloc(copy, at ? at : 1) : copy;
        if (!cut)
            copy[at] ^= 0xff;
        thaw_status status = th_weights_read_image(copy, cut ? at : n, path, &w);
        assert_true(status == THAW_OK || status == THAW_E_DATA);
        if (cut && strcmp(w.format, "hdf5") != 0)
            assert_int_equal(status, THAW_E_DATA);
        th_weights_release(&w);
        free(copy);
    }
    th_free(bytes);
}

static void a_damaged_file_is_refused_without_a_crash(void **state)
{
    (void)state;
    char path[512];
    for (int i = 0; i < N_GOOD + N_REFUSED; i++) {
        snprintf(path, sizeof path, GOLDEN "%s",
            i < N_GOOD ? good[i] : refused[i - N_GOOD][0]);
        damage(path, true);
        damage(path, false);
    }
}

static void an_unknown_file_is_told_what_it_looks_like(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"", "empty"},
        {"<!DOCTYPE html>", "web page"},
        {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
        {"hello, I am text", "known are HDF5"},
    };
    for (int i = 0; i < 4; i++) {
        struct th_weights w;
        th_weights_init(&w);
        const unsigned char *bytes = (const unsigned char *)pairs[i][0];
        assert_int_equal(th_weights_read_image(bytes, strlen(pairs[i][0]), "x.pth", &w),
            THAW_E_DATA);
        assert_non_null(strstr(thaw_error(), pairs[i][1]));
    }
}

static void names_are_found_refused_twice_and_never_steer_the_terminal(void **state)
{
    (void)state;
    struct th_weights w;
    fill(&w, 1);
    assert_null(th_weights_find(&w, "layer0.0.conv1.weight"));
    assert_non_null(th_weights_find(&w, "layer200.0.conv1.weight"));
    assert_int_equal(
        th_weights_add(&w, "scalar", TH_SHAPE(1), NULL, NULL), THAW_E_DATA);
    assert_int_equal(
        th_weights_add(&w, "\33[2J", TH_SHAPE(1), NULL, NULL), THAW_E_DATA);
    assert_int_equal(th_weights_add(&w, "", TH_SHAPE(1), NULL, NULL), THAW_E_DATA);
    assert_int_equal(
        th_weights_add(&w, "huge", TH_SHAPE(1LL << 40, 1LL << 40, 0), NULL, NULL),
        THAW_E_DATA);
    th_weights_release(&w);
}

static void names_that_hdf5_cannot_hold_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"/a", "a/", "a//b", ".", "a/./b", "a/."};
    for (int i = 0; i < 6; i++) {
        struct th_weights w;
        unsigned char *bytes = NULL;
        size_t n = 0;
        th_weights_init(&w);
        check_ok(th_weights_add(&w, names[i], TH_SHAPE(1), NULL, NULL));
        assert_int_equal(th_weights_to_image(&w, &bytes, &n), THAW_E_USAGE);
        th_weights_release(&w);
    }
}

static void an_attribute_set_again_is_replaced(void **state)
{
    (void)state;
    struct th_weights w;
    size_t n = 0;
    const double pair[] = {1, 2};
    th_weights_init(&w);
    check_ok(th_weights_set_string(&w, "a", "text"));
    check_ok(th_weights_set_floats(&w, "a", pair, 2));
    assert_null(th_weights_string(&w, "a"));
    assert_true(th_weights_floats(&w, "a", &n)[1] == 2 && n == 2);
    assert_int_equal(w.n_attributes, 1);
    th_weights_release(&w);
}

/* The authors' file and its conversion with h5py, name for name and bit for bit. */
static void the_real_legacy_file_equals_its_conversion(void **state)
{
    (void)state;
    static const char *const stem[] = {
        "cifar10-resnet20-12fca82f", "cifar10-resnet56-4bfd9763"};
    const char *folder = getenv("THAW_TEST_ASSETS");
    if (!folder) {
        print_message(
            "skipped: THAW_TEST_ASSETS does not name the folder of real weights\n");
        skip();
    }
    for (int i = 0; i < 2; i++) {
        char path[1024];
        struct th_weights a, b;
        th_weights_init(&a);
        th_weights_init(&b);
        snprintf(path, sizeof path, "%s/weights/%s.th", folder, stem[i]);
        check_ok(th_weights_read(path, &a));
        snprintf(path, sizeof path, "%s/weights/%s.converted.h5", folder, stem[i]);
        check_ok(th_weights_read(path, &b));
        assert_int_equal(a.n, b.n);
        assert_int_equal(a.n, i ? 277 : 97);
        for (size_t k = 0; k < a.n; k++) {
            const struct th_weight *other = th_weights_find(&b, a.weight[k].name);
            assert_non_null(other);
            assert_true(
                th_shape_equal(&a.weight[k].tensor.shape, &other->tensor.shape));
            assert_memory_equal(a.weight[k].tensor.data, other->tensor.data,
                (size_t)th_shape_count(&other->tensor.shape) * 4);
        }
        th_weights_release(&a);
        th_weights_release(&b);
    }
}

/* A dict made of one long list, again and again: 5 bytes of pickle for 2 MB of memory. */
static void a_pickle_that_copies_a_list_without_end_is_refused(void **state)
{
    enum { PAIRS = 1 << 18, CALLS = 64 };
    static const char head[] = "\x80\2ccollections\nOrderedDict\nq\1K\1K\2\x86q\2](",
                      list[] = "e\x85q\3", call[] = "h\1h\3R";
    (void)state;
    size_t n = 0;
    unsigned char *bytes = th_alloc(2 * PAIRS + 5 * CALLS + 64, 1);
    assert_non_null(bytes);
    memcpy(bytes, head, n = sizeof head - 1);
    for (int i = 0; i < PAIRS; i++, n += 2)
        memcpy(bytes + n, "h\2", 2);
    memcpy(bytes + n, list, sizeof list - 1);
    n += sizeof list - 1;
    for (int i = 0; i < CALLS; i++, n += sizeof call - 1)
        memcpy(bytes + n, call, sizeof call - 1);
    bytes[n++] = '.';
    struct th_pickle p;
    assert_int_equal(th_pickle_init(&p, bytes, n, "copies.pth", NULL), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "copies.pth: damaged pickle: too many items"));
    th_free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_file_gives_the_same_tensors),
        cmocka_unit_test(dangerous_and_broken_files_are_refused_by_name),
        cmocka_unit_test(a_global_outside_the_table_is_refused_by_its_name),
        cmocka_unit_test(a_pickle_that_copies_a_list_without_end_is_refused),
        cmocka_unit_test(numbers_of_every_type_are_converted),
        cmocka_unit_test(strided_tensors_are_made_dense),
        cmocka_unit_test(attributes_of_h5py_are_read),
        cmocka_unit_test(what_is_written_is_read_bit_for_bit),
        cmocka_unit_test(equal_content_gives_equal_bytes),
        cmocka_unit_test(borrowed_numbers_are_written_and_left),
        cmocka_unit_test(a_written_file_is_read_by_its_path),
        cmocka_unit_test(a_damaged_file_is_refused_without_a_crash),
        cmocka_unit_test(an_unknown_file_is_told_what_it_looks_like),
        cmocka_unit_test(names_are_found_refused_twice_and_never_steer_the_terminal),
        cmocka_unit_test(names_that_hdf5_cannot_hold_are_refused),
        cmocka_unit_test(an_attribute_set_again_is_replaced),
        cmocka_unit_test(the_real_legacy_file_equals_its_conversion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
