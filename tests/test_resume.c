/* SPDX-License-Identifier: Apache-2.0
 * Resume: a run that was stopped or killed, at any step, ends with the same bits as one
 * that was not; metrics.jsonl too, but for time and memory. */
#include "run.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

/* Momentum, averages, a phase change, BatchNorm statistics, a last smaller batch. */
#define RECIPE                                                                         \
    "epochs", "3", "thaw", "0:head 1:stage3,head 2:all", "bn", "train", "ema", "0.9"

enum { RUN_STEPS = 9 }; /* 3 epochs of 4, 4, 2 images */

static int setup(void **state)
{
    (void)state;
    return make_data(10);
}

/* What the progress callback does to the run. */
struct fate {
    thaw_trainer *t;
    int64_t calls, stop_at, kill_at;
};

static void on_progress(void *context, const struct thaw_progress *p)
{
    struct fate *fate = context;
    (void)p;
    fate->calls++;
    if (fate->calls == fate->stop_at)
        thaw_trainer_stop(fate->t);
    if (fate->calls == fate->kill_at)
        raise(SIGKILL);
}

static int n_warnings;

static void on_line(void *context, const char *topic, const char *text)
{
    (void)context;
    (void)text;
    n_warnings += !strcmp(topic, "warning");
}

static thaw_status run_on(struct fate *fate, thaw_result *r, int64_t save_every)
{
    fate->t->save_every = save_every;
    thaw_status status = thaw_trainer_run(fate->t, r);
    thaw_trainer_free(fate->t);
    fate->t = NULL;
    return status;
}

static void begin(struct fate *fate, thaw_options *o)
{
    const thaw_events events = {.context = fate, .progress = on_progress};
    must(thaw_trainer_new(o, &events, &fate->t));
    thaw_options_free(o);
}

static void resume(struct fate *fate, const char *run)
{
    const thaw_events events = {
        .context = fate, .line = on_line, .progress = on_progress};
    char path[256];
    run_path(path, run);
    must(thaw_trainer_resume(path, NULL, &events, &fate->t));
}

/* The uninterrupted run, once. */
static void need_whole_run(void)
{
    thaw_result r;
    if (!has_file("whole", "last.h5"))
        must(train(make_options("whole", RECIPE, NULL), NULL, &r));
}

static void assert_as_whole(const char *run)
{
    assert_same_model("whole", run, "last.h5");
    assert_same_model("whole", run, "best.h5");
    assert_same_log("whole", run);
}

static void stopped_after_any_step_it_ends_with_the_same_bits(void **state)
{
    (void)state;
    need_whole_run();
    for (int stop_at = 1; stop_at <= RUN_STEPS; stop_at++) {
        struct fate fate = {.stop_at = stop_at};
        thaw_result r;
        char run[32];
        snprintf(run, sizeof run, "stop%d", stop_at);
        begin(&fate, make_options(run, RECIPE, NULL));
        must(run_on(&fate, &r, 0));
        assert_true(r.stopped);
        assert_int_equal(r.steps, stop_at);
        fate = (struct fate){0};
        resume(&fate, run);
        must(run_on(&fate, &r, 0));
        assert_false(r.stopped);
        assert_int_equal(r.steps, RUN_STEPS);
        assert_as_whole(run);
    }
}

/* What regularises and what groups batches: two steps an epoch, from pretrained weights,
 * with a tensor that is frozen again. */
static thaw_options *regularised(const char *run)
{
    char path[256];
    run_path(path, "start/last.h5");
    return make_options(run, "epochs", "3", "thaw", "0:all 1:head 2:stage3,head", "bn",
        "train", "ema", "0.9", "weights", path, "accumulate", "2", "l2sp", "0.1",
        "dropout", "0.3", "class-weights", "1", "label-smoothing", "0.1", "lr-schedule",
        "onecycle", NULL);
}

static void a_regularised_run_of_groups_resumes_with_the_same_bits(void **state)
{
    (void)state;
    thaw_result r;
    must(train(make_options("start", "epochs", "0", NULL), NULL, &r));
    must(train(regularised("groups"), NULL, &r));
    assert_int_equal(r.steps, 6);
    for (int stop_at = 1; stop_at < 6; stop_at++) {
        struct fate fate = {.stop_at = stop_at};
        char run[32];
        snprintf(run, sizeof run, "groups%d", stop_at);
        begin(&fate, regularised(run));
        must(run_on(&fate, &r, 0));
        assert_int_equal(r.steps, stop_at);
        fate = (struct fate){0};
        resume(&fate, run);
        must(run_on(&fate, &r, 0));
        assert_same_model("groups", run, "last.h5");
        assert_same_model("groups", run, "best.h5");
        assert_same_log("groups", run);
    }
}

/* In a process of its own that is killed at a step; whether it was. */
static bool run_killed(const char *run, bool fresh, int kill_at)
{
    pid_t child = fork();
    if (child == 0) {
        struct fate fate = {.kill_at = kill_at};
        thaw_result r;
        if (fresh)
            begin(&fate, make_options(run, RECIPE, NULL));
        else
            resume(&fate, run);
        run_on(&fate, &r, 2);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

static void killed_again_and_again_it_ends_with_the_same_bits(void **state)
{
    (void)state;
    need_whole_run();
    static const int kills[] = {1, 3, 2, 3};
    assert_true(run_killed("killed", true, kills[0]));
    for (size_t i = 1; i < sizeof kills / sizeof kills[0]; i++)
        assert_true(run_killed("killed", false, kills[i]));
    struct fate fate = {0};
    thaw_result r;
    resume(&fate, "killed");
    must(run_on(&fate, &r, 2));
    assert_as_whole("killed");
}

static void saving_often_changes_nothing_and_two_checkpoints_stay(void **state)
{
    (void)state;
    need_whole_run();
    struct fate fate = {0};
    thaw_result r;
    begin(&fate, make_options("often", RECIPE, NULL));
    must(run_on(&fate, &r, 1));
    assert_as_whole("often");
    assert_true(has_file("often", "checkpoints/step-00000009.h5"));
    assert_true(has_file("often", "checkpoints/step-00000008.h5"));
    assert_false(has_file("often", "checkpoints/step-00000007.h5"));
}

/* Turn one bit, or cut the end off. */
static void damage(const char *name, bool cut)
{
    char path[256];
    run_path(path, name);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    if (cut) {
        assert_int_equal(ftruncate(fileno(file), bytes / 2), 0);
    } else {
        fseek(file, bytes / 2, SEEK_SET);
        int c = fgetc(file);
        fseek(file, bytes / 2, SEEK_SET);
        fputc(c ^ 1, file);
    }
    fclose(file);
}

static void a_damaged_newest_checkpoint_falls_back_loudly(void **state)
{
    (void)state;
    need_whole_run();
    for (int cut = 0; cut < 2; cut++) {
        struct fate fate = {.stop_at = 5};
        thaw_result r;
        char run[32], name[64];
        snprintf(run, sizeof run, "damaged%d", cut);
        begin(&fate, make_options(run, RECIPE, NULL));
        must(run_on(&fate, &r, 1));
        snprintf(name, sizeof name, "%s/checkpoints/step-00000005.h5", run);
        damage(name, cut);
        fate = (struct fate){0};
        n_warnings = 0;
        resume(&fate, run);
        assert_int_equal(n_warnings, 1);
        assert_int_equal(fate.t->at.global, 4);
        must(run_on(&fate, &r, 0));
        assert_as_whole(run);
    }
}

static void without_any_checkpoint_it_begins_again(void **state)
{
    (void)state;
    need_whole_run();
    struct fate fate = {.stop_at = 2};
    thaw_result r;
    char command[600];
    begin(&fate, make_options("none", RECIPE, NULL));
    must(run_on(&fate, &r, 0));
    snprintf(command, sizeof command, "rm %s/none/checkpoints/*", run_root);
    assert_int_equal(system(command), 0);
    fate = (struct fate){0};
    resume(&fate, "none");
    must(run_on(&fate, &r, 0));
    assert_as_whole("none");
}

/* After the first epoch one value of a trained tensor becomes `planted`. */
struct planting {
    struct fate fate;
    float planted;
};

static void plant(void *context, const struct thaw_progress *p)
{
    struct planting *x = context;
    struct th_store *s = &x->fate.t->net.store;
    int id = th_store_find(s, "layer1.0.conv1.weight");
    if (p->epoch != 1 || p->step != 1)
        return;
    float *value = th_alloc(s->states[id].bytes, 1);
    must(th_store_get(s, id, value));
    value[3] = x->planted;
    must(th_store_put(s, id, value));
    th_free(value);
}

static thaw_status run_planted(const char *run, float planted)
{
    struct planting x = {.planted = planted};
    const thaw_events events = {.context = &x, .progress = plant};
    thaw_result r;
    thaw_options *o = make_options(
        run, "thaw", "all", "bn", "affine", "epochs", "9", "lr", "0.001", NULL);
    must(thaw_trainer_new(o, &events, &x.fate.t));
    thaw_options_free(o);
    return run_on(&x.fate, &r, 0);
}

static void what_is_not_finite_ends_the_run_and_the_last_good_state_stays(void **state)
{
    (void)state;
    static const float planted[] = {3e38F, NAN};
    for (int i = 0; i < 2; i++) {
        thaw_result r;
        char run[32], next[32], name[64], path[256];
        snprintf(run, sizeof run, "planted%d", i);
        snprintf(next, sizeof next, "after%d", i);
        snprintf(name, sizeof name, "%s/checkpoints/step-00000003.h5", run);
        run_path(path, name);
        assert_int_equal(run_planted(run, planted[i]), THAW_E_DIVERGED);
        assert_non_null(strstr(thaw_error(), path));
        assert_true(has_file(run, "best.h5"));
        assert_false(has_file(run, "last.h5"));
        must(train(
            make_options(next, "weights", path, "keep-head", "1", "epochs", "0", NULL),
            NULL, &r));
        assert_same_model(next, next, "last.h5");
        snprintf(name, sizeof name, "%s/best.h5", run); /* has no NaN: it loads */
        run_path(path, name);
        snprintf(next, sizeof next, "best%d", i);
        must(train(
            make_options(next, "weights", path, "keep-head", "1", "epochs", "0", NULL),
            NULL, &r));
    }
}

static void a_rate_that_is_far_too_large_says_what_to_do(void **state)
{
    (void)state;
    thaw_result r;
    assert_int_equal(train(make_options("wild", "thaw", "all", "lr", "1e5", "bn",
                               "affine", "epochs", "20", NULL),
                         NULL, &r),
        THAW_E_DIVERGED);
    assert_non_null(strstr(thaw_error(), "smaller --lr"));
}

static void a_finished_run_stays_as_it_is_and_can_be_prolonged(void **state)
{
    (void)state;
    need_whole_run();
    struct fate fate = {0};
    thaw_result r;
    thaw_options *more = NULL;
    char path[256];
    must(train(make_options("done", RECIPE, NULL), NULL, &r));
    resume(&fate, "done");
    must(run_on(&fate, &r, 0));
    assert_as_whole("done");
    must(thaw_options_new(&more));
    set(more, "epochs", "+1");
    run_path(path, "done");
    must(thaw_trainer_resume(path, more, NULL, &fate.t));
    must(run_on(&fate, &r, 0));
    assert_int_equal(r.epochs, 4);
    assert_int_equal(r.steps, RUN_STEPS + 3);
    thaw_options_free(more);
}

static void two_processes_cannot_train_in_one_folder(void **state)
{
    (void)state;
    struct fate fate = {.stop_at = 1};
    thaw_result r;
    thaw_trainer *second = NULL;
    char path[256];
    begin(&fate, make_options("locked", RECIPE, NULL));
    run_path(path, "locked");
    assert_int_equal(thaw_trainer_resume(path, NULL, NULL, &second), THAW_E_USAGE);
    assert_null(second);
    must(run_on(&fate, &r, 0));
    must(thaw_trainer_resume(path, NULL, NULL, &second));
    thaw_trainer_free(second);
}

/* Write NEWEST as `original` with another number of where the run stands, and the hash
 * for it. */
static void forge(const char *original, const char *newest, int which, int64_t value)
{
    unsigned char *bytes = NULL, *image = NULL;
    size_t n = 0, n_image = 0, n_ints = 0;
    struct th_weights w;
    th_weights_init(&w);
    must(th_file_read(original, 1 << 30, &bytes, &n));
    must(th_weights_read_image(bytes, n - 16, original, &w));
    th_free(bytes);
    int64_t ints[11];
    const int64_t *old = th_weights_ints(&w, "position", &n_ints);
    assert_int_equal(n_ints, 11);
    memcpy(ints, old, sizeof ints);
    ints[which] = value;
    must(th_weights_set_ints(&w, "position", ints, 11));
    must(th_weights_to_image(&w, &image, &n_image));
    image = th_realloc(image, n_image, n_image + 16, 1);
    assert_non_null(image);
    uint64_t hash = th_hash(image, n_image, 0);
    memcpy(image + n_image, "THAWSUM1", 8);
    memcpy(image + n_image + 8, &hash, 8);
    must(th_file_write_atomic(newest, image, n_image + 16, NULL));
    th_free(image);
    th_weights_release(&w);
}

static void a_forged_position_is_damage(void **state)
{
    static const struct {
        int which;
        int64_t value;
    } forgeries[] = {
        {0, -1}, {0, INT64_MAX}, {1, -1}, {1, INT64_MIN}, {3, -2}, {4, -1}, {8, -2}};
    (void)state;
    struct fate fate = {.stop_at = 5};
    thaw_result r;
    char original[256], newest[256];
    need_whole_run();
    begin(&fate, make_options("forged", RECIPE, NULL));
    must(run_on(&fate, &r, 1));
    run_path(original, "forged/original");
    run_path(newest, "forged/checkpoints/step-00000005.h5");
    assert_int_equal(rename(newest, original), 0);
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        forge(original, newest, forgeries[i].which, forgeries[i].value);
        fate = (struct fate){0};
        resume(&fate, "forged");
        assert_int_equal(fate.t->at.global, 4); /* of the checkpoint before */
        thaw_trainer_free(fate.t);
    }
    resume(&fate, "forged");
    must(run_on(&fate, &r, 0));
    assert_as_whole("forged");
}

/* A machine on which no file can be read must not cost a run its checkpoints. */
static void a_sound_checkpoint_that_cannot_be_read_stays(void **state)
{
    (void)state;
    struct fate fate = {.stop_at = 2};
    thaw_result r;
    char run[256], newest[256], sound[64] = "not HDF5";
    thaw_trainer *t = NULL;
    begin(&fate, make_options("unread", RECIPE, NULL));
    must(run_on(&fate, &r, 1));
    run_path(run, "unread");
    run_path(newest, "unread/checkpoints/step-00000002.h5");
    uint64_t hash = th_hash(sound, 8, 0);
    memcpy(sound + 8, "THAWSUM1", 8);
    memcpy(sound + 16, &hash, 8);
    must(th_file_write_atomic(newest, sound, 24, NULL));
    assert_int_equal(thaw_trainer_resume(run, NULL, NULL, &t), THAW_E_FAIL);
    assert_non_null(strstr(thaw_error(), "it stays"));
    assert_true(has_file("unread", "checkpoints/step-00000002.h5"));
    assert_true(has_file("unread", "checkpoints/step-00000001.h5"));
}

/* Resume a run in which NAME is a link to `text` outside: refused, and the text stays. */
static void resume_with_link(const char *name, const char *text)
{
    char run[256], inside[256], outside[256];
    thaw_trainer *t = NULL;
    run_path(run, "linked");
    run_path(inside, name);
    run_path(outside, "outside");
    must(th_file_write_atomic(outside, text, strlen(text), NULL));
    assert_int_equal(unlink(inside), 0);
    assert_int_equal(symlink(outside, inside), 0);
    assert_int_equal(thaw_trainer_resume(run, NULL, NULL, &t), THAW_E_IO);
    assert_null(t);
    char *now = read_text(".", "outside");
    assert_string_equal(now, text);
    th_free(now);
    assert_int_equal(unlink(inside), 0);
}

static void a_run_folder_of_a_stranger_writes_nowhere_else(void **state)
{
    (void)state;
    struct fate fate = {.stop_at = 1};
    thaw_result r;
    char text[4000];
    memset(text, 'x', sizeof text - 1); /* longer than metrics.jsonl was */
    text[sizeof text - 1] = 0;
    begin(&fate, make_options("linked", RECIPE, NULL));
    must(run_on(&fate, &r, 0));
    resume_with_link("linked/.lock", text);
    resume_with_link("linked/metrics.jsonl", text);
}

/* Replace `from` by as long a `to` in a text file of the run. */
static void edit(const char *run, const char *name, const char *from, const char *to)
{
    char path[256], both[128];
    char *text = read_text(run, name);
    assert_non_null(strstr(text, from));
    size_t at = (size_t)(strstr(text, from) - text);
    memcpy(text + at, to, strlen(to));
    snprintf(both, sizeof both, "%s/%s", run, name);
    run_path(path, both);
    must(th_file_write_atomic(path, text, strlen(text), NULL));
    th_free(text);
}

static void another_config_or_other_images_are_refused(void **state)
{
    (void)state;
    struct fate fate = {.stop_at = 1};
    thaw_result r;
    char path[256], from[256], to[256];
    begin(&fate, make_options("changed", RECIPE, NULL));
    must(run_on(&fate, &r, 0));
    run_path(path, "changed");
    edit("changed", "config.json", "\"lr\": \"0.05\"", "\"lr\": \"0.06\"");
    assert_int_equal(thaw_trainer_resume(path, NULL, NULL, &fate.t), THAW_E_USAGE);
    assert_non_null(strstr(thaw_error(), "lr 0.06"));
    edit("changed", "config.json", "\"lr\": \"0.06\"", "\"lr\": \"0.05\"");
    run_path(from, "data/train/class_a/000.png");
    run_path(to, "data/train/class_a/zzz.png");
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(thaw_trainer_resume(path, NULL, NULL, &fate.t), THAW_E_DATA);
    assert_int_equal(rename(to, from), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_after_any_step_it_ends_with_the_same_bits),
        cmocka_unit_test(a_regularised_run_of_groups_resumes_with_the_same_bits),
        cmocka_unit_test(killed_again_and_again_it_ends_with_the_same_bits),
        cmocka_unit_test(saving_often_changes_nothing_and_two_checkpoints_stay),
        cmocka_unit_test(a_damaged_newest_checkpoint_falls_back_loudly),
        cmocka_unit_test(without_any_checkpoint_it_begins_again),
        cmocka_unit_test(what_is_not_finite_ends_the_run_and_the_last_good_state_stays),
        cmocka_unit_test(a_rate_that_is_far_too_large_says_what_to_do),
        cmocka_unit_test(a_finished_run_stays_as_it_is_and_can_be_prolonged),
        cmocka_unit_test(a_forged_position_is_damage),
        cmocka_unit_test(a_sound_checkpoint_that_cannot_be_read_stays),
        cmocka_unit_test(a_run_folder_of_a_stranger_writes_nowhere_else),
        cmocka_unit_test(two_processes_cannot_train_in_one_folder),
        cmocka_unit_test(another_config_or_other_images_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
