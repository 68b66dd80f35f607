/* SPDX-License-Identifier: Apache-2.0
 * Kernels on the emulated device: PTX is loaded, launched and runs when its time comes, with
 * the parameters of the call; what it touched is held to the order of the calls, whichever
 * way round it ran; launches that no device takes fail and leave the device as it was. */
#include "emucuda.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* y[i] += a x[i], i < n */
static const char code[] = ".version 8.0\n"
                           ".target sm_90\n"
                           ".address_size 64\n"
                           ".visible .entry axpy(\n"
                           ".param .u64 axpy_param_0,\n"
                           ".param .u64 axpy_param_1,\n"
                           ".param .f32 axpy_param_2,\n"
                           ".param .u32 axpy_param_3\n"
                           ")\n"
                           "{\n"
                           ".reg .pred %p<2>;\n"
                           ".reg .f32 %f<5>;\n"
                           ".reg .b32 %r<6>;\n"
                           ".reg .b64 %rd<8>;\n"
                           "ld.param.u64 %rd1, [axpy_param_0];\n"
                           "ld.param.u64 %rd2, [axpy_param_1];\n"
                           "ld.param.f32 %f1, [axpy_param_2];\n"
                           "ld.param.u32 %r2, [axpy_param_3];\n"
                           "mov.u32 %r3, %ctaid.x;\n"
                           "mov.u32 %r4, %ntid.x;\n"
                           "mov.u32 %r5, %tid.x;\n"
                           "mad.lo.s32 %r1, %r3, %r4, %r5;\n"
                           "setp.ge.s32 %p1, %r1, %r2;\n"
                           "@%p1 bra $L_end;\n"
                           "cvta.to.global.u64 %rd3, %rd2;\n"
                           "mul.wide.s32 %rd4, %r1, 4;\n"
                           "add.s64 %rd5, %rd3, %rd4;\n"
                           "ld.global.f32 %f2, [%rd5];\n"
                           "cvta.to.global.u64 %rd6, %rd1;\n"
                           "add.s64 %rd7, %rd6, %rd4;\n"
                           "ld.global.f32 %f3, [%rd7];\n"
                           "fma.rn.f32 %f4, %f2, %f1, %f3;\n"
                           "st.global.f32 [%rd7], %f4;\n"
                           "$L_end:\n"
                           "ret;\n"
                           "}\n";

enum { N = 300, BYTES = N * sizeof(float) };

enum mistake {
    NONE,
    NO_WAIT,       /* the kernel does not wait for the copy */
    LATE_COPY,     /* a copy that is enqueued behind the kernel does not wait for it */
    TWO_KERNELS,   /* write the same bytes */
    HOST_READS,    /* what the kernel writes, before the end */
    OUT_OF_BOUNDS, /* one thread too many */
    FREED,         /* launched with a block that is freed in the stream */
    UNLOADED,      /* while the launch is pending */
    LEFT,          /* the library */
};

struct run {
    enum mistake mistake;
    cudaStream_t copy, compute;
    cudaEvent_t copied;
    cudaLibrary_t library;
    cudaKernel_t axpy;
    float *x, *y, *pinned, *shared; /* shared: pinned, which the kernel adds to */
};

static void good(cudaError_t error)
{
    assert_string_equal(cudaGetErrorName(error), "cudaSuccess");
}

static void open_run(struct run *r)
{
    good(cudaStreamCreateWithFlags(&r->copy, cudaStreamNonBlocking));
    good(cudaStreamCreateWithFlags(&r->compute, cudaStreamNonBlocking));
    good(cudaEventCreateWithFlags(&r->copied, cudaEventDisableTiming));
    good(cudaLibraryLoadData(&r->library, code, NULL, NULL, 0, NULL, NULL, 0));
    good(cudaLibraryGetKernel(&r->axpy, r->library, "axpy"));
    good(cudaMalloc((void **)&r->x, BYTES));
    good(cudaMalloc((void **)&r->y, BYTES));
    good(cudaMallocHost((void **)&r->pinned, BYTES));
    good(cudaMallocHost((void **)&r->shared, BYTES));
    for (int i = 0; i < N; i++) {
        r->pinned[i] = (float)i;
        r->shared[i] = 1;
    }
}

static void close_run(struct run *r)
{
    cudaStreamSynchronize(r->copy);
    cudaStreamSynchronize(r->compute);
    cudaEventDestroy(r->copied);
    cudaStreamDestroy(r->copy);
    cudaStreamDestroy(r->compute);
    if (r->mistake != FREED)
        cudaFree(r->x);
    cudaFree(r->y);
    cudaFreeHost(r->pinned);
    cudaFreeHost(r->shared);
    if (r->mistake != LEFT && r->mistake != UNLOADED)
        cudaLibraryUnload(r->library);
}

static cudaError_t launch(
    const struct run *r, cudaStream_t stream, float *y, float a, int n)
{
    const float *x = r->x;
    void *args[] = {&y, &x, &a, &n};
    cudaError_t error = cudaLaunchKernel((const void *)r->axpy,
        (dim3){(unsigned)(n + 63) / 64, 1, 1}, (dim3){64, 1, 1}, args, 0, stream);
    y = NULL; /* parameters are those of the call */
    a = 0;
    n = 1 << 30;
    return error;
}

static void run_kernels(struct run *r)
{
    enum mistake m = r->mistake;
    good(cudaMemsetAsync(r->y, 0, BYTES, r->compute));
    good(cudaMemcpyAsync(r->x, r->pinned, BYTES, cudaMemcpyHostToDevice, r->copy));
    good(cudaEventRecord(r->copied, r->copy));
    if (m != NO_WAIT)
        good(cudaStreamWaitEvent(r->compute, r->copied, 0));
    if (m == FREED)
        good(cudaFreeAsync(r->x, r->compute));
    for (int i = 0; i < 3; i++)
        good(launch(r, r->compute, r->y, (float)(i + 1), N + (m == OUT_OF_BOUNDS)));
    if (m == LATE_COPY)
        good(cudaMemcpyAsync(r->x, r->pinned, BYTES, cudaMemcpyHostToDevice, r->copy));
    if (m == TWO_KERNELS)
        good(launch(r, r->copy, r->y, 1, N));
    good(launch(r, r->compute, r->shared, 1, N));
    if (m == HOST_READS)
        emu_host_touches(r->shared, BYTES, false);
    if (m == UNLOADED)
        good(cudaLibraryUnload(r->library));
}

static void each_order_gives_the_same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 34; i++) {
        struct run r = {.mistake = NONE};
        emu_open(&(struct emu_options){.order = i == 0   ? EMU_LATE
                                                : i == 1 ? EMU_EARLY
                                                         : EMU_RANDOM,
            .seed = (uint64_t)i});
        open_run(&r);
        run_kernels(&r);
        good(cudaMemcpyAsync(r.pinned, r.y, BYTES, cudaMemcpyDeviceToHost, r.compute));
        good(cudaStreamSynchronize(r.compute));
        for (int k = 0; k < N; k++) {
            assert_true(r.pinned[k] == (float)(6 * k));
            assert_true(r.shared[k] == (float)(1 + k));
        }
        assert_int_equal(emu_counters().kernels, 4);
        assert_int_equal(emu_counters().launches, 4);
        close_run(&r);
        if (emu_close() > 0)
            fail_msg("run %d: %s", i, emu_finding(0));
    }
}

static const struct {
    enum mistake mistake;
    const char *says;
} planted[] = {
    {NO_WAIT, "race: "},
    {LATE_COPY, "race: "},
    {TWO_KERNELS, "race: "},
    {HOST_READS, "race: "},
    {OUT_OF_BOUNDS, "kernel: axpy #"},
    {FREED, "freed: axpy is launched with block"},
    {UNLOADED, "launches pending"},
    {LEFT, "leak: a library"},
};

static void each_mistake_is_found_in_every_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
        for (int k = 0; k < 12; k++) {
            struct run r = {.mistake = planted[i].mistake};
            enum emu_order order = k == 0 ? EMU_LATE : k == 1 ? EMU_EARLY : EMU_RANDOM;
            if (planted[i].mistake == UNLOADED && order != EMU_LATE)
                continue; /* nothing may be pending */
            if (planted[i].mistake == OUT_OF_BOUNDS && order != EMU_LATE)
                continue; /* calls after it may fail already */
            emu_open(&(struct emu_options){.order = order, .seed = (uint64_t)k});
            open_run(&r);
            run_kernels(&r);
            cudaError_t error = cudaDeviceSynchronize();
            if (planted[i].mistake == OUT_OF_BOUNDS)
                assert_int_equal(error, cudaErrorIllegalAddress);
            close_run(&r);
            emu_close();
            if (emu_found(planted[i].says) == 0)
                fail_msg("mistake %zu, run %d: nothing says '%s': %s", i, k,
                    planted[i].says, emu_findings() ? emu_finding(0) : "no finding");
        }
}

static void a_launch_that_no_device_takes_does_not_stay(void **state)
{
    static const struct {
        dim3 grid, block;
        size_t shared;
        cudaError_t error;
    } wrong[] = {
        {{0, 1, 1}, {64, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 65536, 1}, {64, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1025, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {32, 32, 2}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1, 1, 65}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {64, 1, 1}, 1025, cudaErrorInvalidValue},
    };
    (void)state;
    struct run r = {.mistake = NONE};
    emu_open(&(struct emu_options){.order = EMU_LATE});
    open_run(&r);
    float a = 1;
    int n = N;
    void *args[] = {&r.y, &r.x, &a, &n};
    good(cudaFuncSetAttribute(
        (const void *)r.axpy, cudaFuncAttributeMaxDynamicSharedMemorySize, 1024));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(cudaLaunchKernel((const void *)r.axpy, wrong[i].grid,
                             wrong[i].block, args, wrong[i].shared, r.compute),
            wrong[i].error);
        assert_int_equal(cudaGetLastError(), wrong[i].error);
        assert_int_equal(cudaGetLastError(), cudaSuccess);
    }
    assert_int_equal(cudaLaunchKernel((const void *)&r, (dim3){1, 1, 1},
                         (dim3){64, 1, 1}, args, 0, r.compute),
        cudaErrorInvalidDeviceFunction);
    run_kernels(&r);
    good(cudaLaunchKernel((const void *)r.axpy, (dim3){5, 1, 1}, (dim3){64, 1, 1}, args,
        1024, r.compute));
    cudaError_t error = cudaDeviceSynchronize();
    if (emu_findings() > 0)
        fail_msg("%s", emu_finding(0));
    good(error);
    close_run(&r);
    assert_int_equal(emu_close(), 0);
}

static void what_is_not_there_is_said(void **state)
{
    (void)state;
    cudaLibrary_t library;
    cudaKernel_t kernel;
    emu_open(&(struct emu_options){.order = EMU_LATE});
    good(cudaLibraryLoadData(&library, code, NULL, NULL, 0, NULL, NULL, 0));
    assert_int_equal(
        cudaLibraryGetKernel(&kernel, library, "none"), cudaErrorSymbolNotFound);
    good(cudaLibraryUnload(library));
    assert_int_equal(
        cudaLibraryGetKernel(&kernel, library, "axpy"), cudaErrorInvalidResourceHandle);
    assert_int_equal(emu_findings(), 0);
    assert_int_equal(
        cudaLibraryLoadData(&library, "no PTX", NULL, NULL, 0, NULL, NULL, 0),
        cudaErrorInvalidPtx);
    assert_int_equal(emu_found("ptx: "), 1);
    emu_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_order_gives_the_same_bits),
        cmocka_unit_test(each_mistake_is_found_in_every_order),
        cmocka_unit_test(a_launch_that_no_device_takes_does_not_stay),
        cmocka_unit_test(what_is_not_there_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
