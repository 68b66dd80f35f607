/* SPDX-License-Identifier: Apache-2.0
 * Owns the arithmetic of own matrix products on AVX-512; matmul.h says how they are cut.
 *
 * Scratch: b's part in panels [n/PANEL][k_part][PANEL], zero beyond n; then, each worker's
 * copy of a block of a, tiles [M][k_part + TH_MATMUL_SKEW].
 *
 * A tile's rows of a meet one panel after the other: every sum reads them, from the first
 * cache; a vector of b serves 14 sums and comes from the second. A tile is [k][M] there. */
#include "matmul_share.h"
#include "tile.h"

enum {
    M = TILE,
    TILES = 16, /* in a block: of a whose columns are contiguous, 896 bytes of a row */
    STRIP = 1 << 18, /* floats of panels: half of a second cache of 2 MB */
    B_ROWS = 16,     /* rows of b in a part of its copy */
    TAKEN = 16,      /* rows of a's memory that a tile takes from at once */
};

/* ---- copies of b ---- */

/* Rows [from, end) of b's part to their places in all panels: memory is read as it lies. */
static void pack_rows(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t from, int64_t end)
{
    for (int64_t k = from; k < end; k++) {
        const float *row = a->b + (a->from + k) * p->b_k;
        float *to = a->scratch + k * PANEL;
        int64_t j = 0;
        for (; j + PANEL <= p->n; j += PANEL, to += PANEL * p->k_part)
            memcpy(to, row + j, sizeof *to * PANEL);
        if (j == p->n)
            continue;
        memcpy(to, row + j, sizeof *to * (size_t)(p->n - j));
        memset(to + p->n - j, 0, sizeof *to * (size_t)(j + PANEL - p->n));
    }
}

static void pack(
    const struct th_matmul *p, const struct th_matmul_args *a, int64_t part)
{
    int64_t n = part_of(p, a), j = part * PANEL;
    if (p->b_k == 1)
        pack_across(a->b + a->from + j * p->b_column, p->b_column,
            smaller(PANEL, p->n - j), n, a->scratch + j * p->k_part);
    else
        pack_rows(p, a, part * B_ROWS, smaller((part + 1) * B_ROWS, n));
}

/* Rows of a as columns, [n][M]. Whole vectors are stored, what is too much of one is
 * overwritten by the next. */
static void turn(
    const struct th_matmul *p, const float *from, int64_t rows, int64_t n, float *to)
{
    int64_t whole = n / TH_LANES * TH_LANES;
    for (int64_t k = 0; k < whole; k += TH_LANES) {
        th_vf v[TH_LANES];
        for (int64_t l = 0; l < TH_LANES; l++)
            v[l] = l < rows ? vf_load(from + l * p->a_row + k) : vf_all(0);
        vf_transpose(v);
        for (int64_t l = 0; l < TH_LANES; l++)
            vf_store(to + (k + l) * M, v[l]);
    }
    for (int64_t k = whole; k < n; k++)
        for (int64_t r = 0; r < M; r++)
            to[k * M + r] = r < rows ? from[r * p->a_row + k] : 0;
}

/* n floats of a tile's columns, likewise. Returns their sums. */
static th_vf take(const struct th_matmul *p, const float *from, int64_t n, float *to)
{
    th_vf sum = vf_all(0);
    for (int64_t k = 0; k < n; k++) {
        th_vf v = vf_load(from + k * p->a_k);
        vf_store(to + k * M, v);
        sum += v;
    }
    return sum;
}

static th_vf take_some(
    const struct th_matmul *p, const float *from, int64_t rows, int64_t n, float *to)
{
    float sum[TH_LANES] = {0};
    for (int64_t k = 0; k < n; k++)
        for (int64_t r = 0; r < M; r++) {
            to[k * M + r] = r < rows ? from[k * p->a_k + r] : 0;
            sum[r] += to[k * M + r];
        }
    return vf_load(sum);
}

/* Adds a tile's sums to what there is of it after the first. */
static void add_up(th_vf v, bool first, double *sums)
{
    for (int l = 0; l < TH_LANES; l++)
        sums[l] = (double)v[l] + (first ? 0 : sums[l]);
}

/* Tiles of a block whose columns are contiguous. Rows of memory that are far apart are read
 * a few at a time by all tiles: neighbours share lines of the cache. Sums, or NULL, are
 * [tile][TH_LANES]. */
static void take_block(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t row, int64_t rows, float *copy, double *sums)
{
    int64_t n = part_of(p, a);
    for (int64_t k = 0; k < n; k += TAKEN)
        for (int64_t r = 0; r < rows; r += M) {
            const float *from = a->a + (a->from + k) * p->a_k + row + r;
            float *to = copy + r * (n + TH_MATMUL_SKEW) + k * M;
            int64_t some = smaller(TAKEN, n - k);
            th_vf sum = row + r + TH_LANES <= p->m
                            ? take(p, from, some, to)
                            : take_some(p, from, smaller(M, rows - r), some, to);
            if (sums)
                add_up(sum, a->from + k == 0, sums + r / M * TH_LANES);
        }
}

/* Rows [row, row + rows) of a, in tiles; what is left of the last one is zero. */
static void copy_block(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t row, int64_t rows, float *copy, double *sums)
{
    int64_t n = part_of(p, a);
    if (p->a_k != 1) {
        take_block(p, a, row, rows, copy, sums);
        return;
    }
    for (int64_t r = 0; r < rows; r += M) {
        const float *from = a->a + a->from + (row + r) * p->a_row;
        float *to = copy + r * (n + TH_MATMUL_SKEW);
        turn(p, from, smaller(M, rows - r), n, to);
    }
}

/* ---- products ---- */

/* The tile at a row and a column of c: a tile of a by the column's panel. */
static void product(const struct th_matmul *p, const struct th_matmul_args *a,
    const float *l, int64_t row, int64_t column)
{
    struct tile t = {.left = TILE_PACKED,
        .a = l,
        .b = a->scratch + column * p->k_part,
        .n = part_of(p, a),
        .more = a->from > 0,
        .rows = smaller(M, p->m - row),
        .columns = smaller(PANEL, p->n - column),
        .apart = p->n,
        .c = a->c + row * p->n + column};
    float bias[PANEL] = {0};
    if (a->bias && a->from == 0)
        t.start = t.columns == PANEL ? a->bias + column
                                     : memcpy(bias, a->bias + column,
                                           sizeof *bias * (size_t)t.columns);
    TH_ISA_NAME(th_tile)(&t);
}

_Static_assert((int)TH_LANES == (int)TH_MATMUL_SUMS, "a tile's sums are a vector's");

/* Where a block's sums are, for the one pass of the one worker that makes them; or NULL. */
static double *sums_of(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t row, int64_t first)
{
    return a->sums && first == 0
               ? (double *)(void *)(a->scratch + p->sums_at) + row / M * TH_LANES
               : NULL;
}

/* Of a block whose last part has been summed. */
static void put_sums(
    const struct th_matmul_args *a, int64_t row, int64_t end, const double *sums)
{
    for (int64_t r = row; r < end; r++)
        a->sums[r] = (float)sums[(r - row) / M * TH_LANES + (r - row) % M];
}

/* Rows [row, end) of a block by panels [first, last). */
static void block(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t row, int64_t end, int64_t first, int64_t last, float *copy)
{
    int64_t apart = part_of(p, a) + TH_MATMUL_SKEW;
    double *sums = sums_of(p, a, row, first);
    copy_block(p, a, row, end - row, copy, sums);
    if (sums && a->from + part_of(p, a) == p->k)
        put_sums(a, row, end, sums);
    for (int64_t r = row; r < end; r += M)
        for (int64_t j = first; j < last; j++)
            product(p, a, copy + (r - row) * apart, r, j * PANEL);
}

static void piece(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t piece, int worker)
{
    struct share s = share_of(p, piece, M);
    block(p, a, s.row, s.end, s.panel, s.panels,
        a->scratch + p->n_packed + worker * p->worker_floats);
}

const struct th_matmul_isa TH_ISA_NAME(th_matmul) = {
    .panel = PANEL,
    .rows = M,
    .tiles = TILES,
    .strip = STRIP,
    .b_rows = B_ROWS,
    .sums = true,
    .pack = pack,
    .multiply = piece,
};
