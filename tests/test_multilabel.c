/* SPDX-License-Identifier: Apache-2.0
 * Images of any number of classes: what the files say, what is held back, the loss and the
 * scores against PyTorch and scikit-learn (golden/multilabel.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "golden/multilabel.h"

#include "class_weights.h"
#include "dataset.h"
#include "labels.h"
#include "mem.h"
#include "scores.h"
#include "values.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

static char list[64]; /* a csv file, and in its place another in each test */

static int make_list(void **state)
{
    (void)state;
    snprintf(list, sizeof list, "/tmp/thaw_multilabel_XXXXXX");
    int fd = mkstemp(list);
    return fd < 0 ? -1 : close(fd);
}

static int remove_list(void **state)
{
    (void)state;
    return unlink(list);
}

static thaw_status open_text(
    const char *text, struct th_dataset_options o, struct th_dataset *d)
{
    char data[80];
    FILE *file = fopen(list, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
    snprintf(data, sizeof data, "csv:%s", list);
    return th_dataset_open(data, &o, d);
}

static const struct th_dataset_options whole = {.val = "0", .many = true};

/* "a b" of an image's classes, in byte order. */
static void expect_classes(
    const struct th_dataset *d, const struct th_sample *s, const char *want)
{
    char got[256] = "";
    const int32_t *class;
    int32_t n = th_sample_classes(s, &class);
    for (int32_t c = 0; c < d->n_classes; c++)
        for (int32_t k = 0; k < n; k++)
            if (class[k] == c) {
                strcat(got, *got ? " " : "");
                strcat(got, d->classes[c]);
            }
    assert_string_equal(got, want);
}

static void a_row_lists_classes_and_rows_of_one_path_count_together(void **state)
{
    struct th_dataset d;
    (void)state;
    ok(open_text(
           "path,label\n/x/1.png,dog|cat\n/x/2.png,\n/x/3.png,\" emu ; cat;;cat\"\n"
           "/x/1.png,emu\n/x/4.png,cat\n/x/1.png,cat\n",
           whole, &d),
        "csv");
    const struct th_samples *s = &d.split[TH_SPLIT_TRAIN];
    assert_int_equal(d.n_classes, 3);
    assert_int_equal(s->n, 4);
    expect_classes(&d, &s->sample[0], "cat dog emu");
    expect_classes(&d, &s->sample[1], "");
    expect_classes(&d, &s->sample[2], "cat emu");
    expect_classes(&d, &s->sample[3], "cat");
    /* Images: cat 3, dog 1, emu 2. */
    assert_string_equal(d.classes[s->sample[0].label], "dog");
    assert_int_equal(s->sample[1].label, -1);
    assert_string_equal(d.classes[s->sample[2].label], "emu");
    th_dataset_close(&d);
}

static void without_many_a_label_is_one_name(void **state)
{
    struct th_dataset d;
    (void)state;
    ok(open_text("path,label\n1.png,a|b\n2.png,c\n",
           (struct th_dataset_options){.val = "0"}, &d),
        "csv");
    assert_string_equal(d.classes[0], "a|b");
    th_dataset_close(&d);
    assert_int_equal(open_text("path,label\n1.png,\n2.png,c\n",
                         (struct th_dataset_options){.val = "0"}, &d),
        THAW_E_DATA);
    assert_int_equal(
        open_text("path,label\n1.png,\n2.png,;|\n", whole, &d), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "no image has a class"));
}

static void relabelling_moves_every_class_of_an_image(void **state)
{
    struct th_dataset d;
    (void)state;
    ok(open_text("path,label\n1.png,a|b|c\n2.png,b\n3.png,\n", whole, &d), "csv");
    int64_t before = th_dataset_hash(&d);
    ok(th_labels_reorder(&d, (const int32_t[]){2, 0, 1}), "reorder");
    assert_string_equal(d.classes[2], "a");
    expect_classes(&d, &d.split[TH_SPLIT_TRAIN].sample[0], "b c a");
    expect_classes(&d, &d.split[TH_SPLIT_TRAIN].sample[1], "b");
    expect_classes(&d, &d.split[TH_SPLIT_TRAIN].sample[2], "");
    assert_true(before != th_dataset_hash(&d));
    th_dataset_close(&d);
}

/* 60 images of 5 classes; class e in two of them only, never alone. */
static char *make_table(void)
{
    static char text[4096];
    size_t n = (size_t)sprintf(text, "path,label\n");
    for (int i = 0; i < 60; i++)
        n += (size_t)sprintf(text + n, "%02d.png,%s%s%s%s\n", i, i % 2 ? "a|" : "",
            i % 3 ? "b|" : "", i % 7 == 3 ? "c;d" : "", i % 29 == 1 ? "|e" : "");
    return text;
}

static void every_class_keeps_a_training_image_when_some_are_held_back(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct th_dataset d;
        ok(open_text(make_table(),
               (struct th_dataset_options){
                   .val = seed % 2 ? "0.5" : "0.9", .seed = seed, .many = true},
               &d),
            "csv");
        const struct th_samples *train = &d.split[TH_SPLIT_TRAIN],
                                *val = &d.split[TH_SPLIT_VAL];
        assert_int_equal(train->n + val->n, 60);
        assert_true(val->n >= 25);
        int64_t *left = th_dataset_count(&d, train), *held = th_dataset_count(&d, val);
        for (int c = 0; c < d.n_classes; c++)
            assert_true(left[c] >= 1 && held[c] >= 1);
        th_free(left);
        th_free(held);
        th_dataset_close(&d);
    }
}

static void validation_from_elsewhere_is_matched_by_name(void **state)
{
    struct th_dataset d;
    char other[80], data[96];
    (void)state;
    snprintf(other, sizeof other, "%s.val", list);
    snprintf(data, sizeof data, "csv:%s", other);
    for (int known = 1; known >= 0; known--) {
        FILE *file = fopen(other, "w");
        assert_non_null(file);
        fprintf(file, "path,label\n8.png,c|a\n9.png,\n8.png,%s\n", known ? "b" : "q");
        fclose(file);
        thaw_status status = open_text("path,label\n1.png,a|b\n2.png,c\n",
            (struct th_dataset_options){.val = data, .many = true}, &d);
        assert_int_equal(status, known ? THAW_OK : THAW_E_DATA);
        if (!known)
            break;
        assert_int_equal(d.split[TH_SPLIT_VAL].n, 2);
        expect_classes(&d, &d.split[TH_SPLIT_VAL].sample[0], "a b c");
        expect_classes(&d, &d.split[TH_SPLIT_VAL].sample[1], "");
        th_dataset_close(&d);
    }
    assert_non_null(strstr(thaw_error(), "\"q\" is not among the training classes"));
    unlink(other);
}

static void targets_and_weights_are_as_documented(void **state)
{
    struct th_dataset d;
    float *weight = NULL, target[9];
    (void)state;
    ok(open_text("path,label\n1.png,a|b\n2.png,a\n3.png,\n4.png,c\n", whole, &d),
        "csv");
    const struct th_sample *s = d.split[TH_SPLIT_TRAIN].sample;
    const struct th_sample *const rows[] = {&s[2], &s[0], &s[3]};
    ok(th_pos_weights(&d.split[TH_SPLIT_TRAIN], 3, &weight), "weights");
    assert_memory_equal(weight, ((const float[]){1, 3, 3}), 3 * sizeof *weight);
    th_many_targets(rows, 3, 3, 0.25F, target);
    const float yes = 0.875F, no = 0.125F;
    assert_memory_equal(target,
        ((const float[]){no, no, no, yes, yes, no, no, no, yes}), sizeof target);
    th_free(weight);
    th_dataset_close(&d);
}

/* ---- Against PyTorch and scikit-learn ---- */

static void loss_and_gradient_are_pytorchs(void **state)
{
    enum { N = GOLDEN_IMAGES, K = GOLDEN_CLASSES };
    (void)state;
    union th_attr none = {0};
    const struct th_scalars one = {.loss_scale = 1};
    struct th_shape s = TH_SHAPE(N, K);
    struct value v[7] = {numbers(s, golden_logits), empty(TH_F32, s),
        numbers(TH_SHAPE(K), golden_pos_weight), empty(TH_F32, TH_SHAPE(1)),
        empty(TH_F32, s), empty(TH_F32, TH_SHAPE(sizeof one / sizeof(float))),
        empty(TH_F32, s)};
    for (int i = 0; i < N * K; i++)
        ((float *)v[1].data)[i] = golden_truth[i] ? 0.9F : 0.1F;
    memcpy(v[5].data, &one, sizeof one);
    run(TH_OP_sigmoid_ce, &none, (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4]});
    assert_numbers(&v[3], (float[]){(float)golden_weighted_loss});
    run(TH_OP_sigmoid_ce_dx, &none,
        (struct value *[]){&v[4], &v[1], &v[2], &v[5], &v[6]});
    for (int i = 0; i < N * K; i++)
        assert_true(fabs((double)at(&v[6], i) - golden_dlogits[i]) < 1e-8);
    release(v, 7);
}

static void the_loss_of_far_logits_is_finite(void **state)
{
    (void)state;
    union th_attr none = {0};
    struct th_shape s = TH_SHAPE(1, 4);
    struct value v[5] = {numbers(s, (float[]){200, -200, 200, -200}),
        numbers(s, (float[]){1, 0, 0, 1}), numbers(TH_SHAPE(4), (float[]){1, 1, 1, 1}),
        empty(TH_F32, TH_SHAPE(1)), empty(TH_F32, s)};
    run(TH_OP_sigmoid_ce, &none, (struct value *[]){&v[0], &v[1], &v[2], &v[3], &v[4]});
    assert_numbers(&v[3], (float[]){100});
    assert_numbers(&v[4], (float[]){1, 0, 1, 0});
    release(v, 5);
}

static void near(const char *what, int i, double got, double want)
{
    if (!(fabs(got - want) <= 1e-9))
        fail_msg("%s %d is %.12g, not %.12g", what, i, got, want);
}

static char *names[] = {"a", "b", "c", "d", "e", "f", "g"};

static void count_golden(struct th_metrics *m)
{
    ok(th_metrics_init(m, GOLDEN_CLASSES, true), "init");
    for (int i = 0; i < GOLDEN_IMAGES; i++) {
        int32_t class[GOLDEN_CLASSES], n = 0;
        for (int32_t c = 0; c < GOLDEN_CLASSES; c++)
            if (golden_truth[i * GOLDEN_CLASSES + c])
                class[n++] = c;
        ok(th_metrics_add_many(m, golden_logits + i * GOLDEN_CLASSES, class, n), "add");
    }
    ok(th_metrics_rank(m), "rank");
}

/* The score from which on F1 is best lies above the threshold, the next lower one below. */
static void check_threshold(int c, const thaw_class_scores *s)
{
    double lowest = th_sigmoid(golden_lowest_taken[c]), below = 0;
    for (int i = 0; i < GOLDEN_IMAGES; i++) {
        double p = th_sigmoid((double)golden_logits[i * GOLDEN_CLASSES + c]);
        below = p < lowest && p > below ? p : below;
    }
    near("best F1", c, s->best_f1, golden_best_f1[c]);
    assert_true(s->threshold <= lowest && (s->threshold > below || below <= 0));
}

static void every_score_is_scikit_learns(void **state)
{
    struct th_metrics m;
    thaw_evaluation e = {0};
    (void)state;
    count_golden(&m);
    near("mAP", 0, th_metrics_score(&m), golden_map);
    ok(th_scores_take(&m, names, &e), "scores");
    assert_true(e.many && e.images == GOLDEN_IMAGES && !e.confusion);
    assert_true(isnan(e.top1) && isnan(e.ece) && isnan(e.top1_interval.low));
    near("loss", 0, e.loss, golden_loss);
    near("mAP", 1, e.map, golden_map);
    near("micro F1", 0, e.micro_f1, golden_micro_f1);
    near("macro F1", 0, e.macro.f1, golden_macro_f1);
    for (int c = 0; c < GOLDEN_CLASSES; c++) {
        const thaw_class_scores *s = &e.classes[c];
        assert_int_equal(s->images, golden_support[c]);
        near("precision", c, s->scores.precision, golden_precision[c]);
        near("recall", c, s->scores.recall, golden_recall[c]);
        near("F1", c, s->scores.f1, golden_f1[c]);
        if (!s->images) {
            assert_true(isnan(s->ap) && isnan(s->threshold) && isnan(s->best_f1));
            continue;
        }
        near("AP", c, s->ap, golden_ap[c]);
        check_threshold(c, s);
    }
    thaw_evaluation_release(&e);
    th_metrics_release(&m);
}

static void without_images_there_is_no_number(void **state)
{
    struct th_metrics m;
    thaw_evaluation e = {0};
    (void)state;
    count_golden(&m);
    th_metrics_reset(&m);
    ok(th_metrics_rank(&m), "rank");
    assert_true(isnan(th_metrics_score(&m)) && m.images == 0 && m.many);
    ok(th_scores_take(&m, names, &e), "scores");
    assert_true(isnan(e.map) && isnan(e.loss) && isnan(e.classes[0].ap));
    thaw_evaluation_release(&e);
    th_metrics_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_lists_classes_and_rows_of_one_path_count_together),
        cmocka_unit_test(without_many_a_label_is_one_name),
        cmocka_unit_test(relabelling_moves_every_class_of_an_image),
        cmocka_unit_test(every_class_keeps_a_training_image_when_some_are_held_back),
        cmocka_unit_test(validation_from_elsewhere_is_matched_by_name),
        cmocka_unit_test(targets_and_weights_are_as_documented),
        cmocka_unit_test(loss_and_gradient_are_pytorchs),
        cmocka_unit_test(the_loss_of_far_logits_is_finite),
        cmocka_unit_test(every_score_is_scikit_learns),
        cmocka_unit_test(without_images_there_is_no_number),
    };
    return cmocka_run_group_tests(tests, make_list, remove_list);
}
