/* SPDX-License-Identifier: Apache-2.0
 * What of a matrix product is whose: included by matmul.c and matmul_avx512.c. */
#ifndef TH_MATMUL_SHARE_H
#define TH_MATMUL_SHARE_H

#include "product.h"

TH_INLINE int64_t part_of(const struct th_matmul *p, const struct th_matmul_args *a)
{
    return smaller(p->k_part, p->k - a->from);
}

/* A worker's rows [row, end) and panels [panel, panels). */
struct share {
    int64_t row, end, panel, panels;
};

TH_INLINE struct share share_of(const struct th_matmul *p, int64_t worker, int64_t rows)
{
    int64_t w = worker / p->column_workers, v = worker % p->column_workers;
    int64_t tiles = th_parts(p->m, rows), panels = th_parts(p->n, PANEL);
    return (struct share){w * tiles / p->row_workers * rows,
        smaller(p->m, (w + 1) * tiles / p->row_workers * rows),
        v * panels / p->column_workers, (v + 1) * panels / p->column_workers};
}

#endif
