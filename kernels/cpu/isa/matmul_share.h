/* SPDX-License-Identifier: Apache-2.0
 * Which part of a matrix product a piece is: included by matmul.c and matmul_avx512.c. */
#ifndef TH_MATMUL_SHARE_H
#define TH_MATMUL_SHARE_H

#include "product.h"

TH_INLINE int64_t part_of(const struct th_matmul *p, const struct th_matmul_args *a)
{
    return smaller(p->k_part, p->k - a->from);
}

/* A piece's rows [row, end) and panels [panel, panels). */
struct share {
    int64_t row, end, panel, panels;
};

TH_INLINE struct share share_of(const struct th_matmul *p, int64_t piece, int rows)
{
    int64_t strip = piece / p->pieces, panels = th_parts(p->n, PANEL);
    struct th_matmul_rows r = th_matmul_rows_of(p, piece % p->pieces, rows);
    return (struct share){
        r.row, r.end, strip * panels / p->strips, (strip + 1) * panels / p->strips};
}

#endif
