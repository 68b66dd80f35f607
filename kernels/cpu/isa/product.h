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

TH_INLINE int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

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

/* A panel of values that lie across: to[k][j] = from[j*apart + k], zero from j = columns
 * on. */
TH_INLINE void pack_across(
    const float *from, int64_t apart, int64_t columns, int64_t n, float *to)
{
    int64_t whole = n / TH_LANES * TH_LANES;
    for (int64_t j = 0; j < PANEL; j += TH_LANES)
        for (int64_t k = 0; k < whole; k += TH_LANES) {
            th_vf v[TH_LANES];
            for (int64_t l = 0; l < TH_LANES; l++)
                v[l] =
                    j + l < columns ? vf_load(from + (j + l) * apart + k) : vf_all(0);
            vf_transpose(v);
            for (int64_t l = 0; l < TH_LANES; l++)
                vf_store(to + (k + l) * PANEL + j, v[l]);
        }
    for (int64_t k = whole; k < n; k++)
        for (int64_t j = 0; j < PANEL; j++)
            to[k * PANEL + j] = j < columns ? from[j * apart + k] : 0;
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
