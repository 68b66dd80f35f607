/* SPDX-License-Identifier: Apache-2.0
 * A tile of a matrix product, TILE rows by a panel of columns, whose sums stay in registers:
 * tile.c, or tile_avx512.c. A sum is in the order of k, with one rounding a product where the
 * instruction set has that, whatever is beside it in the tile. */
#ifndef TH_TILE_H
#define TH_TILE_H

#include "product.h"

enum {
    TILE = TH_TILE_ROWS,
    /* Floats from one row of a slab to the next: not a multiple of 4 KB, which would be one
     * set of a first cache; of them, so many have a value. */
    SLAB = 272,
    SLAB_USED = 256,
};

/* How the left factor a lies: [n][TILE]; a slab's rows, [TILE][SLAB], n of each; or a slab's
 * columns, [n][SLAB], TILE of each. */
enum tile_left { TILE_PACKED, TILE_ROWS, TILE_COLUMNS };

/* c[rows][columns] = start + a b; a's rows beyond `rows` are read, but not used. */
struct tile {
    enum tile_left left;
    const float *a, *b;    /* b is a panel, [n][PANEL] */
    int64_t n;             /* at least 1 */
    const float *start;    /* [PANEL], where a is packed; NULL: zero */
    bool more;             /* c += instead */
    int64_t rows, columns; /* at most TILE, PANEL */
    int64_t apart;         /* of c's rows */
    float *c;
};
void TH_ISA_NAME(th_tile)(const struct tile *t);

/* What is in out, [TILE][PANEL], to c. */
TH_INLINE void tile_put(const struct tile *t, const float *out)
{
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t j = 0; j < t->columns; j++) {
            float *at = t->c + r * t->apart + j;
            *at = t->more ? *at + out[r * PANEL + j] : out[r * PANEL + j];
        }
}

/* A tile of constant shape, in vectors of columns, in C. */
TH_INLINE void tile_multiply(
    const struct tile *t, enum tile_left left, int rows, int columns)
{
    th_vf acc[TILE][COLUMNS];
    int64_t row = left == TILE_ROWS ? SLAB : 1;
    int64_t k = left == TILE_ROWS ? 1 : left == TILE_COLUMNS ? SLAB : TILE;
    if (left == TILE_PACKED && t->start)
        get(rows, columns, acc, 0, t->start);
    else
        clear(rows, columns, acc);
    multiply(rows, columns, acc, t->a, row, k, t->b, t->n);
    if (t->rows == rows && t->columns == columns * TH_LANES) {
        put(rows, columns, acc, t->more, t->apart, t->c);
        return;
    }
    float out[TILE * PANEL];
    put(rows, columns, acc, false, PANEL, out);
    tile_put(t, out);
}

#endif
