/* SPDX-License-Identifier: Apache-2.0
 * Durable files: whole files read and written, so that a reader sees the old bytes or
 * the new ones and never a mixture, whatever fails and whenever the power goes.
 *
 * Paths are the user's own; containment of paths that come from a file is not done here. */
#ifndef TH_FILE_H
#define TH_FILE_H

#include "mem.h"
#include "thaw.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The system calls of a save, with the system's conventions, so that a test can make
 * the n-th one fail. NULL wherever one is wanted means the real ones. */
struct th_file_sys {
    int (*open)(const char *path, int flags, mode_t mode);
    int (*fallocate)(int fd, off_t offset, off_t bytes); /* returns an errno value */
    ssize_t (*write)(int fd, const void *bytes, size_t n);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
};

/* Replace `path` by n bytes: a temporary file beside it is preallocated, written,
 * synced, closed, renamed over `path`, and the folder is synced. On failure the
 * temporary file is gone and the old `path` untouched; only where the last step, the
 * folder's sync, fails does `path` already hold the new bytes, complete. */
thaw_status th_file_write_atomic(
    const char *path, const void *bytes, size_t n, const struct th_file_sys *sys);

/* The whole of a regular file of at most `limit` bytes, for th_free. One byte more is
 * allocated and zero, so text is terminated. */
thaw_status th_file_read(
    const char *path, size_t limit, unsigned char **bytes, size_t *n);

/* Likewise, into memory that is kept; valid until the block is used again. */
thaw_status th_file_read_into(const char *path, size_t limit, struct th_block *block,
    unsigned char **bytes, size_t *n);

/* That `path` is a regular file, or a folder, that can be opened: THAW_E_IO says why not.
 * Every path that the user typed fails in this one way. */
thaw_status th_file_check(const char *path);
thaw_status th_file_check_folder(const char *path);

/* Append n bytes, creating the file where there is none: all of them, or after a failure
 * none where the file system lets the part be cut off again. A symbolic link is refused:
 * it may lead out of a folder that came from somebody else. */
thaw_status th_file_append(
    const char *path, const void *bytes, size_t n, const struct th_file_sys *sys);

/* Append `line` and a newline, likewise. */
thaw_status th_file_append_line(
    const char *path, const char *line, const struct th_file_sys *sys);

/* Make a folder and those above it; one that exists is fine. */
thaw_status th_file_mkdir(const char *path);

bool th_file_exists(const char *path);

/* Remove the temporary files that killed processes left in `folder`: those whose name
 * carries the number of a process that is no more, or this one's (in a container, each
 * run may have the same). To be called by the owner of the folder only, before it writes:
 * another machine's processes (NFS) cannot be seen. */
thaw_status th_file_remove_stale(const char *folder);

#endif
