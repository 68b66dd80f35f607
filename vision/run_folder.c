/* SPDX-License-Identifier: Apache-2.0
 * Owns the run folder as a place: creation, lock, texts. metrics.jsonl is run_log.c's. */
#include "run_folder.h"

#include "file.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Texts that a run folder holds are small. */
enum { TH_TEXT_LIMIT = 16 << 20 };

char *th_run_folder_path(const struct th_run_folder *f, const char *name)
{
    return th_format("%s/%s", f->path, name);
}

/* Of files that are not hidden (a lock may have been left behind), any but `except`. */
static bool holds_more_than(const char *path, const char *const except[2])
{
    DIR *folder = opendir(path);
    bool found = false;
    if (!folder)
        return th_file_exists(path);
    for (struct dirent *e = readdir(folder); e && !found; e = readdir(folder))
        found = e->d_name[0] != '.' && strcmp(e->d_name, except[0]) &&
                strcmp(e->d_name, except[1]);
    closedir(folder);
    return found;
}

static bool has(const char *path, const char *name)
{
    char *file = th_format("%s/%s", path, name);
    bool found = file && th_file_exists(file);
    th_free(file);
    return found;
}

/* What a process leaves that is killed between the lock and config.json is no run. */
static bool is_taken(const char *path)
{
    static const char *const nothing[2] = {"", ""};
    static const char *const begun[2] = {"checkpoints", "classes.txt"};
    return holds_more_than(
        path, has(path, ".lock") && !has(path, "config.json") ? begun : nothing);
}

/* The holder's number, for the message that another process gets. */
static thaw_status sign_lock(struct th_run_folder *f)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(f->lock, 0) || pwrite(f->lock, text, (size_t)n, 0) != n)
        return th_fail_errno(THAW_E_IO, "%s: cannot write here", f->path);
    return THAW_OK;
}

static thaw_status fail_held(const struct th_run_folder *f)
{
    char text[32] = "";
    ssize_t n = pread(f->lock, text, sizeof text - 1, 0);
    text[n > 0 ? strspn(text, "0123456789") : 0] = 0;
    return th_fail(THAW_E_USAGE,
        "%s: process %s is training here; wait for it, stop it, or choose another "
        "folder",
        f->path, *text ? text : "another");
}

static thaw_status take_lock(struct th_run_folder *f)
{
    char *path = th_run_folder_path(f, ".lock");
    if (!path)
        return THAW_E_MEMORY;
    /* A link may lead out of a folder that came from somebody else. */
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    th_free(path);
    if (lock < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot write here", f->path);
    f->lock = lock;
    if (flock(lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        thaw_status status = fail_held(f);
        close(lock);
        f->lock = -1;
        return status;
    }
    return sign_lock(f); /* also on a file system without locks */
}

/* What a killed process was writing goes; a folder that is not there yet has none. */
static thaw_status clean(struct th_run_folder *f)
{
    TRY(th_file_remove_stale(f->path));
    char *path = th_run_folder_path(f, "checkpoints");
    if (!path)
        return THAW_E_MEMORY;
    thaw_status status = th_file_exists(path) ? th_file_remove_stale(path) : THAW_OK;
    th_free(path);
    return status;
}

/* Names come first: what is made later can then be found and removed. */
static thaw_status init(struct th_run_folder *f, const char *path)
{
    *f = (struct th_run_folder){.lock = -1};
    f->path = th_strdup(path);
    f->metrics = th_format("%s/metrics.jsonl", path);
    return f->path && f->metrics ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status hold(struct th_run_folder *f)
{
    TRY(take_lock(f));
    return clean(f);
}

thaw_status th_run_folder_check(const char *path)
{
    if (!is_taken(path))
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "%s exists: choose another folder, or go on with: thaw resume %s", path, path);
}

/* Length of the shortest prefix of `path` that does not exist; 0: all of it does. */
static thaw_status first_missing(const char *path, size_t *length)
{
    bool there = true;
    *length = 0;
    for (size_t n = 1; there && path[n - 1]; n++) {
        if (path[n] && path[n] != '/')
            continue;
        char *prefix = th_format("%.*s", (int)n, path);
        if (!prefix)
            return THAW_E_MEMORY;
        there = th_file_exists(prefix);
        th_free(prefix);
        *length = there ? 0 : n;
    }
    return THAW_OK;
}

thaw_status th_run_folder_create(struct th_run_folder *f, const char *path)
{
    TRY(init(f, path));
    TRY(th_run_folder_check(path));
    TRY(first_missing(path, &f->made));
    TRY(th_file_mkdir(path));
    TRY(hold(f));
    char *checkpoints = th_run_folder_path(f, "checkpoints");
    if (!checkpoints)
        return THAW_E_MEMORY;
    thaw_status status = th_file_mkdir(checkpoints);
    th_free(checkpoints);
    return status;
}

thaw_status th_run_folder_claim(struct th_run_folder *f, const char *path)
{
    TRY(init(f, path));
    TRY(th_file_mkdir(path));
    return hold(f);
}

/* Remove RUN and those folders above it that were made for it, as far as they are empty. */
static void remove_made(const struct th_run_folder *f)
{
    char *path = f->made ? th_strdup(f->path) : NULL;
    while (path && strlen(path) >= f->made && (!rmdir(path) || errno == ENOENT)) {
        char *slash = strrchr(path, '/');
        *(slash ? slash : path) = 0;
    }
    th_free(path);
}

void th_run_folder_abandon(struct th_run_folder *f)
{
    static const char *const names[] = {"config.json", "classes.txt", ".lock"};
    if (f->lock >= 0) { /* it is ours */
        char *checkpoints = th_run_folder_path(f, "checkpoints");
        if (checkpoints)
            rmdir(checkpoints);
        th_free(checkpoints);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            char *path = th_run_folder_path(f, names[i]);
            if (path)
                unlink(path);
            th_free(path);
        }
    }
    if (f->path)
        remove_made(f);
}

size_t th_run_folder_free(const struct th_run_folder *f)
{
    struct statvfs fs;
    unsigned long long bytes = 0;
    if (fstatvfs(f->lock, &fs) ||
        __builtin_mul_overflow(
            (unsigned long long)fs.f_bavail, (unsigned long long)fs.f_frsize, &bytes) ||
        bytes > SIZE_MAX)
        return SIZE_MAX;
    return (size_t)bytes;
}

thaw_status th_run_folder_open(struct th_run_folder *f, const char *path)
{
    *f = (struct th_run_folder){.lock = -1};
    TRY(th_file_check_folder(path));
    char *config = th_format("%s/config.json", path);
    if (!config)
        return THAW_E_MEMORY;
    bool found = th_file_exists(config);
    th_free(config);
    if (!found)
        return th_fail(
            THAW_E_USAGE, "%s: no run is here (it has no config.json)", path);
    TRY(init(f, path));
    return hold(f);
}

void th_run_folder_close(struct th_run_folder *f)
{
    if (f->lock >= 0)
        close(f->lock);
    th_free(f->path);
    th_free(f->metrics);
    *f = (struct th_run_folder){.lock = -1};
}

thaw_status th_run_folder_write(
    const struct th_run_folder *f, const char *name, const char *text)
{
    char *path = th_run_folder_path(f, name);
    if (!path)
        return THAW_E_MEMORY;
    thaw_status status = th_file_write_atomic(path, text, strlen(text), NULL);
    th_free(path);
    return status;
}

thaw_status th_run_folder_read(
    const struct th_run_folder *f, const char *name, char **text)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    char *path = th_run_folder_path(f, name);
    if (!path)
        return THAW_E_MEMORY;
    thaw_status status = th_file_read(path, TH_TEXT_LIMIT, &bytes, &n);
    th_free(path);
    *text = (char *)bytes;
    return status;
}
