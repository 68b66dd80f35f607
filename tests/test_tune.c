/* SPDX-License-Identifier: Apache-2.0
 * Tables of convolution algorithms: measured, written, read, heeded; and refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "conv_table.h"
#include "file.h"
#include "run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void count_line(void *context, const char *text)
{
    assert_non_null(strstr(text, "GF/s"));
    ++*(int *)context;
}

static thaw_options *small_network(const char *device)
{
    thaw_options *o = NULL;
    must(thaw_options_new(&o));
    must(thaw_options_set(o, "backbone", "resnet20"));
    must(thaw_options_set(o, "image-size", "16"));
    must(thaw_options_set(o, "batch", "2"));
    must(thaw_options_set(o, "device", device));
    return o;
}

/* The 3x3 convolutions of stride 1 of a ResNet-20: the first, and one a stage, in three
 * directions. */
static void what_is_measured_is_a_table(void **state)
{
    (void)state;
    char path[] = "/tmp/thaw_tune_XXXXXX";
    int lines = 0;
    assert_true(close(mkstemp(path)) == 0);
    thaw_options *o = small_network("cpu");
    must(thaw_tune(path, o, count_line, &lines));
    assert_int_equal(lines, 12);
    struct th_conv_table t;
    must(th_conv_table_read(&t, path));
    assert_int_equal(t.n, 12);
    assert_int_equal(strlen(t.hash), 16);
    for (size_t i = 0; i < t.n; i++) {
        assert_int_equal(t.rows[i].kh * t.rows[i].kw, 9);
        for (size_t j = 0; j < i; j++)
            assert_false(th_conv_choice_same(&t.rows[i], &t.rows[j]));
    }
    th_conv_table_release(&t);
    thaw_options_free(o);
    unlink(path);
}

static void a_device_without_a_choice_is_direct(void **state)
{
    (void)state;
    char path[] = "/tmp/thaw_tune_XXXXXX";
    int lines = 0;
    assert_true(close(mkstemp(path)) == 0);
    thaw_options *o = small_network("ref");
    must(thaw_tune(path, o, count_line, &lines));
    struct th_conv_table t;
    must(th_conv_table_read(&t, path));
    for (size_t i = 0; i < t.n; i++)
        assert_int_equal(t.rows[i].algorithm, TH_CONV_DIRECT);
    th_conv_table_release(&t);
    thaw_options_free(o);
    unlink(path);
}

#define ROW(algorithm, pad)                                                            \
    "{\"thaw_conv_table\":1,\"convolutions\":[{\"op\":\"conv_dw\",\"channels\":16,"    \
    "\"height\":8,\"width\":8,\"outputs\":16,\"kernel\":[3,3],\"stride\":[1,1],"       \
    "\"dilation\":[1,1],\"pad\":" pad ",\"groups\":1,\"algorithm\":\"" algorithm       \
    "\"}]}"

static thaw_status read_table(const char *text, struct th_conv_table *t)
{
    char path[] = "/tmp/thaw_tune_XXXXXX";
    assert_true(close(mkstemp(path)) == 0);
    must(th_file_write_atomic(path, text, strlen(text), NULL));
    thaw_status status = th_conv_table_read(t, path);
    unlink(path);
    return status;
}

static void a_bad_table_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", ""},
        {"[1]", "not a table"},
        {"{\"thaw_conv_table\":2,\"convolutions\":[]}", "not a table"},
        {"{\"thaw_conv_table\":1}", "not a table"},
        {"{\"thaw_conv_table\":1,\"convolutions\":[7]}", "convolution 1: \"op\""},
        {ROW("fastest", "[1,1,1,1]"), "\"algorithm\""},
        {ROW("winograd", "[1,1,1]"), "\"pad\""},
        {ROW("winograd", "[1,1,1,-1]"), "\"pad\""},
        {ROW("winograd", "[1,1,1,0.5]"), "\"pad\""},
        {ROW("winograd", "[1,1,1,99999999999]"), "\"pad\""},
    };
    struct th_conv_table t;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(read_table(bad[i].text, &t), THAW_E_DATA);
        assert_non_null(strstr(thaw_error(), bad[i].says));
        th_conv_table_release(&t);
    }
    must(read_table(ROW("winograd", "[1,1,1,1]"), &t));
    assert_int_equal(t.n, 1);
    assert_int_equal(t.rows[0].op, TH_OP_conv_dw);
    assert_int_equal(t.rows[0].algorithm, TH_CONV_WINOGRAD);
    th_conv_table_release(&t);
    assert_int_equal(th_conv_table_read(&t, "/no/such/table"), THAW_E_IO);
    th_conv_table_release(&t);
    must(th_conv_table_read(&t, "built-in"));
    assert_int_equal(t.n, 0);
    th_conv_table_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_measured_is_a_table),
        cmocka_unit_test(a_device_without_a_choice_is_direct),
        cmocka_unit_test(a_bad_table_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
