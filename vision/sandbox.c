/* SPDX-License-Identifier: Apache-2.0
 * Owns the child process: its limits, its answer, and what is said when it has none.
 *
 * S1 After its confinement the child runs only job.run, then _exit: no exit handlers, no
 *    buffers flushed twice, no leak check of a copy.
 * S2 The parent looks at the shared memory only when the child is dead, no later child
 *    gets it (Linux), and none of it is believed.
 * S3 Time is bounded by timers of the child itself (their signals have no handlers there),
 *    so that the parent just waits: no thread, no handler, no polling.
 *
 * Limits that need no system of their own are here; sandbox_linux.c adds a filter of
 * system calls, sandbox_other.c says what is missing elsewhere. */
#include "sandbox.h"

#include "error.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEADER_BYTES = 4096, CLOCK_FACTOR = 10 };
static const uint32_t finished =
    0x646f6e65; /* never there by chance: memory was zero */

/* At the start of the shared memory. */
struct answer {
    uint32_t mark; /* `finished`, written last */
    int32_t status;
    char sentence[1024];
};

_Static_assert(sizeof(struct answer) <= HEADER_BYTES, "the header holds an answer");

/* ---- the child ---- */

/* Can one page more be had under this bound on the address space? */
static bool has_room(rlim_t bytes)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) || r.rlim_max < bytes)
        return true;
    r.rlim_cur = bytes;
    setrlimit(RLIMIT_AS, &r);
    void *page = mmap(NULL, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page != MAP_FAILED)
        munmap(page, 1);
    return page != MAP_FAILED;
}

/* RLIMIT_AS counts what is mapped already, and that may be anything (ASan's shadow: 20
 * TB). The size is found by trying bounds: no /proc is needed, and no file. A bound that
 * the process had (ulimit -v) stays where it is tighter. */
static void limit_memory(size_t more)
{
    struct rlimit before;
    rlim_t low = 0, high = (rlim_t)1 << 62;
    if (getrlimit(RLIMIT_AS, &before))
        return;
    while (high - low > (rlim_t)1 << 20) {
        rlim_t middle = low + (high - low) / 2;
        if (has_room(middle))
            high = middle;
        else
            low = middle;
    }
    rlim_t bound = high + more < before.rlim_cur ? high + more : before.rlim_cur;
    setrlimit(RLIMIT_AS, &(struct rlimit){bound, bound});
}

static struct itimerval after(double seconds)
{
    return (struct itimerval){.it_value = {.tv_sec = (time_t)seconds,
                                  .tv_usec = (suseconds_t)(fmod(seconds, 1) * 1e6)}};
}

/* Whatever the application handles, it does not handle here; the parent's decision about
 * Ctrl-C is not the child's, hence a process group of its own. */
static void forget_signals(void)
{
    struct sigaction act = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &act, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
}

/* A bound that cannot be set is looser than one that whoever started us set. */
static void confine(const struct th_sandbox_job *job, pid_t parent)
{
    const struct rlimit none = {0, 0};
    /* Of computing, should the timer fail. */
    const struct rlimit seconds = {(rlim_t)job->seconds + 1, (rlim_t)job->seconds + 2};
    const struct itimerval computing = after(job->seconds);
    const struct itimerval waiting = after(job->seconds * CLOCK_FACTOR);
    forget_signals();
    th_sandbox_follow_parent(parent);
    th_sandbox_close_files();
    limit_memory(job->memory_bytes);
    setrlimit(RLIMIT_CORE, &none);
    setrlimit(RLIMIT_FSIZE, &none);
    setrlimit(RLIMIT_NOFILE, &none);
    setrlimit(RLIMIT_CPU, &seconds);
    setitimer(ITIMER_PROF, &computing, NULL);
    setitimer(ITIMER_REAL, &waiting, NULL);
    th_sandbox_filter_calls();
}

static _Noreturn void run_child(
    const struct th_sandbox_job *job, unsigned char *map, pid_t parent)
{
    struct answer *a = (struct answer *)(void *)map;
    confine(job, parent);
    a->status = job->run(job->context, map + HEADER_BYTES, job->shared_bytes);
    if (a->status != THAW_OK)
        snprintf(a->sentence, sizeof a->sentence, "%s", thaw_error());
    a->mark = finished;
    _exit(0);
}

/* ---- the parent ---- */

/* Signals stay blocked across the fork: none may find the application's handlers in the
 * child. */
static pid_t fork_child(const struct th_sandbox_job *job, unsigned char *map)
{
    sigset_t all, before;
    pid_t parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t child = fork();
    if (child == 0)
        run_child(job, map, parent);
    int cause = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = cause;
    return child;
}

static thaw_status harmful(
    const struct th_sandbox_job *job, thaw_status status, const char *what)
{
    return th_fail(status,
        "%s: %s; it was read in a process of its own, nothing else is harmed. The file "
        "is damaged, or made to do that: get it again, or from elsewhere",
        job->where, what);
}

/* The child had no answer; `how` is waitpid's, -1 where somebody else took it. */
static thaw_status died(const struct th_sandbox_job *job, int how)
{
    char text[160];
    int sig = how != -1 && WIFSIGNALED(how) ? WTERMSIG(how) : 0;
    if (sig == SIGPROF || sig == SIGXCPU)
        snprintf(text, sizeof text, "refused: reading it takes more than %.1f s",
            job->seconds);
    else if (sig == SIGALRM)
        snprintf(text, sizeof text, "refused: nothing was read for %.0f s",
            job->seconds * CLOCK_FACTOR);
    else if (sig == SIGSYS)
        snprintf(text, sizeof text,
            "refused: it made its reader ask the system for what no reader needs");
    else if (sig == SIGKILL)
        return harmful(job, THAW_E_MEMORY,
            "its reader was killed from outside, for lack of memory most likely");
    else if (sig)
        snprintf(text, sizeof text, "damaged: its reader crashed (%s)", strsignal(sig));
    else
        snprintf(text, sizeof text, "damaged: its reader gave up without an answer");
    return harmful(job, THAW_E_DATA, text);
}

/* The child's sentence as ours. It may be anything: only text without control characters
 * is shown, and only statuses that a reader has are passed on. */
static thaw_status pass_on(const struct th_sandbox_job *job, const struct answer *a)
{
    struct answer copy = *a;
    copy.sentence[sizeof copy.sentence - 1] = 0;
    for (char *at = copy.sentence; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            *at = '?';
    switch (copy.status) {
    case THAW_E_FAIL:
    case THAW_E_USAGE:
    case THAW_E_DATA:
    case THAW_E_IO:
        return th_fail((thaw_status)copy.status, "%s", copy.sentence);
    case THAW_E_MEMORY: /* of its bound, not of the machine */
        return th_fail(THAW_E_DATA,
            "%s: refused: reading it needs more than %zu MiB of memory (%s)",
            job->where, job->memory_bytes >> 20, copy.sentence);
    default:
        return died(job, -1);
    }
}

static thaw_status judge(const struct th_sandbox_job *job, const void *map, int how)
{
    const volatile struct answer *a = map;
    if (a->mark != finished)
        return died(job, how);
    return a->status == THAW_OK ? THAW_OK : pass_on(job, map);
}

thaw_status th_sandbox_run(const struct th_sandbox_job *job, struct th_sandbox *out)
{
    size_t bytes = 0;
    *out = (struct th_sandbox){0};
    if (__builtin_add_overflow(job->shared_bytes, HEADER_BYTES, &bytes))
        return th_fail(THAW_E_MEMORY, "%s: too large", job->where);
    unsigned char *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return th_fail_errno(THAW_E_MEMORY,
            "%s: no room of %zu MiB to hand its content over", job->where, bytes >> 20);
    pid_t child = fork_child(job, map), gone;
    if (child < 0) {
        thaw_status status =
            th_fail_errno(errno == ENOMEM ? THAW_E_MEMORY : THAW_E_FAIL,
                "%s: no process of its own can be started to read it (ulimit -u?)",
                job->where);
        munmap(map, bytes);
        return status;
    }
    int how = -1;
    do
        gone = waitpid(child, &how, 0);
    while (gone < 0 && errno == EINTR);
    th_sandbox_keep_pages(map, bytes);
    if (gone < 0) /* an application that collects all children, or ignores SIGCHLD */
        how = -1;
    thaw_status status = judge(job, map, how);
    *out = (struct th_sandbox){
        .bytes = map + HEADER_BYTES, .n = job->shared_bytes, .map = map};
    if (status != THAW_OK)
        th_sandbox_release(out);
    return status;
}

void th_sandbox_consume(struct th_sandbox *s, size_t n)
{
    enum { WORTH = 1 << 20 };
    size_t end =
        n / HEADER_BYTES * HEADER_BYTES; /* whole pages of any system up to 4 KiB */
    if (end <= s->released || end - s->released < WORTH)
        return;
    th_sandbox_drop_pages(
        (unsigned char *)s->map + HEADER_BYTES + s->released, end - s->released);
    s->released = end;
}

void th_sandbox_release(struct th_sandbox *s)
{
    if (s->map)
        munmap(s->map, s->n + HEADER_BYTES);
    *s = (struct th_sandbox){0};
}
