/* SPDX-License-Identifier: Apache-2.0
 * The emulated device: a correct pipeline gives the same bits whenever its work runs, each
 * planted mistake is found, every call may fail, and what is counted is what was done. */
#include "emucuda.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a pipeline as a training step has it: staging, copies, compute, a result ---- */

enum { N = 37, STEPS = 6, BYTES = N * sizeof(float) };

enum mistake {
    NONE,
    NO_COPIED_WAIT,  /* compute does not wait for the copy */
    NO_USED_WAIT,    /* the next copy does not wait until the input was used */
    NO_HOST_WAIT,    /* the host fills a buffer whose copy may not have run */
    NO_FINAL_SYNC,   /* the host reads the result at once */
    WRONG_STREAM,    /* the event is recorded in the other stream */
    EARLY_FREE,      /* the input is freed in the copy stream, while it may be in use */
    USE_AFTER_FREE,  /* work is enqueued behind the free */
    UNRECORDED,      /* waits for an event that was never recorded */
    PAST_THE_END,    /* a kernel writes behind its block, which it did not say */
    OUTSIDE,         /* a kernel is given more bytes than the block has */
    PENDING_DESTROY, /* a stream is destroyed before its work has run */
    TWO_WRITERS,     /* both streams write the same bytes */
};

struct pipe {
    enum mistake mistake;
    cudaStream_t copy, compute;
    cudaEvent_t copied[2], used[2];
    float *staged[2], *input[2], *sum, *result;
};

#define TRY(call)                                                                      \
    do {                                                                               \
        cudaError_t try_error_ = (call);                                               \
        if (try_error_ != cudaSuccess)                                                 \
            return try_error_;                                                         \
    } while (0)

static cudaError_t open_pipe(struct pipe *p)
{
    TRY(cudaStreamCreateWithFlags(&p->copy, cudaStreamNonBlocking));
    TRY(cudaStreamCreateWithFlags(&p->compute, cudaStreamNonBlocking));
    for (int b = 0; b < 2; b++) {
        TRY(cudaEventCreateWithFlags(&p->copied[b], cudaEventDisableTiming));
        TRY(cudaEventCreateWithFlags(&p->used[b], cudaEventDisableTiming));
        TRY(cudaMallocHost((void **)&p->staged[b], BYTES));
        TRY(cudaMalloc((void **)&p->input[b], BYTES));
    }
    TRY(cudaMalloc((void **)&p->sum, BYTES));
    return cudaMallocHost((void **)&p->result, BYTES);
}

/* Whatever there is of it; works after a failure, too. */
static void close_pipe(struct pipe *p)
{
    if (p->copy)
        cudaStreamSynchronize(p->copy);
    if (p->compute && p->mistake != PENDING_DESTROY)
        cudaStreamSynchronize(p->compute);
    for (int b = 0; b < 2; b++) {
        if (p->copied[b])
            cudaEventDestroy(p->copied[b]);
        if (p->used[b])
            cudaEventDestroy(p->used[b]);
    }
    if (p->copy)
        cudaStreamDestroy(p->copy);
    if (p->compute)
        cudaStreamDestroy(p->compute);
    for (int b = 0; b < 2; b++) {
        cudaFreeHost(p->staged[b]);
        if (b || (p->mistake != EARLY_FREE && p->mistake != USE_AFTER_FREE))
            cudaFree(p->input[b]);
    }
    cudaFree(p->sum);
    cudaFreeHost(p->result);
}

/* sum = 0.5 sum + input: the order of the steps is in the bits. */
static void accumulate(void *const *memory, const void *argument)
{
    float *sum = memory[0];
    const float *input = memory[1];
    int past = *(const int *)argument;
    for (int i = 0; i < N + past; i++)
        sum[i] = 0.5F * sum[i] + input[i];
}

static cudaError_t compute(struct pipe *p, int b, int k)
{
    int past = p->mistake == PAST_THE_END && k == 3;
    size_t more = p->mistake == OUTSIDE && k == 3 ? 4096 : 0;
    const struct emu_range ranges[] = {
        {p->sum, BYTES, true}, {p->input[b], BYTES + more, false}};
    return emu_launch(
        p->compute, "accumulate", accumulate, &past, sizeof past, ranges, 2);
}

static cudaError_t step(struct pipe *p, int k)
{
    int b = k % 2;
    if (k >= 2 && p->mistake != NO_HOST_WAIT)
        TRY(cudaEventSynchronize(p->copied[b]));
    emu_host_touches(p->staged[b], BYTES, true);
    for (int i = 0; i < N; i++)
        p->staged[b][i] = (float)(k * N + i);
    if (k >= 2 && p->mistake != NO_USED_WAIT)
        TRY(cudaStreamWaitEvent(p->copy, p->used[b], 0));
    TRY(cudaMemcpyAsync(
        p->input[b], p->staged[b], BYTES, cudaMemcpyHostToDevice, p->copy));
    if (p->mistake != UNRECORDED || k != 0)
        TRY(cudaEventRecord(
            p->copied[b], p->mistake == WRONG_STREAM ? p->compute : p->copy));
    if (p->mistake != NO_COPIED_WAIT)
        TRY(cudaStreamWaitEvent(p->compute, p->copied[b], 0));
    TRY(compute(p, b, k));
    if (p->mistake == TWO_WRITERS && k == 3)
        TRY(cudaMemsetAsync(p->sum, 0, BYTES, p->copy));
    return cudaEventRecord(p->used[b], p->compute);
}

static cudaError_t run_pipe(struct pipe *p)
{
    TRY(open_pipe(p));
    TRY(cudaMemsetAsync(p->sum, 0, BYTES, p->compute));
    for (int k = 0; k < STEPS; k++)
        TRY(step(p, k));
    if (p->mistake == EARLY_FREE)
        TRY(cudaFreeAsync(p->input[0], p->copy));
    if (p->mistake == USE_AFTER_FREE) {
        TRY(cudaFreeAsync(p->input[0], p->compute));
        TRY(compute(p, 0, 0));
    }
    TRY(cudaMemcpyAsync(p->result, p->sum, BYTES, cudaMemcpyDeviceToHost, p->compute));
    if (p->mistake != NO_FINAL_SYNC && p->mistake != PENDING_DESTROY)
        TRY(cudaStreamSynchronize(p->compute));
    if (p->mistake != PENDING_DESTROY)
        emu_host_touches(p->result, BYTES, false);
    return cudaSuccess;
}

static void expected(float *want)
{
    memset(want, 0, BYTES);
    for (int k = 0; k < STEPS; k++)
        for (int i = 0; i < N; i++)
            want[i] = 0.5F * want[i] + (float)(k * N + i);
}

static void print_findings(void)
{
    for (int i = 0; i < emu_findings(); i++)
        print_message("  %s\n", emu_finding(i));
}

/* ---- tests ---- */

static void a_correct_pipeline_has_the_same_bits_in_every_order(void **state)
{
    (void)state;
    float want[N];
    expected(want);
    for (int run = 0; run < 66; run++) {
        struct pipe p = {.mistake = NONE};
        emu_open(&(struct emu_options){.order = run == 0   ? EMU_LATE
                                                : run == 1 ? EMU_EARLY
                                                           : EMU_RANDOM,
            .seed = (uint64_t)run});
        assert_int_equal(run_pipe(&p), cudaSuccess);
        assert_memory_equal(p.result, want, BYTES);
        close_pipe(&p);
        if (emu_close() != 0) {
            print_findings();
            fail_msg("run %d: %d findings", run, emu_findings());
        }
    }
}

/* What has to be said of each, in each order. */
static const struct {
    enum mistake mistake;
    const char *name, *says;
} planted[] = {
    {NO_COPIED_WAIT, "no wait for the copy", "race: accumulate"},
    {NO_USED_WAIT, "no wait for the use", "race: cudaMemcpyAsync"},
    {NO_HOST_WAIT, "host buffer reused", "race: an access"},
    {NO_FINAL_SYNC, "no synchronisation", "race: an access"},
    {WRONG_STREAM, "event in the wrong stream", "race: accumulate"},
    {EARLY_FREE, "early free", "race: cudaFreeAsync"},
    {USE_AFTER_FREE, "use after free", "freed: accumulate"},
    {UNRECORDED, "event never recorded", "never recorded"},
    {PAST_THE_END, "overrun", "overrun: block"},
    {OUTSIDE, "outside of the block", "address: accumulate"},
    {PENDING_DESTROY, "destroyed with work pending", "pending"},
    {TWO_WRITERS, "two writers", "race: cudaMemsetAsync"},
};

static void each_planted_mistake_is_found_in_every_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
        for (int run = 0; run < 12; run++) {
            struct pipe p = {.mistake = planted[i].mistake};
            enum emu_order order = run == 0   ? EMU_LATE
                                   : run == 1 ? EMU_EARLY
                                              : EMU_RANDOM;
            /* nothing is pending where everything runs at once */
            if (planted[i].mistake == PENDING_DESTROY && order != EMU_LATE)
                continue;
            emu_open(&(struct emu_options){.order = order, .seed = (uint64_t)run});
            run_pipe(&p);
            close_pipe(&p);
            emu_close();
            if (emu_found(planted[i].says) == 0) {
                print_findings();
                fail_msg("%s, run %d: nothing says '%s'", planted[i].name, run,
                    planted[i].says);
            }
        }
}

static void late_order_shows_what_missing_waits_do(void **state)
{
    (void)state; /* not only found: the results are wrong, too */
    float want[N];
    expected(want);
    static const enum mistake wrong[] = {NO_HOST_WAIT, NO_FINAL_SYNC};
    for (int i = 0; i < 2; i++) {
        struct pipe p = {.mistake = wrong[i]};
        emu_open(&(struct emu_options){.order = EMU_LATE});
        assert_int_equal(run_pipe(&p), cudaSuccess);
        assert_memory_not_equal(p.result, want, BYTES);
        close_pipe(&p);
        emu_close();
        if (wrong[i] == NO_HOST_WAIT)
            assert_true(emu_found("host buffer: cudaMemcpyAsync") > 0);
    }
}

static void any_call_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    int total = 0;
    for (int class = 0; class <= EMU_ASYNC; class ++)
        for (int n = 1;; n++) {
            struct pipe p = {.mistake = NONE};
            emu_open(&(struct emu_options){.order = EMU_RANDOM, .seed = (uint64_t)n});
            emu_fail((enum emu_class) class, n);
            cudaError_t error = run_pipe(&p);
            bool failed = emu_failed();
            emu_fail(EMU_ALLOC, 0);
            assert_int_equal(error != cudaSuccess, failed);
            close_pipe(&p);
            int findings = emu_close();
            if (findings) {
                print_findings();
                fail_msg("class %d, call %d: %d findings", class, n, findings);
            }
            if (!failed) {
                assert_true(n > 1);
                break;
            }
            total++;
        }
    print_message("%d failures\n", total);
    assert_true(total > 50);
}

static void an_error_while_running_stays(void **state)
{
    (void)state;
    struct pipe p = {.mistake = NONE};
    emu_open(&(struct emu_options){.order = EMU_LATE});
    emu_fail(EMU_ASYNC, 4);
    assert_int_equal(run_pipe(&p), cudaErrorLaunchFailure);
    void *more = NULL;
    assert_int_equal(cudaMalloc(&more, 16), cudaErrorLaunchFailure);
    assert_null(more);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    assert_string_equal(
        cudaGetErrorName(cudaErrorLaunchFailure), "cudaErrorLaunchFailure");
    close_pipe(&p);
    emu_close();

    p = (struct pipe){.mistake = NONE}; /* a fresh device works */
    emu_open(&(struct emu_options){.order = EMU_LATE});
    assert_int_equal(run_pipe(&p), cudaSuccess);
    close_pipe(&p);
    assert_int_equal(emu_close(), 0);
}

static void memory_has_an_end_and_fresh_memory_is_nan(void **state)
{
    (void)state;
    float *a = NULL, *b = NULL, *host = NULL;
    cudaStream_t s;
    size_t free_bytes, total;
    emu_open(&(struct emu_options){.order = EMU_LATE, .capacity = 1000});
    assert_int_equal(cudaMalloc((void **)&a, 900), cudaSuccess);
    assert_int_equal((uintptr_t)a % 256, 0);
    assert_int_equal(cudaMalloc((void **)&b, 101), cudaErrorMemoryAllocation);
    assert_null(b);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess); /* it does not stay */
    assert_int_equal(cudaMemGetInfo(&free_bytes, &total), cudaSuccess);
    assert_int_equal(free_bytes, 100);
    assert_int_equal(total, 1000);
    assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&host, 16), cudaSuccess);
    memset(host, 0, 16);
    assert_int_equal(
        cudaMemcpyAsync(host, a, 16, cudaMemcpyDeviceToHost, s), cudaSuccess);
    assert_true(host[0] == 0); /* not yet */
    assert_int_equal(cudaStreamSynchronize(s), cudaSuccess);
    assert_true(isnan(host[0]));
    assert_int_equal(cudaFree(a), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&b, 1000), cudaSuccess);
    assert_ptr_not_equal(a, b); /* addresses are not given twice */
    cudaFree(b);
    cudaFreeHost(host);
    cudaStreamDestroy(s);
    assert_int_equal(emu_counters().peak_bytes, 1000);
    assert_int_equal(emu_close(), 0);
}

static void what_is_misused_or_left_is_named(void **state)
{
    (void)state;
    char *a = NULL, *pinned = NULL, pageable[16] = {0};
    cudaStream_t s;
    cudaEvent_t e;
    emu_open(&(struct emu_options){.order = EMU_LATE});
    assert_int_equal(cudaMalloc((void **)&a, 100), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&pinned, 64), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&e, 0), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(a, pageable, 16, cudaMemcpyHostToDevice, s),
        cudaErrorInvalidValue);
    assert_int_equal(emu_found("pageable"), 1);
    assert_int_equal(cudaMemcpyAsync(a, pinned, 64, cudaMemcpyDeviceToHost, s),
        cudaErrorInvalidValue); /* the wrong kind */
    assert_int_equal(cudaMemcpyAsync(a + 90, pinned, 16, cudaMemcpyHostToDevice, s),
        cudaErrorInvalidValue); /* past the end */
    assert_int_equal(cudaMemsetAsync(a, 0, 100, NULL), cudaErrorInvalidResourceHandle);
    assert_int_equal(emu_found("default stream"), 1);
    assert_int_equal(cudaFree(a + 4), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(pinned), cudaErrorInvalidValue);
    char *freed = NULL;
    assert_int_equal(cudaMalloc((void **)&freed, 8), cudaSuccess);
    assert_int_equal(cudaFree(freed), cudaSuccess);
    assert_int_equal(cudaFree(freed), cudaErrorInvalidValue);
    assert_int_equal(emu_found("no live device block"), 3);
    emu_close();
    assert_int_equal(emu_found("leak: device block 0 of 100 bytes"), 1);
    assert_int_equal(emu_found("leak: pinned block 1 of 64 bytes"), 1);
    assert_int_equal(emu_found("leak: stream 1"), 1);
    assert_int_equal(emu_found("leak: event 0"), 1);
}

static void memory_made_in_a_stream_is_for_those_who_wait(void **state)
{
    (void)state;
    for (int waits = 0; waits < 2; waits++) {
        cudaStream_t a, b;
        cudaEvent_t made;
        void *p = NULL;
        emu_open(&(struct emu_options){.order = EMU_LATE});
        assert_int_equal(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), 0);
        assert_int_equal(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), 0);
        assert_int_equal(cudaEventCreateWithFlags(&made, 0), 0);
        assert_int_equal(cudaMallocAsync(&p, 64, a), 0);
        assert_int_equal(cudaEventRecord(made, a), 0);
        if (waits)
            assert_int_equal(cudaStreamWaitEvent(b, made, 0), 0);
        assert_int_equal(cudaMemsetAsync(p, 0, 64, b), 0);
        assert_int_equal(cudaFreeAsync(p, b), 0);
        assert_int_equal(cudaStreamSynchronize(b), 0);
        cudaEventDestroy(made);
        cudaStreamSynchronize(a);
        cudaStreamDestroy(a);
        cudaStreamDestroy(b);
        assert_int_equal(emu_close() > 0, !waits);
        assert_int_equal(emu_found("race: cudaMemsetAsync") > 0, !waits);
    }
}

static void the_host_cannot_touch_device_memory(void **state)
{
    (void)state;
    for (int freed = 0; freed < 2; freed++) {
        volatile char *a = NULL;
        emu_open(&(struct emu_options){.order = EMU_LATE});
        assert_int_equal(cudaMalloc((void **)&a, 100), cudaSuccess);
        if (freed)
            assert_int_equal(cudaFree((void *)(uintptr_t)a), cudaSuccess);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            emu_trap();
            _exit(a[5] == 0 ? 1 : 2);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), EMU_TRAPPED);
        if (!freed)
            cudaFree((void *)(uintptr_t)a);
        assert_int_equal(emu_close(), 0);
    }
}

static void *in_a_thread(void *p)
{
    cudaMalloc(p, 16);
    return NULL;
}

static void another_thread_is_named(void **state)
{
    (void)state;
    pthread_t thread;
    void *p = NULL;
    emu_open(&(struct emu_options){.order = EMU_LATE});
    assert_int_equal(pthread_create(&thread, NULL, in_a_thread, &p), 0);
    pthread_join(thread, NULL);
    assert_int_equal(emu_found("thread: cudaMalloc"), 1);
    cudaFree(p);
    emu_close();
}

static void what_is_counted_is_what_was_done(void **state)
{
    (void)state;
    struct pipe p = {.mistake = NONE};
    emu_open(&(struct emu_options){.order = EMU_LATE});
    assert_int_equal(run_pipe(&p), cudaSuccess);
    struct emu_counters c = emu_counters();
    assert_int_equal(c.launches, STEPS);
    assert_int_equal(c.copies, STEPS + 1);
    assert_int_equal(c.bytes_to_device, STEPS * BYTES);
    assert_int_equal(c.bytes_to_host, BYTES);
    assert_int_equal(c.allocations, 6);
    assert_int_equal(c.syncs, STEPS - 2 + 1); /* from the third step on, and the last */
    assert_int_equal(c.peak_bytes, 3 * BYTES);
    emu_reset_counters(); /* a steady step allocates nothing */
    assert_int_equal(step(&p, STEPS), cudaSuccess);
    c = emu_counters();
    assert_int_equal(c.launches, 1);
    assert_int_equal(c.allocations + c.frees + c.events, 0);
    close_pipe(&p);
    assert_int_equal(emu_close(), 0);
}

static void a_missing_device_is_said_as_the_runtime_says_it(void **state)
{
    (void)state;
    static const cudaError_t missing[] = {
        cudaErrorStubLibrary, cudaErrorInsufficientDriver, cudaErrorNoDevice};
    for (int i = 0; i < 3; i++) {
        int n = -7;
        emu_open(&(struct emu_options){.missing = missing[i]});
        assert_int_equal(cudaGetDeviceCount(&n), missing[i]);
        assert_int_equal(n, -7); /* left as it was */
        assert_string_not_equal(cudaGetErrorString(missing[i]), "unknown error");
        emu_close();
    }
}

static void time_passes_between_events(void **state)
{
    (void)state;
    cudaStream_t s;
    cudaEvent_t a, b;
    char *p = NULL;
    float ms = -1;
    emu_open(&(struct emu_options){.order = EMU_LATE});
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&a, 0);
    cudaEventCreateWithFlags(&b, 0);
    cudaMalloc((void **)&p, 8);
    cudaEventRecord(a, s);
    cudaMemsetAsync(p, 1, 8, s);
    cudaEventRecord(b, s);
    assert_int_equal(cudaEventElapsedTime(&ms, a, b), cudaErrorNotReady);
    int asked = 1;
    while (cudaEventQuery(b) == cudaErrorNotReady)
        asked++;
    assert_int_equal(asked, 4); /* three pieces of work, one a query */
    assert_int_equal(cudaEventElapsedTime(&ms, a, b), cudaSuccess);
    assert_true(ms > 0);
    cudaEventDestroy(a);
    cudaEventDestroy(b);
    cudaStreamDestroy(s);
    cudaFree(p);
    assert_int_equal(emu_close(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_correct_pipeline_has_the_same_bits_in_every_order),
        cmocka_unit_test(each_planted_mistake_is_found_in_every_order),
        cmocka_unit_test(late_order_shows_what_missing_waits_do),
        cmocka_unit_test(any_call_may_fail_and_nothing_leaks),
        cmocka_unit_test(an_error_while_running_stays),
        cmocka_unit_test(memory_has_an_end_and_fresh_memory_is_nan),
        cmocka_unit_test(what_is_misused_or_left_is_named),
        cmocka_unit_test(memory_made_in_a_stream_is_for_those_who_wait),
        cmocka_unit_test(the_host_cannot_touch_device_memory),
        cmocka_unit_test(another_thread_is_named),
        cmocka_unit_test(what_is_counted_is_what_was_done),
        cmocka_unit_test(a_missing_device_is_said_as_the_runtime_says_it),
        cmocka_unit_test(time_passes_between_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
