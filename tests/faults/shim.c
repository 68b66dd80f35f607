/* SPDX-License-Identifier: Apache-2.0
 * Owns the interposed system calls. Descriptors of files that count are remembered from
 * their opening on; a failed close closes all the same, as on Linux. */
#include "shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FD = 1024 };

static struct fault fault;
static atomic_int seen, met;
static atomic_bool counts_fd[MAX_FD];
static atomic_int until_refused = -1, refused, allocations;
static bool refuse_forever, skips_sync;
static atomic_bool counts_allocations;

/* The next definition of a function, of its own type. */
#define REAL(name) ((__typeof__(name) *)real_of(#name))

static void *real_of(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

void fault_arm(const struct fault *f)
{
    fault = f ? *f : (struct fault){0};
    atomic_store(&seen, 0);
    atomic_store(&met, 0);
}

int fault_seen(void)
{
    return atomic_load(&seen);
}

bool fault_met(void)
{
    return atomic_load(&met) > 0;
}

void fault_refuse(int n, bool forever)
{
    refuse_forever = forever;
    atomic_store(&refused, 0);
    atomic_store(&allocations, 0);
    atomic_store(&counts_allocations, true);
    atomic_store(&until_refused, n > 0 ? n - 1 : -1);
}

bool fault_refused(void)
{
    return atomic_load(&refused) > 0;
}

int fault_allocations(void)
{
    return atomic_load(&allocations);
}

void fault_allow(void)
{
    atomic_store(&until_refused, -1);
    atomic_store(&counts_allocations, false);
}

void fault_skip_sync(void)
{
    skips_sync = true;
}

/* ---- THAW_FAULT ---- */

static unsigned calls_of(const char *words)
{
    static const struct {
        const char *word;
        unsigned call;
    } known[] = {{"open", FAULT_OPEN}, {"write", FAULT_WRITE}, {"fsync", FAULT_FSYNC},
        {"close", FAULT_CLOSE}, {"rename", FAULT_RENAME},
        {"fallocate", FAULT_FALLOCATE}, {"truncate", FAULT_TRUNCATE},
        {"mkdir", FAULT_MKDIR}, {"list", FAULT_LIST}};
    unsigned calls = 0;
    for (size_t i = 0; words && i < sizeof known / sizeof known[0]; i++)
        calls |= strstr(words, known[i].word) ? known[i].call : 0;
    return calls ? calls : FAULT_SAVE;
}

static void set_kind(struct fault *f, const char *word)
{
    static const struct {
        const char *word;
        int cause;
    } known[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EROFS", EROFS}, {"EINTR", EINTR},
        {"EMFILE", EMFILE}};
    f->kind = !strcmp(word, "short")       ? FAULT_SHORT
              : !strcmp(word, "kill")      ? FAULT_KILL
              : !strcmp(word, "stop")      ? FAULT_STOP
              : !strcmp(word, "interrupt") ? FAULT_INTERRUPT
                                           : FAULT_ERRNO;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(word, known[i].word))
            f->cause = known[i].cause;
}

__attribute__((constructor)) static void read_environment(void)
{
    struct fault f = {0};
    const char *text = getenv("THAW_FAULT");
    char copy[sizeof f.path + 128], *rest = copy;
    if (!text)
        return;
    snprintf(copy, sizeof copy, "%s", text);
    snprintf(f.path, sizeof f.path, "%s", strsep(&rest, ":"));
    if (rest)
        set_kind(&f, strsep(&rest, ":"));
    f.at = rest ? atoi(strsep(&rest, ":")) : 1;
    f.calls = calls_of(rest ? strsep(&rest, ":") : NULL);
    f.forever = rest && !strcmp(rest, "forever");
    fault_arm(&f);
}

/* ---- Counting ---- */

static bool is_under(const char *path)
{
    return fault.kind && path && !strncmp(path, fault.path, strlen(fault.path));
}

static bool counts(int fd)
{
    return fault.kind && fd >= 0 && fd < MAX_FD && atomic_load(&counts_fd[fd]);
}

/* Whether this call, which counts, is the one; a killed process does not come back. */
static bool strikes(enum fault_call call)
{
    if (!(fault.calls & (unsigned)call))
        return false;
    int n = atomic_fetch_add(&seen, 1) + 1;
    if (n != fault.at && !(fault.forever && n > fault.at))
        return false;
    atomic_fetch_add(&met, 1);
    if (fault.kind == FAULT_KILL)
        raise(SIGKILL);
    if (fault.kind == FAULT_STOP)
        raise(SIGSTOP);
    if (fault.kind == FAULT_INTERRUPT)
        raise(SIGINT);
    if (fault.kind != FAULT_ERRNO)
        return false;
    errno = fault.cause;
    return true;
}

static int remember(int fd, bool is_counted)
{
    if (fd >= 0 && fd < MAX_FD)
        atomic_store(&counts_fd[fd], is_counted);
    return fd;
}

static bool is_saving(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_DIRECTORY);
}

/* ---- The calls ---- */

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (mode_t)(flags & O_CREAT ? va_arg(args, unsigned) : 0);
    va_end(args);
    bool is_counted = is_under(path) && is_saving(flags);
    if (is_counted && strikes(FAULT_OPEN))
        return -1;
    return remember(REAL(open)(path, flags, mode), is_counted);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (mode_t)(flags & O_CREAT ? va_arg(args, unsigned) : 0);
    va_end(args);
    return open(path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    bool is_short = false;
    if (counts(fd)) {
        int before = atomic_load(&met);
        if (strikes(FAULT_WRITE))
            return -1;
        is_short = fault.kind == FAULT_SHORT && atomic_load(&met) > before && n > 1;
    }
    return REAL(write)(fd, bytes, is_short ? n / 2 : n);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
    if (counts(fd) && strikes(FAULT_WRITE))
        return -1;
    return REAL(pwrite)(fd, bytes, n, offset);
}

int fsync(int fd)
{
    if (counts(fd) && strikes(FAULT_FSYNC))
        return -1;
    return skips_sync ? 0 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return counts(fd) && strikes(FAULT_FSYNC) ? -1 : REAL(fdatasync)(fd);
}

int close(int fd)
{
    bool failed = counts(fd) && strikes(FAULT_CLOSE);
    int cause = errno;
    remember(fd, false);
    int result = REAL(close)(fd);
    if (!failed)
        return result;
    errno = cause;
    return -1;
}

int rename(const char *from, const char *to)
{
    return is_under(to) && strikes(FAULT_RENAME) ? -1 : REAL(rename)(from, to);
}

int posix_fallocate(int fd, off_t offset, off_t bytes)
{
    if (counts(fd) && strikes(FAULT_FALLOCATE))
        return errno;
    return REAL(posix_fallocate)(fd, offset, bytes);
}

int posix_fallocate64(int fd, off64_t offset, off64_t bytes)
{
    return posix_fallocate(fd, (off_t)offset, (off_t)bytes);
}

int truncate(const char *path, off_t bytes)
{
    return is_under(path) && strikes(FAULT_TRUNCATE) ? -1 : REAL(truncate)(path, bytes);
}

int ftruncate(int fd, off_t bytes)
{
    return counts(fd) && strikes(FAULT_TRUNCATE) ? -1 : REAL(ftruncate)(fd, bytes);
}

int mkdir(const char *path, mode_t mode)
{
    return is_under(path) && strikes(FAULT_MKDIR) ? -1 : REAL(mkdir)(path, mode);
}

DIR *opendir(const char *path)
{
    return is_under(path) && strikes(FAULT_LIST) ? NULL : REAL(opendir)(path);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    if (atomic_load(&counts_allocations))
        atomic_fetch_add(&allocations, 1);
    int left = atomic_load(&until_refused);
    if (left >= 0 && (left = atomic_fetch_sub(&until_refused, 1)) == 0) {
        atomic_fetch_add(&refused, 1);
        if (refuse_forever)
            atomic_store(&until_refused, 0);
        return NULL;
    }
    return REAL(aligned_alloc)(alignment, bytes);
}
