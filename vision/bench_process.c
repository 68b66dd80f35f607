/* SPDX-License-Identifier: Apache-2.0
 * Owns the process of one training: begun, waited for, asked to stop. A process of its own
 * has its own peak memory, and one that is killed for memory takes nothing with it. */
#include "bench.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NOT_STARTED = 127 };

/* Between looks at the child and at the stop flag. */
static const struct timespec a_moment = {.tv_nsec = 10 * 1000 * 1000};

/* Nothing but async-signal-safe calls: other threads may have held locks at the fork. A
 * group of its own: Ctrl-C reaches this process alone, which passes it on once. */
static void become(char *const *argv, int log, long parent)
{
    int nothing = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    th_bench_tie(parent);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 &&
        dup2(log, STDOUT_FILENO) >= 0 && dup2(log, STDERR_FILENO) >= 0)
        execvp(argv[0], argv);
    _exit(NOT_STARTED);
}

static thaw_status wait_for(pid_t child, const atomic_bool *stop, int *code)
{
    bool asked = false;
    int status = 0;
    for (;;) {
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child)
            break;
        if (ended < 0 && errno != EINTR)
            return th_fail_errno(
                THAW_E_FAIL, "a training's process cannot be waited for");
        if (atomic_load(stop) && !asked)
            asked = kill(child, SIGTERM) == 0;
        nanosleep(&a_moment, NULL);
    }
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return THAW_OK;
}

thaw_status th_bench_process(
    char *const *argv, const char *log, const atomic_bool *stop, int *code)
{
    long parent = (long)getpid();
    int to = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (to < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be written", log);
    pid_t child = fork();
    if (child == 0)
        become(argv, to, parent);
    int cause = errno;
    close(to);
    errno = cause;
    if (child < 0)
        return th_fail_errno(THAW_E_FAIL, "a training's process cannot be started");
    TRY(wait_for(child, stop, code));
    if (*code == NOT_STARTED)
        return th_fail(THAW_E_IO, "%s: cannot be run", argv[0]);
    return THAW_OK;
}
