/* SPDX-License-Identifier: Apache-2.0
 * Runs with kept features: weights, log and validation are the same bits with a cache,
 * without one, with one that holds a part, and after a kill (P7). */
#include "run.h"

#include "kept.h"

#include <signal.h>
#include <sys/wait.h>

/* Three batches of 4, 4 and 2 images. */
enum { IMAGES = 10 };

static int setup(void **state)
{
    (void)state;
    return make_data(IMAGES);
}

/* ---- Runs ---- */

/* Averages, a phase that thaws deeper, a last batch of two, frozen BatchNorms. */
#define RECIPE                                                                         \
    "epochs", "5", "thaw", "0:head 3:stage3,head", "bn", "frozen", "ema", "0.9",       \
        "augment", "none"

struct lines {
    int cache, warnings;
    char said[2000]; /* of the cache */
};

static void on_line(void *context, const char *topic, const char *text)
{
    struct lines *l = context;
    l->warnings += !strcmp(topic, "warning");
    if (strcmp(topic, "cache") != 0)
        return;
    l->cache++;
    size_t used = strlen(l->said);
    snprintf(l->said + used, sizeof l->said - used, "%s\n", text);
}

static struct lines run_with(thaw_options *o)
{
    struct lines l = {0};
    const thaw_events events = {.context = &l, .line = on_line};
    thaw_result r;
    must(train(o, &events, &r));
    assert_true(r.frozen_verified);
    return l;
}

static void expect_same_run(const char *a, const char *b)
{
    assert_same_model(a, b, "last.h5");
    assert_same_model(a, b, "best.h5");
    assert_same_log(a, b);
}

static void cached_or_not_a_run_ends_with_the_same_bits(void **state)
{
    (void)state;
    static const char *const ways[][6] = {{"cache", "auto"}, {"cache", "memory"},
        {"cache", "memory", "cache-limit", "2K"}, {"cache", "disk"},
        {"cache", "disk", "cache-limit", "2K"}, {"cache", "memory", "workers", "3"}};
    static const char *const devices[] = {"ref", "cpu"};
    for (size_t d = 0; d < 2; d++) {
        struct lines l = run_with(make_options(
            "off", RECIPE, "cache", "off", "device", devices[d], "threads", "2", NULL));
        assert_int_equal(l.cache, 0);
        for (size_t i = d ? 0 : 2; i < sizeof ways / sizeof *ways; i += d ? 1 : 2) {
            thaw_options *o =
                make_options("on", RECIPE, "device", devices[d], "threads", "2", NULL);
            for (int k = 0; k < 6 && ways[i][k]; k += 2)
                set(o, ways[i][k], ways[i][k + 1]);
            l = run_with(o);
            assert_int_equal(l.cache, 2); /* a line a phase */
            assert_int_equal(l.warnings, 0);
            expect_same_run("off", "on");
            assert_false(is_there("on/cache"));
            forget("on");
        }
        forget("off");
    }
}

/* Groups of batches, an order with repeats, a view an epoch in turn: the run without a
 * cache draws the same views. */
static void views_are_the_same_with_and_without_a_cache(void **state)
{
    (void)state;
    static const char *const views[] = {"1", "3"};
    for (size_t v = 0; v < 2; v++)
        for (int balanced = 0; balanced < 2; balanced++) {
            const char *const caches[] = {"off", "auto", "disk"};
            for (size_t c = 0; c < 3; c++) {
                thaw_options *o =
                    make_options(caches[c], "epochs", "5", "thaw", "stage3,head", "bn",
                        "frozen", "augment", "basic", "views", views[v], "cache",
                        caches[c], "accumulate", "2", "dropout", "0.2", NULL);
                if (balanced)
                    set(o, "balanced", "1");
                struct lines l = run_with(o);
                assert_int_equal(l.cache, c > 0);
            }
            expect_same_run("off", "auto");
            expect_same_run("off", "disk");
            for (size_t c = 0; c < 3; c++)
                forget(caches[c]);
        }
}

/* Views are what they claim: one view shows an image as in its first epoch for ever. */
static void more_views_are_other_images(void **state)
{
    (void)state;
    const char *const views[] = {"1", "2"};
    for (size_t v = 0; v < 2; v++)
        run_with(make_options(views[v], "epochs", "2", "augment", "basic", "no-shuffle",
            "1", "lr", "0", "views", views[v], "log-every", "1", NULL));
    char *one = timeless_log("1"), *two = timeless_log("2");
    assert_string_not_equal(one, two);
    th_free(one);
    th_free(two);
    forget("1");
    forget("2");
}

static void half_precision_gives_one_result_wherever_it_is_kept(void **state)
{
    (void)state;
    static const char *const ways[][4] = {{"cache", "memory"}, {"cache", "disk"},
        {"cache", "memory", "cache-limit", "2K"}};
    for (size_t i = 0; i < 3; i++) {
        const char *name = i ? "other" : "half";
        thaw_options *o = make_options(name, RECIPE, "cache-dtype", "fp16", NULL);
        for (int k = 0; k < 4 && ways[i][k]; k += 2)
            set(o, ways[i][k], ways[i][k + 1]);
        run_with(o);
        if (i) {
            expect_same_run("half", "other");
            forget("other");
        }
    }
    forget("half");
}

/* No image is decoded once its features are there: the second run's images are gone after
 * they were listed. Of a network without BatchNorms: their gap meter reads images, too. */
#define WITHOUT_BN "backbone", "vit_micro_patch4_32", "weights", "random"

static void a_second_run_reads_no_image(void **state)
{
    (void)state;
    char dir[256], command[700];
    struct lines l = {0};
    const thaw_events events = {.context = &l, .line = on_line};
    thaw_trainer *t = NULL;
    thaw_result r;
    run_path(dir, "shared");
    run_with(make_options("first", WITHOUT_BN, "augment", "none", "cache", "disk",
        "cache-dir", dir, "epochs", "3", NULL));
    thaw_options *o = make_options("second", WITHOUT_BN, "augment", "none", "cache",
        "disk", "cache-dir", dir, "epochs", "3", NULL);
    must(thaw_trainer_new(o, &events, &t));
    thaw_options_free(o);
    snprintf(command, sizeof command, "mv %s/data %s/gone", run_root, run_root);
    assert_int_equal(system(command), 0);
    thaw_status status = thaw_trainer_run(t, &r);
    thaw_trainer_free(t);
    snprintf(command, sizeof command, "mv %s/gone %s/data", run_root, run_root);
    assert_int_equal(system(command), 0);
    assert_int_equal(status, THAW_OK);
    assert_non_null(strstr(l.said, "10 are there"));
    expect_same_run("first", "second");
    forget("first");
    forget("second");
    forget("shared");
}

/* Damage in mid-run: entries are computed again, with one warning, and nothing changes. */
static void damaged_entries_are_computed_again(void **state)
{
    (void)state;
    char dir[256], path[600];
    const unsigned char bad[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    run_path(dir, "kept");
    run_with(make_options("first", "augment", "none", "cache", "disk", "cache-dir", dir,
        "epochs", "3", "val", "0", NULL));
    file_of(dir, path);
    long stride = (size_of(path) - 128) / IMAGES;
    for (long i = 0; i < IMAGES; i += 3)
        overwrite(path, 128 + i * stride + 40, bad, sizeof bad);
    struct lines l = run_with(make_options("second", "augment", "none", "cache", "disk",
        "cache-dir", dir, "epochs", "3", "val", "0", NULL));
    assert_int_equal(l.warnings, 2); /* and that DATA/val is not used */
    expect_same_run("first", "second");
    l = run_with(make_options("third", "augment", "none", "cache", "disk", "cache-dir",
        dir, "epochs", "3", "val", "0", NULL));
    assert_int_equal(l.warnings, 1);
    expect_same_run("first", "third");
    forget("first");
    forget("second");
    forget("third");
    forget("kept");
}

struct fate {
    int64_t calls, kill_at;
};

static void die(void *context, const struct thaw_progress *p)
{
    struct fate *fate = context;
    (void)p;
    if (++fate->calls == fate->kill_at)
        raise(SIGKILL);
}

/* In a child process. */
static void run_and_die(const char *run, int64_t kill_at, int64_t save_every)
{
    pid_t child = fork();
    if (child == 0) {
        struct fate fate = {.kill_at = kill_at};
        const thaw_events events = {.context = &fate, .progress = die};
        thaw_trainer *t = NULL;
        thaw_result r;
        thaw_options *o = make_options(run, RECIPE, "cache", "disk", NULL);
        if (thaw_trainer_new(o, &events, &t) == THAW_OK) {
            t->save_every = save_every;
            (void)thaw_trainer_run(t, &r);
        }
        _exit(1);
    }
    int how = 0;
    waitpid(child, &how, 0);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

static void killed_after_any_step_a_run_goes_on_with_what_is_whole(void **state)
{
    (void)state;
    char run[256];
    thaw_result r;
    run_with(make_options("off", RECIPE, "cache", "off", NULL));
    for (int64_t kill_at = 1; kill_at < 15; kill_at += 4)
        for (int lost = 0; lost < 2; lost++) {
            thaw_trainer *t = NULL;
            run_and_die("killed", kill_at, 1);
            assert_true(is_there("killed/cache"));
            if (lost)
                forget("killed/cache");
            run_path(run, "killed");
            must(thaw_trainer_resume(run, NULL, NULL, &t));
            must(thaw_trainer_run(t, &r));
            thaw_trainer_free(t);
            assert_same_model("off", "killed", "last.h5");
            assert_same_model("off", "killed", "best.h5");
            assert_same_log("off", "killed");
            forget("killed");
        }
    forget("off");
}

/* ---- What is refused, and said ---- */

static void expect_usage(const char *word, thaw_options *o)
{
    thaw_result r;
    assert_int_equal(train(o, NULL, &r), THAW_E_USAGE);
    if (!strstr(thaw_error(), word))
        fail_msg("\"%s\" does not say %s", thaw_error(), word);
    assert_false(is_there("refused"));
}

static void what_excludes_a_cache_is_refused(void **state)
{
    (void)state;
    expect_usage("--mixup", make_options("refused", "augment", "none", "mixup", "0.2",
                                "cache", "memory", NULL));
    expect_usage("--views", make_options("refused", "cache", "disk", NULL));
    expect_usage("--cache-limit",
        make_options("refused", "augment", "none", "cache-limit", "12Q", NULL));
    expect_usage("--cache-limit",
        make_options("refused", "augment", "none", "cache-limit", "0", NULL));
}

static void why_nothing_is_kept_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *thaw, *bn, *augment, *cache, *says;
    } cases[] = {{"head", "auto", "basic", "auto", "--views"},
        {"head", "train", "none", "auto", "--bn frozen"},
        {"all", "frozen", "none", "memory", "first layers train"},
        {"all", "auto", "basic", "auto", NULL}, {"head", "auto", "none", "off", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lines l = run_with(
            make_options("said", "thaw", cases[i].thaw, "bn", cases[i].bn, "augment",
                cases[i].augment, "cache", cases[i].cache, "batch", "5", NULL));
        assert_int_equal(l.cache > 0, cases[i].says != NULL);
        if (cases[i].says && !strstr(l.said, cases[i].says))
            fail_msg("\"%s\" does not say %s", l.said, cases[i].says);
        forget("said");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_or_not_a_run_ends_with_the_same_bits),
        cmocka_unit_test(views_are_the_same_with_and_without_a_cache),
        cmocka_unit_test(more_views_are_other_images),
        cmocka_unit_test(half_precision_gives_one_result_wherever_it_is_kept),
        cmocka_unit_test(a_second_run_reads_no_image),
        cmocka_unit_test(damaged_entries_are_computed_again),
        cmocka_unit_test(killed_after_any_step_a_run_goes_on_with_what_is_whole),
        cmocka_unit_test(what_excludes_a_cache_is_refused),
        cmocka_unit_test(why_nothing_is_kept_is_said),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
