/* SPDX-License-Identifier: Apache-2.0
 * What a bench says: its intervals are SciPy's, its strategies are the words that
 * docs/bench.md names. The program's part is test_bench.sh's. */
#include "bench.h"

#include "freeze.h"
#include "golden/bench.h"
#include "mem.h"
#include "must.h"
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(table) (sizeof(table) / sizeof(table)[0])

static void assert_near(double is, double wanted)
{
    if (!(fabs(is - wanted) <= 1e-9 * fmax(1, fabs(wanted))))
        fail_msg("%.15g, not %.15g", is, wanted);
}

/* ---- Intervals ---- */

static void student_is_scipys(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(golden_student); i++)
        assert_near(th_student(golden_student[i][0]), golden_student[i][1]);
}

static void wilson_is_scipys(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(golden_wilson); i++) {
        const double *g = golden_wilson[i];
        thaw_interval w = th_wilson(g[0] / g[1], g[1]);
        assert_near(w.low, g[2]);
        assert_near(w.high, g[3]);
    }
    assert_true(isnan(th_wilson(0, 0).low));
}

static void paired_differences_are_numpys(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(golden_pairs); i++) {
        const struct golden_pair *g = &golden_pairs[i];
        struct th_difference d = th_paired(g->a, g->b, g->seeds);
        assert_near(d.mean, g->mean);
        assert_near(d.interval.low, g->low);
        assert_near(d.interval.high, g->high);
        struct th_difference back = th_paired(g->b, g->a, g->seeds);
        assert_near(back.interval.low, -g->high);
    }
}

static void the_same_answers_are_no_proof_of_being_equal(void **state)
{
    (void)state;
    th_marks same[] = {"1101011101"};
    struct th_difference d = th_paired(same, same, 1);
    assert_true(d.mean <= 0 && d.mean >= 0);
    assert_true(d.interval.low < 0 && d.interval.high > 0);
}

static void images_that_cannot_be_read_count_for_nobody(void **state)
{
    (void)state;
    th_marks with_a[] = {"11-0101"}, with_b[] = {"10-0011"};
    th_marks a[] = {"110101"}, b[] = {"100011"};
    struct th_difference d = th_paired(with_a, with_b, 1), e = th_paired(a, b, 1);
    assert_near(d.mean, e.mean);
    assert_near(d.interval.high, e.interval.high);
    assert_near(th_bench_accuracy("11-0"), 2.0 / 3);
    assert_true(isnan(th_bench_accuracy("--")));
}

/* Three values by hand: mean 2, variance 1, t(2) / sqrt(3). */
static void the_spread_over_seeds_is_students(void **state)
{
    (void)state;
    assert_near(th_spread((const double[]){1, 2, 3}, 3), 4.30265272974946 / sqrt(3));
    assert_true(isnan(th_spread((const double[]){1}, 1)));
}

/* ---- Strategies ---- */

static void open_model(struct th_model *m, const char *name)
{
    static const char *const classes[] = {"a", "b", "c"};
    const struct th_backbone *backbone = NULL;
    const struct th_variant *variant = NULL;
    const struct th_head *head = NULL;
    must(th_variant_find(name, &backbone, &variant));
    must(th_head_find("classify", &head));
    must(th_model_init(m, backbone, variant, head, 0, &variant->input, classes, 3));
}

static thaw_options *make_options(const char *name, const char *value)
{
    thaw_options *o = NULL;
    must(thaw_options_new(&o));
    if (name)
        must(thaw_options_set(o, name, value));
    return o;
}

static const struct wanted {
    const char *name, *epochs, *thaw, *bn;
} wanted[] = {
    {"head", "10", "head", "auto"},
    {"bn", "10", "bn,head", "train"},
    {"bias", "10", "bias,head", "auto"},
    {"last1", "10", "stage4,head", "auto"},
    {"last3", "10", "stage2,stage3,stage4,head", "auto"},
    {"last5", "10", "stem,stage1,stage2,stage3,stage4,head", "auto"},
    {"gradual", "12",
        "0:head 2:stage4,head 4:stage3,stage4,head 6:stage2,stage3,stage4,head "
        "8:stage1,stage2,stage3,stage4,head 10:stem,stage1,stage2,stage3,stage4,head",
        "auto"},
    {"gradual", "3",
        "0:head 1:stage3,stage4,head 2:stem,stage1,stage2,stage3,stage4,head", "auto"},
    {"lpft", "10", "0:head 5:all", "auto"},
    {"lpft", "3", "0:head 1:all", "auto"},
    {"all", "10", "all", "auto"},
    {"stats", "10", "head", "stats"},
    {"first", "10", "stem,stage1,head", "auto"},
    {"lora", "10", "head", "auto"},
};

static void strategies_are_words_of_thaw_and_bn(void **state)
{
    (void)state;
    struct th_model m = {0};
    open_model(&m, "resnet18");
    for (size_t i = 0; i < N(wanted); i++) {
        struct th_bench_settings s;
        thaw_options *o = make_options("epochs", wanted[i].epochs);
        must(th_bench_settings(wanted[i].name, o, &m, &s));
        assert_null(s.missing);
        assert_string_equal(s.thaw, wanted[i].thaw);
        assert_string_equal(s.bn, wanted[i].bn);
        th_bench_settings_release(&s);
        thaw_options_free(o);
    }
    th_model_release(&m);
}

static int64_t trained(const char *name, const struct th_model *m)
{
    struct th_bench_settings s;
    thaw_options *o = make_options(NULL, NULL);
    must(th_bench_settings(name, o, m, &s));
    int64_t n = s.trained;
    th_bench_settings_release(&s);
    thaw_options_free(o);
    return n;
}

/* By torchvision's resnet18 with three classes: 11,176,512 below the head, of them 9,600 in
 * BatchNorms; 513 * 3 in the head. */
static void trained_values_are_counted_in_the_widest_phase(void **state)
{
    (void)state;
    struct th_model m = {0};
    open_model(&m, "resnet18");
    assert_int_equal(trained("head", &m), 1539);
    assert_int_equal(trained("stats", &m), 1539);
    assert_int_equal(trained("bn", &m), 1539 + 9600);
    assert_int_equal(trained("bias", &m), 1539 + 4800);
    assert_int_equal(trained("all", &m), 1539 + 11176512);
    assert_int_equal(trained("gradual", &m), 1539 + 11176512);
    assert_int_equal(trained("lpft", &m), 1539 + 11176512);
    /* A of the stem 8*3*49, of a convolution 8*9*inputs, of a shortcut 8*inputs; B 8*outputs */
    int64_t lora = 1176 + 512 + 4 * (4608 + 512);
    for (int64_t c = 64; c < 512; c *= 2)
        lora += 72 * c + 16 * c + 3 * (144 * c + 16 * c) + 8 * c + 16 * c;
    assert_int_equal(trained("lora", &m), 1539 + lora);
    th_model_release(&m);
}

static void what_cannot_be_had_says_why(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"last9", "10", "the network has fewer stages"},
        {"gradual", "1", "it wants at least 2 epochs"},
        {"lpft", "1", "it wants at least 2 epochs"}};
    struct th_model m = {0};
    open_model(&m, "resnet20");
    for (size_t i = 0; i < N(cases); i++) {
        struct th_bench_settings s;
        thaw_options *o = make_options("epochs", cases[i][1]);
        must(th_bench_settings(cases[i][0], o, &m, &s));
        assert_string_equal(s.missing, cases[i][2]);
        th_bench_settings_release(&s);
        thaw_options_free(o);
    }
    th_model_release(&m);
}

static void names_are_refused_with_the_nearest(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"haed", "did you mean head?"},
        {"head,head", "head stands twice"}, {"last0", "'last0' is none"},
        {"last", "'last' is none"}, {"head1", "did you mean head?"},
        {",", "names none"}, {"own", "own is what --thaw and --bn say"}};
    char names[TH_MOST_STRATEGIES][TH_BENCH_NAME];
    int n = 0;
    for (size_t i = 0; i < N(cases); i++) {
        thaw_options *o = make_options("strategies", cases[i][0]);
        assert_int_equal(th_bench_names(o, names, &n), THAW_E_USAGE);
        if (!strstr(thaw_error(), cases[i][1]))
            fail_msg("%s: %s", cases[i][0], thaw_error());
        thaw_options_free(o);
    }
}

static void the_users_own_words_join_the_default_list(void **state)
{
    (void)state;
    char names[TH_MOST_STRATEGIES][TH_BENCH_NAME];
    int n = 0;
    thaw_options *o = make_options(NULL, NULL);
    must(th_bench_names(o, names, &n));
    assert_int_equal(n, 11);
    must(thaw_options_set(o, "thaw", "layer2.*,head"));
    must(th_bench_names(o, names, &n));
    assert_int_equal(n, 12);
    assert_string_equal(names[11], "own");
    thaw_options_free(o);
}

/* ---- The chart ---- */

/* More points at one place than a name's height leaves room for. */
static void names_of_equal_points_stand_one_below_the_other(void **state)
{
    (void)state;
    enum { POINTS = 30 };
    struct th_point points[POINTS];
    struct th_html h = {0};
    int y[POINTS], n = 0;
    for (int i = 0; i < POINTS; i++)
        points[i] = (struct th_point){
            .name = "name", .x = 1.1, .y = 1.0 / 3, .low = 0.1, .high = 0.7};
    const struct th_scatter s = {
        .title = "t", .x_name = "x", .points = points, .n = POINTS};
    th_html_scatter(&h, &s);
    must(th_html_status(&h));
    for (const char *at = h.text; (at = strstr(at, ">name</text>")); at++) {
        const char *from = at;
        while (strncmp(from, " y=\"", 4))
            from--;
        y[n++] = atoi(from + 4);
    }
    assert_int_equal(n, POINTS);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            assert_true(abs(y[i] - y[k]) >= 10);
    th_html_release(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(student_is_scipys),
        cmocka_unit_test(wilson_is_scipys),
        cmocka_unit_test(paired_differences_are_numpys),
        cmocka_unit_test(the_same_answers_are_no_proof_of_being_equal),
        cmocka_unit_test(images_that_cannot_be_read_count_for_nobody),
        cmocka_unit_test(the_spread_over_seeds_is_students),
        cmocka_unit_test(strategies_are_words_of_thaw_and_bn),
        cmocka_unit_test(trained_values_are_counted_in_the_widest_phase),
        cmocka_unit_test(what_cannot_be_had_says_why),
        cmocka_unit_test(names_are_refused_with_the_nearest),
        cmocka_unit_test(the_users_own_words_join_the_default_list),
        cmocka_unit_test(names_of_equal_points_stand_one_below_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
