/* SPDX-License-Identifier: Apache-2.0
 * Owns the check that a path stays below a folder. What is no link below the folder cannot
 * leave it, so that the costly question, where a path really leads, is seldom asked. */
#include "contained.h"

#include "error.h"
#include "mem.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool th_leads_out(const char *name)
{
    if (*name == '/')
        return true;
    for (const char *at = name; *at; at += strspn(at, "/")) {
        size_t n = strcspn(at, "/");
        if (n == 2 && at[0] == '.' && at[1] == '.')
            return true;
        at += n;
    }
    return false;
}

/* Whether there is a file at `path`, and whether that or a folder on the way to it from
 * `path + root` is a link. */
static bool is_file(char *path, size_t root, bool *link)
{
    struct stat st;
    bool found = true;
    *link = false;
    for (char *at = path + root, end = '/'; end && found && !*link; *at = end) {
        at += 1 + strcspn(at + 1, "/");
        end = *at;
        *at = '\0';
        found = lstat(path, &st) == 0;
        *link = found && S_ISLNK(st.st_mode);
    }
    if (*link)
        found = stat(path, &st) == 0;
    return found && S_ISREG(st.st_mode);
}

static bool is_below(const char *root, const char *path)
{
    char *real_root = realpath(root, NULL), *real = realpath(path, NULL);
    size_t n = real_root ? strlen(real_root) : 0;
    bool below = real_root && real && strncmp(real, real_root, n) == 0 &&
                 (real[n] == '/' || n == 1);
    free(real_root);
    free(real);
    return below;
}

thaw_status th_contained(
    const char *root, const char *name, const char *said, char **path)
{
    bool link;
    if (!*name || th_leads_out(name))
        return th_fail(THAW_E_DATA,
            "%s: an image may not be called \"%s\": it must lie below %s", said, name,
            root);
    char *full = th_format("%s/%s", root, name);
    if (!full)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    if (!is_file(full, strlen(root), &link))
        status = th_fail(THAW_E_DATA, "%s: there is no image %s", said, full);
    else if (link && !is_below(root, full))
        status = th_fail(THAW_E_DATA,
            "%s: %s is a link that leads out of %s; copy the image there", said, full,
            root);
    if (status == THAW_OK)
        *path = full;
    else
        th_free(full);
    return status;
}
