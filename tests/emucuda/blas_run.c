/* SPDX-License-Identifier: Apache-2.0
 * Owns cublasLtMatmul: D = alpha op(A) op(B) + beta C, with a bias or its gradient. Rows and
 * columns are those of the matrices; memory is by columns where nothing else is said. */
#include "blas.h"

#include "dnn.h"
#include "number.h"

#include <stdlib.h>
#include <string.h>

enum { A, B, C, D };

size_t blas_size(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : type == CUDA_R_16F || type == CUDA_R_16BF ? 2 : 0;
}

/* ---- whether it fits ---- */

static int64_t extent(const struct blas_layout *l)
{
    bool by_row = l->order == CUBLASLT_ORDER_ROW;
    int64_t lines = (int64_t)(by_row ? l->rows : l->columns);
    int64_t length = (int64_t)(by_row ? l->columns : l->rows);
    return (l->batch - 1) * l->step + (lines - 1) * l->ld + length;
}

static cublasStatus_t check_layout(const struct blas_layout *l, int which)
{
    static const cublasStatus_t bad = CUBLAS_STATUS_INVALID_VALUE;
    bool by_row = l->order == CUBLASLT_ORDER_ROW;
    uint64_t length = by_row ? l->columns : l->rows;
    if (blas_size(l->type) == 0)
        return blas_stricter(bad, "a matrix of type %d", (int)l->type);
    if (l->order != CUBLASLT_ORDER_COL && l->order != CUBLASLT_ORDER_ROW)
        return blas_stricter(bad, "a matrix in order %d", (int)l->order);
    if (l->rows == 0 || l->columns == 0 || l->batch < 1)
        return blas_stricter(bad, "a matrix without values");
    if (l->ld < (int64_t)length)
        return blas_stricter(bad, "a leading dimension of %lld, where a %s has %llu",
            (long long)l->ld, by_row ? "row" : "column", (unsigned long long)length);
    struct blas_layout one = *l;
    one.batch = 1;
    /* one behind the other, or side by side in the columns, as heads of attention lie */
    bool apart = l->step >= extent(&one) ||
                 (l->step >= (int64_t)length && l->step * l->batch <= l->ld);
    if (which == D && l->batch > 1 && !apart)
        return blas_stricter(bad, "results of a batch that lie over one another");
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_types(const struct blas_problem *p)
{
    const struct blas_layout *l = p->at;
    const struct blas_product *q = &p->product;
    bool single = l[A].type == CUDA_R_32F;
    if (q->scale != CUDA_R_32F || (q->compute != CUBLAS_COMPUTE_32F &&
                                      q->compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
                                      q->compute != CUBLAS_COMPUTE_32F_FAST_TF32))
        return blas_stricter(CUBLAS_STATUS_NOT_SUPPORTED,
            "to compute in type %d, scaled in %d", (int)q->compute, (int)q->scale);
    if (l[A].type != l[B].type || l[C].type != l[D].type ||
        (l[D].type != l[A].type && (single || l[D].type != CUDA_R_32F)))
        return blas_stricter(CUBLAS_STATUS_NOT_SUPPORTED,
            "a product of types %d, %d, %d and %d", (int)l[A].type, (int)l[B].type,
            (int)l[C].type, (int)l[D].type);
    switch (q->epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB:
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
        return blas_stricter(CUBLAS_STATUS_NOT_SUPPORTED,
            "cuBLASLt's GELU is the one of tanh; models have that of erf");
    }
    return blas_stricter(CUBLAS_STATUS_NOT_SUPPORTED,
        "an epilogue that nobody modelled: %u", q->epilogue);
}

/* Rows and columns of op(A), op(B). */
static void sizes(const struct blas_problem *p, int64_t *m, int64_t *n, int64_t *k)
{
    bool ta = p->product.transpose_a != CUBLAS_OP_N;
    *m = (int64_t)p->at[D].rows;
    *n = (int64_t)p->at[D].columns;
    *k = (int64_t)(ta ? p->at[A].rows : p->at[A].columns);
}

cublasStatus_t blas_problem(cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    struct blas_problem *p)
{
    const void *layouts[] = {a, b, c, d};
    const struct blas_object *o = blas_object(product, BLAS_PRODUCT, "a product");
    if (!o)
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(p, 0, sizeof *p); /* gaps, too: it is hashed */
    p->product = o->is.product;
    for (int i = 0; i < 4; i++) {
        const struct blas_object *l = blas_object(layouts[i], BLAS_LAYOUT, "a product");
        if (!l)
            return CUBLAS_STATUS_INVALID_VALUE;
        p->at[i] = l->is.layout;
        cublasStatus_t status = check_layout(&p->at[i], i);
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
    }
    int64_t m, n, k;
    sizes(p, &m, &n, &k);
    const struct blas_layout *l = p->at;
    bool ta = p->product.transpose_a != CUBLAS_OP_N;
    bool tb = p->product.transpose_b != CUBLAS_OP_N;
    if ((int64_t)(ta ? l[A].columns : l[A].rows) != m ||
        (int64_t)(tb ? l[B].columns : l[B].rows) != k ||
        (int64_t)(tb ? l[B].rows : l[B].columns) != n || l[C].rows != l[D].rows ||
        l[C].columns != l[D].columns || l[A].batch != l[D].batch ||
        l[B].batch != l[D].batch || l[C].batch != l[D].batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    return check_types(p);
}

static uint64_t mix(uint64_t h, int64_t value)
{
    return (h ^ (uint64_t)value) * 1099511628211U;
}

uint64_t blas_key(const struct blas_problem *p)
{
    const struct blas_product *q = &p->product;
    uint64_t h = mix(14695981039346656037U, (int64_t)q->compute);
    h = mix(mix(mix(h, q->transpose_a), q->transpose_b), q->epilogue);
    for (int i = 0; i < 4; i++) {
        const struct blas_layout *l = &p->at[i];
        h = mix(mix(mix(h, (int64_t)l->rows), (int64_t)l->columns), l->ld);
        h = mix(mix(mix(mix(h, l->step), l->batch), l->order), (int64_t)l->type);
    }
    return h ^ h >> 31;
}

/* ---- running ---- */

struct work {
    struct blas_problem p;
    float alpha, beta;
    int at[4], bias, workspace; /* ranges; -1: none */
    size_t workspace_bytes;
};

static float get(const void *memory, cudaDataType_t type, int64_t i)
{
    return type == CUDA_R_32F    ? ((const float *)memory)[i]
           : type == CUDA_R_16BF ? from_bf16(((const uint16_t *)memory)[i])
                                 : from_fp16(((const uint16_t *)memory)[i]);
}

static void put(void *memory, cudaDataType_t type, int64_t i, float x)
{
    if (type == CUDA_R_32F)
        ((float *)memory)[i] = x;
    else
        ((uint16_t *)memory)[i] = type == CUDA_R_16BF ? to_bf16(x) : to_fp16(x);
}

/* op(matrix) as [batch][rows][columns], on fp32 that is the caller's to free. */
static struct dnn_view view_of(
    const struct blas_layout *l, bool transposed, const void *memory)
{
    bool by_row = l->order == CUBLASLT_ORDER_ROW;
    int64_t row = by_row ? l->ld : 1, column = by_row ? 1 : l->ld;
    struct dnn_view v = {.rank = 3};
    int64_t n = extent(l);
    v.dim[0] = l->batch;
    v.dim[1] = (int64_t)(transposed ? l->columns : l->rows);
    v.dim[2] = (int64_t)(transposed ? l->rows : l->columns);
    v.stride[0] = l->step;
    v.stride[1] = transposed ? column : row;
    v.stride[2] = transposed ? row : column;
    v.v = dnn_temporary(n);
    for (int64_t i = 0; memory && i < n; i++)
        v.v[i] = get(memory, l->type, i);
    return v;
}

static float at(const struct dnn_view *v, int64_t b, int64_t i, int64_t j)
{
    return v->v[b * v->stride[0] + i * v->stride[1] + j * v->stride[2]];
}

/* Sums of op(A) along its columns, or of op(B) along its rows. */
static void bias_gradient(const struct work *w, const struct dnn_view *a,
    const struct dnn_view *b, void *bias)
{
    bool of_a = w->p.product.epilogue == CUBLASLT_EPILOGUE_BGRADA;
    const struct dnn_view *v = of_a ? a : b;
    int64_t n = v->dim[of_a ? 1 : 2], k = v->dim[of_a ? 2 : 1];
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        for (int64_t p = 0; p < k; p++)
            sum += of_a ? at(v, 0, i, p) : at(v, 0, p, i);
        put(bias, (cudaDataType_t)w->p.product.bias_type, i, sum);
    }
}

static void finish(const struct work *w, const struct dnn_view *d, void *const *memory)
{
    const struct blas_layout *c = &w->p.at[C], *l = &w->p.at[D];
    bool row_c = c->order == CUBLASLT_ORDER_ROW, row_d = l->order == CUBLASLT_ORDER_ROW;
    bool biased = w->p.product.epilogue == CUBLASLT_EPILOGUE_BIAS;
    for (int64_t b = 0; b < d->dim[0]; b++)
        for (int64_t i = 0; i < d->dim[1]; i++)
            for (int64_t j = 0; j < d->dim[2]; j++) {
                float x = w->alpha * at(d, b, i, j);
                if (w->beta != 0)
                    x += w->beta *
                         get(memory[w->at[C]], c->type,
                             b * c->step + (row_c ? i * c->ld + j : j * c->ld + i));
                if (biased)
                    x +=
                        get(memory[w->bias], (cudaDataType_t)w->p.product.bias_type, i);
                put(memory[w->at[D]], l->type,
                    b * l->step + (row_d ? i * l->ld + j : j * l->ld + i), x);
            }
}

static void run_work(void *const *memory, const void *argument)
{
    const struct work *w = argument;
    const struct blas_product *q = &w->p.product;
    bool tf32 = q->compute == CUBLAS_COMPUTE_32F_FAST_TF32 &&
                w->p.at[A].type == CUDA_R_32F && !emu.options.generous;
    struct dnn_view a =
        view_of(&w->p.at[A], q->transpose_a != CUBLAS_OP_N, memory[w->at[A]]);
    struct dnn_view b =
        view_of(&w->p.at[B], q->transpose_b != CUBLAS_OP_N, memory[w->at[B]]);
    struct dnn_view d = {
        .rank = 3, .dim = {a.dim[0], a.dim[1], b.dim[2]}, .stride = {0, b.dim[2], 1}};
    d.stride[0] = d.dim[1] * d.dim[2];
    d.v = dnn_temporary(d.dim[0] * d.stride[0]);
    if (w->workspace >= 0)
        memset(memory[w->workspace], 0xFF, w->workspace_bytes);
    dnn_matmul(a, b, d, tf32);
    finish(w, &d, memory);
    if (q->epilogue == CUBLASLT_EPILOGUE_BGRADA ||
        q->epilogue == CUBLASLT_EPILOGUE_BGRADB)
        bias_gradient(w, &a, &b, memory[w->bias]);
    free(a.v);
    free(b.v);
    free(d.v);
}

/* ---- enqueueing ---- */

static bool overlap(const struct emu_range *a, const struct emu_range *b)
{
    uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;
    return x < y + b->bytes && y < x + a->bytes;
}

static cublasStatus_t bind(const void *p, size_t bytes, size_t alignment, bool writes,
    const char *what, struct emu_range *ranges, int *n)
{
    if ((uintptr_t)p % alignment != 0)
        return blas_stricter(CUBLAS_STATUS_INVALID_VALUE,
            "%s at %p is not aligned to the %zu bytes that its algorithm was chosen "
            "for",
            what, p, alignment);
    const struct emu_block *b = emu_block_of(p, bytes);
    if (!p || !b || b->pinned)
        return blas_stricter(CUBLAS_STATUS_INVALID_VALUE,
            "%s: %zu bytes at %p are not in one live device block", what, bytes, p);
    ranges[(*n)++] = (struct emu_range){p, bytes, writes};
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t bind_bias(struct work *w, struct emu_range *ranges, int *n)
{
    struct blas_product *q = &w->p.product;
    if (q->epilogue == CUBLASLT_EPILOGUE_DEFAULT)
        return CUBLAS_STATUS_SUCCESS;
    bool along_columns = q->epilogue == CUBLASLT_EPILOGUE_BGRADB;
    uint64_t count = along_columns ? w->p.at[D].columns : w->p.at[D].rows;
    if (q->bias_type < 0)
        q->bias_type = (int32_t)w->p.at[D].type;
    if (w->p.at[D].batch > 1)
        return blas_stricter(CUBLAS_STATUS_NOT_SUPPORTED, "a bias of a batch");
    size_t size = blas_size((cudaDataType_t)q->bias_type);
    w->bias = *n;
    return bind(q->bias, (size_t)count * size, size,
        q->epilogue != CUBLASLT_EPILOGUE_BIAS, "the bias", ranges, n);
}

static cublasStatus_t bind_all(struct work *w, const struct blas_algorithm *algorithm,
    const void *const *pointers, void *workspace, struct emu_range *ranges, int *n)
{
    static const char *const names[] = {"A", "B", "C", "D"};
    for (int i = 0; i < 4; i++) {
        const struct blas_layout *l = &w->p.at[i];
        w->at[i] = -1;
        if (i == C && w->beta == 0)
            continue;
        w->at[i] = *n;
        cublasStatus_t status =
            bind(pointers[i], (size_t)extent(l) * blas_size(l->type),
                algorithm->alignment[i], i == D, names[i], ranges, n);
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
    }
    cublasStatus_t status = bind_bias(w, ranges, n);
    if (status == CUBLAS_STATUS_SUCCESS && w->workspace_bytes > 0) {
        w->workspace = *n;
        status =
            bind(workspace, w->workspace_bytes, 256, true, "the workspace", ranges, n);
    }
    bool in_place = w->beta != 0 && pointers[C] == pointers[D] &&
                    memcmp(&w->p.at[C], &w->p.at[D], sizeof *w->p.at) == 0;
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < *n; i++)
        for (int k = 0; k < i; k++)
            if ((ranges[i].writes || ranges[k].writes) &&
                !(in_place && k == w->at[C] && i == w->at[D]) &&
                overlap(&ranges[i], &ranges[k]))
                return blas_stricter(CUBLAS_STATUS_INVALID_VALUE,
                    "a product writes over its own operands");
    return status;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
    const void *alpha, const void *a, cublasLtMatrixLayout_t la, const void *b,
    cublasLtMatrixLayout_t lb, const void *beta, const void *c,
    cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
    const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
    cudaStream_t stream)
{
    static const char call[] = "cublasLtMatmul";
    struct emu_range ranges[8];
    struct blas_algorithm algorithm = {.mark = 0};
    int n = 0;
    if (emu_visit(call) != cudaSuccess)
        return emu.open ? CUBLAS_STATUS_EXECUTION_FAILED
                        : CUBLAS_STATUS_NOT_INITIALIZED;
    if (!blas_object(handle, BLAS_HANDLE, call) || !alpha || !beta)
        return CUBLAS_STATUS_INVALID_VALUE;
    struct work w = {.bias = -1, .workspace = -1};
    cublasStatus_t status = blas_problem(product, la, lb, lc, ld, &w.p);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    if (algo)
        memcpy(&algorithm, algo, sizeof algorithm);
    if (algorithm.mark != BLAS_MARK || algorithm.problem != blas_key(&w.p))
        return blas_stricter(CUBLAS_STATUS_INVALID_VALUE,
            "an algorithm that was not chosen for this product");
    if (workspace_bytes < algorithm.workspace)
        return blas_stricter(CUBLAS_STATUS_INVALID_VALUE,
            "a workspace of %zu bytes, the algorithm wants %llu", workspace_bytes,
            (unsigned long long)algorithm.workspace);
    if (emu_fails(EMU_EXECUTE))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    w.workspace_bytes = (size_t)algorithm.workspace;
    memcpy(&w.alpha, alpha, sizeof w.alpha);
    memcpy(&w.beta, beta, sizeof w.beta);
    status =
        bind_all(&w, &algorithm, (const void *[]){a, b, c, d}, workspace, ranges, &n);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    struct work *kept = malloc(sizeof *kept);
    if (!kept)
        abort();
    *kept = w;
    emu.counters.products++;
    return emu_launch_owned(stream, call, run_work, kept, free, ranges, n) ==
                   cudaSuccess
               ? CUBLAS_STATUS_SUCCESS
               : CUBLAS_STATUS_EXECUTION_FAILED;
}
