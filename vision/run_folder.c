/* SPDX-License-Identifier: Apache-2.0
 * Owns the run folder as a place: creation, lock, texts. metrics.jsonl is run_log.c's. */
#include "run_folder.h"

#include "file.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* Texts that a run folder holds are small. */
enum { TH_TEXT_LIMIT = 16 << 20 };

char *th_run_folder_path(const struct th_run_folder *f, const char *name)
{
    return th_format("%s/%s", f->path, name);
}

/* Hidden files do not count: a lock may have been left behind. */
static bool holds_something(const char *path)
{
    DIR *folder = opendir(path);
    bool found = false;
    if (!folder)
        return th_file_exists(path);
    for (struct dirent *e = readdir(folder); e && !found; e = readdir(folder))
        found = e->d_name[0] != '.';
    closedir(folder);
    return found;
}

static thaw_status take_lock(struct th_run_folder *f)
{
    char *path = th_run_folder_path(f, ".lock");
    if (!path)
        return THAW_E_MEMORY;
    f->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    th_free(path);
    if (f->lock < 0)
        return th_fail_errno(THAW_E_IO, "%s: cannot write here", f->path);
    if (!flock(f->lock, LOCK_EX | LOCK_NB))
        return THAW_OK;
    if (errno == EWOULDBLOCK)
        return th_fail(THAW_E_USAGE, "%s: another process is training here", f->path);
    return THAW_OK; /* a file system without locks */
}

static thaw_status hold(struct th_run_folder *f, const char *path)
{
    *f = (struct th_run_folder){.path = th_strdup(path), .lock = -1};
    f->metrics = th_format("%s/metrics.jsonl", path);
    if (!f->path || !f->metrics)
        return THAW_E_MEMORY;
    TRY(take_lock(f));
    return th_file_remove_stale(f->path);
}

thaw_status th_run_folder_check(const char *path)
{
    if (!holds_something(path))
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "%s exists: choose another folder, or go on with: thaw resume %s", path, path);
}

thaw_status th_run_folder_create(struct th_run_folder *f, const char *path)
{
    *f = (struct th_run_folder){.lock = -1};
    TRY(th_run_folder_check(path));
    TRY(th_file_mkdir(path));
    TRY(hold(f, path));
    char *checkpoints = th_run_folder_path(f, "checkpoints");
    if (!checkpoints)
        return THAW_E_MEMORY;
    thaw_status status = th_file_mkdir(checkpoints);
    th_free(checkpoints);
    return status;
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
    return hold(f, path);
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
