/* SPDX-License-Identifier: Apache-2.0
 * Owns cuBLASLt's descriptors and the choice of its algorithms. */
#include "products.h"

#include "mem.h"

#include <stdint.h>

enum {
    WORKSPACE =
        32 << 20, /* bytes at the most, as NVIDIA advises for its newer devices */
    WORKSPACE_ALIGN = 256,
};

struct th_product {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulHeuristicResult_t choice;
    float alpha;
    bool bias;
};

static thaw_status check(cublasStatus_t status, const char *what)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return THAW_OK;
    return th_fail(status == CUBLAS_STATUS_ALLOC_FAILED ? THAW_E_MEMORY : THAW_E_FAIL,
        "cuda: matrix product: %s: cuBLASLt says %s", what,
        cublasLtGetStatusString(status));
}

static thaw_status set(struct th_product *p, cublasLtMatmulDescAttributes_t name,
    const void *value, size_t bytes)
{
    return check(
        cublasLtMatmulDescSetAttribute(p->desc, name, value, bytes), "attribute");
}

static thaw_status describe(
    struct th_device *device, struct th_product *p, const struct th_product_spec *spec)
{
    const cublasOperation_t turned = CUBLAS_OP_T;
    const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
    const cublasComputeType_t compute = device->precision == TH_TF32
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    TRY(check(cublasLtMatmulDescCreate(&p->desc, compute, CUDA_R_32F), "description"));
    if (spec->turn_a)
        TRY(set(p, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned));
    if (spec->turn_b)
        TRY(set(p, CUBLASLT_MATMUL_DESC_TRANSB, &turned, sizeof turned));
    if (spec->bias)
        TRY(set(p, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias));
    return THAW_OK;
}

/* In memory; `step` elements from one of the batch to the next. */
struct matrix {
    int64_t rows, columns, ld, batch, step;
    bool half;
};

static struct matrix turned(struct matrix m)
{
    int64_t rows = m.rows;
    m.rows = m.columns;
    m.columns = rows;
    return m;
}

static thaw_status lay_out(cublasLtMatrixLayout_t *layout, struct matrix m)
{
    int32_t count = (int32_t)m.batch;
    TRY(check(cublasLtMatrixLayoutCreate(layout, m.half ? CUDA_R_16BF : CUDA_R_32F,
                  (uint64_t)m.rows, (uint64_t)m.columns, m.ld),
        "layout"));
    if (m.batch < 2)
        return THAW_OK;
    TRY(check(cublasLtMatrixLayoutSetAttribute(
                  *layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
        "batch"));
    return check(
        cublasLtMatrixLayoutSetAttribute(*layout,
            CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.step, sizeof m.step),
        "batch");
}

static thaw_status lay_out_all(struct th_product *p, const struct th_product_spec *s)
{
    const struct matrix a = {s->m, s->k, s->lda, s->batch, s->step_a, s->half},
                        b = {s->k, s->n, s->ldb, s->batch, s->step_b, s->half},
                        c = {s->m, s->n, s->ldc, s->batch, s->step_c, s->half_c};
    TRY(lay_out(&p->a, s->turn_a ? turned(a) : a));
    TRY(lay_out(&p->b, s->turn_b ? turned(b) : b));
    return lay_out(&p->c, c);
}

static thaw_status ask(struct th_cuda *cuda, const struct th_product_spec *spec,
    struct th_product *p, cublasLtMatmulPreference_t preference)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t room = WORKSPACE;
    /* in place: sums in the order in which blocks arrive */
    const uint32_t schemes =
        CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    int found = 0;
    TRY(check(cublasLtMatmulPreferenceSetAttribute(preference,
                  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room),
        "preference"));
    TRY(check(cublasLtMatmulPreferenceSetAttribute(preference,
                  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes),
        "preference"));
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++)
        TRY(check(cublasLtMatmulPreferenceSetAttribute(
                      preference, alignments[i], &spec->align, sizeof spec->align),
            "preference"));
    TRY(check(cublasLtMatmulAlgoGetHeuristic(cuda->blas, p->desc, p->a, p->b, p->c,
                  p->c, preference, 1, &p->choice, &found),
        "choosing an algorithm"));
    if (found == 0)
        return th_fail(THAW_E_FAIL, "cuda: matrix product: cuBLASLt has no algorithm");
    return check(p->choice.state, "the chosen algorithm");
}

static thaw_status choose(
    struct th_cuda *cuda, const struct th_product_spec *spec, struct th_product *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    TRY(check(cublasLtMatmulPreferenceCreate(&preference), "preference"));
    thaw_status status = ask(cuda, spec, p, preference);
    cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

thaw_status th_product_new(struct th_device *device, const struct th_product_spec *spec,
    struct th_product **out)
{
    struct th_product *p = th_alloc(1, sizeof *p);
    if (!p)
        return THAW_E_MEMORY;
    p->alpha = spec->alpha;
    p->bias = spec->bias;
    thaw_status status = describe(device, p, spec);
    if (status == THAW_OK)
        status = lay_out_all(p, spec);
    if (status == THAW_OK)
        status = choose(th_cuda(device), spec, p);
    if (status == THAW_OK)
        *out = p;
    else
        th_product_free(p);
    return status;
}

void th_product_free(struct th_product *p)
{
    if (!p)
        return;
    const cublasLtMatrixLayout_t layouts[] = {p->a, p->b, p->c};
    for (int i = 0; i < 3; i++)
        if (layouts[i])
            cublasLtMatrixLayoutDestroy(layouts[i]);
    if (p->desc)
        cublasLtMatmulDescDestroy(p->desc);
    th_free(p);
}

size_t th_product_workspace(const struct th_product *p)
{
    return p->choice.workspaceSize ? p->choice.workspaceSize + WORKSPACE_ALIGN : 0;
}

static void *aligned(void *p)
{
    uintptr_t rest = (uintptr_t)p % WORKSPACE_ALIGN;
    return rest ? (char *)p + (WORKSPACE_ALIGN - rest) : p;
}

thaw_status th_product_run(struct th_device *device, const struct th_product *p,
    const void *a, const void *b, const void *bias, void *c, void *workspace)
{
    const struct th_cuda *cuda = th_cuda(device);
    const float beta = 0;
    if (p->bias) /* the only attribute that moves: no other call runs meanwhile */
        TRY(check(cublasLtMatmulDescSetAttribute(
                      p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
            "bias"));
    return check(cublasLtMatmul(cuda->blas, p->desc, &p->alpha, a, p->a, b, p->b, &beta,
                     c, p->c, c, p->c, &p->choice.algo, aligned(workspace),
                     p->choice.workspaceSize, cuda->stream),
        "running");
}
