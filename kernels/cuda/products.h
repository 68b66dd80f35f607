/* SPDX-License-Identifier: Apache-2.0
 * Matrix products by cuBLASLt: C = alpha op(A) op(B) (+ bias along C's rows), in fp32, on
 * tensor cores only where the device's precision is TF32; column by column as cuBLASLt counts: C is m x n, op(A) m x k, op(B)
 * k x n; ld is the distance between columns as they lie in memory. A product's algorithm is
 * chosen once, and only among deterministic ones. */
#ifndef TH_CUDA_PRODUCTS_H
#define TH_CUDA_PRODUCTS_H

#include "engine.h"

struct th_product_spec {
    int64_t m, n, k;
    bool turn_a, turn_b; /* A is k x m, B is n x k in memory */
    int64_t lda, ldb, ldc;
    int64_t batch; /* 0 stands for 1 */
    int64_t step_a, step_b,
        step_c;        /* elements from one product of the batch to the next */
    uint32_t align;    /* bytes that every matrix's address is a multiple of */
    bool bias;         /* m values, one a row of C, of its type */
    bool half, half_c; /* A and B are bf16; C is */
    float alpha;
};

struct th_product;

thaw_status th_product_new(struct th_device *device, const struct th_product_spec *spec,
    struct th_product **out);
void th_product_free(struct th_product *product); /* NULL is fine */
size_t th_product_workspace(const struct th_product *product);
/* Enqueues. bias NULL exactly where the product has none. */
thaw_status th_product_run(struct th_device *device, const struct th_product *product,
    const void *a, const void *b, const void *bias, void *c, void *workspace);

#endif
