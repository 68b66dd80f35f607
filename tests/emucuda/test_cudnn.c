/* SPDX-License-Identifier: Apache-2.0
 * The double of cuDNN: engines are offered and refused as by 9.19, wrong pointers are found;
 * a graph that runs says what it touches, poisons what it should, and rounds where a tensor is
 * in memory. */
#include "dnn_plan.h"
#include "emucuda.h"
#include "number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- a graph and its memory ---- */

enum { X, W, Y, TENSORS, FLOATS = 2 * 8 * 8 * 8, BYTES = FLOATS * 4 };

struct run {
    struct th_cudnn_graph *g;
    struct th_cudnn_target target;
    struct th_cudnn_plan *plan;
    cudaStream_t stream;
    cudnnHandle_t handle;
    char *memory[TENSORS], *workspace;
    float *pinned;
    int at[TENSORS]; /* of the graph */
};

static int nhwc(struct th_cudnn_graph *g, const char *name, cudnnDataType_t type,
    int64_t n, int64_t c, int64_t h, int64_t w)
{
    return th_cudnn_tensor(g, &(struct th_cudnn_tensor){.name = name,
                                  .type = type,
                                  .rank = 4,
                                  .dim = {n, c, h, w},
                                  .stride = {c * h * w, 1, c * w, c}});
}

/* y = x * w, a convolution of 8 channels; or y = x + x / relu, element by element */
static void build(struct run *r, bool product, cudnnDataType_t type)
{
    static const struct th_cudnn_window window = {.stride = {1, 1},
        .dilation = {1, 1},
        .before = {1, 1},
        .after = {1, 1},
        .groups = 1};
    r->g = th_cudnn_graph_new("test");
    r->at[X] = nhwc(r->g, "x", type, 2, 8, 8, 8);
    r->at[W] = nhwc(r->g, "w", type, 8, 8, 3, 3);
    r->at[Y] = nhwc(r->g, "y", type, 2, 8, 8, 8);
    if (product)
        th_cudnn_conv(r->g, &window, r->at[X], r->at[W], r->at[Y]);
    else
        th_cudnn_pointwise(r->g, CUDNN_POINTWISE_RELU_FWD,
            th_cudnn_pointwise(r->g, CUDNN_POINTWISE_ADD, r->at[X], r->at[X], -1), -1,
            r->at[Y]);
}

static void open_run(struct run *r, bool product, cudnnDataType_t type)
{
    *r = (struct run){.g = NULL};
    assert_int_equal(cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking), 0);
    assert_int_equal(cudnnCreate(&r->handle), 0);
    assert_int_equal(cudnnSetStream(r->handle, r->stream), 0);
    assert_int_equal(th_cudnn_present(r->handle, &r->target), THAW_OK);
    assert_int_equal(cudaMallocHost((void **)&r->pinned, BYTES), 0);
    for (int i = 0; i < TENSORS; i++)
        assert_int_equal(cudaMalloc((void **)&r->memory[i], BYTES), 0);
    build(r, product, type);
}

static thaw_status plan(struct run *r, bool strict)
{
    const struct th_cudnn_policy policy = {.strict = strict, .deterministic = true};
    th_cudnn_plan_free(r->plan);
    r->plan = NULL;
    thaw_status status = th_cudnn_plan_new(r->g, &r->target, &policy, &r->plan);
    if (status == THAW_OK && th_cudnn_plan_engine(r->plan)->workspace > 0)
        assert_int_equal(cudaMalloc((void **)&r->workspace,
                             (size_t)th_cudnn_plan_engine(r->plan)->workspace),
            0);
    return status;
}

static void close_run(struct run *r)
{
    cudaStreamSynchronize(r->stream);
    th_cudnn_plan_free(r->plan);
    th_cudnn_forget(&r->target);
    th_cudnn_graph_free(r->g);
    for (int i = 0; i < TENSORS; i++)
        cudaFree(r->memory[i]);
    cudaFree(r->workspace);
    cudaFreeHost(r->pinned);
    cudnnDestroy(r->handle);
    cudaStreamDestroy(r->stream);
}

static void upload(struct run *r, int i, cudnnDataType_t type)
{
    uint64_t h = 99 + (uint64_t)i;
    for (int k = 0; k < FLOATS; k++) {
        h = h * 6364136223846793005U + 1442695040888963407U;
        float x = (float)((int64_t)(h >> 40) % 4001 - 2000) / 1000.0F;
        if (type == CUDNN_DATA_FLOAT)
            r->pinned[k] = x;
        else
            ((uint16_t *)r->pinned)[k] = to_bf16(x);
    }
    assert_int_equal(cudaMemcpyAsync(r->memory[i], r->pinned, BYTES,
                         cudaMemcpyHostToDevice, r->stream),
        0);
    assert_int_equal(cudaStreamSynchronize(r->stream), 0);
}

static void download(struct run *r, int i)
{
    assert_int_equal(cudaMemcpyAsync(r->pinned, r->memory[i], BYTES,
                         cudaMemcpyDeviceToHost, r->stream),
        0);
    assert_int_equal(cudaStreamSynchronize(r->stream), 0);
}

static thaw_status execute(struct run *r, char *x, char *y, char *workspace)
{
    void *pointers[TH_CUDNN_TENSORS] = {0};
    pointers[r->at[X]] = x;
    pointers[r->at[W]] = r->memory[W];
    pointers[r->at[Y]] = y;
    return th_cudnn_plan_run(r->plan, r->handle, pointers, r->g->n_tensors, workspace);
}

static void each_wrong_pointer_is_found(void **state)
{
    static const struct {
        bool product;
        int x, y; /* what is added to the address; 1: the other's, -1: the host's */
        const char *says;
    } wrong[] = {
        {true, 4, 0, "is not aligned to 16 bytes"},
        {true, 4096, 0, "are not in one live device block"},
        {true, 0, 16, "are not in one live device block"},
        {true, -1, 0, "are not in one live device block"},
        {true, 0, 1, "is made over the memory of uid 1"},
        {false, 0, 1, NULL}, /* in place */
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct run r;
        emu_open(&(struct emu_options){.order = EMU_LATE});
        open_run(&r, wrong[i].product, CUDNN_DATA_FLOAT);
        assert_int_equal(plan(&r, true), THAW_OK);
        upload(&r, X, CUDNN_DATA_FLOAT);
        upload(&r, W, CUDNN_DATA_FLOAT);
        char *x = wrong[i].x < 0 ? (char *)r.pinned : r.memory[X] + wrong[i].x;
        char *y = wrong[i].y == 1 ? x : r.memory[Y] + wrong[i].y;
        thaw_status status = execute(&r, x, y, r.workspace);
        assert_int_equal(status, wrong[i].says ? THAW_E_FAIL : THAW_OK);
        close_run(&r);
        int findings = emu_close();
        if (findings != (wrong[i].says != NULL) ||
            (findings > 0 && !strstr(emu_finding(0), wrong[i].says)))
            fail_msg("pointer %zu: %d findings: %s", i, findings,
                findings ? emu_finding(0) : wrong[i].says);
    }
}

static void a_workspace_is_whole_and_is_overwritten(void **state)
{
    (void)state;
    int tried = 0;
    for (uint64_t seed = 1; seed < 20; seed++) {
        struct run r;
        emu_open(&(struct emu_options){.order = EMU_LATE, .seed = seed});
        open_run(&r, true, CUDNN_DATA_FLOAT);
        assert_int_equal(plan(&r, true), THAW_OK);
        int64_t size = th_cudnn_plan_engine(r.plan)->workspace;
        upload(&r, X, CUDNN_DATA_FLOAT);
        upload(&r, W, CUDNN_DATA_FLOAT);
        if (size > 0 && size <= BYTES) {
            assert_int_equal(execute(&r, r.memory[X], r.memory[Y], NULL), THAW_E_FAIL);
            assert_int_equal(emu_findings(), 0); /* dnn_plan.c says it */
            assert_int_equal(
                execute(&r, r.memory[X], r.memory[Y], r.memory[X]), THAW_E_FAIL);
            assert_int_equal(emu_found("the workspace is over"), 1);
            assert_int_equal(
                execute(&r, r.memory[X], r.memory[Y], r.workspace + 1), THAW_E_FAIL);
            assert_int_equal(emu_found("a workspace of"), 1);
            assert_int_equal(
                execute(&r, r.memory[X], r.memory[Y], r.workspace), THAW_OK);
            assert_int_equal(cudaMemcpyAsync(r.pinned, r.workspace, (size_t)size,
                                 cudaMemcpyDeviceToHost, r.stream),
                0);
            assert_int_equal(cudaStreamSynchronize(r.stream), 0);
            for (int64_t i = 0; i < size; i++)
                assert_int_equal(((unsigned char *)r.pinned)[i], 0xFF);
            tried++;
        }
        close_run(&r);
        emu_close();
    }
    assert_true(tried > 3);
}

static void engines_are_offered_and_refused_as_by_the_library(void **state)
{
    (void)state;
    struct run r;
    emu_open(&(struct emu_options){.order = EMU_LATE});
    open_run(&r, true, CUDNN_DATA_FLOAT);
    assert_int_equal(plan(&r, true), THAW_OK);
    assert_int_equal(th_cudnn_plan_engine(r.plan)->numerical, 0);
    cudaFree(r.workspace);
    r.workspace = NULL;
    assert_int_equal(plan(&r, false), THAW_OK); /* TF32 comes first */
    assert_true(th_cudnn_plan_engine(r.plan)->numerical &
                1U << CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
    assert_false(th_cudnn_plan_engine(r.plan)->numerical &
                 1U << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    struct th_cudnn_engine engines[8];
    int n = 0;
    assert_int_equal(th_cudnn_engines(r.g, &r.target, engines, 8, &n), THAW_OK);
    assert_int_equal(n, 3);
    assert_true(engines[0].numerical & 1U << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
    /* a mask in the epilogue of an fp32 convolution does not compile */
    int mask = nhwc(r.g, "mask", CUDNN_DATA_BOOLEAN, 2, 8, 8, 8);
    th_cudnn_pointwise(
        r.g, CUDNN_POINTWISE_CMP_GT, r.at[Y], th_cudnn_scalar(r.g, "zero", 0), mask);
    cudaFree(r.workspace);
    r.workspace = NULL;
    assert_int_equal(plan(&r, true), THAW_E_FAIL);
    assert_non_null(strstr(thaw_error(), "COMPILATION_FAILED"));
    assert_int_equal(plan(&r, false), THAW_OK);
    close_run(&r);
    assert_int_equal(emu_close(), 0);
}

static void numbers_are_rounded_where_they_are_in_memory(void **state)
{
    (void)state;
    float exact[FLOATS];
    struct run r;
    for (int way = 0; way < 3; way++) { /* strict fp32, TF32, fp32 in another order */
        emu_open(&(struct emu_options){
            .order = EMU_LATE, .seed = 5, .any_sum_order = way == 2});
        open_run(&r, true, CUDNN_DATA_FLOAT);
        assert_int_equal(plan(&r, way != 1), THAW_OK);
        upload(&r, X, CUDNN_DATA_FLOAT);
        upload(&r, W, CUDNN_DATA_FLOAT);
        assert_int_equal(execute(&r, r.memory[X], r.memory[Y], r.workspace), THAW_OK);
        download(&r, Y);
        double off = 0;
        for (int i = 0; i < FLOATS; i++)
            off = fmax(off, fabs((double)r.pinned[i] - (double)exact[i]));
        if (way == 0)
            memcpy(exact, r.pinned, BYTES);
        else if (way == 1)
            assert_true(off > 1e-4 && off < 0.1);
        else
            assert_true(off > 0 && off < 1e-4);
        close_run(&r);
        assert_int_equal(emu_close(), 0);
    }
    emu_open(&(struct emu_options){.order = EMU_LATE});
    open_run(&r, false, CUDNN_DATA_BFLOAT16); /* relu(x + x) */
    assert_int_equal(plan(&r, true), THAW_OK);
    upload(&r, X, CUDNN_DATA_BFLOAT16);
    float x[FLOATS];
    for (int i = 0; i < FLOATS; i++)
        x[i] = from_bf16(((uint16_t *)r.pinned)[i]);
    assert_int_equal(execute(&r, r.memory[X], r.memory[Y], r.workspace), THAW_OK);
    download(&r, Y);
    for (int i = 0; i < FLOATS; i++)
        assert_int_equal(
            ((uint16_t *)r.pinned)[i], to_bf16(x[i] > 0 ? x[i] + x[i] : 0));
    close_run(&r);
    assert_int_equal(emu_close(), 0);
}

static void what_nobody_wrote_is_nan_and_races_are_seen(void **state)
{
    (void)state;
    for (int waits = 0; waits < 2; waits++) {
        struct run r;
        cudaStream_t other;
        emu_open(&(struct emu_options){.order = EMU_LATE});
        open_run(&r, true, CUDNN_DATA_FLOAT);
        assert_int_equal(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), 0);
        assert_int_equal(plan(&r, true), THAW_OK);
        upload(&r, W, CUDNN_DATA_FLOAT); /* but no x */
        assert_int_equal(execute(&r, r.memory[X], r.memory[Y], r.workspace), THAW_OK);
        if (waits)
            assert_int_equal(cudaStreamSynchronize(r.stream), 0);
        assert_int_equal(cudaMemsetAsync(r.memory[X], 0, BYTES, other), 0);
        download(&r, Y);
        assert_true(isnan(r.pinned[0]));
        assert_int_equal(emu_counters().executes, 1);
        cudaStreamSynchronize(other);
        cudaStreamDestroy(other);
        close_run(&r);
        emu_close();
        assert_int_equal(emu_found("race: cudaMemsetAsync"), !waits);
    }
}

static void what_fails_on_demand_is_said(void **state)
{
    (void)state;
    struct run r;
    emu_open(&(struct emu_options){.order = EMU_LATE});
    open_run(&r, true, CUDNN_DATA_FLOAT);
    emu_fail(
        EMU_PLAN, 1); /* the one configuration that is allowed, but for FALLBACK's */
    assert_int_equal(plan(&r, true), THAW_OK);
    assert_true(emu_failed());
    emu_fail(EMU_EXECUTE, 1);
    assert_int_equal(execute(&r, r.memory[X], r.memory[Y], r.workspace), THAW_E_FAIL);
    assert_true(emu_failed());
    close_run(&r);
    cudnnHandle_t left;
    assert_int_equal(cudnnCreate(&left), 0);
    assert_int_equal(emu_close(), 1);
    assert_int_equal(emu_found("leak: a cuDNN handle"), 1);
    emu_open(&(struct emu_options){.missing = cudaErrorInsufficientDriver});
    assert_int_equal(cudnnCreate(&left), CUDNN_STATUS_NOT_INITIALIZED);
    assert_int_equal(emu_close(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_wrong_pointer_is_found),
        cmocka_unit_test(a_workspace_is_whole_and_is_overwritten),
        cmocka_unit_test(engines_are_offered_and_refused_as_by_the_library),
        cmocka_unit_test(numbers_are_rounded_where_they_are_in_memory),
        cmocka_unit_test(what_nobody_wrote_is_nan_and_races_are_seen),
        cmocka_unit_test(what_fails_on_demand_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
