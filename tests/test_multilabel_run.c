/* SPDX-License-Identifier: Apache-2.0
 * Runs with --head multilabel: what they leave and say, what goes on working with it, and
 * what is refused. */
#include "run.h"

#include "thaw.h"

#include <math.h>

enum { IMAGES = 24, VAL = 9 };

static char *train_csv, *val_csv; /* "csv:..." */

/* An image whose channel k is bright where it is of class k; some are of none, some of all. */
static int write_many(FILE *list, const char *folder, int i)
{
    char path[256], name[64];
    struct th_image image = {0};
    int classes = i * 5 % 8; /* bits */
    snprintf(name, sizeof name, "%s/%03d.png", folder, i);
    run_path(path, name);
    if (th_image_init(&image, 11, 10) != THAW_OK)
        return -1;
    uint64_t key = th_rng_mix(th_rng_mix_name(3, folder), (uint64_t)i);
    for (int k = 0; k < 11 * 10 * 3; k++)
        image.rgb[k] = (uint8_t)(100.0F * th_rng_uniform(key, (uint64_t)k) +
                                 (classes >> k % 3 & 1 ? 140.0F : 0.0F));
    thaw_status status = th_image_write_png(path, &image);
    th_image_release(&image);
    fprintf(list, "%s,%s%s%s\n", path, classes & 1 ? "red|" : "",
        classes & 2 ? "green|" : "", classes & 4 ? "blue" : "");
    return status == THAW_OK ? 0 : -1;
}

static char *write_list(const char *folder, int n)
{
    char path[256], name[64];
    run_path(path, folder);
    if (th_file_mkdir(path) != THAW_OK)
        return NULL;
    snprintf(name, sizeof name, "%s.csv", folder);
    run_path(path, name);
    FILE *list = fopen(path, "w");
    if (!list)
        return NULL;
    fputs("path,label\n", list);
    for (int i = 0; i < n; i++)
        if (write_many(list, folder, i))
            n = -1;
    fclose(list);
    return n < 0 ? NULL : th_format("csv:%s", path);
}

static int setup(void **state)
{
    (void)state;
    if (make_data(3))
        return -1;
    train_csv = write_list("many", IMAGES);
    val_csv = write_list("many_val", VAL);
    return train_csv && val_csv ? 0 : -1;
}

static int teardown(void **state)
{
    th_free(train_csv);
    th_free(val_csv);
    return remove_data(state);
}

static thaw_options *many_options(const char *run)
{
    thaw_options *o = make_options(run, "head", "multilabel", "augment", "none", "thaw",
        "all", "epochs", "4", NULL);
    set(o, "data", train_csv);
    set(o, "val", val_csv);
    return o;
}

static thaw_options *with(thaw_options *o, const char *name, const char *value)
{
    set(o, name, value);
    return o;
}

static void a_run_is_judged_by_its_mean_average_precision(void **state)
{
    thaw_result r;
    (void)state;
    must(train(many_options("run"), NULL, &r));
    assert_true(isnan(r.best_top1) && r.best_map > 0.5 && r.best_map <= 1);
    char *log = read_text("run", "metrics.jsonl");
    char *html = read_text("run", "report.html"), best[32];
    assert_null(strstr(log, "top1"));
    assert_null(strstr(log, "ece"));
    assert_non_null(strstr(log, "\"val_map\":"));
    snprintf(best, sizeof best, "\"best_map\":%.9g", r.best_map);
    assert_non_null(strstr(log, best));
    assert_non_null(strstr(html, "<th>Average precision</th>"));
    assert_null(strstr(html, "Confusion"));
    assert_null(strstr(html, "Worst mistakes"));
    th_free(log);
    th_free(html);
}

static thaw_model *open_best(const char *run, const char *threshold)
{
    char path[256];
    thaw_options *o = make_options("unused", NULL);
    thaw_model *m = NULL;
    if (threshold)
        set(o, "threshold", threshold);
    run_path(path, run);
    must(thaw_model_open(path, o, &m));
    thaw_options_free(o);
    return m;
}

static void eval_gives_what_the_run_gave(void **state)
{
    thaw_evaluation e;
    thaw_options *o = NULL;
    (void)state;
    must(thaw_options_new(&o));
    thaw_model *m = open_best("run", NULL);
    must(thaw_model_eval(m, val_csv, o, NULL, &e));
    char *log = read_text("run", "metrics.jsonl"), best[32];
    snprintf(best, sizeof best, "\"best_map\":%.9g", e.map);
    assert_non_null(strstr(log, best));
    assert_true(e.many && e.images == VAL && e.n_classes == 3);
    assert_string_equal(e.classes[0].name, "blue"); /* byte order */
    assert_true(e.classes[0].ap > 0 && e.classes[0].threshold > 0);
    th_free(log);
    thaw_evaluation_release(&e);
    thaw_options_free(o);
    thaw_model_free(m);
}

struct seen {
    int n, labels; /* images; labels of all */
    double threshold;
};

static void on_prediction(void *context, const thaw_prediction *p)
{
    struct seen *s = context;
    int above = 0;
    assert_null(p->error);
    assert_non_null(p->labels);
    for (int c = 0; c < 3; c++) {
        double sigmoid = 1 / (1 + exp(-(double)p->logits[c]));
        assert_true(fabs(sigmoid - (double)p->probabilities[c]) < 1e-6);
        above += sigmoid >= s->threshold;
    }
    assert_int_equal(p->n_labels, above);
    for (int i = 1; i < p->n_labels; i++)
        assert_true(
            p->probabilities[p->labels[i]] <= p->probabilities[p->labels[i - 1]]);
    s->labels += above;
    s->n++;
}

static void predict_names_every_class_from_the_threshold_on(void **state)
{
    char folder[256];
    int before = 3 * VAL;
    (void)state;
    run_path(folder, "many_val");
    static const char *const thresholds[] = {"0", "0.5", "1"};
    for (int i = 0; i < 3; i++) {
        struct seen s = {.threshold = atof(thresholds[i])};
        thaw_model *m = open_best("run", thresholds[i]);
        must(thaw_model_predict(m, folder, on_prediction, &s));
        assert_int_equal(s.n, VAL);
        assert_true(i ? s.labels < before : s.labels == before);
        before = s.labels;
        thaw_model_free(m);
    }
}

static void a_stopped_run_resumes_with_the_same_bits(void **state)
{
    char path[256];
    thaw_result r;
    thaw_trainer *t = NULL;
    (void)state;
    must(train(with(many_options("short"), "epochs", "4"), NULL, &r));
    thaw_options *o = many_options("stopped");
    must(thaw_trainer_new(o, NULL, &t));
    thaw_trainer_stop(t);
    must(thaw_trainer_run(t, &r));
    assert_true(r.stopped);
    thaw_trainer_free(t);
    thaw_options_free(o);
    run_path(path, "stopped");
    must(thaw_trainer_resume(path, NULL, NULL, &t));
    must(thaw_trainer_run(t, &r));
    thaw_trainer_free(t);
    assert_same_model("short", "stopped", "last.h5");
    assert_same_model("short", "stopped", "best.h5");
}

static void a_cache_changes_no_bit(void **state)
{
    thaw_result r;
    (void)state;
    must(train(
        with(with(many_options("kept"), "thaw", "head"), "cache", "memory"), NULL, &r));
    must(train(
        with(with(many_options("made"), "thaw", "head"), "cache", "off"), NULL, &r));
    assert_same_model("kept", "made", "last.h5");
    assert_same_log("kept", "made");
}

static void a_kept_head_goes_on_in_its_own_order(void **state)
{
    char path[256];
    thaw_result r;
    (void)state;
    run_path(path, "run/best.h5");
    thaw_options *o = many_options("goes_on");
    set(o, "weights", path);
    set(o, "keep-head", "1");
    set(o, "epochs", "0");
    must(train(o, NULL, &r));
    assert_same_model("goes_on", "run", "best.h5"); /* no step ran */
}

static void mixed_weighted_and_smoothed_targets_train(void **state)
{
    thaw_result r;
    (void)state;
    thaw_options *o = with(many_options("mixed"), "mixup", "0.4");
    o = with(with(o, "cutmix", "1"), "label-smoothing", "0.1");
    must(train(with(with(o, "class-weights", "1"), "accumulate", "2"), NULL, &r));
    assert_true(r.best_map > 0.3 && isfinite(r.last_loss) && r.skipped == 0);
}

static void a_folder_of_classes_trains_too(void **state)
{
    thaw_result r;
    (void)state;
    must(train(make_options("folder", "head", "multilabel", NULL), NULL, &r));
    assert_true(r.best_map > 0);
}

static void what_needs_one_class_is_refused(void **state)
{
    thaw_result r;
    char path[256];
    (void)state;
    assert_int_equal(
        train(with(many_options("b"), "balanced", "1"), NULL, &r), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "--balanced"));
    must(train(make_options("single", NULL), NULL, &r));
    thaw_options *o = make_options("unused", "threshold", "0.3", NULL);
    thaw_model *m = NULL;
    run_path(path, "single");
    assert_int_equal(thaw_model_open(path, o, &m), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "--threshold"));
    thaw_options_free(o);
}

static void features_carry_the_labels(void **state)
{
    struct th_weights w;
    char path[256];
    thaw_features f;
    thaw_options *o = NULL;
    (void)state;
    must(thaw_options_new(&o));
    run_path(path, "features.h5");
    thaw_model *m = open_best("run", NULL);
    must(thaw_model_features(m, val_csv, path, o, NULL, &f));
    th_weights_init(&w);
    must(th_weights_read(path, &w));
    const struct th_tensor *labels = &th_weights_find(&w, "labels")->tensor;
    assert_int_equal(labels->shape.dim[0], VAL);
    assert_int_equal(labels->shape.dim[1], 3);
    static const int bit[3] = {4, 2, 1}; /* blue, green, red */
    for (int i = 0; i < VAL; i++)
        for (int c = 0; c < 3; c++)
            assert_true((((const float *)labels->data)[3 * i + c] > 0) ==
                        ((i * 5 % 8 & bit[c]) != 0));
    th_weights_release(&w);
    char *names = read_text(".", "features.h5.csv");
    assert_non_null(strstr(names, "001.png\",train,\"red|blue\"\n"));
    th_free(names);
    thaw_options_free(o);
    thaw_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_judged_by_its_mean_average_precision),
        cmocka_unit_test(eval_gives_what_the_run_gave),
        cmocka_unit_test(predict_names_every_class_from_the_threshold_on),
        cmocka_unit_test(a_stopped_run_resumes_with_the_same_bits),
        cmocka_unit_test(a_cache_changes_no_bit),
        cmocka_unit_test(a_kept_head_goes_on_in_its_own_order),
        cmocka_unit_test(mixed_weighted_and_smoothed_targets_train),
        cmocka_unit_test(a_folder_of_classes_trains_too),
        cmocka_unit_test(what_needs_one_class_is_refused),
        cmocka_unit_test(features_carry_the_labels),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
