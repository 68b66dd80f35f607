/* SPDX-License-Identifier: Apache-2.0
 * Owns the sandbox on Linux (x86-64, AArch64): the filter of system calls.
 *
 * Three answers. What computing needs is allowed: memory (never executable, never of a
 * file), time, locks, the end (with ASan: a signal stack less). What libc may try by itself when something goes wrong
 * (print a message, count processors, raise SIGABRT) fails with EPERM, as harmless as if
 * it were allowed and quieter. Everything else kills the process: only code that an
 * attacker chose starts programs, sockets or processes here, and it gets no second try.
 *
 * A kernel without seccomp says EINVAL and the filter is missing: limits, closed files
 * and shared memory still hold. valgrind cannot run the child (its own calls are
 * filtered); it can run everything else. */
#include "sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

static const unsigned allowed[] = {__NR_brk, __NR_munmap, __NR_mremap, __NR_futex,
    __NR_sched_yield, __NR_clock_gettime, __NR_gettimeofday, __NR_getrandom,
    __NR_rt_sigreturn, __NR_sigaltstack, __NR_exit, __NR_exit_group};

static const unsigned refused[] = {__NR_write, __NR_writev, __NR_read, __NR_openat,
    __NR_close, __NR_fstat, __NR_newfstatat, __NR_lseek, __NR_ioctl, __NR_fcntl,
    __NR_readlinkat, __NR_sched_getaffinity, __NR_prlimit64, __NR_sysinfo, __NR_uname,
    __NR_getpid, __NR_gettid, __NR_tgkill, __NR_rt_sigaction, __NR_rt_sigprocmask};

enum { N_ALLOWED = sizeof allowed / sizeof allowed[0] };
enum { N_REFUSED = sizeof refused / sizeof refused[0] };
enum { N_CODE = 32 + 2 * (N_ALLOWED + N_REFUSED) };

struct program {
    unsigned short n;
    struct sock_filter code[N_CODE];
};

static void emit(struct program *p, struct sock_filter instruction)
{
    p->code[p->n++] = instruction;
}

static void answer(struct program *p, uint32_t action)
{
    emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* The answer for call `number`, in two instructions. */
static void on_call(struct program *p, unsigned number, uint32_t action)
{
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
    answer(p, action);
}

static void load(struct program *p, size_t offset)
{
    emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* Low half of argument i; both machines are little-endian. */
static size_t argument(int i)
{
    return offsetof(struct seccomp_data, args) + (size_t)i * sizeof(uint64_t);
}

/* mmap and mprotect (number): no memory to execute, and where `anonymous` none of files. */
static void on_mapping(struct program *p, unsigned number, bool anonymous)
{
    uint8_t skipped = anonymous ? 7 : 4;
    emit(
        p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, skipped));
    load(p, argument(2));
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1));
    answer(p, SECCOMP_RET_KILL_PROCESS);
    if (anonymous) {
        load(p, argument(3));
        emit(p, (struct sock_filter)BPF_JUMP(
                    BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 1, 0));
        answer(p, SECCOMP_RET_KILL_PROCESS);
    }
    answer(p, SECCOMP_RET_ALLOW);
}

/* madvise: from 100 on (MADV_HWPOISON) it is about the machine's memory, not ours. */
static void on_advice(struct program *p)
{
    emit(
        p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_madvise, 0, 4));
    load(p, argument(2));
    emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 100, 0, 1));
    answer(p, SECCOMP_RET_KILL_PROCESS);
    answer(p, SECCOMP_RET_ALLOW);
}

void th_sandbox_filter_calls(void)
{
    struct program p = {.n = 0};
    load(&p, offsetof(struct seccomp_data, arch));
    /* CMake names the machine: numbers of another (32-bit calls) mean other things. */
    emit(&p,
        (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_AUDIT_ARCH, 1, 0));
    answer(&p, SECCOMP_RET_KILL_PROCESS);
    load(&p, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < N_ALLOWED; i++)
        on_call(&p, allowed[i], SECCOMP_RET_ALLOW);
    for (int i = 0; i < N_REFUSED; i++)
        on_call(&p, refused[i], SECCOMP_RET_ERRNO | EPERM);
    on_mapping(&p, __NR_mmap, true);
    load(&p, offsetof(struct seccomp_data, nr)); /* a jump over mmap keeps the number */
    on_mapping(&p, __NR_mprotect, false);
    load(&p, offsetof(struct seccomp_data, nr));
    on_advice(&p);
    answer(&p, SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog filter = {.len = p.n, .filter = p.code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

void th_sandbox_follow_parent(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a crash is no news for core handlers */
    if (getppid() != parent)            /* it died before the first line */
        _exit(1);
}

void th_sandbox_close_files(void)
{
    struct rlimit r;
    if (syscall(SYS_close_range, 0U, ~0U, 0U) == 0 || getrlimit(RLIMIT_NOFILE, &r))
        return;
    for (rlim_t fd = 0; fd < r.rlim_cur && fd < 1 << 16; fd++) /* before Linux 5.9 */
        close((int)fd);
}

void th_sandbox_keep_pages(void *pages, size_t n)
{
    madvise(pages, n, MADV_DONTFORK);
}

void th_sandbox_drop_pages(void *pages, size_t n)
{
    madvise(pages, n, MADV_REMOVE);
}
