/* SPDX-License-Identifier: Apache-2.0
 * Training runs from outside: what they leave, what they refuse, and that threads do not
 * change what they compute. */
#include "run.h"

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

static int count_lines(const char *text, const char *with)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, with)); at += strlen(with))
        n++;
    return n;
}

static void a_run_leaves_models_metrics_config_and_classes(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("whole", NULL), NULL, &r));
    assert_int_equal(r.epochs, 2);
    assert_int_equal(r.steps, 6); /* 10 images: 4, 4, 2 */
    assert_true(r.frozen_verified);
    assert_int_equal(r.frozen_tensors, 95); /* all but the head's two */
    assert_false(r.stopped);
    static const char *const files[] = {
        "best.h5", "last.h5", "config.json", "checkpoints/step-00000006.h5"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        assert_true(has_file("whole", files[i]));
    char *classes = read_text("whole", "classes.txt");
    assert_string_equal(classes, "class_a\nclass_b\nclass_c\n");
    th_free(classes);
}

static void metrics_have_the_promised_events_and_keys(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("keys", NULL), NULL, &r));
    char *log = read_text("keys", "metrics.jsonl");
    assert_int_equal(count_lines(log, "\n"), 1 + 6 + 2 + 1);
    assert_int_equal(count_lines(log, "{\"event\":\"start\",\"version\":"), 1);
    assert_int_equal(count_lines(log, "{\"event\":\"step\",\"epoch\":"), 6);
    assert_int_equal(count_lines(log, ",\"lr\":"), 6);
    assert_int_equal(count_lines(log, "{\"event\":\"epoch\",\"epoch\":"), 2);
    static const char *const keys[] = {"train_loss", "val_loss", "val_top1",
        "images_per_s", "seconds", "peak_bytes", "thawed\":\"head\"", "val_macro_f1",
        "val_ece", "bn_gap\"", "bn_gap_scale"};
    char *end = strstr(log, "{\"event\":\"end\"");
    assert_non_null(end);
    assert_non_null(strstr(end, "\"seconds\":"));
    assert_non_null(strstr(end, "\"forecast_seconds\":"));
    assert_non_null(strstr(end, "\"forecast_peak_bytes\":"));
    assert_non_null(strstr(end, "\"peak_bytes\":"));
    *end = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_int_equal(count_lines(log, keys[i]), 2);
    *end = '{';
    assert_non_null(strstr(log, "{\"event\":\"end\",\"best_top1\":"));
    assert_non_null(strstr(log, ",\"frozen_tensors\":95,\"frozen_verified\":true,"));
    th_free(log);
}

/* Topics in the order in which they came, the epochs as one letter. */
static void note_topic(void *context, const char *topic, const char *text)
{
    char *notes = context;
    (void)text;
    if (!strcmp(topic, "forecast") || !strcmp(topic, "epoch") ||
        !strcmp(topic, "frozen"))
        strncat(notes, topic, 1 + !strcmp(topic, "frozen"));
}

static void the_forecast_comes_before_the_first_step_and_is_compared_at_the_end(
    void **state)
{
    (void)state;
    thaw_result r;
    char notes[64] = "";
    const thaw_events events = {.context = notes, .line = note_topic};
    must(train(make_options("foreseen", "thaw", "0:head 1:stage3,head 9:all", NULL),
        &events, &r));
    char *log = read_text("foreseen", "metrics.jsonl");
    double seconds = 0;
    long long bytes = 0;
    assert_int_equal(notes[0], 'f');
    assert_string_equal(notes + strlen(notes) - 4, "effr");
    const char *at = strstr(log, "\"forecast_seconds\":");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"forecast_seconds\":%lf", &seconds), 1);
    at = strstr(log, "\"forecast_peak_bytes\":");
    assert_int_equal(sscanf(at, "\"forecast_peak_bytes\":%lld", &bytes), 1);
    assert_true(seconds > 0 && bytes > 1 << 20);
    th_free(log);
}

static void one_and_four_workers_give_the_same_bits(void **state)
{
    (void)state;
    thaw_result r;
    must(train(
        make_options("w1", "workers", "1", "thaw", "stage3,head", NULL), NULL, &r));
    must(train(
        make_options("w4", "workers", "4", "thaw", "stage3,head", NULL), NULL, &r));
    assert_same_model("w1", "w4", "last.h5");
    assert_same_log("w1", "w4");
}

static void its_config_repeats_a_run_bit_for_bit(void **state)
{
    (void)state;
    thaw_result r;
    char config[256], out[256];
    thaw_options *o = NULL;
    must(train(
        make_options("first", "optimizer", "adamw", "ema", "0.9", NULL), NULL, &r));
    run_path(config, "first/config.json");
    run_path(out, "again");
    must(thaw_options_new(&o));
    set(o, "out", out);
    set(o, "config", config);
    must(train(o, NULL, &r));
    assert_same_model("first", "again", "last.h5");
    assert_same_model("first", "again", "best.h5");
    assert_same_log("first", "again");
}

static void a_device_out_of_the_hosts_reach_gives_the_same_bits(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("near", "thaw", "all", "ema", "0.9", NULL), NULL, &r));
    must(train(make_options("away", "thaw", "all", "ema", "0.9", "device", "far", NULL),
        NULL, &r));
    assert_same_model("near", "away", "last.h5");
    assert_same_log("near", "away");
}

static void a_last_single_image_joins_where_statistics_are_the_batchs(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("joined", "batch", "3", "epochs", "1", "thaw", "all", "bn",
                   "train", NULL),
        NULL, &r));
    assert_int_equal(r.steps, 3); /* 3, 3, 4 */
    must(train(make_options("joined-after", "batch", "3", "epochs", "1", "thaw", "all",
                   "bn", "stats-running", NULL),
        NULL, &r));
    assert_int_equal(
        r.steps, 3); /* they are read afterwards, but they are the batch's */
    must(train(make_options("single", "batch", "3", "epochs", "1", NULL), NULL, &r));
    assert_int_equal(r.steps, 4);
}

static void a_folder_with_something_in_it_is_refused(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("taken", "epochs", "1", NULL), NULL, &r));
    assert_int_equal(train(make_options("taken", NULL), NULL, &r), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "thaw resume"));
}

static void a_new_head_that_no_phase_trains_is_refused(void **state)
{
    (void)state;
    thaw_result r;
    assert_int_equal(train(make_options("headless", "thaw", "stage3", NULL), NULL, &r),
        THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "add ,head"));
    assert_int_equal(
        train(make_options("late", "thaw", "0:stage3 5:head", NULL), NULL, &r),
        THAW_E_USAGE);
    assert_false(has_file("headless", "config.json"));
}

static void without_weights_two_lines_say_what_to_get_and_type(void **state)
{
    (void)state;
    thaw_options *o = NULL;
    thaw_result r;
    char path[256];
    unsetenv("THAW_WEIGHTS");
    must(thaw_options_new(&o));
    run_path(path, "data");
    set(o, "data", path);
    run_path(path, "none");
    set(o, "out", path);
    set(o, "backbone", "resnet50");
    assert_int_equal(train(o, NULL, &r), THAW_E_USAGE);
    assert_int_equal(count_lines(thaw_error(), "\n"), 1);
    assert_non_null(strstr(thaw_error(), "resnet50-"));
    assert_non_null(strstr(thaw_error(), "--weights random"));
}

static void a_loss_that_stays_infinite_ends_the_run(void **state)
{
    (void)state;
    thaw_result r;
    assert_int_equal(train(make_options("diverged", "std", "1e-36,1e-36,1e-36",
                               "epochs", "20", "thaw", "all", NULL),
                         NULL, &r),
        THAW_E_DIVERGED);
}

static void a_short_run_without_a_finite_step_in_its_last_epoch_has_diverged(
    void **state)
{
    (void)state;
    thaw_result r;
    assert_int_equal(train(make_options("short", "std", "1e-36,1e-36,1e-36", "epochs",
                               "2", "thaw", "all", NULL),
                         NULL, &r),
        THAW_E_DIVERGED);
    assert_non_null(strstr(thaw_error(), "whole last epoch"));
}

static void a_kept_head_with_nothing_thawed_changes_nothing(void **state)
{
    (void)state;
    thaw_result r;
    char path[256];
    must(train(make_options("before", "epochs", "1", NULL), NULL, &r));
    run_path(path, "before/last.h5");
    must(train(make_options("after", "epochs", "1", "weights", path, "keep-head", "1",
                   "thaw", "none", NULL),
        NULL, &r));
    assert_int_equal(r.frozen_tensors, 97);
    assert_same_model("before", "after", "last.h5");
    assert_same_model("before", "after", "best.h5");
}

static void on_prediction(void *context, const thaw_prediction *p)
{
    double sum = 0;
    for (int i = 0; i < RUN_CLASSES; i++)
        sum += (double)p->probabilities[i];
    assert_null(p->error);
    assert_in_range(p->best, 0, RUN_CLASSES - 1);
    assert_true(sum > 0.999 && sum < 1.001);
    ++*(int *)context;
}

static void a_run_folder_is_a_model_that_predicts_and_is_evaluated(void **state)
{
    (void)state;
    thaw_result r;
    thaw_model *m = NULL;
    thaw_evaluation e;
    char run[256], data[256];
    int n = 0;
    thaw_options *o = make_options("useful", NULL);
    must(train(make_options("useful", "thaw", "all", "bn", "train", NULL), NULL, &r));
    run_path(run, "useful");
    run_path(data, "data/val");
    must(thaw_model_open(run, o, &m));
    assert_int_equal(thaw_model_n_classes(m), RUN_CLASSES);
    assert_string_equal(thaw_model_class(m, 1), "class_b");
    must(thaw_model_predict(m, data, on_prediction, &n));
    assert_int_equal(n, 4);
    run_path(data, "data");
    must(thaw_model_eval(m, data, o, NULL, &e));
    assert_int_equal(e.images, 4);
    assert_true(e.top1 >= r.best_top1 - 1e-9 && e.top1 <= r.best_top1 + 1e-9);
    thaw_evaluation_release(&e);
    thaw_model_free(m);
    thaw_options_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_leaves_models_metrics_config_and_classes),
        cmocka_unit_test(metrics_have_the_promised_events_and_keys),
        cmocka_unit_test(
            the_forecast_comes_before_the_first_step_and_is_compared_at_the_end),
        cmocka_unit_test(one_and_four_workers_give_the_same_bits),
        cmocka_unit_test(its_config_repeats_a_run_bit_for_bit),
        cmocka_unit_test(a_device_out_of_the_hosts_reach_gives_the_same_bits),
        cmocka_unit_test(a_last_single_image_joins_where_statistics_are_the_batchs),
        cmocka_unit_test(a_folder_with_something_in_it_is_refused),
        cmocka_unit_test(a_new_head_that_no_phase_trains_is_refused),
        cmocka_unit_test(without_weights_two_lines_say_what_to_get_and_type),
        cmocka_unit_test(a_loss_that_stays_infinite_ends_the_run),
        cmocka_unit_test(
            a_short_run_without_a_finite_step_in_its_last_epoch_has_diverged),
        cmocka_unit_test(a_kept_head_with_nothing_thawed_changes_nothing),
        cmocka_unit_test(a_run_folder_is_a_model_that_predicts_and_is_evaluated),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
