/* SPDX-License-Identifier: Apache-2.0
 * A matrix product's sums in registers: at most ROWS rows by a panel of columns. The right
 * factor is in panels, [k][PANEL] contiguous; the left one is read by broadcasts. Rows and
 * columns (vectors) are constants where these functions are called. */
#ifndef TH_PRODUCT_H
#define TH_PRODUCT_H

#include "lanes.h"

enum {
    ROWS = TH_PRODUCT_ROWS,
    COLUMNS = TH_PRODUCT_COLUMNS, /* vectors */
    PANEL = COLUMNS * TH_LANES,
};

typedef th_vf registers[ROWS][COLUMNS];

/* acc += a b: a[row][k] is a[row*row_step + k*k_step], b a panel [n][PANEL]. Unrolled
 * along k, loads of the next products are ahead of the sums: a twentieth of the time. */
TH_INLINE void multiply(int rows, int columns, registers acc, const float *a,
    int64_t row_step, int64_t k_step, const float *b, int64_t n)
{
#pragma GCC unroll 8
    for (int64_t k = 0; k < n; k++) {
        th_vf right[COLUMNS];
        for (int c = 0; c < columns; c++)
            right[c] = vf_load(b + k * PANEL + c * TH_LANES);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            th_vf left = vf_all(a[r * row_step + k * k_step]);
            for (int c = 0; c < columns; c++)
                acc[r][c] = vf_fma(left, right[c], acc[r][c]);
        }
    }
}

TH_INLINE void clear(int rows, int columns, registers acc)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            acc[r][c] = vf_all(0);
}

/* from[row][PANEL], rows `apart`; 0: all rows are one. */
TH_INLINE void get(
    int rows, int columns, registers acc, int64_t apart, const float *from)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            acc[r][c] = vf_load(from + r * apart + c * TH_LANES);
}

/* to[row][PANEL], rows `apart`; += where `more`. */
TH_INLINE void put(
    int rows, int columns, registers acc, bool more, int64_t apart, float *to)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            float *at = to + r * apart + c * TH_LANES;
            vf_store(at, more ? acc[r][c] + vf_load(at) : acc[r][c]);
        }
}

#endif
