/* SPDX-License-Identifier: Apache-2.0
 * Owns the protocol of durable writes, and reading of whole files.
 *
 * F1 The target is only ever replaced by rename, never opened for writing.
 * F2 Temporary files are named .NAME.tmp.PID.K: hidden, beside the target (rename does
 *    not cross file systems), and recognisable when their process is dead.
 * F3 Every call's result is looked at, close's too (NFS reports there). A failed fsync is
 *    never retried: the kernel may have dropped the pages (it reports an error once). */
#include "file.h"

#include "error.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { TEMP_TRIES = 100 }; /* names to try before giving up on a crowded folder */

static int real_open(const char *path, int flags, mode_t mode)
{
    return open(path, flags, mode);
}

static const struct th_file_sys real_sys = {
    .open = real_open,
    .fallocate = posix_fallocate,
    .write = write,
    .fsync = fsync,
    .close = close,
    .rename = rename,
    .unlink = unlink,
};

/* A failed write, told with the two numbers that help when the disk is full. */
static thaw_status write_failed(int fd, const char *path, size_t needed, int cause)
{
    struct statvfs fs;
    if ((cause == ENOSPC || cause == EDQUOT) && fstatvfs(fd, &fs) == 0) {
        unsigned long long available =
            (unsigned long long)fs.f_bavail * (unsigned long long)fs.f_frsize;
        return th_fail(THAW_E_IO,
            "%s: cannot be written: %s: %zu bytes needed, %llu free; make room and "
            "save "
            "again (the old file, if any, is untouched)",
            path, strerror(cause), needed, available);
    }
    errno = cause;
    return th_fail_errno(THAW_E_IO, "%s: cannot be written", path);
}

/* Short writes go on; one that writes nothing is an error. */
static thaw_status write_all(const struct th_file_sys *sys, int fd, const char *path,
    const unsigned char *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t wrote = sys->write(fd, bytes + done, n - done);
        if (wrote > 0)
            done += (size_t)wrote;
        else if (wrote == 0 || errno != EINTR)
            return write_failed(fd, path, n, wrote == 0 ? EIO : errno);
    }
    return THAW_OK;
}

/* Preallocate, write and sync: after THAW_OK the bytes are on the disk. */
static thaw_status fill(const struct th_file_sys *sys, int fd, const char *path,
    const unsigned char *bytes, size_t n)
{
    int cause;
    do
        cause = n ? sys->fallocate(fd, 0, (off_t)n) : 0;
    while (cause == EINTR);
    if (cause && cause != EOPNOTSUPP && cause != EINVAL)
        return write_failed(fd, path, n, cause);
    TRY(write_all(sys, fd, path, bytes, n));
    int failed;
    do
        failed = sys->fsync(fd);
    while (failed && errno == EINTR);
    return failed ? write_failed(fd, path, n, errno) : THAW_OK;
}

/* Close; EINTR is no failure on Linux (the descriptor is gone, the data was synced). */
static int close_checked(const struct th_file_sys *sys, int fd)
{
    return sys->close(fd) && errno != EINTR ? -1 : 0;
}

/* Folder of a path: "." for a bare name. For th_free; NULL and an error on failure. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return th_strdup(".");
    return slash == path ? th_strdup("/")
                         : th_format("%.*s", (int)(slash - path), path);
}

/* A fresh temporary file beside `path`; its name goes to *temp, for th_free. */
static thaw_status open_temp(const struct th_file_sys *sys, const char *path,
    const char *folder, char **temp, int *fd)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    for (int k = 0; k < TEMP_TRIES; k++) {
        char *text = th_format("%s/.%s.tmp.%ld.%d", folder, name, (long)getpid(), k);
        if (!text)
            return THAW_E_MEMORY;
        *fd =
            sys->open(text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (*fd >= 0) {
            *temp = text;
            return THAW_OK;
        }
        th_free(text);
        if (errno != EEXIST && errno != EINTR)
            break;
    }
    return th_fail_errno(
        THAW_E_IO, "%s: no temporary file can be made in %s", path, folder);
}

/* Close, rename over the target, sync the folder. *temp is "no more" after the rename. */
static thaw_status publish(
    const struct th_file_sys *sys, const char *path, int fd, int folder_fd, char **temp)
{
    if (close_checked(sys, fd))
        return th_fail_errno(THAW_E_IO, "%s: cannot be written (close)", path);
    if (sys->rename(*temp, path))
        return th_fail_errno(THAW_E_IO, "%s: cannot be replaced", path);
    th_free(*temp);
    *temp = NULL;
    /* Some file systems cannot sync a folder and say EINVAL: nothing more can be done. */
    if (sys->fsync(folder_fd) && errno != EINVAL)
        return th_fail_errno(THAW_E_IO,
            "%s: written, but its folder cannot be synced: it may not survive a power "
            "cut",
            path);
    return THAW_OK;
}

thaw_status th_file_write_atomic(
    const char *path, const void *bytes, size_t n, const struct th_file_sys *sys)
{
    sys = sys ? sys : &real_sys;
    thaw_status status = THAW_E_MEMORY;
    char *temp = NULL;
    int fd = -1, folder_fd = -1;
    char *folder = folder_of(path);
    if (!folder)
        goto out;
    folder_fd = sys->open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (folder_fd < 0) {
        status = th_fail_errno(THAW_E_IO, "%s: its folder cannot be opened", path);
        goto out;
    }
    if ((status = open_temp(sys, path, folder, &temp, &fd)) != THAW_OK)
        goto out;
    status = fill(sys, fd, path, bytes, n);
    if (status != THAW_OK)
        sys->close(fd); /* its result no longer matters */
    else
        status = publish(sys, path, fd, folder_fd, &temp);
out:
    if (temp)
        sys->unlink(temp);
    if (folder_fd >= 0)
        sys->close(folder_fd); /* read-only: nothing can be lost */
    th_free(temp);
    th_free(folder);
    return status;
}

/* Read exactly n bytes, or fail. */
static thaw_status read_all(int fd, const char *path, unsigned char *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = read(fd, bytes + done, n - done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return th_fail(THAW_E_IO,
                "%s: became shorter while it was read (%zu of %zu bytes): is it still "
                "being written?",
                path, done, n);
        else if (errno != EINTR)
            return th_fail_errno(THAW_E_IO, "%s: cannot be read", path);
    }
    return THAW_OK;
}

static thaw_status check_regular(int fd, const char *path, size_t limit, size_t *n)
{
    struct stat st;
    if (fstat(fd, &st))
        return th_fail_errno(THAW_E_IO, "%s: cannot be read", path);
    if (!S_ISREG(st.st_mode))
        return th_fail(THAW_E_IO, "%s: is %s, a regular file is wanted", path,
            S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    if (st.st_size < 0 || (unsigned long long)st.st_size > limit)
        return th_fail(THAW_E_DATA, "%s: %lld bytes, more than the limit of %zu", path,
            (long long)st.st_size, limit);
    *n = (size_t)st.st_size;
    return THAW_OK;
}

thaw_status th_file_read_into(const char *path, size_t limit, struct th_block *block,
    unsigned char **bytes, size_t *n)
{
    thaw_status status;
    *bytes = NULL;
    /* O_NONBLOCK: a named pipe must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be opened", path);
    if ((status = check_regular(fd, path, limit, n)) != THAW_OK)
        goto out;
    *bytes = th_block_take(block, *n + 1);
    status = *bytes ? read_all(fd, path, *bytes, *n) : THAW_E_MEMORY;
    if (status == THAW_OK)
        (*bytes)[*n] = 0;
    else
        *bytes = NULL;
out:
    close(fd); /* read-only: nothing can be lost */
    return status;
}

thaw_status th_file_read(
    const char *path, size_t limit, unsigned char **bytes, size_t *n)
{
    struct th_block block = {0};
    thaw_status status = th_file_read_into(path, limit, &block, bytes, n);
    if (status != THAW_OK)
        th_block_release(&block);
    return status;
}

thaw_status th_file_check(const char *path)
{
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be opened", path);
    thaw_status status = check_regular(fd, path, SIZE_MAX, &n);
    close(fd);
    return status;
}

thaw_status th_file_check_folder(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be opened", path);
    bool is_folder = !fstat(fd, &st) && S_ISDIR(st.st_mode);
    close(fd);
    return is_folder
               ? THAW_OK
               : th_fail(THAW_E_IO, "%s: is not a folder, but one is wanted", path);
}

thaw_status th_file_append(
    const char *path, const void *bytes, size_t n, const struct th_file_sys *sys)
{
    sys = sys ? sys : &real_sys;
    thaw_status status = THAW_OK;
    int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    int fd = sys->open(path, flags, 0666);
    if (fd < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot be opened for appending", path);
    /* In one write where that goes, so that lines of two writers do not mix. */
    struct stat before;
    bool known = !fstat(fd, &before);
    status = write_all(sys, fd, path, bytes, n);
    if (status != THAW_OK && known && ftruncate(fd, before.st_size))
        status = th_fail(THAW_E_IO, "%s (and a part of it stays)", thaw_error());
    if (close_checked(sys, fd) && status == THAW_OK)
        status = th_fail_errno(THAW_E_IO, "%s: cannot be written (close)", path);
    return status;
}

thaw_status th_file_append_line(
    const char *path, const char *line, const struct th_file_sys *sys)
{
    char *text = th_format("%s\n", line);
    if (!text)
        return THAW_E_MEMORY;
    thaw_status status = th_file_append(path, text, strlen(text), sys);
    th_free(text);
    return status;
}

thaw_status th_file_mkdir(const char *path)
{
    struct stat st;
    char *text = th_strdup(path);
    if (!text)
        return THAW_E_MEMORY;
    /* Each prefix that ends before a slash, then the whole. */
    for (char *at = text + (*text == '/'); *at; at++) {
        if (*at == '/') {
            *at = 0;
            mkdir(text, 0777); /* judged by the last one */
            *at = '/';
        }
    }
    thaw_status status = THAW_OK;
    if (mkdir(text, 0777) && errno != EEXIST)
        status = th_fail_errno(THAW_E_IO, "%s: the folder cannot be made", path);
    else if (stat(text, &st) || !S_ISDIR(st.st_mode))
        status = th_fail(THAW_E_IO, "%s: exists and is no folder", path);
    th_free(text);
    return status;
}

bool th_file_exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* .NAME.tmp.PID.K of a process that is no more, or of this one before its first? */
static bool is_stale(const char *name)
{
    const char *at = strstr(name, ".tmp.");
    for (const char *next = at; next; next = strstr(next + 1, ".tmp."))
        at = next; /* NAME may hold ".tmp." itself */
    char *end = NULL;
    if (name[0] != '.' || !at || at[5] < '1' || at[5] > '9')
        return false;
    long pid = strtol(at + 5, &end, 10);
    if (*end != '.' || end[1] < '0' || end[1] > '9' || pid <= 0 || pid > 1 << 30)
        return false;
    return pid == (long)getpid() || (kill((pid_t)pid, 0) && errno == ESRCH);
}

thaw_status th_file_remove_stale(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return th_fail_errno(THAW_E_IO, "%s: the folder cannot be read", folder);
    thaw_status status = THAW_OK;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (is_stale(entry->d_name) && unlinkat(dirfd(dir), entry->d_name, 0))
            status = th_fail_errno(THAW_E_IO,
                "%s/%s: a stale temporary file cannot be removed", folder,
                entry->d_name);
    }
    closedir(dir);
    return status;
}
