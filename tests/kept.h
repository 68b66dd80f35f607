/* SPDX-License-Identifier: Apache-2.0
 * For tests of kept features: the file that a cache left, to be looked at and damaged. */
#ifndef TH_TESTS_KEPT_H
#define TH_TESTS_KEPT_H

#include "run.h"

#include <dirent.h>

/* The one file of features in the folder. */
static inline void file_of(const char *dir, char path[600])
{
    DIR *d = opendir(dir);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (strstr(e->d_name, ".features")) {
            snprintf(path, 600, "%s/%s", dir, e->d_name);
            n++;
        }
    closedir(d);
    assert_int_equal(n, 1);
}

static inline void overwrite(const char *path, long at, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static inline long size_of(const char *path)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    return (long)s.st_size;
}

#endif
