/* SPDX-License-Identifier: Apache-2.0
 * A tile of a matrix product in registers: TH_PRODUCT_ROWS rows by a panel of columns. The
 * right factor is in panels, [k][PANEL] contiguous; the left one is read by broadcasts. */
#ifndef TH_PRODUCT_H
#define TH_PRODUCT_H

#include "lanes.h"

enum {
    ROWS = TH_PRODUCT_ROWS,
    COLUMNS = TH_PRODUCT_COLUMNS, /* vectors */
    PANEL = COLUMNS * TH_LANES,
};

typedef th_vf tile[ROWS][COLUMNS];

/* acc += a b: a[row][k] is a[row*row_step + k*k_step], b a panel [n][PANEL]. */
TH_INLINE void multiply(tile acc, const float *a, int64_t row_step, int64_t k_step,
    const float *b, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        th_vf right[COLUMNS];
        for (int c = 0; c < COLUMNS; c++)
            right[c] = *(const th_vf_unaligned *)(b + k * PANEL + c * TH_LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            th_vf left = a[r * row_step + k * k_step] - (th_vf){0};
            for (int c = 0; c < COLUMNS; c++)
                acc[r][c] = vf_fma(left, right[c], acc[r][c]);
        }
    }
}

TH_INLINE void clear(tile acc)
{
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++)
            acc[r][c] = (th_vf){0};
}

/* from[row][PANEL], rows `apart`; 0: all rows are one. */
TH_INLINE void get(tile acc, int64_t apart, const float *from)
{
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++)
            acc[r][c] = *(const th_vf_unaligned *)(from + r * apart + c * TH_LANES);
}

/* to[row][PANEL], rows `apart`; += where `more`. */
TH_INLINE void put(tile acc, bool more, int64_t apart, float *to)
{
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) {
            th_vf_unaligned *p = (th_vf_unaligned *)(to + r * apart + c * TH_LANES);
            th_vf v = acc[r][c];
            if (more)
                v += *p;
            *p = v;
        }
}

#endif
