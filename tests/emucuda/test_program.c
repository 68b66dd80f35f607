/* SPDX-License-Identifier: Apache-2.0
 * Programs that know nothing of the emulated device: the environment says how it is, and
 * findings end them with a status of their own. */
#include <cuda_runtime_api.h>

#include "emucuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- programs: their status is what a call gave ---- */

static int tidy(void)
{
    void *p = NULL;
    cudaError_t error = cudaMalloc(&p, 100);
    cudaFree(p);
    return (int)error;
}

static int leaves_memory(void)
{
    void *p = NULL;
    return (int)cudaMalloc(&p, 100);
}

static int allocates_twice(void)
{
    void *p[2] = {NULL, NULL};
    cudaMalloc(&p[0], 100);
    cudaError_t error = cudaMalloc(&p[1], 100);
    cudaFree(p[0]);
    cudaFree(p[1]);
    return (int)error;
}

static int looks(void)
{
    int n = 0;
    return (int)cudaGetDeviceCount(&n);
}

static int touches_device_memory(void)
{
    volatile char *p = NULL;
    cudaMalloc((void **)&p, 100);
    return p[7];
}

static int copies_late(void)
{
    char *device = NULL, *host = NULL;
    cudaStream_t s = NULL;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaMalloc((void **)&device, 1);
    cudaMallocHost((void **)&host, 1);
    *host = 7;
    cudaMemcpyAsync(device, host, 1, cudaMemcpyHostToDevice, s);
    cudaMemsetAsync(device, 9, 1, s);
    cudaMemcpyAsync(host, device, 1, cudaMemcpyDeviceToHost, s);
    int seen = *host; /* 7, or 9 if all of it ran at once */
    cudaStreamSynchronize(s);
    cudaStreamDestroy(s);
    cudaFree(device);
    cudaFreeHost(host);
    return seen;
}

/* ---- running one ---- */

static char said[4096];

static int run(const char *variable, const char *value, int (*program)(void))
{
    int ends[2], status = 0;
    size_t n = 0;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (variable)
            setenv(variable, value, 1);
        exit(program());
    }
    close(ends[1]);
    for (ssize_t got = 1; got > 0 && n < sizeof said - 1; n += (size_t)got) {
        got = read(ends[0], said + n, sizeof said - 1 - n);
        if (got < 0)
            got = 0;
    }
    said[n] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void the_environment_opens_the_device(void **state)
{
    (void)state;
    assert_int_equal(run(NULL, NULL, tidy), cudaErrorInitializationError);
    assert_int_equal(run("EMU_ORDER", "late", tidy), 0);
    assert_string_equal(said, "");
    assert_int_equal(run("EMU_ORDER", "late", copies_late), 7);
    assert_int_equal(run("EMU_ORDER", "early", copies_late), 9);
    assert_int_equal(run("EMU_CAPACITY", "99", tidy), cudaErrorMemoryAllocation);
    assert_int_equal(run("EMU_COUNT", "1", tidy), 0);
    assert_non_null(strstr(said, "1 allocations"));
}

static void findings_end_a_program_with_a_status_of_their_own(void **state)
{
    (void)state;
    assert_int_equal(run("EMU_ORDER", "random", leaves_memory), EMU_FOUND);
    assert_non_null(strstr(said, "leak: device block 0 of 100 bytes"));
    assert_int_equal(run("EMU_ORDER", "late", touches_device_memory), EMU_TRAPPED);
    assert_non_null(strstr(said, "the host touches device block 0"));
}

static void what_is_asked_to_fail_fails(void **state)
{
    static const char *const missing[] = {"34", "35", "100"};
    (void)state;
    assert_int_equal(
        run("EMU_FAIL", "alloc:2", allocates_twice), cudaErrorMemoryAllocation);
    assert_int_equal(run("EMU_FAIL", "alloc:3", allocates_twice), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(run("EMU_MISSING", missing[i], looks), atoi(missing[i]));
    static const char *const wrong[][2] = {{"EMU_FAIL", "alloc"}, {"EMU_FAIL", "all:1"},
        {"EMU_ORDER", "later"}, {"EMU_SEED", "x"}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(run(wrong[i][0], wrong[i][1], tidy), EMU_FOUND);
        assert_non_null(strstr(said, "is not understood"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_environment_opens_the_device),
        cmocka_unit_test(findings_end_a_program_with_a_status_of_their_own),
        cmocka_unit_test(what_is_asked_to_fail_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
