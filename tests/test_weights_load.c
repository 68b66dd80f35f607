/* SPDX-License-Identifier: Apache-2.0
 * Matching of a file's tensors with a model's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"
#include "weights_load.h"

enum { N = 4 };

struct fixture {
    struct th_weights w;
    float data[N][8];
    struct th_slot slot[N];
    struct th_load_report report;
};

/* A file with all that the model wants, whose tensor k holds k + 1 everywhere. */
static void setup(struct fixture *f)
{
    *f = (struct fixture){
        .slot = {{.name = "conv1.weight", .shape = TH_SHAPE(2, 1, 2, 2)},
            {.name = "bn1.weight", .shape = TH_SHAPE(2)},
            {.name = "fc.weight", .shape = TH_SHAPE(3, 2), .head = true},
            {.name = "fc.bias", .shape = TH_SHAPE(3), .head = true}}};
    th_weights_init(&f->w);
    for (int i = 0; i < N; i++) {
        float ones[8];
        f->slot[i].data = f->data[i];
        for (int j = 0; j < 8; j++)
            ones[j] = (float)(i + 1);
        assert_int_equal(
            th_weights_add(&f->w, f->slot[i].name, f->slot[i].shape, ones, NULL),
            THAW_OK);
    }
}

static void teardown(struct fixture *f)
{
    th_weights_release(&f->w);
    th_load_report_release(&f->report);
}

static thaw_status load(struct fixture *f, const struct th_load_options *o)
{
    return th_weights_load(&f->w, f->slot, N, "w.h5", o, &f->report);
}

static void check_untouched(const struct fixture *f)
{
    for (int i = 0; i < N; i++) {
        assert_false(f->slot[i].loaded);
        for (int j = 0; j < 8; j++)
            assert_true(f->data[i][j] == 0.0f);
    }
}

static void a_file_that_fits_is_loaded_in_full(void **state)
{
    (void)state;
    struct fixture f;
    char text[256];
    setup(&f);
    assert_int_equal(load(&f, NULL), THAW_OK);
    for (int i = 0; i < N; i++)
        assert_true(f.slot[i].loaded && f.data[i][1] == (float)(i + 1));
    assert_string_equal(th_load_report_text(&f.report, text, sizeof text),
        "loaded 4 of 4, head loaded");
    teardown(&f);
}

static void a_value_that_is_not_finite_names_its_tensor(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    ((float *)f.w.weight[1].tensor.data)[1] = NAN;
    assert_int_equal(load(&f, NULL), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "w.h5: bn1.weight: value 1 is not finite"));
    check_untouched(&f);
    teardown(&f);
    setup(&f);
    ((float *)f.w.weight[2].tensor.data)[0] = INFINITY; /* a head that is not taken */
    th_load_report_release(&f.report);
    assert_int_equal(load(&f, &(struct th_load_options){.new_head = true}), THAW_OK);
    teardown(&f);
}

static void a_head_of_another_size_is_new(void **state)
{
    (void)state;
    struct fixture f;
    char text[256];
    setup(&f);
    f.slot[2].shape = TH_SHAPE(1, 2);
    f.slot[3].shape = TH_SHAPE(1);
    assert_int_equal(load(&f, NULL), THAW_OK);
    assert_true(f.slot[1].loaded && !f.slot[2].loaded && f.data[2][0] == 0.0f);
    assert_string_equal(
        th_load_report_text(&f.report, text, sizeof text), "loaded 2 of 4, head new");
    teardown(&f);
}

static void a_new_head_is_new_even_where_it_fits(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    assert_int_equal(load(&f, &(struct th_load_options){.new_head = true}), THAW_OK);
    assert_true(f.slot[0].loaded && !f.slot[2].loaded && !f.slot[3].loaded);
    assert_int_equal(f.report.unexpected.n, 0);
    teardown(&f);
}

static void a_kept_head_must_fit(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.slot[2].shape = TH_SHAPE(1, 2);
    struct th_load_options o = {.keep_head = true, .allow_missing = true};
    assert_int_equal(load(&f, &o), THAW_E_DATA);
    assert_non_null(
        strstr(thaw_error(), "fc.weight: file has [3,2], model wants [1,2]"));
    check_untouched(&f);
    teardown(&f);
}

static void another_shape_outside_the_head_is_refused_and_nothing_changes(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.slot[0].shape = TH_SHAPE(2, 2, 2); /* as many elements do not make it fit */
    struct th_load_options o = {.allow_missing = true};
    assert_int_equal(load(&f, &o), THAW_E_DATA);
    assert_non_null(strstr(
        thaw_error(), "w.h5: conv1.weight: file has [2,1,2,2], model wants [2,2,2]"));
    check_untouched(&f);
    teardown(&f);
}

static void a_missing_tensor_is_named_unless_it_may_be_missing(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.slot[1].name = "bn2.weight";
    assert_int_equal(load(&f, NULL), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "1 of 4 tensors are missing: bn2.weight"));
    check_untouched(&f);
    th_load_report_release(&f.report);
    struct th_load_options o = {.allow_missing = true};
    assert_int_equal(load(&f, &o), THAW_OK);
    assert_true(f.slot[0].loaded && !f.slot[1].loaded);
    assert_int_equal(f.report.unexpected.n, 1);
    assert_string_equal(f.report.unexpected.name[0], "bn1.weight");
    teardown(&f);
}

static const char *linear_for_fc(const void *user, const char *name)
{
    (void)user;
    return strcmp(name, "linear.weight") == 0 ? "fc.weight"
           : strcmp(name, "linear.bias") == 0 ? "fc.bias"
                                              : NULL;
}

static void a_name_map_finds_what_is_called_otherwise(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.slot[2].name = "linear.weight";
    f.slot[3].name = "linear.bias";
    struct th_load_options o = {.file_name = linear_for_fc, .keep_head = true};
    assert_int_equal(load(&f, &o), THAW_OK);
    assert_true(f.slot[2].loaded && f.data[2][0] == 3.0f);
    assert_int_equal(f.report.unexpected.n, 0);
    teardown(&f);
}

static void no_match_at_all_shows_both_sides(void **state)
{
    (void)state;
    struct fixture f;
    setup(&f);
    f.slot[0].name = "patch_embed.proj.weight";
    f.slot[1].name = "norm.weight";
    f.slot[2].name = "head.weight";
    f.slot[3].name = "head.bias";
    struct th_load_options o = {.allow_missing = true};
    assert_int_equal(load(&f, &o), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "0 of 4"));
    assert_non_null(strstr(thaw_error(), "patch_embed.proj.weight"));
    assert_non_null(strstr(thaw_error(), "conv1.weight"));
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_fits_is_loaded_in_full),
        cmocka_unit_test(a_value_that_is_not_finite_names_its_tensor),
        cmocka_unit_test(a_head_of_another_size_is_new),
        cmocka_unit_test(a_new_head_is_new_even_where_it_fits),
        cmocka_unit_test(a_kept_head_must_fit),
        cmocka_unit_test(another_shape_outside_the_head_is_refused_and_nothing_changes),
        cmocka_unit_test(a_missing_tensor_is_named_unless_it_may_be_missing),
        cmocka_unit_test(a_name_map_finds_what_is_called_otherwise),
        cmocka_unit_test(no_match_at_all_shows_both_sides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
