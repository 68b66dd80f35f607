/* SPDX-License-Identifier: Apache-2.0
 * A training run in which the n-th system call on its folder fails, is cut short, or is
 * the last thing that its process does, for n = 1, 2, 3 ... until the run no longer has so
 * many: afterwards a resume ends with the bits of the run without faults.
 *
 * Every run is a process of its own. THAW_TEST_FULL=1 takes each n for each fault, not
 * only some. */
#include "faults/shim.h"
#include "run.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

/* Momentum, averages, a phase change, BatchNorm statistics, a last smaller batch. */
#define RECIPE                                                                         \
    "epochs", "2", "thaw", "0:stage3,head 1:all", "bn", "train", "ema", "0.9",         \
        "device", "cpu", "workers", "1"

enum { SAVE_EVERY = 2 }; /* steps */

/* A child's exit code: its status negated, and what happened. */
enum { STATUS = 7, NOT_BEGUN = 8, NOT_MET = 16, KILLED = 64 };

static int setup(void **state)
{
    (void)state;
    fault_skip_sync();
    return make_data(10);
}

/* Every n-th call in a short test, from a place of the fault's own. */
static int stride(int shallow)
{
    return getenv("THAW_TEST_FULL") ? 1 : shallow;
}

static struct fault on_run(const char *run, enum fault_kind kind, int cause, int at)
{
    struct fault f = {.kind = kind, .cause = cause, .calls = FAULT_SAVE, .at = at};
    char path[256];
    run_path(path, run);
    snprintf(f.path, sizeof f.path, "%s", path);
    return f;
}

/* Begin, or go on with, RUN under a fault; never returns. */
static void run_child(const char *run, bool fresh, const struct fault *f)
{
    thaw_trainer *t = NULL;
    thaw_result r;
    char path[256];
    run_path(path, run);
    thaw_options *o = fresh ? make_options(run, RECIPE, NULL) : NULL;
    fault_arm(f);
    thaw_status status = fresh ? thaw_trainer_new(o, NULL, &t)
                               : thaw_trainer_resume(path, NULL, NULL, &t);
    int code = status == THAW_OK ? 0 : NOT_BEGUN;
    if (status == THAW_OK) {
        t->save_every = SAVE_EVERY;
        status = thaw_trainer_run(t, &r);
    }
    thaw_trainer_free(t);
    code |= -(int)status | (fault_met() ? 0 : NOT_MET);
    if (status != THAW_OK && !f)
        fprintf(stderr, "%s: %s\n", run, thaw_error());
    thaw_options_free(o);
    exit(code); /* by exit, so that leaks are looked for */
}

static int run_in_child(const char *run, bool fresh, const struct fault *f)
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        run_child(run, fresh, f);
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return KILLED;
    assert_true(WIFEXITED(status)); /* no crash */
    return WEXITSTATUS(status);
}

static void need_whole_run(void)
{
    if (!has_file("whole", "last.h5"))
        assert_int_equal(run_in_child("whole", true, NULL), NOT_MET);
}

/* Nothing half-written, and nothing that could not be read. */
static void assert_clean(const char *run, const char *folder)
{
    char path[256], both[128];
    snprintf(both, sizeof both, "%s/%s", run, folder);
    run_path(path, both);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        if (strstr(e->d_name, ".tmp.") || strstr(e->d_name, ".damaged"))
            fail_msg("%s/%s was left behind", path, e->d_name);
    closedir(dir);
}

/* Whatever happened, the run can be finished, and then it is as if nothing had. */
static void assert_recovers(const char *run, bool same_log)
{
    bool fresh = !has_file(run, "config.json");
    assert_int_equal(run_in_child(run, fresh, NULL), NOT_MET);
    assert_clean(run, ".");
    assert_clean(run, "checkpoints");
    assert_same_model("whole", run, "last.h5");
    assert_same_model("whole", run, "best.h5");
    if (same_log)
        assert_same_log("whole", run);
    forget(run);
}

/* For n = first, first + step ...: how many of them a run met. */
static int fail_each(enum fault_kind kind, int cause, bool forever, int first, int step)
{
    first = step == 1 ? 1 : first;
    int n_met = 0;
    need_whole_run();
    for (int n = first;; n += step) {
        struct fault f = on_run("faulty", kind, cause, n);
        f.forever = forever;
        int code = run_in_child("faulty", true, &f);
        if (code & NOT_MET) {
            forget("faulty");
            return n_met;
        }
        n_met++;
        int status = -(code & STATUS);
        if (status != THAW_OK && status != THAW_E_IO)
            fail_msg("call %d, errno %d: status %d", n, cause, status);
        if (code & NOT_BEGUN)
            assert_false(
                is_there("faulty")); /* one that could not begin leaves nothing */
        else
            assert_recovers("faulty", false);
    }
}

static void a_call_that_fails_once_costs_nothing(void **state)
{
    (void)state;
    int n = fail_each(FAULT_ERRNO, EIO, false, 1, stride(7));
    assert_true(n > 10); /* the faults were there */
    fail_each(FAULT_ERRNO, ENOSPC, false, 5, stride(17));
    fail_each(FAULT_ERRNO, EROFS, false, 3, stride(19));
    print_message("EIO at %d calls\n", n);
}

static void a_disk_that_fills_up_ends_in_code_5_and_a_run_to_go_on_with(void **state)
{
    (void)state;
    assert_true(fail_each(FAULT_ERRNO, ENOSPC, true, 7, stride(17)) > 5);
}

static void interrupted_and_short_writes_are_not_even_noticed(void **state)
{
    (void)state;
    need_whole_run();
    struct fault f = on_run("faulty", FAULT_SHORT, 0, 1);
    f.calls = FAULT_WRITE;
    for (int kind = 0; kind < 2; kind++) {
        f.at = 1 + kind;
        while (!(run_in_child("faulty", true, &f) & NOT_MET)) {
            assert_recovers("faulty", true);
            f.at += stride(9);
        }
        assert_true(f.at > 20);
        forget("faulty");
        f.kind = FAULT_ERRNO; /* open and rename do not say EINTR on a disk */
        f.cause = EINTR;
        f.calls = FAULT_WRITE | FAULT_FSYNC | FAULT_CLOSE | FAULT_FALLOCATE;
    }
}

static void killed_at_any_call_it_ends_with_the_same_bits(void **state)
{
    (void)state;
    int n = 1;
    need_whole_run();
    for (;; n += stride(5)) {
        struct fault f = on_run("killed", FAULT_KILL, 0, n);
        int code = run_in_child("killed", true, &f);
        if (code != KILLED) {
            assert_int_equal(code, NOT_MET);
            break;
        }
        assert_recovers("killed", true);
    }
    forget("killed");
    assert_true(n > 80);
    print_message("killed at up to %d calls\n", n - 1);
}

static void killed_while_it_resumes_it_can_resume(void **state)
{
    (void)state;
    need_whole_run();
    for (int n = 1; n < (stride(2) == 1 ? 60 : 20); n += stride(5)) {
        struct fault f = on_run("again", FAULT_KILL, 0, 60);
        assert_int_equal(run_in_child("again", true, &f), KILLED);
        f.at = n;
        if (run_in_child("again", false, &f) == KILLED)
            assert_recovers("again", true);
        else
            forget("again");
    }
}

/* The final save is the one that cannot be made up for: exit code 5, and the models in
 * the folder are still whole. */
static void a_final_save_that_fails_is_an_error_of_its_own(void **state)
{
    (void)state;
    need_whole_run();
    struct fault f = on_run("final", FAULT_ERRNO, ENOSPC, 1);
    char path[256];
    run_path(path, "final/last.h5");
    snprintf(f.path, sizeof f.path, "%s", path);
    f.calls = FAULT_RENAME;
    assert_int_equal(run_in_child("final", true, &f), -THAW_E_IO);
    assert_false(has_file("final", "last.h5"));
    assert_same_model("whole", "final", "best.h5");
    assert_recovers("final", true);
}

/* best.h5 cannot be written in either epoch, then at last it can: it is the right one. */
static void a_best_model_that_could_not_be_written_is_written_later(void **state)
{
    (void)state;
    need_whole_run();
    struct fault f = on_run("late", FAULT_ERRNO, EIO, 1);
    char path[256];
    run_path(path, "late/best.h5");
    snprintf(f.path, sizeof f.path, "%s", path);
    f.calls = FAULT_RENAME;
    assert_int_equal(run_in_child("late", true, &f), 0);
    assert_same_model("whole", "late", "best.h5");
    assert_recovers("late", true);
    f.forever = true; /* and never: no checkpoint may claim it, and the end says so */
    assert_int_equal(run_in_child("late", true, &f), -THAW_E_IO);
    assert_false(has_file("late", "best.h5"));
    assert_recovers("late", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_fails_once_costs_nothing),
        cmocka_unit_test(a_disk_that_fills_up_ends_in_code_5_and_a_run_to_go_on_with),
        cmocka_unit_test(interrupted_and_short_writes_are_not_even_noticed),
        cmocka_unit_test(killed_at_any_call_it_ends_with_the_same_bits),
        cmocka_unit_test(killed_while_it_resumes_it_can_resume),
        cmocka_unit_test(a_final_save_that_fails_is_an_error_of_its_own),
        cmocka_unit_test(a_best_model_that_could_not_be_written_is_written_later),
    };
    return cmocka_run_group_tests(tests, setup, remove_data);
}
