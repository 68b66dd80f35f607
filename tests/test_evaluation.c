/* SPDX-License-Identifier: Apache-2.0
 * What a run says about itself: the test split, evaluated once; the fingerprint of its
 * data, in model and log; the gap between what BatchNorms see and their statistics. */
#include "run.h"

#include "fingerprint.h"
#include "json.h"
#include "model_open.h"

#include <math.h>

enum { N_TRAIN = 10, N_TEST = 5 };

static int setup(void **state)
{
    (void)state;
    if (make_data(N_TRAIN))
        return -1;
    for (int i = 0; i < N_TEST; i++)
        if (write_image("test", i % RUN_CLASSES, i))
            return -1;
    return 0;
}

/* Lines of one topic, and of warnings, one after the other. */
struct lines {
    const char *topic;
    char text[4096], warnings[4096];
};

static void add_line(char *text, const char *line)
{
    size_t used = strlen(text);
    snprintf(text + used, 4096 - used, "%s\n", line);
}

static void on_line(void *context, const char *topic, const char *text)
{
    struct lines *lines = context;
    if (!strcmp(topic, lines->topic))
        add_line(lines->text, text);
    if (!strcmp(topic, "warning"))
        add_line(lines->warnings, text);
}

static thaw_status resume(const char *run, const char *epochs, struct lines *lines)
{
    const thaw_events events = {.context = lines, .line = on_line};
    thaw_options *o = NULL;
    thaw_trainer *t = NULL;
    thaw_result r;
    char path[256];
    run_path(path, run);
    must(thaw_options_new(&o));
    if (epochs)
        set(o, "epochs", epochs);
    thaw_status status = thaw_trainer_resume(path, o, &events, &t);
    thaw_options_free(o);
    if (status == THAW_OK)
        status = thaw_trainer_run(t, &r);
    thaw_trainer_free(t);
    return status;
}

/* The i-th line of metrics.jsonl, from the end where i is negative; for th_json_free. */
static struct th_json *log_line(const char *run, int i)
{
    char *text = read_text(run, "metrics.jsonl"), *at = text;
    struct th_json *json = NULL;
    int n = 0;
    for (const char *c = text; *c; c++)
        n += *c == '\n';
    for (i = i < 0 ? n + i : i; i > 0; i--)
        at = strchr(at, '\n') + 1;
    must(th_json_parse(at, strcspn(at, "\n"), "metrics.jsonl", &json));
    th_free(text);
    return json;
}

static double real_of(const struct th_json *line, const char *key)
{
    const struct th_json *x = th_json_get(line, key);
    assert_non_null(x);
    return x->kind == TH_JSON_NUMBER ? x->real : (double)NAN;
}

/* ---- The test split ---- */

/* RUN/test.json says that so much was right. */
static void falsify(const char *run, double top1)
{
    char *text = read_text(run, "test.json"), path[256], name[64];
    char *at = strstr(text, "\"top1\":");
    assert_non_null(at);
    char *rest = at + strcspn(at, ",");
    char *lie = th_format("%.*s\"top1\":%g%s", (int)(at - text), text, top1, rest);
    snprintf(name, sizeof name, "%s/test.json", run);
    run_path(path, name);
    must(th_file_write_atomic(path, lie, strlen(lie), NULL));
    th_free(lie);
    th_free(text);
}

static void a_finished_run_is_not_tested_again(void **state)
{
    (void)state;
    thaw_result r;
    struct lines lines = {.topic = "test"};
    must(train(make_options("tested", "epochs", "1", NULL), NULL, &r));
    struct th_json *end = log_line("tested", -1);
    assert_int_equal(th_json_get(end, "test_images")->whole, N_TEST);
    assert_true(real_of(end, "test_top1_low") <= real_of(end, "test_top1"));
    assert_true(real_of(end, "test_top1_high") >= real_of(end, "test_top1"));
    assert_true(isfinite(real_of(end, "test_ece")));
    assert_true(isfinite(real_of(end, "test_macro_f1")));
    th_json_free(end);
    falsify("tested", 0.123); /* what is recorded is believed */
    must(resume("tested", NULL, &lines));
    assert_non_null(strstr(lines.text, "12.30 %"));
    assert_string_equal(lines.warnings, "");
    end = log_line("tested", -1);
    assert_true(fabs(real_of(end, "test_top1") - 0.123) < 1e-9);
    th_json_free(end);
}

/* context: where the trainer's pointer is. */
static void stop_after_the_epoch(void *context, const char *topic, const char *text)
{
    (void)text;
    if (!strcmp(topic, "epoch"))
        thaw_trainer_stop(*(thaw_trainer **)context);
}

static void a_stop_before_the_test_is_heeded_and_a_resume_tests(void **state)
{
    (void)state;
    thaw_result r;
    thaw_trainer *t = NULL;
    struct lines lines = {.topic = "test"};
    const thaw_events events = {.context = &t, .line = stop_after_the_epoch};
    thaw_options *o = make_options("hurried", "epochs", "1", NULL);
    must(thaw_trainer_new(o, &events, &t));
    must(thaw_trainer_run(t, &r));
    thaw_trainer_free(t);
    thaw_options_free(o);
    assert_true(r.stopped);
    assert_false(has_file("hurried", "test.json"));
    must(resume("hurried", NULL, &lines));
    assert_non_null(strstr(lines.text, "of 5 images"));
    assert_true(has_file("hurried", "test.json"));
}

static void a_run_that_found_another_model_is_tested_again_and_warned(void **state)
{
    (void)state;
    thaw_result r;
    struct lines lines = {.topic = "test"};
    must(train(make_options("more", "epochs", "1", "val", "0", NULL), NULL, &r));
    falsify("more", 0.123);
    must(resume("more", "+1", &lines));
    assert_non_null(strstr(lines.warnings, "evaluated before (top-1 12.30 %)"));
    assert_null(strstr(lines.text, "12.30 %"));
}

static void a_record_that_cannot_be_read_is_made_again(void **state)
{
    (void)state;
    thaw_result r;
    struct lines lines = {.topic = "test"};
    char path[256];
    must(train(make_options("torn", "epochs", "1", NULL), NULL, &r));
    char *before = read_text("torn", "test.json");
    run_path(path, "torn/test.json");
    must(th_file_write_atomic(path, "{\"of\":", 6, NULL));
    must(resume("torn", NULL, &lines));
    assert_non_null(strstr(lines.warnings, "cannot be read"));
    char *after = read_text("torn", "test.json");
    assert_string_equal(before, after);
    th_free(before);
    th_free(after);
}

/* ---- The fingerprint ---- */

static void the_fingerprint_is_in_the_model_and_in_the_first_line(void **state)
{
    (void)state;
    thaw_result r;
    char path[256];
    struct th_weights w;
    must(train(make_options("marked", "epochs", "1", NULL), NULL, &r));
    struct th_json *start = log_line("marked", 0);
    assert_string_equal(th_json_get(start, "event")->text, "start");
    const char *text = th_json_get(start, "data_fingerprint")->text;
    const struct th_json *images = th_json_get(start, "images");
    assert_int_equal(strlen(text), 16);
    assert_int_equal(th_json_get(images, "train")->whole, N_TRAIN);
    assert_int_equal(th_json_get(images, "test")->whole, N_TEST);
    th_weights_init(&w);
    run_path(path, "marked/best.h5");
    must(th_weights_read(path, &w));
    assert_string_equal(th_weights_string(&w, "data_fingerprint"), text);
    th_weights_release(&w);
    th_json_free(start);
}

static struct th_fingerprint fingerprint_of(const char *folder, bool as_is)
{
    struct th_dataset d;
    char path[256];
    run_path(path, folder);
    must(th_dataset_open(path, &(struct th_dataset_options){.as_is = as_is}, &d));
    struct th_fingerprint f = th_fingerprint_of(&d);
    th_dataset_close(&d);
    return f;
}

static void shell(const char *format)
{
    char *command = th_format("cd %s && %s", run_root, format);
    assert_int_equal(system(command), 0);
    th_free(command);
}

static void the_place_does_not_count_but_class_name_and_size_do(void **state)
{
    (void)state;
    enum { TRAIN = 1 << TH_SPLIT_TRAIN, VAL = 1 << TH_SPLIT_VAL };
    struct th_fingerprint here = fingerprint_of("data", true), there;
    shell("mkdir -p copy && cp -r data copy/d");
    there = fingerprint_of("copy/d", true);
    assert_memory_equal(&here, &there, sizeof here);
    assert_true(th_fingerprint_same(&here, TRAIN, &there, TRAIN));
    assert_false(th_fingerprint_same(&here, TRAIN, &there, VAL));
    shell("mv copy/d/train/class_a/000.png copy/d/train/class_b/");
    there = fingerprint_of("copy/d", true);
    assert_false(th_fingerprint_same(&here, TRAIN, &there, TRAIN));
    assert_true(th_fingerprint_same(&here, VAL, &there, VAL));
    shell("mv copy/d/train/class_b/000.png copy/d/train/class_a/000.png && "
          "printf x >>copy/d/val/class_a/000.png");
    there = fingerprint_of("copy/d", true);
    assert_true(th_fingerprint_same(&here, TRAIN, &there, TRAIN));
    assert_false(th_fingerprint_same(&here, VAL, &there, VAL));
    /* What was split is the same as all of it before. */
    struct th_fingerprint whole = fingerprint_of("data/train", true),
                          split = fingerprint_of("data/train", false);
    assert_false(th_fingerprint_same(&split, TRAIN, &whole, TRAIN));
    assert_true(th_fingerprint_same(&split, TRAIN | VAL, &whole, TRAIN));
}

static void data_that_changed_under_a_run_is_refused(void **state)
{
    (void)state;
    thaw_result r;
    struct lines lines = {.topic = "test"};
    char path[256];
    shell("cp -r data moving");
    thaw_options *o = make_options("changed", "epochs", "1", NULL);
    run_path(path, "moving");
    set(o, "data", path);
    must(train(o, NULL, &r));
    shell("printf x >>moving/train/class_b/001.png");
    assert_int_equal(resume("changed", "+1", &lines), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "no longer those that the run began with"));
    shell("cp data/train/class_b/001.png moving/train/class_b/001.png");
    must(resume("changed", "+1", &lines));
}

static void evaluating_on_the_training_images_is_said(void **state)
{
    (void)state;
    thaw_result r;
    struct lines lines = {.topic = "data"};
    const thaw_events events = {.context = &lines, .line = on_line};
    thaw_model *m = NULL;
    thaw_evaluation e;
    char path[256];
    must(train(make_options("seen", "epochs", "1", NULL), NULL, &r));
    run_path(path, "seen");
    must(thaw_model_open(path, NULL, &m));
    run_path(path, "data/train");
    must(thaw_model_eval(m, path, NULL, &events, &e));
    thaw_evaluation_release(&e);
    assert_non_null(
        strstr(lines.text, "the very images that the model was trained on"));
    lines.text[0] = 0;
    run_path(path, "data/test");
    must(thaw_model_eval(m, path, NULL, &events, &e));
    thaw_evaluation_release(&e);
    assert_null(strstr(lines.text, "very images"));
    thaw_model_free(m);
}

/* ---- The gap ---- */

/* last.h5 of `run`, adapted to the training images, as `name`. */
static void adapt_to_data(const char *run, const char *name)
{
    thaw_options *o = NULL;
    thaw_model *m = NULL;
    thaw_adaptation a;
    char path[256];
    must(thaw_options_new(&o));
    set(o, "device", "ref");
    snprintf(path, sizeof path, "%s/%s/last.h5", run_root, run);
    must(thaw_model_open(path, o, &m));
    run_path(path, "data");
    must(thaw_model_adapt(m, path, o, NULL, &a));
    run_path(path, name);
    must(thaw_model_write(m, path));
    thaw_model_free(m);
    thaw_options_free(o);
}

static void the_gap_is_nothing_where_statistics_are_the_images_own(void **state)
{
    (void)state;
    thaw_result r;
    char path[256];
    struct lines lines = {.topic = "bn"};
    const thaw_events events = {.context = &lines, .line = on_line};
    must(train(make_options("raw", NULL), &events, &r));
    assert_non_null(strstr(lines.text, "do not fit these images")); /* said once */
    assert_null(strstr(strchr(lines.text, '\n') + 1, "do not fit"));
    lines.text[0] = 0;
    /* start, 3 steps, epoch, 3 steps, epoch, end */
    struct th_json *first = log_line("raw", 4), *second = log_line("raw", -2);
    assert_string_equal(th_json_get(first, "event")->text, "epoch");
    assert_true(real_of(first, "bn_gap") > 0.2);
    assert_true(real_of(first, "bn_gap_scale") > 0.05);
    /* Nothing but the head has moved. */
    assert_memory_equal(&th_json_get(first, "bn_gap")->real,
        &th_json_get(second, "bn_gap")->real, sizeof(double));
    th_json_free(first);
    th_json_free(second);
    adapt_to_data("raw", "adapted.h5");
    thaw_options *o = make_options("fitted", "epochs", "1", NULL);
    run_path(path, "adapted.h5");
    set(o, "weights", path);
    must(train(o, &events, &r));
    assert_string_equal(lines.text, "");
    struct th_json *epoch = log_line("fitted", -2);
    assert_true(real_of(epoch, "bn_gap") < 1e-4);
    assert_true(real_of(epoch, "bn_gap_scale") < 1e-4);
    th_json_free(epoch);
}

/* Measures whenever it is told of a step. */
static void on_progress(void *context, const thaw_progress *p)
{
    struct thaw_trainer *t = *(struct thaw_trainer **)context;
    struct th_bn_distance d;
    (void)p;
    must(th_gap_measure(&t->net, &t->data.split[TH_SPLIT_TRAIN], 3, &d));
    assert_true(isfinite(d.shift) && isfinite(d.scale));
}

static void measuring_the_gap_changes_no_bit_of_the_training(void **state)
{
    (void)state;
    thaw_result r;
    thaw_trainer *t = NULL;
    const thaw_events events = {.context = &t, .progress = on_progress};
    must(
        train(make_options("unwatched", "thaw", "all", "bn", "train", NULL), NULL, &r));
    thaw_options *o = make_options("watched", "thaw", "all", "bn", "train", NULL);
    must(thaw_trainer_new(o, &events, &t));
    thaw_options_free(o);
    must(thaw_trainer_run(t, &r));
    thaw_trainer_free(t);
    assert_same_model("unwatched", "watched", "last.h5");
    assert_same_model("unwatched", "watched", "best.h5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_finished_run_is_not_tested_again),
        cmocka_unit_test(a_stop_before_the_test_is_heeded_and_a_resume_tests),
        cmocka_unit_test(a_run_that_found_another_model_is_tested_again_and_warned),
        cmocka_unit_test(a_record_that_cannot_be_read_is_made_again),
        cmocka_unit_test(the_fingerprint_is_in_the_model_and_in_the_first_line),
        cmocka_unit_test(the_place_does_not_count_but_class_name_and_size_do),
        cmocka_unit_test(data_that_changed_under_a_run_is_refused),
        cmocka_unit_test(evaluating_on_the_training_images_is_said),
        cmocka_unit_test(the_gap_is_nothing_where_statistics_are_the_images_own),
        cmocka_unit_test(measuring_the_gap_changes_no_bit_of_the_training),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
