/* SPDX-License-Identifier: Apache-2.0
 * The 137 malformed HDF5 files that The HDF Group published with its advisories, each
 * through `thaw convert`: a message, an exit code of the table, bounded time and memory.
 * They are not part of the tree: THAW_TEST_ASSETS names the folder that has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "files.h"
#include "mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    N_FILES = 137,
    MAX_CPU_S = 2,
    MAX_WALL_S = 12, /* the sandbox's clock; a busy machine needs more than CPU */
    /* Of the larger process. While the child lives, its parent is the program and the
     * file, some 20 MiB: together they stay below 256 MiB. */
    MAX_KIB = 192 * 1024
};

static char root[] = "/tmp/thaw_hostile_XXXXXX";
/* A sanitizer's shadow and quarantine are not the program's memory, nor its time ours. */
static const bool measured = sizeof THAW_SANITIZE == 1;

struct outcome {
    int code; /* of the exit; -1: ended by a signal */
    double cpu_s, wall_s;
    long kib; /* of the larger process */
    char message[2048];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static _Noreturn void exec_convert(const char *in, const char *out, int to)
{
    int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, STDIN_FILENO);
    dup2(nothing, STDOUT_FILENO);
    dup2(to, STDERR_FILENO);
    /* Set, so that the program does not start itself again. */
    setenv("GOMP_SPINCOUNT", "100", 0);
    execl(THAW_BUILD_DIR "/thaw", "thaw", "convert", in, out, (char *)NULL);
    _exit(127);
}

static void convert(const char *in, struct outcome *o)
{
    char out[256];
    int pipes[2], how = 0;
    struct rusage used;
    size_t n = 0;
    snprintf(out, sizeof out, "%s/out.h5", root);
    assert_int_equal(pipe(pipes), 0);
    double start = now();
    pid_t pid = fork();
    if (pid == 0)
        exec_convert(in, out, pipes[1]);
    close(pipes[1]);
    for (ssize_t got;
         (got = read(pipes[0], o->message + n, sizeof o->message - 1 - n)) > 0;)
        n += (size_t)got;
    o->message[n] = 0;
    close(pipes[0]);
    assert_int_equal(wait4(pid, &how, 0, &used), pid);
    o->wall_s = now() - start;
    o->code = WIFEXITED(how) ? WEXITSTATUS(how) : -1;
    o->cpu_s = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
    o->kib = used.ru_maxrss;
    unlink(out);
}

static bool is_expected(int code)
{
    return code == 0 || code == 2 || code == 3 || code == 5 || code == 6;
}

static void check_file(const char *path, struct outcome *worst)
{
    struct outcome o = {0};
    convert(path, &o);
    bool is_bound = !measured || (o.cpu_s <= MAX_CPU_S && o.wall_s <= MAX_WALL_S &&
                                     o.kib <= MAX_KIB);
    if (!is_expected(o.code) || !*o.message || !is_bound)
        fail_msg("%s: exit %d, %.2f s (%.2f s of CPU), %ld KiB: %s", path, o.code,
            o.wall_s, o.cpu_s, o.kib, o.message);
    worst->cpu_s = o.cpu_s > worst->cpu_s ? o.cpu_s : worst->cpu_s;
    worst->wall_s = o.wall_s > worst->wall_s ? o.wall_s : worst->wall_s;
    worst->kib = o.kib > worst->kib ? o.kib : worst->kib;
}

static void each_malformed_file_ends_with_a_message(void **state)
{
    char command[1024], path[1024];
    struct outcome worst = {0};
    const char *assets = getenv("THAW_TEST_ASSETS");
    (void)state;
    if (!assets) {
        print_message("skipped: THAW_TEST_ASSETS does not name the folder with the "
                      "malformed files\n");
        skip();
    }
    assert_non_null(mkdtemp(root));
    snprintf(command, sizeof command,
        "tar xzf '%s/data/hdf5-malformed-137.tar.gz' -C %s", assets, root);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/cvefiles", root);
    struct th_names names = {0};
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir))
        if (e->d_name[0] != '.')
            assert_int_equal(th_names_add(&names, e->d_name), 0);
    closedir(dir);
    th_names_sort(&names);
    for (int64_t i = 0; i < names.n; i++) {
        snprintf(path, sizeof path, "%s/cvefiles/%s", root, names.name[i]);
        check_file(path, &worst);
    }
    assert_int_equal(names.n, N_FILES);
    th_names_release(&names);
    print_message("at worst %.2f s of CPU, %.2f s by the clock, %ld KiB a process\n",
        worst.cpu_s, worst.wall_s, worst.kib);
    snprintf(command, sizeof command, "rm -rf %s", root);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_malformed_file_ends_with_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
