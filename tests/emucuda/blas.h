/* SPDX-License-Identifier: Apache-2.0
 * Between the files of cuBLASLt's double. */
#ifndef BLAS_H
#define BLAS_H

#include "emu.h"

#include <cublasLt.h>

enum blas_kind { BLAS_HANDLE, BLAS_PRODUCT, BLAS_LAYOUT, BLAS_PREFERENCE };

struct blas_product {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t transpose_a, transpose_b;
    uint32_t epilogue;
    void *bias;
    int32_t bias_type; /* -1: D's */
};

struct blas_layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t ld, step;
    int32_t order, batch;
};

struct blas_preference {
    uint64_t workspace;
    uint32_t alignment[4]; /* of A, B, C, D */
    uint32_t schemes;
};

struct blas_object {
    enum blas_kind kind;
    union {
        struct blas_product product;
        struct blas_layout layout;
        struct blas_preference preference;
    } is;
};

/* What an algorithm's opaque bytes are here. */
struct blas_algorithm {
    uint64_t mark, problem, workspace;
    uint32_t alignment[4];
};
enum { BLAS_MARK = 0x626C6173 };

/* A product with its operands: A, B, C, D. */
struct blas_problem {
    struct blas_product product;
    struct blas_layout at[4];
};

/* A finding, and its status. */
cublasStatus_t blas_stricter(cublasStatus_t status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* NULL: it is no live object of the kind, which is a finding. */
struct blas_object *blas_object(const void *p, enum blas_kind kind, const char *name);
cublasStatus_t blas_problem(cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
    struct blas_problem *p);
/* What an algorithm is chosen for: all but pointers. */
uint64_t blas_key(const struct blas_problem *p);
size_t blas_size(cudaDataType_t type); /* bytes; 0: not known here */

#endif
