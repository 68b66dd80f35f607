/* SPDX-License-Identifier: Apache-2.0
 * Owns a tile's products on every instruction set but AVX-512. */
#include "tile.h"

enum { FEW = 2 }; /* rows that are worth a smaller tile */

static void rows_tile(const struct tile *t)
{
    if (t->rows <= FEW)
        tile_multiply(t, TILE_ROWS, FEW, COLUMNS);
    else
        tile_multiply(t, TILE_ROWS, TILE, COLUMNS);
}

static void columns_tile(const struct tile *t)
{
    if (t->rows <= FEW)
        tile_multiply(t, TILE_COLUMNS, FEW, COLUMNS);
    else
        tile_multiply(t, TILE_COLUMNS, TILE, COLUMNS);
}

void TH_ISA_NAME(th_tile)(const struct tile *t)
{
    if (t->left == TILE_ROWS)
        rows_tile(t);
    else
        columns_tile(t);
}
