/* SPDX-License-Identifier: Apache-2.0
 * Owns the sandbox on systems without seccomp, or on machines for which no filter is
 * written. Missing there: the filter of system calls (so code that took the child over
 * could open files by name) and the child's end with its parent. Limits on memory and
 * time, closed files, and shared memory hold. */
#include "sandbox.h"

#include <sys/resource.h>
#include <unistd.h>

void th_sandbox_filter_calls(void)
{
}

void th_sandbox_follow_parent(pid_t parent)
{
    if (getppid() != parent)
        _exit(1);
}

void th_sandbox_close_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return;
    for (rlim_t fd = 0; fd < r.rlim_cur && fd < 1 << 16; fd++)
        close((int)fd);
}

void th_sandbox_keep_pages(void *pages, size_t n)
{
    (void)pages;
    (void)n;
}

void th_sandbox_drop_pages(void *pages, size_t n)
{
    (void)pages;
    (void)n;
}
