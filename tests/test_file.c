/* SPDX-License-Identifier: Apache-2.0
 * Durable files: every system call of a save made to fail, in turn. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "error.h"
#include "file.h"
#include "mem.h"

/* Calls until the failure, its errno, and what was open: reset by each test. The last
 * calls, a letter each. */
static int calls_left, cause, n_open;
static char calls[64];

static bool fails(char call)
{
    size_t n = strlen(calls);
    if (n + 1 == sizeof calls)
        memmove(calls, calls + 1, n--);
    calls[n] = call;
    calls[n + 1] = 0;
    if (calls_left-- != 0)
        return false;
    errno = cause;
    return true;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
    int fd = fails('o') ? -1 : open(path, flags, mode);
    n_open += fd >= 0;
    return fd;
}

static int faulty_fallocate(int fd, off_t offset, off_t bytes)
{
    return fails('a') ? cause : posix_fallocate(fd, offset, bytes);
}

static ssize_t faulty_write(int fd, const void *bytes, size_t n)
{
    return fails('w') ? -1 : write(fd, bytes, n > 3 ? 3 : n); /* short writes always */
}

static int faulty_fsync(int fd)
{
    return fails('s') ? -1 : fsync(fd);
}

static int faulty_close(int fd)
{
    n_open--;
    close(fd); /* a failed close closes all the same */
    return fails('c') ? -1 : 0;
}

static int faulty_rename(const char *from, const char *to)
{
    return fails('r') ? -1 : rename(from, to);
}

static const struct th_file_sys faulty = {faulty_open, faulty_fallocate, faulty_write,
    faulty_fsync, faulty_close, faulty_rename, unlink};

static char folder[] = "/tmp/thaw-file-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/thaw-file-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/model.h5", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails where a temporary file was left */
}

static void check_content(const char *text)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    assert_int_equal(th_file_read(path, 1 << 20, &bytes, &n), THAW_OK);
    assert_int_equal(n, strlen(text));
    assert_string_equal((char *)bytes, text);
    th_free(bytes);
}

static void a_file_is_written_and_replaced(void **state)
{
    (void)state;
    assert_int_equal(th_file_write_atomic(path, "old", 3, NULL), THAW_OK);
    check_content("old");
    assert_int_equal(th_file_write_atomic(path, "new and longer", 14, NULL), THAW_OK);
    check_content("new and longer");
    assert_int_equal(th_file_write_atomic(path, "", 0, NULL), THAW_OK);
    check_content("");
    assert_true(th_file_exists(path));
}

/* For each n, the n-th call fails: the file holds the old bytes or the new ones, whole,
 * the status tells the truth, nothing is left open or lying about. */
static void whichever_call_fails_the_file_is_old_or_new_and_whole(void **state)
{
    (void)state;
    static const char old[] = "the old bytes", fresh[] = "the new ones";
    const int causes[] = {ENOSPC, EIO, EDQUOT};
    for (int i = 0; i < 3; i++) {
        int n = 0;
        thaw_status status = THAW_E_FAIL;
        for (; status != THAW_OK || calls_left < 0; n++) {
            assert_int_equal(
                th_file_write_atomic(path, old, strlen(old), NULL), THAW_OK);
            calls_left = n;
            cause = causes[i];
            n_open = 0;
            status = th_file_write_atomic(path, fresh, strlen(fresh), &faulty);
            assert_int_equal(n_open, 0);
            assert_true(status == THAW_OK || status == THAW_E_IO);
            bool is_last =
                status != THAW_OK && strstr(thaw_error(), "cannot be synced");
            check_content(status == THAW_OK || is_last ? fresh : old);
            if (calls_left >= 0)
                break; /* no failure came about: all calls were tried */
        }
        assert_int_equal(status, THAW_OK);
        assert_true(
            n >= 10); /* open x2, allocate, write x4, sync, close, rename, ... */
    }
}

/* What a power cut must not find: the name before the bytes, or a folder without it. */
static void bytes_are_synced_before_the_name_and_the_folder_after(void **state)
{
    (void)state;
    calls_left = INT_MAX;
    calls[0] = 0;
    assert_int_equal(th_file_write_atomic(path, "123", 3, &faulty), THAW_OK);
    assert_string_equal(calls, "ooawscrsc");
}

static void a_full_disk_is_told_with_both_numbers(void **state)
{
    (void)state;
    calls_left = 2; /* the preallocation: before any byte is written */
    cause = ENOSPC;
    assert_int_equal(th_file_write_atomic(path, "12345", 5, &faulty), THAW_E_IO);
    assert_non_null(strstr(thaw_error(), "5 bytes needed"));
    assert_non_null(strstr(thaw_error(), " free"));
    assert_false(th_file_exists(path));
}

static void interruptions_and_missing_preallocation_do_no_harm(void **state)
{
    (void)state;
    const int harmless[][2] = {
        {EINTR, 1}, {EINTR, 2}, {EINTR, 3}, {EINTR, 4}, {EOPNOTSUPP, 2}, {EINVAL, 2}};
    for (int i = 0; i < 6; i++) {
        cause = harmless[i][0];
        calls_left = harmless[i][1];
        assert_int_equal(th_file_write_atomic(path, "12345", 5, &faulty), THAW_OK);
        check_content("12345");
    }
}

static void lines_are_appended_whole(void **state)
{
    (void)state;
    assert_int_equal(th_file_append_line(path, "{\"step\":1}", NULL), THAW_OK);
    assert_int_equal(th_file_append_line(path, "{\"step\":2}", NULL), THAW_OK);
    check_content("{\"step\":1}\n{\"step\":2}\n");
    for (int n = 0; n < 4; n++) { /* open, two short writes, close */
        calls_left = n;
        cause = EIO;
        n_open = 0;
        assert_int_equal(th_file_append_line(path, "1234", &faulty), THAW_E_IO);
        assert_int_equal(n_open, 0);
        if (n < 3) /* no part of the line stays */
            check_content("{\"step\":1}\n{\"step\":2}\n");
    }
    calls_left = 1;
    cause = EINTR;
    assert_int_equal(th_file_append_line(path, "5", &faulty), THAW_OK);
    check_content("{\"step\":1}\n{\"step\":2}\n1234\n5\n");
}

static void nothing_is_appended_through_a_link(void **state)
{
    (void)state;
    char link[300];
    snprintf(link, sizeof link, "%s.link", path);
    assert_int_equal(th_file_append_line(path, "1", NULL), THAW_OK);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(th_file_append_line(link, "2", NULL), THAW_E_IO);
    check_content("1\n");
    unlink(link);
}

static void what_is_no_regular_file_is_refused(void **state)
{
    (void)state;
    unsigned char *bytes = NULL;
    size_t n = 0;
    assert_int_equal(th_file_read(folder, 100, &bytes, &n), THAW_E_IO);
    assert_non_null(strstr(thaw_error(), "is a folder"));
    assert_int_equal(th_file_read(path, 100, &bytes, &n), THAW_E_IO);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(
        th_file_read(path, 100, &bytes, &n), THAW_E_IO); /* and no waiting */
    unlink(path);
    assert_int_equal(th_file_write_atomic(path, "12345", 5, NULL), THAW_OK);
    assert_int_equal(th_file_read(path, 4, &bytes, &n), THAW_E_DATA);
    assert_null(bytes);
}

static void folders_are_made_with_those_above(void **state)
{
    (void)state;
    char deep[128];
    snprintf(deep, sizeof deep, "%s/a/b", folder);
    assert_int_equal(th_file_mkdir(deep), THAW_OK);
    assert_int_equal(th_file_mkdir(deep), THAW_OK);
    assert_int_equal(rmdir(deep), 0);
    assert_int_equal(th_file_write_atomic(deep, "x", 1, NULL), THAW_OK);
    assert_int_equal(th_file_mkdir(deep), THAW_E_IO);
    assert_int_equal(unlink(deep), 0);
    *strrchr(deep, '/') = 0;
    assert_int_equal(rmdir(deep), 0);
}

static void only_dead_processes_files_are_removed(void **state)
{
    (void)state;
    pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    assert_int_equal(waitpid(dead, NULL, 0), dead);
    char name[6][128];
    snprintf(name[0], sizeof name[0], "%s/.m.h5.tmp.%d.0", folder, (int)dead);
    snprintf(name[1], sizeof name[1], "%s/.m.h5.tmp.%d.0", folder, (int)getppid());
    snprintf(name[2], sizeof name[2], "%s/m.h5.tmp.%d.0", folder, (int)dead);
    snprintf(name[3], sizeof name[3], "%s/.m.h5.tmp.%d", folder, (int)dead);
    snprintf(name[4], sizeof name[4], "%s/.tmp.0.0", folder);
    /* Left by another process that had our number, in a container perhaps. */
    snprintf(name[5], sizeof name[5], "%s/.m.h5.tmp.%d.0", folder, (int)getpid());
    for (int i = 0; i < 6; i++)
        assert_int_equal(th_file_write_atomic(name[i], "x", 1, NULL), THAW_OK);
    assert_int_equal(th_file_remove_stale(folder), THAW_OK);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(th_file_exists(name[i]), i != 0 && i != 5);
        unlink(name[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_written_and_replaced),
        TEST(whichever_call_fails_the_file_is_old_or_new_and_whole),
        TEST(bytes_are_synced_before_the_name_and_the_folder_after),
        TEST(a_full_disk_is_told_with_both_numbers),
        TEST(interruptions_and_missing_preallocation_do_no_harm),
        TEST(lines_are_appended_whole),
        TEST(nothing_is_appended_through_a_link),
        TEST(what_is_no_regular_file_is_refused),
        TEST(folders_are_made_with_those_above),
        TEST(only_dead_processes_files_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
