/* SPDX-License-Identifier: Apache-2.0
 * Tensors as data: element types, shapes, and a host tensor that owns its bytes.
 * Shapes are row-major, outermost first: images [n][c][h][w], weights [o][i][kh][kw]. */
#ifndef TH_TENSOR_H
#define TH_TENSOR_H

#include "thaw.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TH_MAX_RANK 6

/* TH_BF16 is a type of devices alone, for what lives within a step. */
enum th_dtype { TH_F32, TH_U8, TH_I32, TH_BOOL, TH_BIT, TH_I8, TH_BF16 };

struct th_shape {
    int rank;
    int64_t dim[TH_MAX_RANK];
};

/* A dense tensor in host memory, row-major. */
struct th_tensor {
    enum th_dtype dtype;
    struct th_shape shape;
    void *data; /* owned; NULL when empty */
};

/* th_shape_of(2, n, c): rank first, then that many int64_t or int extents. */
struct th_shape th_shape_of(int rank, const int64_t *dims);
#define TH_SHAPE(...)                                                                  \
    th_shape_of((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),             \
        (const int64_t[]){__VA_ARGS__})

int64_t th_shape_count(const struct th_shape *s); /* elements; 1 for a scalar */
bool th_shape_equal(const struct th_shape *a, const struct th_shape *b);

/* "[64,3,7,7]" into text, which it returns. */
const char *th_shape_text(const struct th_shape *s, char *text, size_t size);

/* Bytes of n elements (bits are packed, eight a byte). */
size_t th_dtype_bytes(enum th_dtype t, int64_t n);
const char *th_dtype_name(enum th_dtype t);
/* Whether its values are real numbers, in whatever precision. */
bool th_dtype_is_real(enum th_dtype t);

/* bf16 is the upper half of a float: to nearest, ties to even; a NaN stays one. */
uint16_t th_bf16_of(float x);
float th_bf16_value(uint16_t bits);

/* Index of the first value that is infinite or not a number; -1: none. */
int64_t th_not_finite(const float *x, int64_t n);

thaw_status th_tensor_init(
    struct th_tensor *t, enum th_dtype dtype, struct th_shape shape);
void th_tensor_release(struct th_tensor *t);

/* 64-bit XXH64-like hash of bytes, for certificates and fingerprints (not secret-safe).
 * Chain with the previous result as seed. */
uint64_t th_hash(const void *data, size_t bytes, uint64_t seed);

#endif
