/* SPDX-License-Identifier: Apache-2.0
 * The double of cuBLASLt: products against a naive sum over types, orders, transposes,
 * batches and epilogues; each rule finds its planted mistake. */
#include "emucuda.h"
#include "number.h"

#include <cublasLt.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { A, B, C, D, M = 5, N = 7, K = 150, MOST = 4096 };

/* ---- a product and what belongs to it ---- */

enum mistake {
    NONE,
    SHORT_LD,
    GELU,
    OTHER_LAYOUT, /* than the algorithm was chosen for */
    SHORT_WORKSPACE,
    MISALIGNED,
    OUTSIDE,
    IN_PLACE, /* D over A */
    NO_BIAS,
    OVERLAPPING_BATCH,
    MIXED_TYPES,
    NO_ALGORITHM,
    HOST_MEMORY
};

struct form {
    cudaDataType_t in, out;
    cublasComputeType_t compute;
    bool turn[2], by_row[4];
    int batch;
    cublasLtEpilogue_t epilogue;
    float alpha, beta;
    int pad; /* of leading dimensions */
};

struct run {
    struct form f;
    enum mistake mistake;
    cudaStream_t stream;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t layout[4];
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t choice;
    char *memory[4], *bias, *workspace, *pinned;
    int64_t rows[4], columns[4], ld[4], step[4], extent[4];
    float *values[4], *bias_values; /* what is in memory, as fp32 */
};

static void good(cublasStatus_t status)
{
    assert_string_equal(cublasLtGetStatusName(status), "CUBLAS_STATUS_SUCCESS");
}

static cudaDataType_t type_of(const struct run *r, int i)
{
    return i < C ? r->f.in : r->f.out;
}

static size_t size_of(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static float number(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return (float)((int64_t)(*state >> 33) % 2001 - 1000) / 500.0F;
}

static float rounded(float x, cudaDataType_t type)
{
    return type == CUDA_R_16BF  ? from_bf16(to_bf16(x))
           : type == CUDA_R_16F ? from_fp16(to_fp16(x))
                                : x;
}

static void write_value(void *p, cudaDataType_t type, int64_t i, float x)
{
    uint16_t half = type == CUDA_R_16BF ? to_bf16(x) : to_fp16(x);
    if (type == CUDA_R_32F)
        ((float *)p)[i] = x;
    else
        ((uint16_t *)p)[i] = half;
}

static float read_value(const void *p, cudaDataType_t type, int64_t i)
{
    if (type == CUDA_R_32F)
        return ((const float *)p)[i];
    uint16_t half = ((const uint16_t *)p)[i];
    return type == CUDA_R_16BF ? from_bf16(half) : from_fp16(half);
}

static void up(
    struct run *r, void *to, const float *values, int64_t n, cudaDataType_t type)
{
    for (int64_t i = 0; i < n; i++)
        write_value(r->pinned, type, i, values[i]);
    assert_int_equal(cudaMemcpyAsync(to, r->pinned, (size_t)n * size_of(type),
                         cudaMemcpyHostToDevice, r->stream),
        cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(r->stream), cudaSuccess);
}

static void down(
    struct run *r, float *values, const void *from, int64_t n, cudaDataType_t type)
{
    assert_int_equal(cudaMemcpyAsync(r->pinned, from, (size_t)n * size_of(type),
                         cudaMemcpyDeviceToHost, r->stream),
        cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(r->stream), cudaSuccess);
    for (int64_t i = 0; i < n; i++)
        values[i] = read_value(r->pinned, type, i);
}

static void lay_out(struct run *r, int i, int64_t rows, int64_t columns)
{
    int64_t length = r->f.by_row[i] ? columns : rows;
    int64_t lines = r->f.by_row[i] ? rows : columns;
    const int32_t by_row = CUBLASLT_ORDER_ROW, batch = r->f.batch;
    r->rows[i] = rows;
    r->columns[i] = columns;
    r->ld[i] = length + r->f.pad;
    if (r->mistake == SHORT_LD && i == B)
        r->ld[i] = length - 1;
    r->step[i] = lines * r->ld[i] + 3;
    if (r->mistake == OVERLAPPING_BATCH && i == D)
        r->step[i] = 2;
    r->extent[i] = (batch - 1) * r->step[i] + (lines - 1) * r->ld[i] + length;
    cudaDataType_t type =
        r->mistake == MIXED_TYPES && i == B ? CUDA_R_16F : type_of(r, i);
    good(cublasLtMatrixLayoutCreate(
        &r->layout[i], type, (uint64_t)rows, (uint64_t)columns, r->ld[i]));
    if (r->f.by_row[i])
        good(cublasLtMatrixLayoutSetAttribute(
            r->layout[i], CUBLASLT_MATRIX_LAYOUT_ORDER, &by_row, sizeof by_row));
    good(cublasLtMatrixLayoutSetAttribute(
        r->layout[i], CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch));
    good(cublasLtMatrixLayoutSetAttribute(r->layout[i],
        CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &r->step[i], sizeof *r->step));
}

static void open_run(struct run *r)
{
    uint64_t state = 77;
    const int32_t turn = CUBLAS_OP_T;
    const uint64_t room = 1 << 20;
    assert_int_equal(
        cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&r->pinned, MOST * 4), cudaSuccess);
    good(cublasLtCreate(&r->handle));
    good(cublasLtMatmulDescCreate(&r->product, r->f.compute, CUDA_R_32F));
    if (r->f.turn[A])
        good(cublasLtMatmulDescSetAttribute(
            r->product, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn));
    if (r->f.turn[B])
        good(cublasLtMatmulDescSetAttribute(
            r->product, CUBLASLT_MATMUL_DESC_TRANSB, &turn, sizeof turn));
    good(cublasLtMatmulDescSetAttribute(r->product, CUBLASLT_MATMUL_DESC_EPILOGUE,
        &r->f.epilogue, sizeof r->f.epilogue));
    lay_out(r, A, r->f.turn[A] ? K : M, r->f.turn[A] ? M : K);
    lay_out(r, B, r->f.turn[B] ? N : K, r->f.turn[B] ? K : N);
    lay_out(r, C, M, N);
    lay_out(r, D, M, N);
    for (int i = 0; i < 4; i++) {
        assert_true(r->extent[i] <= MOST);
        r->values[i] = malloc((size_t)r->extent[i] * sizeof(float));
        for (int64_t k = 0; k < r->extent[i]; k++)
            r->values[i][k] = rounded(number(&state), type_of(r, i));
        size_t bytes = (size_t)r->extent[i] * size_of(type_of(r, i));
        assert_int_equal(cudaMalloc((void **)&r->memory[i], bytes), cudaSuccess);
        up(r, r->memory[i], r->values[i], r->extent[i], type_of(r, i));
    }
    r->bias_values = malloc(N * sizeof(float));
    for (int i = 0; i < N; i++)
        r->bias_values[i] = rounded(number(&state), r->f.out);
    assert_int_equal(cudaMalloc((void **)&r->bias, N * 4), cudaSuccess);
    up(r, r->bias, r->bias_values, N, r->f.out);
    if (r->mistake != NO_BIAS)
        good(cublasLtMatmulDescSetAttribute(
            r->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &r->bias, sizeof r->bias));
    good(cublasLtMatmulPreferenceCreate(&r->preference));
    good(cublasLtMatmulPreferenceSetAttribute(
        r->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room));
}

static cublasStatus_t run_product(struct run *r)
{
    int n = 0;
    cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(r->handle, r->product, r->layout[A],
            r->layout[B], r->layout[C], r->layout[D], r->preference, 1, &r->choice, &n);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    assert_int_equal(n, 1);
    size_t bytes = r->choice.workspaceSize;
    if (bytes > 0)
        assert_int_equal(cudaMalloc((void **)&r->workspace, bytes), cudaSuccess);
    char *a = r->memory[A], *d = r->memory[D];
    if (r->mistake == OTHER_LAYOUT) {
        const int64_t ld = r->ld[A] + 1;
        good(cublasLtMatrixLayoutSetAttribute(
            r->layout[A], CUBLASLT_MATRIX_LAYOUT_LD, &ld, sizeof ld));
    }
    a += r->mistake == MISALIGNED ? 4 : 0;
    a += r->mistake == OUTSIDE ? 256 : 0;
    a = r->mistake == HOST_MEMORY ? r->pinned : a;
    d = r->mistake == IN_PLACE ? a : d;
    bytes -= r->mistake == SHORT_WORKSPACE && bytes > 0;
    return cublasLtMatmul(r->handle, r->product, &r->f.alpha, a, r->layout[A],
        r->memory[B], r->layout[B], &r->f.beta, r->memory[C], r->layout[C], d,
        r->layout[D], r->mistake == NO_ALGORITHM ? NULL : &r->choice.algo, r->workspace,
        bytes, r->stream);
}

static void close_run(struct run *r)
{
    cudaStreamSynchronize(r->stream);
    for (int i = 0; i < 4; i++) {
        cublasLtMatrixLayoutDestroy(r->layout[i]);
        cudaFree(r->memory[i]);
        free(r->values[i]);
    }
    free(r->bias_values);
    cublasLtMatmulDescDestroy(r->product);
    cublasLtMatmulPreferenceDestroy(r->preference);
    cublasLtDestroy(r->handle);
    cudaFree(r->bias);
    cudaFree(r->workspace);
    cudaFreeHost(r->pinned);
    cudaStreamDestroy(r->stream);
}

/* ---- what it has to be ---- */

static int64_t offset(const struct run *r, int i, int b, int64_t row, int64_t column)
{
    return b * r->step[i] +
           (r->f.by_row[i] ? row * r->ld[i] + column : column * r->ld[i] + row);
}

static float operand(const struct run *r, int i, int b, int64_t row, int64_t column)
{
    bool turn = i < C && r->f.turn[i];
    return r->values[i][offset(r, i, b, turn ? column : row, turn ? row : column)];
}

static void check_values(struct run *r)
{
    float *found = malloc(MOST * sizeof *found);
    double bound = r->f.out == CUDA_R_32F    ? 2e-6
                   : r->f.out == CUDA_R_16BF ? 5e-3
                                             : 6e-4; /* half a unit of the last place */
    down(r, found, r->memory[D], r->extent[D], r->f.out);
    for (int b = 0; b < r->f.batch; b++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++) {
                double sum = 0, size = 1;
                for (int k = 0; k < K; k++) {
                    double p =
                        (double)operand(r, A, b, i, k) * (double)operand(r, B, b, k, j);
                    sum += p;
                    size += fabs(p);
                }
                sum *= (double)r->f.alpha;
                sum += (double)r->f.beta * (double)operand(r, C, b, i, j);
                if (r->f.epilogue == CUBLASLT_EPILOGUE_BIAS)
                    sum += (double)r->bias_values[i];
                int64_t at = offset(r, D, b, i, j);
                double off = fabs((double)found[at] - sum);
                assert_true(off <= bound * size);
                r->values[D][at] = found[at];
            }
    assert_memory_equal(found, r->values[D], (size_t)r->extent[D] * 4); /* gaps stay */
    free(found);
}

static void check_bias(struct run *r)
{
    bool of_a = r->f.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    float found[N];
    down(r, found, r->bias, N, r->f.out);
    for (int i = 0; i < (of_a ? M : N); i++) {
        double sum = 0;
        for (int k = 0; k < K; k++)
            sum += (double)(of_a ? operand(r, A, 0, i, k) : operand(r, B, 0, k, i));
        assert_true(fabs((double)found[i] - sum) < 0.02 * (fabs(sum) + 1));
    }
}

static void each_form_is_the_naive_product(void **state)
{
    static const cudaDataType_t types[][2] = {{CUDA_R_32F, CUDA_R_32F},
        {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16F, CUDA_R_16F},
        {CUDA_R_16BF, CUDA_R_32F}};
    static const cublasLtEpilogue_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT,
        CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB};
    (void)state;
    for (int i = 0; i < 4 * 16 * 4; i++) {
        int bits = i / 4 % 16;
        struct run r = {.f = {.in = types[i % 4][0],
                            .out = types[i % 4][1],
                            .compute = CUBLAS_COMPUTE_32F,
                            .turn = {bits & 1, bits & 2},
                            .by_row = {bits & 4, bits & 8, bits & 1, bits & 1},
                            .epilogue = epilogues[i / 64],
                            .batch = i / 64 == 0 ? 1 + i % 3 : 1,
                            .alpha = i % 5 ? 1.0F : 0.5F,
                            .beta = i % 7 ? 0.0F : -2.0F,
                            .pad = i % 2}};
        emu_open(&(struct emu_options){.order = EMU_RANDOM, .seed = (uint64_t)i});
        open_run(&r);
        good(run_product(&r));
        check_values(&r);
        if (i / 64 >= 2)
            check_bias(&r);
        assert_int_equal(emu_counters().products, 1);
        close_run(&r);
        if (emu_close() > 0)
            fail_msg("form %d: %s", i, emu_finding(0));
    }
}

static void tensor_cores_lose_bits_where_they_may(void **state)
{
    static const cublasComputeType_t computes[] = {
        CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
    float found[2][M * N];
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct run r = {.f = {.compute = computes[i],
                            .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                            .batch = 1,
                            .alpha = 1}};
        emu_open(&(struct emu_options){.order = EMU_LATE});
        open_run(&r);
        good(run_product(&r));
        down(&r, found[i], r.memory[D], M * N, CUDA_R_32F);
        close_run(&r);
        assert_int_equal(emu_close(), 0);
    }
    double off = 0;
    for (int i = 0; i < M * N; i++)
        off = fmax(off, fabs((double)found[0][i] - (double)found[1][i]));
    assert_true(off > 1e-5 && off < 0.2);
}

/* Between two neighbours of less than 32 bits: the nearer one, in the middle the even one. */
static void numbers_go_to_the_nearest(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++)
        for (unsigned h = 0; h < (half ? 0x7BFFU : 0x7F7FU); h++) {
            uint16_t low = (uint16_t)h, high = (uint16_t)(h + 1);
            float a = half ? from_fp16(low) : from_bf16(low);
            float b = half ? from_fp16(high) : from_bf16(high);
            float middle = 0.5F * a + 0.5F * b;
            const float x[] = {a, nextafterf(middle, a), middle, nextafterf(middle, b)};
            const uint16_t want[] = {low, low, h % 2 ? high : low, high};
            for (int i = 0; i < 4 && a > 1e-30F; i++) {
                assert_int_equal(half ? to_fp16(x[i]) : to_bf16(x[i]), want[i]);
                assert_int_equal(
                    half ? to_fp16(-x[i]) : to_bf16(-x[i]), want[i] | 0x8000);
            }
        }
    assert_int_equal(to_fp16(65519.0F), 0x7BFF);
    assert_int_equal(to_fp16(65520.0F), 0x7C00); /* infinite */
    assert_true(isnan(from_bf16(to_bf16(NAN))) && isnan(from_fp16(to_fp16(NAN))));
}

static const struct {
    enum mistake mistake;
    const char *says;
} planted[] = {
    {SHORT_LD, "a leading dimension of"},
    {GELU, "GELU is the one of tanh"},
    {OTHER_LAYOUT, "not chosen for this product"},
    {SHORT_WORKSPACE, "a workspace of"},
    {MISALIGNED, "not aligned to the 256 bytes"},
    {OUTSIDE, "not in one live device block"},
    {IN_PLACE, "writes over its own operands"},
    {NO_BIAS, "the bias: "},
    {OVERLAPPING_BATCH, "lie over one another"},
    {MIXED_TYPES, "a product of types"},
    {NO_ALGORITHM, "not chosen for this product"},
    {HOST_MEMORY, "not in one live device block"},
};

static void each_mistake_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof planted / sizeof *planted; i++)
        for (uint64_t seed = 0; seed < 6; seed++) { /* some have no workspace */
            enum mistake m = planted[i].mistake;
            struct run r = {.mistake = m,
                .f = {.compute = CUBLAS_COMPUTE_32F,
                    .epilogue = m == NO_BIAS ? CUBLASLT_EPILOGUE_BIAS
                                : m == GELU  ? CUBLASLT_EPILOGUE_GELU_BIAS
                                             : CUBLASLT_EPILOGUE_DEFAULT,
                    .batch = m == OVERLAPPING_BATCH ? 2 : 1,
                    .alpha = 1}};
            emu_open(&(struct emu_options){.order = EMU_LATE, .seed = seed});
            open_run(&r);
            cublasStatus_t status = run_product(&r);
            bool whole = m == SHORT_WORKSPACE && r.choice.workspaceSize == 0;
            assert_int_equal(status == CUBLAS_STATUS_SUCCESS, whole);
            close_run(&r);
            emu_close();
            if (!whole && emu_found(planted[i].says) == 0)
                fail_msg("nothing says '%s': %s", planted[i].says,
                    emu_findings() ? emu_finding(0) : "no finding");
        }
}

static void what_fails_on_demand_or_is_left_is_told(void **state)
{
    (void)state;
    struct run r = {.f = {.compute = CUBLAS_COMPUTE_32F,
                        .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                        .batch = 1,
                        .alpha = 1}};
    emu_open(&(struct emu_options){.order = EMU_LATE});
    open_run(&r);
    emu_fail(EMU_PLAN, 1);
    assert_int_equal(run_product(&r), CUBLAS_STATUS_NOT_SUPPORTED);
    assert_true(emu_failed());
    emu_fail(EMU_EXECUTE, 1);
    assert_int_equal(run_product(&r), CUBLAS_STATUS_EXECUTION_FAILED);
    assert_true(emu_failed());
    close_run(&r);
    cublasLtHandle_t left;
    good(cublasLtCreate(&left));
    emu_close();
    assert_int_equal(emu_findings(), 1);
    assert_int_equal(emu_found("leak: a cuBLASLt handle"), 1);
    emu_open(&(struct emu_options){.missing = cudaErrorNoDevice});
    assert_int_equal(cublasLtCreate(&left), CUBLAS_STATUS_NOT_INITIALIZED);
    emu_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_is_the_naive_product),
        cmocka_unit_test(tensor_cores_lose_bits_where_they_may),
        cmocka_unit_test(numbers_go_to_the_nearest),
        cmocka_unit_test(each_mistake_is_found),
        cmocka_unit_test(what_fails_on_demand_or_is_left_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
