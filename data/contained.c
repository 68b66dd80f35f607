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

/* Whether the file, or a folder on the way to it from `path + root`, is a link. */
static bool has_link(char *path, size_t root)
{
    struct stat st;
    for (char *at = path + root + 1;; at++) {
        at += strcspn(at, "/");
        char end = *at;
        *at = '\0';
        bool link = lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
        *at = end;
        if (link || !end)
            return link;
    }
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
    struct stat st;
    if (!*name || th_leads_out(name))
        return th_fail(THAW_E_DATA,
            "%s: an image may not be called \"%s\": it must lie below %s", said, name,
            root);
    char *full = th_format("%s/%s", root, name);
    if (!full)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    if (stat(full, &st) != 0 || !S_ISREG(st.st_mode))
        status = th_fail(THAW_E_DATA, "%s: there is no image %s", said, full);
    else if (has_link(full, strlen(root)) && !is_below(root, full))
        status = th_fail(THAW_E_DATA,
            "%s: %s is a link that leads out of %s; copy the image there", said, full,
            root);
    if (status == THAW_OK)
        *path = full;
    else
        th_free(full);
    return status;
}
