/* SPDX-License-Identifier: Apache-2.0
 * What our kernels are told: one struct each, passed by value, read by the C compiler and by
 * nvcc. Pointers are device memory; one that ends in an underscore may be NULL. `count` is
 * values, rows are what the last axis leaves: [rows][width]. */
#ifndef TH_CUDA_PARAMS_H
#define TH_CUDA_PARAMS_H

#include <stdint.h>

/* ---- act.cu ---- */

struct th_k_relu {
    const void *x;
    void *y;
    uint32_t *mask_;
    int64_t count;
};

struct th_k_relu_dx {
    const void *dy;
    const uint32_t *mask;
    const void *add_;
    void *dx;
    int64_t count;
};

#endif
