/* SPDX-License-Identifier: Apache-2.0
 * Adapter files, what they are put on, merging and its inverse, and runs with adapters. */
#include "run.h"

#include "adapter.h"
#include "feature_rows.h"

#include <math.h>

#define LORA "lora", "r=4,alpha=8,targets=conv2,layer3.*"

/* A run's file as a path. */
static const char *file(char path[256], const char *run, const char *name)
{
    char both[128];
    snprintf(both, sizeof both, "%s/%s", run, name);
    run_path(path, both);
    return path;
}

/* A base, RUN/best.h5, and a run with adapters on it. Affine BatchNorms and statistics
 * move too in the second. */
static void make_base(void)
{
    thaw_result r;
    if (!is_there("base"))
        must(train(make_options("base", "epochs", "1", NULL), NULL, &r));
}

static thaw_options *adapted(const char *run, const char *thaw, const char *bn)
{
    char path[256];
    make_base();
    return make_options(run, LORA, "weights", file(path, "base", "best.h5"), "thaw",
        thaw, "bn", bn, "augment", "none", NULL);
}

static void make_runs(void)
{
    thaw_result r;
    if (is_there("one"))
        return;
    must(train(adapted("one", "head", "auto"), NULL, &r));
    assert_true(r.frozen_verified);
    must(train(adapted("two", "bn,head", "train"), NULL, &r));
}

struct logits {
    float x[64];
    int n;
};

static void take_logits(void *context, const thaw_prediction *p)
{
    struct logits *l = context;
    assert_null(p->error);
    for (int i = 0; i < RUN_CLASSES; i++)
        l->x[l->n++] = p->logits[i];
}

static struct logits predict(thaw_model *m)
{
    struct logits l = {.n = 0};
    char path[256];
    run_path(path, "data/val");
    must(thaw_model_predict(m, path, take_logits, &l));
    return l;
}

static thaw_options *device_options(const char *adapters)
{
    thaw_options *o = NULL;
    must(thaw_options_new(&o));
    set(o, "device", "ref");
    set(o, "threads", "1");
    if (adapters)
        set(o, "adapter", adapters);
    return o;
}

static struct logits logits_of(const char *model, const char *adapters)
{
    thaw_model *m = NULL;
    thaw_options *o = device_options(adapters);
    must(thaw_model_open(model, o, &m));
    struct logits l = predict(m);
    thaw_model_free(m);
    thaw_options_free(o);
    return l;
}

static void an_adapter_on_its_base_is_the_merged_model_of_the_run(void **state)
{
    (void)state;
    static const char *const runs[] = {"one", "two"};
    char model[256], base[256], adapter[256];
    make_runs();
    for (int i = 0; i < 2; i++) {
        struct logits a = logits_of(file(model, runs[i], "best.h5"), NULL);
        struct logits b = logits_of(
            file(base, "base", "best.h5"), file(adapter, runs[i], "best.adapter.h5"));
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.x, b.x, sizeof(float) * (size_t)a.n);
    }
}

static struct th_features features_of(
    const char *model, const char *adapters, const struct th_dataset *d)
{
    struct th_features f;
    thaw_model *m = NULL;
    thaw_options *o = device_options(adapters);
    must(thaw_model_open(model, o, &m));
    must(th_features_compute(m, d, &(struct th_features_spec){0}, o, NULL, &f));
    thaw_model_free(m);
    thaw_options_free(o);
    return f;
}

static void features_are_those_with_the_adapter_on(void **state)
{
    (void)state;
    char path[256], base[256], adapter[256];
    struct th_dataset d;
    make_runs();
    run_path(path, "data");
    must(th_dataset_open(path, &(struct th_dataset_options){.as_is = true}, &d));
    struct th_features run = features_of(file(path, "one", "best.h5"), NULL, &d);
    struct th_features bare = features_of(file(base, "base", "best.h5"), NULL, &d);
    struct th_features on =
        features_of(base, file(adapter, "one", "best.adapter.h5"), &d);
    size_t bytes = (size_t)(run.n * run.values) * sizeof *run.x;
    assert_memory_equal(on.x, run.x, bytes);
    assert_memory_not_equal(on.x, bare.x, bytes);
    th_features_release(&run);
    th_features_release(&bare);
    th_features_release(&on);
    th_dataset_close(&d);
}

static void adapters_are_switched_on_one_base(void **state)
{
    (void)state;
    char base[256], one[256], two[256], both[600];
    thaw_model *m = NULL;
    make_runs();
    snprintf(both, sizeof both, "%s,%s", file(one, "one", "best.adapter.h5"),
        file(two, "two", "best.adapter.h5"));
    thaw_options *o = device_options(both);
    must(thaw_model_open(file(base, "base", "best.h5"), o, &m));
    assert_int_equal(thaw_model_n_adapters(m), 2);
    struct logits first = predict(m);
    must(thaw_model_use(m, 1));
    struct logits second = predict(m);
    must(thaw_model_use(m, -1));
    struct logits bare = predict(m);
    must(thaw_model_use(m, 0));
    struct logits again = predict(m);
    assert_memory_equal(first.x, again.x, sizeof(float) * (size_t)first.n);
    assert_memory_not_equal(first.x, second.x, sizeof(float) * (size_t)first.n);
    struct logits base_logits = logits_of(base, NULL);
    assert_memory_equal(bare.x, base_logits.x, sizeof(float) * (size_t)bare.n);
    assert_int_equal(thaw_model_use(m, 2), THAW_E_USAGE);
    thaw_model_free(m);
    thaw_options_free(o);
}

static void merge_then_unmerge_is_the_base_bit_for_bit(void **state)
{
    (void)state;
    static const char *const runs[] = {"one", "two"};
    char base[256], adapter[256], merged[256], back[256];
    make_runs();
    for (int i = 0; i < 2; i++) {
        forget("m");
        run_path(merged, "m");
        must(th_file_mkdir(merged));
        file(base, "base", "best.h5");
        must(thaw_merge(base, file(adapter, runs[i], "best.adapter.h5"),
            file(merged, "m", "merged.h5"), NULL, NULL));
        must(thaw_unmerge(merged, file(back, "m", "best.h5"), NULL));
        assert_same_model("base", "m", "best.h5");
        struct logits a = logits_of(merged, NULL), b = logits_of(base, adapter);
        assert_true(a.n == b.n);
        for (int k = 0; k < a.n; k++)
            assert_true(fabsf(a.x[k] - b.x[k]) < 1e-5F);
        assert_int_equal(thaw_merge(base, adapter, merged, NULL, NULL), THAW_E_USAGE);
    }
    file(back, "m", "none.h5");
    assert_int_equal(thaw_unmerge(base, back, NULL), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "no base is kept"));
}

static void another_base_is_refused_by_name(void **state)
{
    (void)state;
    char other[256], adapter[256];
    thaw_model *m = NULL;
    make_runs();
    thaw_options *o = device_options(file(adapter, "one", "best.adapter.h5"));
    assert_int_equal(
        thaw_model_open(file(other, "one", "best.h5"), o, &m), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "another base: layer"));
    thaw_options_free(o);
    o = device_options(file(adapter, "one", "best.h5"));
    assert_int_equal(
        thaw_model_open(file(other, "base", "best.h5"), o, &m), THAW_E_DATA);
    assert_non_null(strstr(thaw_error(), "not an adapter file"));
    thaw_options_free(o);
}

/* Only what is not the base's is in the file. */
static void an_adapter_file_holds_what_changed_and_no_more(void **state)
{
    (void)state;
    static const char *const runs[] = {"one", "two"};
    make_runs();
    for (int i = 0; i < 2; i++) {
        char path[256];
        struct th_adapter a;
        must(th_adapter_read(&a, file(path, runs[i], "best.adapter.h5")));
        bool weight = false, statistics = false;
        for (size_t k = 0; k < a.w.n; k++) {
            const char *name = a.w.weight[k].name;
            statistics = statistics || strstr(name, "running_mean");
            weight = weight || (!strstr(name, "lora_") && strstr(name, "conv"));
        }
        assert_false(weight);
        assert_int_equal(statistics, i == 1);
        assert_int_equal(a.lora.rank, 4);
        th_adapter_release(&a);
    }
}

static void training_goes_on_from_an_adapter(void **state)
{
    (void)state;
    char base[256], adapter[256];
    thaw_result r;
    make_runs();
    file(base, "base", "best.h5");
    file(adapter, "two", "last.adapter.h5");
    must(train(make_options("more", "weights", base, "adapter", adapter, "keep-head",
                   "1", "thaw", "head", "lr", "0", "epochs", "1", NULL),
        NULL, &r));
    assert_same_model("two", "more", "last.h5"); /* lr 0: nothing moved */
    assert_same_model("two", "more", "last.adapter.h5");
    assert_int_equal(train(make_options("no", "weights", base, "adapter", adapter,
                               "lora", "r=2,targets=conv1", NULL),
                         NULL, &r),
        THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "leave --lora out"));
}

/* ---- Runs ---- */

static const char *const kinds[][8] = {
    {"accumulate", "2", "ema", "0.9", "optimizer", "adamw", NULL},
    {"cache", "memory", "augment", "none", "lr-decay", "0.8", NULL},
    {"thaw", "0:head 1:lora,head 2:stage3,head", "clip", "1", NULL},
    {"optimizer", "adamw", "bn", "stats", "augment", "basic", NULL},
};

static thaw_options *of_kind(const char *run, int kind, const char *lora)
{
    char path[256];
    make_base();
    thaw_options *o = make_options(run, "lora", lora, "weights",
        file(path, "base", "best.h5"), "epochs", "3", NULL);
    for (int i = 0; kinds[kind][i]; i += 2)
        set(o, kinds[kind][i], kinds[kind][i + 1]);
    return o;
}

struct stopper {
    thaw_trainer *t;
    int lines;
};

static void stop_after_an_epoch(void *context, const char *topic, const char *text)
{
    struct stopper *s = context;
    (void)text;
    if (!strcmp(topic, "epoch") && s->t)
        thaw_trainer_stop(s->t);
}

static void a_run_with_adapters_resumes_bit_for_bit(void **state)
{
    (void)state;
    for (int k = 0; k < (int)(sizeof kinds / sizeof kinds[0]); k++) {
        const char *lora = k == 3 ? "r=4,targets=layer3.*,dropout=0.3"
                                  : "r=4,targets=layer2.*,layer3.*";
        char path[256];
        thaw_result r;
        struct stopper s = {0};
        const thaw_events events = {.context = &s, .line = stop_after_an_epoch};
        forget("whole");
        forget("parts");
        must(train(of_kind("whole", k, lora), NULL, &r));
        assert_true(r.frozen_verified);
        thaw_options *o = of_kind("parts", k, lora);
        must(thaw_trainer_new(o, &events, &s.t));
        thaw_options_free(o);
        must(thaw_trainer_run(s.t, &r));
        assert_true(r.stopped);
        thaw_trainer_free(s.t);
        s.t = NULL;
        run_path(path, "parts");
        thaw_trainer *t = NULL;
        must(thaw_trainer_resume(path, NULL, NULL, &t));
        must(thaw_trainer_run(t, &r));
        thaw_trainer_free(t);
        assert_same_model("whole", "parts", "last.h5");
        assert_same_model("whole", "parts", "last.adapter.h5");
        assert_same_model("whole", "parts", "best.adapter.h5");
    }
}

static void a_cache_below_the_first_adapter_changes_no_bit(void **state)
{
    (void)state;
    static const char *const where[] = {"off", "memory"};
    thaw_result r;
    for (int k = 0; k < 2; k++) {
        thaw_options *o = of_kind(k ? "cached" : "plain", 1, "r=4,targets=layer3.*");
        set(o, "cache", where[k]);
        must(train(o, NULL, &r));
    }
    assert_same_model("plain", "cached", "last.h5");
    assert_same_model("plain", "cached", "last.adapter.h5");
}

/* ---- Files that nobody vouches for ---- */

static void a_damaged_adapter_is_a_sentence(void **state)
{
    (void)state;
    char path[256], cut[256], base[256];
    unsigned char *bytes = NULL;
    size_t n = 0;
    make_runs();
    must(th_file_read(file(path, "one", "best.adapter.h5"), 1 << 24, &bytes, &n));
    run_path(cut, "cut.adapter.h5");
    for (size_t k = 0; k < 24; k++) {
        thaw_model *m = NULL;
        must(th_file_write_atomic(cut, bytes, n * k / 24, NULL));
        thaw_options *o = device_options(cut);
        thaw_status status = thaw_model_open(file(base, "base", "best.h5"), o, &m);
        assert_true(status == THAW_E_DATA || status == THAW_E_IO);
        assert_true(strlen(thaw_error()) > 10);
        thaw_options_free(o);
    }
    th_free(bytes);
}

static void write_text(const char *path, const char *text)
{
    must(th_file_write_atomic(path, text, strlen(text), NULL));
}

static void an_adapter_goes_to_peft_and_comes_back(void **state)
{
    (void)state;
    char base[256], adapter[256], folder[256], config[300];
    make_runs();
    forget("peft");
    run_path(folder, "peft");
    must(thaw_convert(file(adapter, "one", "best.adapter.h5"), folder, NULL, NULL));
    struct logits a = logits_of(file(base, "base", "best.h5"), adapter);
    struct logits b = logits_of(base, folder);
    assert_memory_equal(a.x, b.x, sizeof(float) * (size_t)a.n);
    assert_int_equal(
        thaw_convert(file(adapter, "two", "best.adapter.h5"), "/tmp/no", NULL, NULL),
        THAW_E_USAGE); /* statistics have no place in it */
    static const char *const bad[][2] = {{"", "JSON"}, {"{}", "peft_type"},
        {"[1]", "peft_type"}, {"{\"peft_type\":\"LOHA\"}", "peft_type"},
        {"{\"peft_type\":\"LORA\"}", "missing"},
        {"{\"peft_type\":\"LORA\",\"r\":99999999,\"lora_alpha\":1}", "no usable"},
        {"{\"peft_type\":\"LORA\",\"r\":3,\"lora_alpha\":8}", "the model has"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"use_dora\":true}",
            "use_dora"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"rank_pattern\":{\"a\":2}}",
            "rank_pattern"},
        {"{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8,\"bias\":\"all\"}", "bias"}};
    snprintf(config, sizeof config, "%s/adapter_config.json", folder);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        thaw_model *m = NULL;
        thaw_options *o = device_options(folder);
        write_text(config, bad[i][0]);
        assert_int_equal(thaw_model_open(base, o, &m), THAW_E_DATA);
        if (i && !strstr(thaw_error(), bad[i][1]))
            fail_msg("%s: %s", bad[i][0], thaw_error());
        thaw_options_free(o);
    }
}

static int setup(void **state)
{
    (void)state;
    return make_data(13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_adapter_on_its_base_is_the_merged_model_of_the_run),
        cmocka_unit_test(features_are_those_with_the_adapter_on),
        cmocka_unit_test(adapters_are_switched_on_one_base),
        cmocka_unit_test(merge_then_unmerge_is_the_base_bit_for_bit),
        cmocka_unit_test(another_base_is_refused_by_name),
        cmocka_unit_test(an_adapter_file_holds_what_changed_and_no_more),
        cmocka_unit_test(training_goes_on_from_an_adapter),
        cmocka_unit_test(a_run_with_adapters_resumes_bit_for_bit),
        cmocka_unit_test(a_cache_below_the_first_adapter_changes_no_bit),
        cmocka_unit_test(a_damaged_adapter_is_a_sentence),
        cmocka_unit_test(an_adapter_goes_to_peft_and_comes_back),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
