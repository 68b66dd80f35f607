/* SPDX-License-Identifier: Apache-2.0
 * The sandbox: children that crash, hang, grow, reach for files or lie become sentences,
 * and leave nothing behind in this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "error.h"
#include "mem.h"
#include "sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARED = 1 << 20, MEMORY = 64 << 20 };

typedef thaw_status work(void *context, unsigned char *shared, size_t n);

static struct th_sandbox_job job_of(work *run, void *context)
{
    return (struct th_sandbox_job){.where = "strange.h5",
        .run = run,
        .context = context,
        .shared_bytes = SHARED,
        .memory_bytes = MEMORY,
        .seconds = 0.2};
}

/* The work fails with this status and a sentence that names the file and says `text`. */
static void fails(work *run, void *context, thaw_status status, const char *text)
{
    struct th_sandbox s;
    struct th_sandbox_job job = job_of(run, context);
    thaw_status got = th_sandbox_run(&job, &s);
    if (got != status || !strstr(thaw_error(), "strange.h5") ||
        !strstr(thaw_error(), text))
        fail_msg("%d, not %d; \"%s\" lacks \"%s\"", got, status, thaw_error(), text);
    assert_null(s.map);
}

static thaw_status write_all(void *context, unsigned char *shared, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (shared[i])
            return th_fail(THAW_E_FAIL, "not zero at first");
    memset(shared, *(int *)context, n);
    *(int *)context = 0; /* of the copy */
    return THAW_OK;
}

static void what_a_child_writes_arrives_and_nothing_else_changes(void **state)
{
    (void)state;
    int value = 0x5a;
    struct th_sandbox s;
    struct th_sandbox_job job = job_of(write_all, &value);
    assert_int_equal(th_sandbox_run(&job, &s), THAW_OK);
    assert_int_equal(s.n, SHARED);
    assert_int_equal(value, 0x5a);
    for (size_t i = 0; i < s.n; i++)
        assert_int_equal(s.bytes[i], 0x5a);
    th_sandbox_consume(&s, SHARED);
    th_sandbox_release(&s);
}

static thaw_status fail_rudely(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    return th_fail(THAW_E_DATA, "strange.h5: \33[2Jno\n");
}

static void a_childs_sentence_comes_back_without_control_characters(void **state)
{
    (void)state;
    fails(fail_rudely, NULL, THAW_E_DATA, "strange.h5: ?[2Jno?");
}

/* ---- ends without an answer ---- */

static thaw_status touch_nothing(void *context, unsigned char *shared, size_t n)
{
    (void)shared;
    (void)n;
    *(volatile int *)context = 1;
    return THAW_OK;
}

static thaw_status give_up(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    abort();
}

static thaw_status leave(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    _exit(0);
}

static int recurse(volatile char *above);
static int (*volatile deeper)(volatile char *above) = recurse; /* no compiler sees it */

static int recurse(volatile char *above)
{
    volatile char here[4096];
    here[0] = (char)(above[0] + 1);
    return deeper(here) + here[0];
}

static thaw_status go_deep(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)n;
    return recurse((volatile char *)shared) ? THAW_OK : THAW_E_FAIL;
}

static thaw_status compute(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)n;
    for (volatile unsigned char *at = shared; at; *at = (unsigned char)(*at + 1)) {
    }
    return THAW_OK;
}

static thaw_status wait_for_nobody(void *context, unsigned char *shared, size_t n)
{
    (void)shared;
    (void)n;
    pthread_mutex_lock(context); /* locked by the parent, so never free here */
    return THAW_OK;
}

static thaw_status grow(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    for (;;)
        if (!th_alloc(1 << 20, 1)) /* zeroed: really taken */
            return THAW_E_MEMORY;
}

static void a_child_that_crashes_becomes_a_sentence(void **state)
{
    (void)state;
    long page = sysconf(_SC_PAGESIZE);
    void *nothing =
        mmap(NULL, (size_t)page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(nothing != MAP_FAILED);
    fails(touch_nothing, nothing, THAW_E_DATA, "its reader crashed");
    fails(give_up, NULL, THAW_E_DATA, "its reader crashed");
    fails(go_deep, NULL, THAW_E_DATA, "its reader crashed");
    fails(leave, NULL, THAW_E_DATA, "without an answer");
    munmap(nothing, (size_t)page);
}

static void a_child_that_never_ends_is_ended(void **state)
{
    (void)state;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    fails(
        compute, NULL, THAW_E_DATA, "refused: "); /* busy machine: the clock is first */
    fails(wait_for_nobody, &mutex, THAW_E_DATA, "nothing was read for 2 s");
    pthread_mutex_unlock(&mutex);
}

static void a_child_that_grows_is_stopped(void **state)
{
    (void)state;
    /* A sanitizer's malloc ends the process itself. */
    bool is_plain = sizeof THAW_SANITIZE == 1;
    fails(grow, NULL, THAW_E_DATA, is_plain ? "needs more than 64 MiB" : "");
}

/* ---- reaching out ---- */

struct reach {
    int fd; /* open in the parent */
    char path[64];
};

/* Descriptors are closed, and no new one can be had. */
static thaw_status use_files(void *context, unsigned char *shared, size_t n)
{
    struct reach *r = context;
    char c = 'x';
    (void)shared;
    (void)n;
    bool reached = read(r->fd, &c, 1) >= 0 || write(r->fd, &c, 1) >= 0 ||
                   open(r->path, O_RDWR) >= 0 || write(STDERR_FILENO, &c, 1) >= 0;
    return reached ? THAW_OK : th_fail(THAW_E_DATA, "strange.h5: no files here");
}

static void a_child_has_no_files(void **state)
{
    (void)state;
    struct reach r = {.path = "/tmp/thaw_sandbox_XXXXXX"};
    r.fd = mkstemp(r.path);
    assert_true(r.fd >= 0);
    assert_int_equal(write(r.fd, "secret", 6), 6);
    fails(use_files, &r, THAW_E_DATA, "no files here");
    assert_int_equal(lseek(r.fd, 0, SEEK_END), 6);
    close(r.fd);
    unlink(r.path);
}

static thaw_status open_socket(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    socket(AF_UNIX, SOCK_STREAM, 0);
    return THAW_OK;
}

static thaw_status start_program(void *context, unsigned char *shared, size_t n)
{
    char *argv[] = {"/bin/true", NULL};
    (void)context;
    (void)shared;
    (void)n;
    execv(argv[0], argv);
    return THAW_OK;
}

static thaw_status start_process(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    if (fork() == 0)
        _exit(0);
    return THAW_OK;
}

static thaw_status make_code(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    mprotect(shared - (uintptr_t)shared % 4096, n, PROT_READ | PROT_EXEC);
    return THAW_OK;
}

static thaw_status map_code(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    mmap(NULL, 1, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return THAW_OK;
}

static thaw_status map_file(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    mmap(NULL, 1, PROT_READ, MAP_PRIVATE, 3, 0);
    return THAW_OK;
}

/* As root MADV_HWPOISON takes a page away from the whole machine, from the parent first. */
static thaw_status poison_memory(void *context, unsigned char *shared, size_t n)
{
    enum { HWPOISON = 100 };
    (void)context;
    madvise(shared - (uintptr_t)shared % 4096, n / 4096 * 4096, HWPOISON + (1 << 20));
    return THAW_OK;
}

static void a_child_that_calls_the_system_is_ended(void **state)
{
    static work *const works[] = {open_socket, start_program, start_process, make_code,
        map_code, map_file, poison_memory};
    (void)state;
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0) {
        print_message("skipped: this kernel has no seccomp\n");
        skip();
    }
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        fails(works[i], NULL, THAW_E_DATA, "ask the system for what no reader needs");
}

/* ---- lies ---- */

/* As the header of sandbox.c has it. */
struct answer {
    uint32_t mark;
    int32_t status;
    char sentence[1024];
};

/* A child that was taken over writes its answer itself. */
static thaw_status lie(void *context, unsigned char *shared, size_t n)
{
    (void)n;
    memcpy(shared - 4096, context, sizeof(struct answer));
    _exit(0);
}

static void a_lying_child_is_not_believed(void **state)
{
    (void)state;
    struct answer a = {0x646f6e65, 7, "strange.h5"};
    fails(lie, &a, THAW_E_DATA, "without an answer"); /* no such status */
    a = (struct answer){0x646f6e65, THAW_E_DATA, ""};
    memset(a.sentence, 'A', sizeof a.sentence); /* no end */
    memcpy(a.sentence, "strange.h5", 10);
    fails(lie, &a, THAW_E_DATA, "AAAA");
    assert_true(strlen(thaw_error()) < sizeof a.sentence);
    a = (struct answer){0x646f6e64, THAW_OK, ""};
    fails(lie, &a, THAW_E_DATA, "without an answer");
}

static thaw_status write_there(void *context, unsigned char *shared, size_t n)
{
    (void)shared;
    (void)n;
    *(volatile unsigned char *)context = 1;
    return THAW_OK;
}

/* Two threads may read two files: the second's child must not change what the first is
 * looking at. */
static void a_child_does_not_reach_what_an_earlier_one_left(void **state)
{
    (void)state;
    int value = 7;
    struct th_sandbox s;
    struct th_sandbox_job job = job_of(write_all, &value);
    assert_int_equal(th_sandbox_run(&job, &s), THAW_OK);
    fails(write_there, s.bytes, THAW_E_DATA, "its reader crashed");
    assert_int_equal(s.bytes[0], 7);
    th_sandbox_release(&s);
}

/* ---- this process ---- */

static volatile sig_atomic_t n_signals;

static void count(int signal)
{
    (void)signal;
    n_signals++;
}

static int n_files(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    int before = n_files();
    for (int i = 0; i < 20; i++) {
        int value = i;
        struct th_sandbox s;
        struct th_sandbox_job job = job_of(i % 2 ? write_all : leave, &value);
        if (th_sandbox_run(&job, &s) == THAW_OK)
            th_sandbox_release(&s);
    }
    assert_int_equal(n_files(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* An application whose timer interrupts every call, whose handler of crashes must not run
 * in the child, and which does not want to hear of children. */
static void an_applications_signals_do_not_matter(void **state)
{
    (void)state;
    long page = sysconf(_SC_PAGESIZE);
    void *nothing =
        mmap(NULL, (size_t)page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct sigaction act = {.sa_handler = count}, old_alarm, old_segv, old_child;
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    int value = 7;
    struct th_sandbox s;
    struct th_sandbox_job job = job_of(write_all, &value);
    sigaction(SIGALRM, &act, &old_alarm);
    sigaction(SIGSEGV, &act, &old_segv);
    setitimer(ITIMER_REAL, &often, NULL);
    fails(compute, NULL, THAW_E_DATA, "refused: ");
    fails(touch_nothing, nothing, THAW_E_DATA, "its reader crashed");
    assert_true(n_signals > 0);
    act.sa_handler = SIG_IGN;
    sigaction(SIGCHLD, &act, &old_child);
    assert_int_equal(th_sandbox_run(&job, &s), THAW_OK);
    th_sandbox_release(&s);
    fails(touch_nothing, nothing, THAW_E_DATA, "without an answer");
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &old_alarm, NULL);
    sigaction(SIGSEGV, &old_segv, NULL);
    sigaction(SIGCHLD, &old_child, NULL);
    munmap(nothing, (size_t)page);
}

/* In a process of its own, which may have no children. */
static void without_a_child_there_is_a_sentence(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct th_sandbox s;
        struct th_sandbox_job job = job_of(leave, NULL);
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_NPROC, &none);
        bool is_bound = geteuid() != 0 || setuid(65534) == 0; /* root never is */
        thaw_status status = th_sandbox_run(&job, &s);
        _exit(!is_bound ? 77
              : status == THAW_E_FAIL &&
                      strstr(thaw_error(), "no process of its own can be started")
                  ? 0
                  : 1);
    }
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(how), 0);
}

static size_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%llu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static thaw_status take_some(void *context, unsigned char *shared, size_t n)
{
    (void)context;
    (void)shared;
    (void)n;
    void *some = th_alloc(MEMORY / 8, 1);
    th_free(some);
    return some ? THAW_OK : THAW_E_MEMORY;
}

/* ulimit -v: what is left below it is the child's, though it is less than the bound. */
static void a_tighter_limit_of_the_user_is_kept_and_used(void **state)
{
    (void)state;
    size_t now = address_space();
    if (sizeof THAW_SANITIZE != 1 || !now) {
        print_message("skipped: a sanitizer's address space, or no /proc\n");
        skip();
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct th_sandbox s;
        struct th_sandbox_job job = job_of(take_some, NULL);
        rlim_t most = now + SHARED + MEMORY / 2;
        setrlimit(RLIMIT_AS, &(struct rlimit){most, most});
        bool is_bound = geteuid() != 0 || setuid(65534) == 0; /* root may raise it */
        if (!is_bound)
            _exit(77);
        int code = th_sandbox_run(&job, &s) == THAW_OK ? 0 : 1;
        job = job_of(grow, NULL);
        job.memory_bytes = MEMORY * 4;
        _exit(code | (th_sandbox_run(&job, &s) == THAW_E_DATA ? 0 : 2));
    }
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how));
    if (WEXITSTATUS(how) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(how), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_child_writes_arrives_and_nothing_else_changes),
        cmocka_unit_test(a_childs_sentence_comes_back_without_control_characters),
        cmocka_unit_test(a_child_that_crashes_becomes_a_sentence),
        cmocka_unit_test(a_child_that_never_ends_is_ended),
        cmocka_unit_test(a_child_that_grows_is_stopped),
        cmocka_unit_test(a_child_has_no_files),
        cmocka_unit_test(a_child_that_calls_the_system_is_ended),
        cmocka_unit_test(a_lying_child_is_not_believed),
        cmocka_unit_test(a_child_does_not_reach_what_an_earlier_one_left),
        cmocka_unit_test(nothing_is_left_behind),
        cmocka_unit_test(an_applications_signals_do_not_matter),
        cmocka_unit_test(without_a_child_there_is_a_sentence),
        cmocka_unit_test(a_tighter_limit_of_the_user_is_kept_and_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
