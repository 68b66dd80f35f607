/* SPDX-License-Identifier: Apache-2.0
 * safetensors: what the strict reader refuses, with its words; damage; round trips with
 * attributes. Files of the safetensors library are read in test_weights. */
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
#include "mem.h"
#include "weights.h"

static void check_ok(thaw_status status)
{
    if (status != THAW_OK)
        fail_msg("%s", thaw_error());
}

/* A file of this header and n bytes of data, in a block of exactly its size. */
static unsigned char *make(const char *header, size_t n, size_t *size)
{
    size_t m = strlen(header);
    *size = 8 + m + n;
    unsigned char *bytes = malloc(*size);
    assert_non_null(bytes);
    for (int k = 0; k < 8; k++)
        bytes[k] = (unsigned char)((uint64_t)m >> 8 * k);
    memcpy(bytes + 8, header, m);
    memset(bytes + 8 + m, 0, n);
    return bytes;
}

static thaw_status read_made(const char *header, size_t n, struct th_weights *w)
{
    size_t size = 0;
    unsigned char *bytes = make(header, n, &size);
    th_weights_init(w);
    thaw_status status = th_weights_read_image(bytes, size, "x.safetensors", w);
    free(bytes);
    return status;
}

#define T(name, type, shape, from, to)                                                 \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape                            \
    ",\"data_offsets\":[" #from "," #to "]}"

static const struct {
    const char *header;
    size_t n;
    const char *words;
} refused[] = {
    {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[1]", 4, 8) "}", 8, "overlaps"},
    {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[1]", 12, 16) "}", 16, "a gap"},
    {"{" T("a", "F32", "[2]", 4, 12) "}", 12, "a gap"},
    {"{" T("a", "F32", "[2]", 0, 8) "}", 9, "1 bytes behind the last tensor"},
    {"{" T("a", "F32", "[2]", 0, 8) "}", 7, "cut short"},
    {"{" T("a", "F32", "[2]", 0, 8) "," T("a", "F32", "[2]", 8, 16) "}", 16,
        "not JSON"},
    {"{" T("a", "F32", "[3]", 0, 8) "}", 8, "not as large as its shape says"},
    {"{" T("a", "F32", "[-2]", 0, 8) "}", 8, "an impossible shape"},
    {"{" T("a", "F32", "[1.0]", 0, 4) "}", 4, "an impossible shape"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1]", 0, 4) "}", 4, "more than 6 extents"},
    {"{" T("a", "F32", "[4611686018427387904,4]", 0, 0) "}", 0, "an impossible shape"},
    {"{" T("a", "F32", "[4611686018427387904,4,0]", 0, 0) "}", 0,
        "an impossible shape"},
    {"{" T("a", "F32", "[2]", 8, 0) "}", 8, "impossible data_offsets"},
    {"{" T("a", "F32", "[2]", -8, 0) "}", 8, "impossible data_offsets"},
    {"{" T("a", "F31", "[2]", 0, 8) "}", 8, "an unknown dtype 'F31'"},
    {"{" T("", "F32", "[2]", 0, 8) "}", 8, "its name is empty"},
    {"{" T("\\u001b[2J", "F32", "[2]", 0, 8) "}", 8, "control characters"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, "not dtype, shape"},
    {"{\"a\":3}", 0, "not dtype, shape"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "no text"},
    {"{\"__metadata__\":[]}", 0, "not an object"},
    {"{\"__metadata__\":{\"thaw\":\"[1]\"}}", 0, "not an object"},
    {"{\"__metadata__\":{\"thaw\":\"{\"}}", 0, "not JSON"},
    {"{} x", 0, "not JSON"},
};

static void what_is_not_strictly_right_is_refused_with_its_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct th_weights w;
        assert_int_equal(read_made(refused[i].header, refused[i].n, &w), THAW_E_DATA);
        if (!strstr(thaw_error(), refused[i].words))
            fail_msg("%s: %s", refused[i].header, thaw_error());
        assert_non_null(strstr(thaw_error(), "x.safetensors"));
    }
}

static void a_header_longer_than_the_file_or_the_limit_is_refused(void **state)
{
    (void)state;
    static const unsigned char lies[][16] = {
        {0xff, 0xff, 0xff, 0, 0, 0, 0, 0, '{', '}'},
        {3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}};
    for (int i = 0; i < 2; i++) {
        struct th_weights w;
        th_weights_init(&w);
        assert_int_equal(
            th_weights_read_image(lies[i], 10, "x.safetensors", &w), THAW_E_DATA);
        assert_non_null(strstr(thaw_error(), "its header ends behind the file"));
    }
    size_t size = 0, n = ((size_t)32 << 20) + 1;
    char *header = malloc(n + 1);
    assert_non_null(header);
    memset(header, ' ', n);
    header[0] = '{', header[1] = '}', header[n] = 0;
    unsigned char *bytes = make(header, 0, &size);
    struct th_weights w;
    th_weights_init(&w);
    assert_int_equal(
        th_weights_read_image(bytes, size, "x.safetensors", &w), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "more than any model has"));
    free(bytes);
    free(header);
}

static void empty_tensors_scalars_and_spaces_behind_the_header_are_fine(void **state)
{
    (void)state;
    struct th_weights w;
    check_ok(read_made("{" T("b", "F32", "[3,0]", 4, 4) "," T(
                           "s", "F32", "[]", 0, 4) "," T("a", "F32", "[0]", 0, 0) "}  ",
        4, &w));
    assert_int_equal(w.n, 3);
    assert_string_equal(w.weight[0].name, "b"); /* the header's order */
    assert_int_equal(th_weights_find(&w, "s")->tensor.shape.rank, 0);
    th_weights_release(&w);
}

static void types_that_no_float_holds_are_left_out_with_a_word(void **state)
{
    (void)state;
    struct th_weights w;
    check_ok(read_made("{" T("f", "F8_E4M3", "[3]", 0, 3) "," T("b", "BOOL", "[1]", 3,
                           4) "," T("c", "C64", "[1]", 4, 12) "}",
        12, &w));
    assert_int_equal(w.n, 1);
    assert_non_null(th_weights_find(&w, "b"));
    assert_non_null(strstr(w.notes, "2 tensors of 8-bit floats or complex numbers"));
    th_weights_release(&w);
    assert_int_equal(
        read_made("{" T("f", "F8_E5M2", "[3]", 0, 2) "}", 2, &w), THAW_E_DATA);
}

/* Tensors of odd shapes, and attributes of every kind. */
static void fill(struct th_weights *w)
{
    static const char *const classes[] = {"d\xc3\xb6g", "", "\"quoted\" \\ \n"};
    const double mean[] = {0.485, 1.0, -1e-300}, tenth = 0.1, third = 1.0 / 3;
    const int64_t big[] = {INT64_MAX, INT64_MIN, 0}, one = 1;
    th_weights_init(w);
    for (int i = 0; i < 40; i++) {
        char name[64];
        float *data = NULL;
        snprintf(name, sizeof name, "layer%d.\"%d\".weight", 7 * i % 40, i);
        check_ok(th_weights_add(w, name, TH_SHAPE(1, i % 13, 3), NULL, &data));
        for (int j = 0; j < i % 13 * 3; j++)
            data[j] = (j % 3 ? 1e-45F : -3.4e38F) / (float)(j + 1);
    }
    check_ok(th_weights_add(w, "scalar", (struct th_shape){0}, NULL, NULL));
    check_ok(th_weights_set_strings(w, "classes", classes, 3));
    check_ok(th_weights_set_strings(w, "one_class", classes, 1));
    check_ok(th_weights_set_string(w, "backbone", "resnet18"));
    check_ok(th_weights_set_floats(w, "mean", mean, 3));
    check_ok(th_weights_set_floats(w, "tenth", &tenth, 1));
    check_ok(th_weights_set_floats(w, "third", &third, 1));
    check_ok(th_weights_set_ints(w, "hashes", big, 3));
    check_ok(th_weights_set_ints(w, "thaw_format", &one, 1));
}

static void check_same(const struct th_weights *a, const struct th_weights *b)
{
    size_t n = 0;
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const struct th_tensor *x = &a->weight[i].tensor, *y = &b->weight[i].tensor;
        assert_string_equal(a->weight[i].name, b->weight[i].name);
        assert_true(th_shape_equal(&x->shape, &y->shape));
        if (th_shape_count(&x->shape))
            assert_memory_equal(
                x->data, y->data, 4 * (size_t)th_shape_count(&x->shape));
    }
    assert_int_equal(a->n_attributes, b->n_attributes);
    for (size_t i = 0; i < a->n_attributes; i++) {
        const struct th_attribute *x = &a->attribute[i], *y = &b->attribute[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->kind, y->kind);
        assert_int_equal(x->n, y->n);
        for (n = 0; n < x->n; n++) {
            if (x->strings)
                assert_string_equal(x->strings[n], y->strings[n]);
            else
                assert_true(x->floats[n] == y->floats[n]);
            if (x->ints)
                assert_true(x->ints[n] == y->ints[n]);
        }
    }
}

static void tensors_and_attributes_come_back_as_they_were_written(void **state)
{
    (void)state;
    char path[] = "/tmp/thaw-XXXXXX.safetensors";
    int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    close(fd);
    struct th_weights a, b;
    fill(&a);
    check_ok(th_weights_write(path, NULL, &a)); /* the format is the ending's */
    th_weights_init(&b);
    check_ok(th_weights_read(path, &b));
    assert_string_equal(b.format, "safetensors");
    check_same(&a, &b);
    unlink(path);
    th_weights_release(&a);
    th_weights_release(&b);
    assert_string_equal(th_weights_format_of("a/b.hdf5"), "hdf5");
    assert_null(th_weights_format_of("a.h5/b"));
    assert_null(th_weights_format_of("a.pth"));
    assert_null(th_weights_format_of("a."));
}

static void a_file_cut_anywhere_is_refused_and_a_changed_byte_is_survived(void **state)
{
    (void)state;
    struct th_weights a;
    fill(&a);
    char path[] = "/tmp/thaw-XXXXXX.safetensors";
    int fd = mkstemps(path, 12);
    assert_true(fd >= 0);
    check_ok(th_weights_write(path, "safetensors", &a));
    unsigned char *whole = malloc(1 << 20);
    assert_non_null(whole);
    close(fd);
    FILE *file = fopen(path, "rb");
    size_t n = fread(whole, 1, 1 << 20, file);
    fclose(file);
    unlink(path);
    th_weights_release(&a);
    for (size_t at = 0; at < n; at += at < 4000 ? 7 : 100) {
        struct th_weights w;
        unsigned char *part = malloc(at ? at : 1), *copy = malloc(n);
        assert_true(part && copy);
        memcpy(part, whole, at);
        memcpy(copy, whole, n);
        copy[at] ^= 0x15;
        th_weights_init(&w);
        assert_int_equal(th_weights_read_image(part, at, "cut", &w), THAW_E_DATA);
        thaw_status status = th_weights_read_image(copy, n, "changed", &w);
        assert_true(status == THAW_OK || status == THAW_E_DATA);
        th_weights_release(&w);
        free(part);
        free(copy);
    }
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_strictly_right_is_refused_with_its_reason),
        cmocka_unit_test(a_header_longer_than_the_file_or_the_limit_is_refused),
        cmocka_unit_test(empty_tensors_scalars_and_spaces_behind_the_header_are_fine),
        cmocka_unit_test(types_that_no_float_holds_are_left_out_with_a_word),
        cmocka_unit_test(tensors_and_attributes_come_back_as_they_were_written),
        cmocka_unit_test(a_file_cut_anywhere_is_refused_and_a_changed_byte_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
