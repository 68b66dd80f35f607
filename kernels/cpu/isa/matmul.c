/* SPDX-License-Identifier: Apache-2.0
 * Owns the arithmetic of own matrix products, but for AVX-512; matmul.h says how they are cut.
 *
 * Scratch: b's part in panels [n/PANEL][k_part][PANEL], zero beyond n; then, each
 * worker's copy of a block of a. */
#include "matmul_share.h"

enum {
    AHEAD = 16, /* rows that are asked for before they are copied */
    TILES = 16, /* a block of 96 rows: 144 KB, a third of a second cache */
};

/* ---- copies ---- */

static void pack(
    const struct th_matmul *p, const struct th_matmul_args *a, int64_t panel)
{
    int64_t n = part_of(p, a), columns = smaller(PANEL, p->n - panel * PANEL);
    float *to = a->scratch + panel * PANEL * p->k_part;
    const float *from = a->b + a->from * p->b_k + panel * PANEL * p->b_column;
    if (p->b_k == 1) {
        pack_across(from, p->b_column, columns, n, to);
        return;
    }
    if (columns < PANEL)
        memset(to, 0, sizeof *to * (size_t)(n * PANEL));
    for (int64_t k = 0; k < n; k++)
        memcpy(to + k * PANEL, from + k * p->b_k, sizeof *to * (size_t)columns);
}

/* Whether it is rows of a that are contiguous, or columns. */
static bool rows_lie(const struct th_matmul *p)
{
    return p->a_k == 1;
}

/* Rows [row, row + rows) of a. As rows lie: [row][n + TH_MATMUL_SKEW]; as columns do:
 * [tile][k][ROWS]. What is left of the last tile is zero. */
static void copy_rows(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t row, int64_t rows, float *to)
{
    int64_t n = part_of(p, a), whole = rows / ROWS * ROWS, apart = n + TH_MATMUL_SKEW;
    const float *from = a->a + a->from * p->a_k + row * p->a_row;
    if (rows_lie(p)) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(to + r * apart, from + r * p->a_row, sizeof *to * (size_t)n);
        for (int64_t r = rows; r % ROWS != 0; r++)
            memset(to + r * apart, 0, sizeof *to * (size_t)n);
        return;
    }
    for (int64_t k = 0; k < n; k++, from += p->a_k)
        for (int64_t r = 0; r < whole; r += ROWS) {
            __builtin_prefetch(from + AHEAD * p->a_k + r);
            memcpy(to + r * n + k * ROWS, from + r, sizeof *to * ROWS);
        }
    from = a->a + a->from * p->a_k + row * p->a_row;
    for (int64_t k = 0; whole < rows && k < n; k++)
        for (int64_t r = whole; r < whole + ROWS; r++)
            to[whole * n + k * ROWS + r - whole] = r < rows ? from[k * p->a_k + r] : 0;
}

/* ---- products ---- */

/* A tile's rows of a, and how they lie. */
struct left {
    const float *at;
    int64_t row, k;
};

/* A tile's sums over the part; the first one begins with the bias. */
TH_INLINE void sums(registers acc, const struct th_matmul *p,
    const struct th_matmul_args *a, struct left l, const float *panel,
    const float *bias)
{
    if (a->from == 0 && bias)
        get(ROWS, COLUMNS, acc, 0, bias);
    else
        clear(ROWS, COLUMNS, acc);
    multiply(ROWS, COLUMNS, acc, l.at, l.row, l.k, panel, part_of(p, a));
}

/* c[ROWS][PANEL] of the part onto what the parts before made. */
TH_INLINE void whole_tile(const struct th_matmul *p, const struct th_matmul_args *a,
    struct left l, const float *panel, int64_t column, float *c)
{
    registers acc;
    for (int r = 0; r < ROWS; r++)
        __builtin_prefetch(c + r * p->n, 1);
    sums(acc, p, a, l, panel, a->bias ? a->bias + column : NULL);
    put(ROWS, COLUMNS, acc, a->from > 0, p->n, c);
}

/* The same at an edge, rows x columns of c: the same bits as in a whole tile. */
static void edge_tile(const struct th_matmul *p, const struct th_matmul_args *a,
    struct left l, const float *panel, int64_t column, int64_t rows, int64_t columns,
    float *c)
{
    float out[ROWS * PANEL], bias[PANEL] = {0};
    registers acc;
    if (a->bias)
        memcpy(bias, a->bias + column, sizeof *bias * (size_t)columns);
    sums(acc, p, a, l, panel, a->bias ? bias : NULL);
    put(ROWS, COLUMNS, acc, false, PANEL, out);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < columns; j++)
            c[r * p->n + j] =
                a->from > 0 ? c[r * p->n + j] + out[r * PANEL + j] : out[r * PANEL + j];
}

/* Rows [from, end) of a block by all of a worker's columns. */
static void block(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t from, int64_t end, int64_t first, int64_t last, float *copy)
{
    int64_t n = part_of(p, a);
    copy_rows(p, a, from, end - from, copy);
    for (int64_t panel = first; panel < last; panel++) {
        const float *b = a->scratch + panel * PANEL * p->k_part;
        int64_t column = panel * PANEL, columns = smaller(PANEL, p->n - column);
        for (int64_t row = from; row < end; row += ROWS) {
            int64_t rows = smaller(ROWS, end - row);
            float *c = a->c + row * p->n + column;
            struct left l = {copy + (row - from) * n, 1, ROWS};
            if (rows_lie(p))
                l = (struct left){
                    copy + (row - from) * (n + TH_MATMUL_SKEW), n + TH_MATMUL_SKEW, 1};
            if (rows < ROWS || columns < PANEL)
                edge_tile(p, a, l, b, column, rows, columns, c);
            else if (rows_lie(p))
                whole_tile(p, a, (struct left){l.at, l.row, 1}, b, column, c);
            else
                whole_tile(p, a, (struct left){l.at, 1, ROWS}, b, column, c);
        }
    }
}

static void piece(const struct th_matmul *p, const struct th_matmul_args *a,
    int64_t piece, int worker)
{
    struct share s = share_of(p, piece, ROWS);
    block(p, a, s.row, s.end, s.panel, s.panels,
        a->scratch + p->n_packed + worker * p->worker_floats);
}

const struct th_matmul_isa TH_ISA_NAME(th_matmul) = {
    .panel = PANEL,
    .rows = ROWS,
    .tiles = TILES,
    .strip = INT32_MAX,
    .pack = pack,
    .multiply = piece,
};
