/* SPDX-License-Identifier: Apache-2.0
 * Capture on the emulated device: nothing runs while it is captured, a graph does the same
 * again at each launch, in every order, and what may not be in a capture is refused. */
#include "emucuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { N = 50, BYTES = N * sizeof(float) };

struct run {
    cudaStream_t stream;
    float *in, *out, *sum, *device; /* pinned, pinned; of the device */
    cudaGraph_t graph;
    cudaGraphExec_t exec;
};

static void good(cudaError_t error)
{
    assert_string_equal(cudaGetErrorName(error), "cudaSuccess");
}

static void add(void *const *memory, const void *argument)
{
    float *sum = memory[0];
    const float *x = memory[1];
    (void)argument;
    for (int i = 0; i < N; i++)
        sum[i] = 0.5F * sum[i] + x[i];
}

static void open_run(struct run *r)
{
    good(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking));
    good(cudaMallocHost((void **)&r->in, BYTES));
    good(cudaMallocHost((void **)&r->out, BYTES));
    good(cudaMalloc((void **)&r->sum, BYTES));
    good(cudaMalloc((void **)&r->device, BYTES));
    good(cudaMemsetAsync(r->sum, 0, BYTES, r->stream));
}

static void close_run(struct run *r)
{
    cudaStreamSynchronize(r->stream);
    if (r->exec)
        cudaGraphExecDestroy(r->exec);
    if (r->graph)
        cudaGraphDestroy(r->graph);
    cudaStreamDestroy(r->stream);
    cudaFreeHost(r->in);
    cudaFreeHost(r->out);
    cudaFree(r->sum);
    cudaFree(r->device);
}

static cudaError_t step(struct run *r)
{
    const struct emu_range ranges[] = {
        {r->sum, BYTES, true}, {r->device, BYTES, false}};
    good(cudaMemcpyAsync(r->device, r->in, BYTES, cudaMemcpyHostToDevice, r->stream));
    good(emu_launch(r->stream, "add", add, NULL, 0, ranges, 2));
    return cudaMemcpyAsync(r->out, r->sum, BYTES, cudaMemcpyDeviceToHost, r->stream);
}

static void fill(struct run *r, int k)
{
    emu_host_touches(r->in, BYTES, true);
    for (int i = 0; i < N; i++)
        r->in[i] = (float)(k * N + i);
}

static void a_graph_does_what_its_steps_did(void **state)
{
    (void)state;
    for (int run = 0; run < 20; run++) {
        float want[N] = {0};
        struct run r = {.graph = NULL};
        emu_open(&(struct emu_options){.order = run == 0   ? EMU_LATE
                                                : run == 1 ? EMU_EARLY
                                                           : EMU_RANDOM,
            .seed = (uint64_t)run});
        open_run(&r);
        memset(r.out, 0, BYTES);
        memset(r.in, 0xFF, BYTES); /* NaN, if it ran now */
        good(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
        good(step(&r));
        good(cudaStreamEndCapture(r.stream, &r.graph));
        good(cudaGraphInstantiate(&r.exec, r.graph, 0));
        good(cudaGraphDestroy(r.graph));
        r.graph = NULL;
        good(cudaStreamSynchronize(r.stream));
        assert_true(r.out[0] == 0);
        for (int k = 0; k < 4; k++) {
            fill(&r, k);
            good(cudaGraphLaunch(r.exec, r.stream));
            good(cudaStreamSynchronize(r.stream));
            for (int i = 0; i < N; i++)
                want[i] = 0.5F * want[i] + (float)(k * N + i);
            assert_memory_equal(r.out, want, BYTES);
        }
        assert_int_equal(emu_counters().graphs, 4);
        assert_int_equal(emu_counters().launches, 1);
        close_run(&r);
        if (emu_close() > 0)
            fail_msg("run %d: %s", run, emu_finding(0));
    }
}

static void mistakes_with_graphs_are_found(void **state)
{
    static const char *const says[] = {"race: an access", "leak: a graph", "freed: add",
        "misuse: cudaStreamSynchronize while", "misuse: cudaMalloc while",
        "unknown: cudaEventRecord in a capture"};
    (void)state;
    for (int mistake = 0; mistake < 6; mistake++) {
        struct run r = {.graph = NULL};
        void *p = NULL;
        cudaEvent_t event = NULL;
        emu_open(&(struct emu_options){.order = EMU_LATE});
        open_run(&r);
        fill(&r, 1);
        good(cudaEventCreateWithFlags(&event, 0));
        good(cudaStreamBeginCapture(r.stream, cudaStreamCaptureModeGlobal));
        good(step(&r));
        if (mistake == 3)
            assert_int_equal(
                cudaStreamSynchronize(r.stream), cudaErrorStreamCaptureUnsupported);
        if (mistake == 4)
            assert_int_equal(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported);
        if (mistake == 5)
            good(cudaEventRecord(event, r.stream));
        cudaError_t error = cudaStreamEndCapture(r.stream, &r.graph);
        assert_int_equal(
            error, mistake < 3 ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
        if (mistake < 3) {
            good(cudaGraphInstantiate(&r.exec, r.graph, 0));
            if (mistake == 2) {
                good(cudaFree(r.device));
                r.device = NULL;
            }
            good(cudaGraphLaunch(r.exec, r.stream));
        }
        if (mistake == 0)
            fill(&r, 2); /* while the copy may read it */
        if (mistake == 1) {
            cudaStreamSynchronize(r.stream);
            r.exec = NULL;
        }
        cudaStreamSynchronize(r.stream);
        cudaEventDestroy(event);
        close_run(&r);
        emu_close();
        if (emu_found(says[mistake]) == 0)
            fail_msg("nothing says '%s': %s", says[mistake],
                emu_findings() ? emu_finding(0) : "no finding");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_does_what_its_steps_did),
        cmocka_unit_test(mistakes_with_graphs_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
