/* SPDX-License-Identifier: Apache-2.0
 * Owns cuBLASLt's handles, descriptors and choice of algorithms. */
#include "blas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    struct blas_object **all;
    int n;
} blas;

cublasStatus_t blas_stricter(cublasStatus_t status, const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    emu_find("cublas: %s", text);
    return status;
}

/* ---- objects ---- */

static int find(const void *p)
{
    int i = blas.n - 1;
    while (i >= 0 && (const void *)blas.all[i] != p)
        i--;
    return i;
}

struct blas_object *blas_object(const void *p, enum blas_kind kind, const char *name)
{
    int i = find(p);
    if (i >= 0 && blas.all[i]->kind == kind)
        return blas.all[i];
    blas_stricter(CUBLAS_STATUS_INVALID_VALUE,
        "%s of what is no live object of its "
        "kind",
        name);
    return NULL;
}

static struct blas_object *object_new(enum blas_kind kind)
{
    struct blas_object *o = calloc(1, sizeof *o);
    if (!o)
        abort();
    o->kind = kind;
    blas.all = emu_grow(blas.all, blas.n, sizeof *blas.all);
    blas.all[blas.n++] = o;
    return o;
}

static cublasStatus_t destroy(const void *p, enum blas_kind kind, const char *name)
{
    if (!blas_object(p, kind, name))
        return CUBLAS_STATUS_INVALID_VALUE;
    int i = find(p);
    free(blas.all[i]);
    blas.all[i] = blas.all[--blas.n];
    return CUBLAS_STATUS_SUCCESS;
}

void emu_blas_close(void)
{
    static const char *const names[] = {"handle", "product", "layout", "preference"};
    for (int i = 0; i < blas.n; i++) {
        emu_find("leak: a cuBLASLt %s was not destroyed", names[blas.all[i]->kind]);
        free(blas.all[i]);
    }
    free(blas.all);
    blas.all = NULL;
    blas.n = 0;
}

static bool is_open(const char *name)
{
    return emu_visit(name) == cudaSuccess;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    if (!is_open("cublasLtCreate") || emu.options.missing != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!handle)
        return CUBLAS_STATUS_INVALID_VALUE;
    *handle = (cublasLtHandle_t)(void *)object_new(BLAS_HANDLE);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    return destroy(handle, BLAS_HANDLE, "cublasLtDestroy");
}

cublasStatus_t cublasLtMatmulDescCreate(
    cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (!is_open("cublasLtMatmulDescCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    struct blas_object *o = object_new(BLAS_PRODUCT);
    o->is.product = (struct blas_product){.compute = compute,
        .scale = scale,
        .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
        .bias_type = -1};
    *out = (cublasLtMatmulDesc_t)(void *)o;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    return destroy(d, BLAS_PRODUCT, "cublasLtMatmulDescDestroy");
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out,
    cudaDataType type, uint64_t rows, uint64_t columns, int64_t ld)
{
    if (!is_open("cublasLtMatrixLayoutCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    struct blas_object *o = object_new(BLAS_LAYOUT);
    o->is.layout = (struct blas_layout){
        .type = type, .rows = rows, .columns = columns, .ld = ld, .batch = 1};
    *out = (cublasLtMatrixLayout_t)(void *)o;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t d)
{
    return destroy(d, BLAS_LAYOUT, "cublasLtMatrixLayoutDestroy");
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    if (!is_open("cublasLtMatmulPreferenceCreate"))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    struct blas_object *o = object_new(BLAS_PREFERENCE);
    for (int i = 0; i < 4; i++)
        o->is.preference.alignment[i] = 256; /* as cublasLt.h says */
    o->is.preference.schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
    *out = (cublasLtMatmulPreference_t)(void *)o;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t d)
{
    return destroy(d, BLAS_PREFERENCE, "cublasLtMatmulPreferenceDestroy");
}

/* ---- attributes ---- */

static cublasStatus_t put(void *field, size_t size, const void *value, size_t bytes,
    const char *name, int what)
{
    if (!field) {
        emu_find("unknown: attribute %d of %s", what, name);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!value || bytes != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
    cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes)
{
    static const char call[] = "cublasLtMatmulDescSetAttribute";
    struct blas_object *o = blas_object(d, BLAS_PRODUCT, call);
    if (!is_open(call) || !o)
        return CUBLAS_STATUS_INVALID_VALUE;
    struct blas_product *p = &o->is.product;
    void *field = NULL;
    size_t size = sizeof(int32_t);
    switch ((int)name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        field = &p->transpose_a;
        break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
        field = &p->transpose_b;
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        field = &p->epilogue;
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
        field = &p->bias_type;
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        field = &p->bias;
        size = sizeof p->bias;
        break;
    }
    return put(field, size, value, bytes, call, (int)name);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t d,
    cublasLtMatrixLayoutAttribute_t name, const void *value, size_t bytes)
{
    static const char call[] = "cublasLtMatrixLayoutSetAttribute";
    struct blas_object *o = blas_object(d, BLAS_LAYOUT, call);
    if (!is_open(call) || !o)
        return CUBLAS_STATUS_INVALID_VALUE;
    struct blas_layout *l = &o->is.layout;
    void *field = NULL;
    size_t size = sizeof(int64_t);
    switch ((int)name) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        field = &l->order;
        size = sizeof l->order;
        break;
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        field = &l->batch;
        size = sizeof l->batch;
        break;
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        field = &l->step;
        break;
    case CUBLASLT_MATRIX_LAYOUT_LD:
        field = &l->ld;
        break;
    }
    return put(field, size, value, bytes, call, (int)name);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t d,
    cublasLtMatmulPreferenceAttributes_t name, const void *value, size_t bytes)
{
    static const char call[] = "cublasLtMatmulPreferenceSetAttribute";
    struct blas_object *o = blas_object(d, BLAS_PREFERENCE, call);
    if (!is_open(call) || !o)
        return CUBLAS_STATUS_INVALID_VALUE;
    struct blas_preference *p = &o->is.preference;
    void *field = NULL;
    size_t size = sizeof(uint32_t);
    switch ((int)name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        field = &p->workspace;
        size = sizeof p->workspace;
        break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        field = &p->schemes;
        break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        field = &p->alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES];
        break;
    }
    return put(field, size, value, bytes, call, (int)name);
}

/* ---- algorithms ---- */

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
    cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    cublasLtMatmulPreference_t preference, int room,
    cublasLtMatmulHeuristicResult_t *results, int *n)
{
    static const char call[] = "cublasLtMatmulAlgoGetHeuristic";
    struct blas_problem p;
    if (!is_open(call) || !blas_object(handle, BLAS_HANDLE, call))
        return CUBLAS_STATUS_NOT_INITIALIZED;
    const struct blas_object *o = blas_object(preference, BLAS_PREFERENCE, call);
    if (!o || room < 1 || !results || !n)
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = blas_problem(product, a, b, c, d, &p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    if (emu_fails(EMU_PLAN))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    struct blas_algorithm algorithm = {.mark = BLAS_MARK, .problem = blas_key(&p)};
    uint64_t want = (algorithm.problem ^ emu.options.seed * 0x9E3779B97F4A7C15U) >> 7;
    memcpy(algorithm.alignment, o->is.preference.alignment, sizeof algorithm.alignment);
    if (want % 3 > 0 && o->is.preference.workspace > 0)
        algorithm.workspace = want % o->is.preference.workspace % 70000 + 1;
    *n = 1;
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, &algorithm, sizeof algorithm);
    results->workspaceSize = algorithm.workspace;
    results->state = CUBLAS_STATUS_SUCCESS;
    results->wavesCount = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- words ---- */

#define STATUS(x)                                                                      \
    {                                                                                  \
        CUBLAS_STATUS_##x, "CUBLAS_STATUS_" #x                                         \
    }
static const struct {
    cublasStatus_t status;
    const char *name;
} statuses[] = {
    STATUS(SUCCESS),
    STATUS(NOT_INITIALIZED),
    STATUS(ALLOC_FAILED),
    STATUS(INVALID_VALUE),
    STATUS(ARCH_MISMATCH),
    STATUS(EXECUTION_FAILED),
    STATUS(INTERNAL_ERROR),
    STATUS(NOT_SUPPORTED),
};

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return statuses[i].name;
    return "CUBLAS_STATUS_?";
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return cublasLtGetStatusName(status);
}

size_t cublasLtGetVersion(void)
{
    return CUBLAS_VERSION;
}
