/* SPDX-License-Identifier: Apache-2.0
 * The element types of weight files (PyTorch, safetensors, NumPy), and their way to fp32.
 * Files are little-endian. */
#ifndef TH_NUMBER_H
#define TH_NUMBER_H

#include <stddef.h>
#include <stdint.h>

enum th_number {
    TH_NUMBER_F32,
    TH_NUMBER_F64,
    TH_NUMBER_F16,
    TH_NUMBER_BF16,
    TH_NUMBER_I64,
    TH_NUMBER_I32,
    TH_NUMBER_I16,
    TH_NUMBER_I8,
    TH_NUMBER_U8,
    TH_NUMBER_U16,
    TH_NUMBER_U32,
    TH_NUMBER_U64,
    TH_N_NUMBERS
};

/* Bytes of one element. */
size_t th_number_bytes(enum th_number type);

/* dst[i] = the element that stands i * step bytes behind src, at any alignment. */
void th_number_load(
    enum th_number type, const unsigned char *src, size_t step, float *dst, int64_t n);

#endif
