/* SPDX-License-Identifier: Apache-2.0
 * Runs with each way to vary images: finite, the same bits for any number of workers and
 * when resumed in mid-epoch. What the variants are is other tests' subject. */
#include "run.h"

#include <math.h>

enum { MAX_PAIRS = 4 };

/* Options by name and value. */
struct way {
    const char *name, *pair[2 * MAX_PAIRS + 1];
};

static const struct way ways[] = {
    {"strong", {"augment", "strong"}},
    {"operations", {"augment", "none", "randaugment", "3,20"}},
    {"colours", {"color-jitter", "0.4", "hue", "0.1"}},
    {"mixup", {"mixup", "0.4", "label-smoothing", "0.1"}},
    {"mixed", {"mixup", "0.2", "cutmix", "1", "balanced", "1"}},
    {"balanced", {"balanced", "1"}},
    {"turned", {"pad", "2", "flip", "0", "vflip", "0.5", "erase", "1"}},
};

enum { N_WAYS = sizeof ways / sizeof ways[0], N_IMAGES = 13 };

static int setup(void **state)
{
    (void)state;
    return make_data(N_IMAGES);
}

static thaw_options *options_of(
    const struct way *way, const char *run, const char *workers)
{
    thaw_options *o =
        make_options(run, "thaw", "stage3,head", "workers", workers, NULL);
    for (int i = 0; way->pair[i]; i += 2)
        set(o, way->pair[i], way->pair[i + 1]);
    return o;
}

static void name_run(char name[64], const struct way *way, const char *what)
{
    snprintf(name, 64, "%s-%s", way->name, what);
}

/* The run that others are compared with, once. */
static void need_run(const struct way *way, char name[64])
{
    thaw_result r;
    name_run(name, way, "one");
    if (has_file(name, "last.h5"))
        return;
    must(train(options_of(way, name, "1"), NULL, &r));
    assert_true(isfinite(r.last_loss));
    assert_int_equal(r.skipped, 0);
}

static void each_is_the_same_for_three_workers_and_finite(void **state)
{
    (void)state;
    for (int i = 0; i < N_WAYS; i++) {
        thaw_result r;
        char one[64], three[64];
        need_run(&ways[i], one);
        name_run(three, &ways[i], "three");
        must(train(options_of(&ways[i], three, "3"), NULL, &r));
        assert_same_model(one, three, "last.h5");
        assert_same_log(one, three);
    }
}

static void on_progress(void *context, const struct thaw_progress *p)
{
    if (p->epoch == 1 && p->step == 2)
        thaw_trainer_stop(*(thaw_trainer **)context);
}

static void each_resumed_in_mid_epoch_ends_with_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < N_WAYS; i++) {
        thaw_result r;
        thaw_trainer *t = NULL;
        char whole[64], cut[64], path[256];
        const thaw_events events = {.context = &t, .progress = on_progress};
        need_run(&ways[i], whole);
        name_run(cut, &ways[i], "cut");
        thaw_options *o = options_of(&ways[i], cut, "2");
        must(thaw_trainer_new(o, &events, &t));
        thaw_options_free(o);
        must(thaw_trainer_run(t, &r));
        thaw_trainer_free(t);
        assert_true(r.stopped);
        run_path(path, cut);
        must(thaw_trainer_resume(path, NULL, NULL, &t));
        must(thaw_trainer_run(t, &r));
        thaw_trainer_free(t);
        assert_same_model(whole, cut, "last.h5");
        assert_same_log(whole, cut);
    }
}

/* A way that changed nothing would pass the tests above. */
static void each_differs_from_the_others(void **state)
{
    (void)state;
    for (int i = 0; i < N_WAYS; i++)
        for (int j = 0; j < i; j++) {
            char a[64], b[64];
            need_run(&ways[i], a);
            need_run(&ways[j], b);
            char *x = timeless_log(a), *y = timeless_log(b);
            assert_string_not_equal(x, y);
            th_free(x);
            th_free(y);
        }
}

/* What --augment decides is not in config.json as if it had been asked for. */
static void its_config_repeats_a_run(void **state)
{
    (void)state;
    thaw_result r;
    char one[64], config[80], path[256], out[256];
    thaw_options *o = NULL;
    need_run(&ways[0], one);
    snprintf(config, sizeof config, "%s/config.json", one);
    run_path(path, config);
    run_path(out, "again");
    must(thaw_options_new(&o));
    set(o, "out", out);
    set(o, "config", path);
    must(train(o, NULL, &r));
    assert_same_model(one, "again", "last.h5");
}

static void senseless_values_are_refused(void **state)
{
    (void)state;
    static const char *const values[] = {"x", "2,", ",9", "2,31", "17", "2,9,1", "-1"};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        thaw_result r;
        assert_int_equal(
            train(make_options("refused", "randaugment", values[i], NULL), NULL, &r),
            THAW_E_USAGE);
        assert_non_null(strstr(thaw_error(), "--randaugment: '"));
    }
    thaw_result r;
    assert_int_equal(
        train(make_options("refused", "balanced", "1", "no-shuffle", "1", NULL), NULL,
            &r),
        THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "--balanced"));
    assert_false(has_file("refused", "config.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_the_same_for_three_workers_and_finite),
        cmocka_unit_test(each_resumed_in_mid_epoch_ends_with_the_same_bits),
        cmocka_unit_test(each_differs_from_the_others),
        cmocka_unit_test(its_config_repeats_a_run),
        cmocka_unit_test(senseless_values_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
