/* SPDX-License-Identifier: Apache-2.0
 * Scores against scikit-learn and NumPy (golden/scores.h), and what they are where there
 * is nothing to count. */
#include "golden/scores.h"
#include "mem.h"
#include "scores.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const double TOLERANCE = 1e-9; /* all in double; the golden has 12 digits */

static char *names[] = {"a", "b", "c", "d", "e", "f", "g"};

static void near(const char *what, int i, double got, double want)
{
    if (!(fabs(got - want) <= TOLERANCE))
        fail_msg("%s %d is %.12g, not %.12g", what, i, got, want);
}

static void near_scores(const char *what, const thaw_scores *got, const double want[3])
{
    near(what, 0, got->precision, want[0]);
    near(what, 1, got->recall, want[1]);
    near(what, 2, got->f1, want[2]);
}

static void count_golden(struct th_metrics *m)
{
    assert_int_equal(th_metrics_init(m, GOLDEN_CLASSES, false), THAW_OK);
    for (int i = 0; i < GOLDEN_IMAGES; i++)
        th_metrics_add(m, golden_logits + i * GOLDEN_CLASSES, golden_labels[i]);
}

static void every_score_equals_scikit_learns(void **state)
{
    (void)state;
    struct th_metrics m;
    thaw_evaluation e = {0};
    count_golden(&m);
    near("macro F1 from the sums", 0, th_scores_macro_f1(&m), golden_macro[2]);
    assert_int_equal(th_scores_take(&m, names, &e), THAW_OK);
    assert_int_equal(e.images, GOLDEN_IMAGES);
    for (int c = 0; c < GOLDEN_CLASSES; c++) {
        assert_ptr_equal(e.classes[c].name, names[c]);
        assert_int_equal(e.classes[c].images, golden_support[c]);
        near("precision", c, e.classes[c].scores.precision, golden_precision[c]);
        near("recall", c, e.classes[c].scores.recall, golden_recall[c]);
        near("F1", c, e.classes[c].scores.f1, golden_f1[c]);
    }
    for (int i = 0; i < GOLDEN_CLASSES * GOLDEN_CLASSES; i++)
        assert_int_equal(e.confusion[i], golden_confusion[i]);
    near_scores("macro", &e.macro, golden_macro);
    near_scores("weighted", &e.weighted, golden_weighted);
    near("top-1", 0, e.top1, golden_top1);
    near("top-5", 0, e.top5, golden_top5);
    near("balanced accuracy", 0, e.balanced_accuracy, golden_balanced);
    near("loss", 0, e.loss, golden_loss);
    th_metrics_release(&m);
    thaw_evaluation_release(&e);
}

static void calibration_error_and_intervals_equal_numpys(void **state)
{
    (void)state;
    struct th_metrics m;
    thaw_evaluation e = {0};
    count_golden(&m);
    assert_int_equal(th_scores_take(&m, names, &e), THAW_OK);
    near("ECE", 0, e.ece, golden_ece);
    near("top-1 interval", 0, e.top1_interval.low, golden_top1_interval[0]);
    near("top-1 interval", 1, e.top1_interval.high, golden_top1_interval[1]);
    near("macro F1 interval", 0, e.macro_f1_interval.low, golden_f1_interval[0]);
    near("macro F1 interval", 1, e.macro_f1_interval.high, golden_f1_interval[1]);
    th_metrics_release(&m);
    thaw_evaluation_release(&e);
}

static void the_order_of_the_images_changes_no_interval(void **state)
{
    (void)state;
    struct th_metrics m;
    thaw_evaluation e[2] = {{0}};
    count_golden(&m);
    assert_int_equal(th_scores_take(&m, names, &e[0]), THAW_OK);
    assert_int_equal(th_metrics_init(&m, GOLDEN_CLASSES, false), THAW_OK);
    for (int i = GOLDEN_IMAGES - 1; i >= 0; i--)
        th_metrics_add(&m, golden_logits + i * GOLDEN_CLASSES, golden_labels[i]);
    assert_int_equal(th_scores_take(&m, names, &e[1]), THAW_OK);
    assert_memory_equal(
        &e[0].top1_interval, &e[1].top1_interval, sizeof(thaw_interval));
    assert_memory_equal(
        &e[0].macro_f1_interval, &e[1].macro_f1_interval, sizeof(thaw_interval));
    thaw_evaluation_release(&e[0]);
    thaw_evaluation_release(&e[1]);
}

static void without_images_scores_are_zero_and_means_are_none(void **state)
{
    (void)state;
    struct th_metrics m;
    thaw_evaluation e = {0};
    assert_int_equal(th_metrics_init(&m, 3, false), THAW_OK);
    assert_int_equal(th_scores_take(&m, names, &e), THAW_OK);
    assert_true(isnan(e.top1) && isnan(e.ece) && isnan(e.top1_interval.low));
    for (int c = 0; c < 3; c++)
        near_scores("class", &e.classes[c].scores, (const double[]){0, 0, 0});
    th_metrics_release(&m);
    thaw_evaluation_release(&e);
}

static void a_perfect_model_has_an_interval_of_one_point(void **state)
{
    (void)state;
    static const float logits[2][2] = {{50, 0}, {0, 50}};
    struct th_metrics m;
    thaw_evaluation e = {0};
    assert_int_equal(th_metrics_init(&m, 2, false), THAW_OK);
    for (int i = 0; i < 9; i++)
        th_metrics_add(&m, logits[i % 2], i % 2);
    assert_int_equal(th_scores_take(&m, names, &e), THAW_OK);
    near("low", 0, e.top1_interval.low, 1);
    near("high", 0, e.top1_interval.high, 1);
    near("ECE", 0, e.ece, 0);
    th_metrics_release(&m);
    thaw_evaluation_release(&e);
}

static void keep(void *context, const char *text)
{
    *(char **)context = th_strdup(text);
}

/* As text, parsed again: nothing that a program reads is missing or beside its name. */
static void its_json_has_every_score_under_its_name(void **state)
{
    (void)state;
    struct th_metrics m;
    thaw_evaluation e = {0};
    struct th_json *json = NULL;
    char *text = NULL;
    count_golden(&m);
    assert_int_equal(th_scores_take(&m, names, &e), THAW_OK);
    assert_int_equal(thaw_evaluation_json(&e, keep, &text), THAW_OK);
    assert_int_equal(th_json_parse(text, strlen(text), "text", &json), THAW_OK);
    assert_true(fabs(th_json_get(json, "ece")->real - e.ece) < 1e-8);
    assert_true(fabs(th_json_get(json, "top1")->real - e.top1) < 1e-8);
    const struct th_json *f1 = th_json_get(th_json_get(json, "weighted"), "f1");
    assert_true(fabs(f1->real - e.weighted.f1) < 1e-8);
    const struct th_json *pair = th_json_get(json, "top1_interval");
    assert_int_equal(pair->n, 2);
    assert_true(fabs(pair->first->next->real - e.top1_interval.high) < 1e-8);
    const struct th_json *class = th_json_get(json, "per_class")->first;
    for (int c = 0; c < GOLDEN_CLASSES; c++, class = class->next) {
        assert_string_equal(th_json_get(class, "class")->text, names[c]);
        assert_int_equal(th_json_get(class, "images")->whole, e.classes[c].images);
        assert_true(fabs(th_json_get(class, "recall")->real - golden_recall[c]) < 1e-8);
    }
    assert_int_equal(th_json_get(json, "confusion")->n, GOLDEN_CLASSES);
    th_json_free(json);
    th_free(text);
    th_metrics_release(&m);
    thaw_evaluation_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_score_equals_scikit_learns),
        cmocka_unit_test(calibration_error_and_intervals_equal_numpys),
        cmocka_unit_test(the_order_of_the_images_changes_no_interval),
        cmocka_unit_test(without_images_scores_are_zero_and_means_are_none),
        cmocka_unit_test(a_perfect_model_has_an_interval_of_one_point),
        cmocka_unit_test(its_json_has_every_score_under_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
