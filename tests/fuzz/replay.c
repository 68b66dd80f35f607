/* SPDX-License-Identifier: Apache-2.0
 * Runs a fuzz target over every file of the folders named, without libFuzzer: the
 * regression test of what was ever found. A folder that does not exist or is empty is a
 * failure: such a test would test nothing. */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

static int replay_file(const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st)) {
        perror(path);
        return 1;
    }
    size_t n = (size_t)st.st_size;
    uint8_t *bytes = malloc(n); /* exactly n, for ASan's sake */
    int failed = n && (!bytes || fread(bytes, 1, n, f) != n);
    fclose(f);
    if (failed) {
        perror(path);
    } else {
        fprintf(stderr, "%s\n", path); /* the last one is the one that crashed */
        LLVMFuzzerTestOneInput(bytes, n);
    }
    free(bytes);
    return failed;
}

static int replay_folder(const char *folder)
{
    char path[4096];
    int n = 0, failed = 0;
    DIR *dir = opendir(folder);
    if (!dir) {
        perror(folder);
        return 1;
    }
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        failed |= replay_file(path);
        n++;
    }
    closedir(dir);
    printf("%s: %d inputs\n", folder, n);
    return failed || n == 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    for (int i = 1; i < argc; i++)
        failed |= replay_folder(argv[i]);
    return failed;
}
