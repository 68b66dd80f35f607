/* SPDX-License-Identifier: Apache-2.0
 * Owns the arithmetic of Winograd convolutions; winograd.h says how they are cut.
 *
 * Memory, all at [point]: source [c/BLOCK][tile][BLOCK], as an image is; products
 * likewise with o; weights, dy and dw's sums in panels: [o/PANEL][k][PANEL], with k a
 * source channel, a tile, a source channel. */
#include "product.h"
#include "winograd_lines.h"

enum {
    BLOCK = TH_LANES < 8 ? 8 : TH_LANES, /* the device's channel block */
    PER_BLOCK = BLOCK / TH_LANES,        /* vectors */
    DW_ROWS = TH_PRODUCT_DW_ROWS,        /* of dw's sums in registers */
};
_Static_assert((int)DW_ROWS <= (int)ROWS, "dw's sums are registers, too");

/* Transforms of tiles --------------------------------------------------------------- */

/* Tiles in their order: image by image, row by row. */
struct place {
    int64_t image, row, column;
};

TH_INLINE struct place place_of(const struct th_winograd *p, int64_t tile)
{
    int64_t row = tile / p->columns;
    return (struct place){row / p->rows, row % p->rows, tile % p->columns};
}

TH_INLINE void next_place(const struct th_winograd *p, struct place *at)
{
    if (++at->column < p->columns)
        return;
    at->column = 0;
    if (++at->row < p->rows)
        return;
    at->row = 0;
    at->image++;
}

/* What of a tile lies within the image: rows and columns [from,to). */
struct window {
    int row_from, row_to, column_from, column_to;
};

static const struct window whole = {0, TILE, 0, TILE};

TH_INLINE int within(int64_t x, int64_t most)
{
    return (int)(x < 0 ? 0 : x < most ? x : most);
}

TH_INLINE struct window window_of(const struct th_winograd *p, int64_t y, int64_t x)
{
    return (struct window){within(-y, TILE), within(p->h - y, TILE), within(-x, TILE),
        within(p->w - x, TILE)};
}

/* from: the tile's first pixel, be it within the image or not; `row` apart. */
TH_INLINE void image_tile(
    const float *from, int64_t row, struct window in, float *to, int64_t point)
{
    th_vf t[TILE][TILE], d[TILE], r[TILE];
    for (int i = 0; i < TILE; i++) {
        bool row_in = i >= in.row_from && i < in.row_to;
        for (int j = 0; j < TILE; j++)
            d[j] = row_in && j >= in.column_from && j < in.column_to
                       ? vf_load(from + i * row + j * BLOCK)
                       : vf_all(0);
        image_line(d, t[i]);
    }
    for (int j = 0; j < TILE; j++) {
        for (int i = 0; i < TILE; i++)
            d[i] = t[i][j];
        image_line(d, r);
        for (int i = 0; i < TILE; i++)
            vf_store(to + (i * TILE + j) * point, r[i]);
    }
}

/* Channels [c, c + n) of tiles [first, first + n_tiles), to the points. */
static void transform_image(const struct th_winograd *p, const float *src, int64_t c,
    int64_t n, int64_t first, int64_t n_tiles, float *to)
{
    int64_t row = p->w * BLOCK;
    for (int64_t k = 0; k < n / BLOCK; k++) {
        struct place at = place_of(p, first);
        for (int64_t t = 0; t < n_tiles; t++, next_place(p, &at)) {
            int64_t y = at.row * OUT - p->top, x = at.column * OUT - p->left;
            const float *from =
                src + ((at.image * p->c + c + k * BLOCK) * p->h + y * BLOCK) * p->w +
                x * BLOCK;
            float *out = to + (k * p->block + t) * BLOCK;
            struct window in = window_of(p, y, x);
            bool inside = y >= 0 && x >= 0 && y + TILE <= p->h && x + TILE <= p->w;
            for (int s = 0; s < PER_BLOCK; s++)
                if (inside)
                    image_tile(from + s * TH_LANES, row, whole, out + s * TH_LANES,
                        p->src_point);
                else
                    image_tile(
                        from + s * TH_LANES, row, in, out + s * TH_LANES, p->src_point);
        }
    }
}

/* A tile of dy of which rows x columns lie within the image. */
TH_INLINE void gradient_tile(
    const float *from, int64_t row, int rows, int columns, float *to, int64_t point)
{
    th_vf t[OUT][TILE], d[OUT], r[TILE];
    for (int i = 0; i < OUT; i++) {
        for (int j = 0; j < OUT; j++)
            d[j] = i < rows && j < columns ? vf_load(from + i * row + j * BLOCK)
                                           : vf_all(0);
        gradient_line(d, t[i]);
    }
    for (int j = 0; j < TILE; j++) {
        for (int i = 0; i < OUT; i++)
            d[i] = t[i][j];
        gradient_line(d, r);
        for (int i = 0; i < TILE; i++)
            vf_store(to + (i * TILE + j) * point, r[i]);
    }
}

/* Channels [o, o + n) of dy's tiles, to the points, in panels. */
static void transform_gradient(const struct th_winograd *p, const float *dy, int64_t o,
    int64_t n, int64_t first, int64_t n_tiles, float *to)
{
    int64_t row = p->ow * BLOCK;
    for (int64_t v = 0; v < n / TH_LANES; v++) {
        struct place at = place_of(p, first);
        int64_t channel = o + v * TH_LANES;
        float *panel = to + v / COLUMNS * p->block * PANEL + v % COLUMNS * TH_LANES;
        for (int64_t t = 0; t < n_tiles; t++, next_place(p, &at)) {
            int64_t y = at.row * OUT, x = at.column * OUT;
            const float *from =
                dy +
                ((at.image * p->o + channel / BLOCK * BLOCK) * p->oh + y * BLOCK) *
                    p->ow +
                x * BLOCK + channel % BLOCK;
            int rows = within(p->oh - y, OUT), columns = within(p->ow - x, OUT);
            if (rows == OUT && columns == OUT)
                gradient_tile(from, row, OUT, OUT, panel + t * PANEL, p->dst_point);
            else
                gradient_tile(
                    from, row, rows, columns, panel + t * PANEL, p->dst_point);
        }
    }
}

/* The products of a tile, to pixels of y; what y + bias + residual are put through. */
TH_INLINE void product_tile(const float *from, int64_t point, th_vf y[OUT][OUT])
{
    th_vf t[OUT][TILE], m[TILE], r[OUT];
    for (int j = 0; j < TILE; j++) {
        for (int i = 0; i < TILE; i++)
            m[i] = vf_load(from + (i * TILE + j) * point);
        product_line(m, r);
        for (int i = 0; i < OUT; i++)
            t[i][j] = r[i];
    }
    for (int i = 0; i < OUT; i++)
        product_line(t[i], y[i]);
}

static void transform_products(const struct th_winograd *p,
    const struct th_winograd_args *a, int64_t o, int64_t n, int64_t first,
    int64_t n_tiles, const float *from)
{
    for (int64_t v = 0; v < n / TH_LANES; v++) {
        struct place at = place_of(p, first);
        int64_t channel = o + v * TH_LANES;
        th_vf bias = a->bias ? vf_load(a->bias + channel) : vf_all(0);
        const float *m =
            from + v / PER_BLOCK * p->block * BLOCK + v % PER_BLOCK * TH_LANES;
        for (int64_t t = 0; t < n_tiles; t++, next_place(p, &at)) {
            th_vf y[OUT][OUT];
            int64_t top = at.row * OUT, left = at.column * OUT;
            int rows = within(p->oh - top, OUT), columns = within(p->ow - left, OUT);
            int64_t to =
                ((at.image * p->o + channel / BLOCK * BLOCK) * p->oh + top * BLOCK) *
                    p->ow +
                left * BLOCK + channel % BLOCK;
            product_tile(m + t * BLOCK, p->dst_point, y);
            for (int i = 0; i < rows; i++, to += p->ow * BLOCK)
                for (int j = 0; j < columns; j++) {
                    th_vf r = y[i][j] + bias;
                    if (a->add)
                        r += vf_load(a->add + to + j * BLOCK);
                    vf_store(
                        a->dst + to + j * BLOCK, p->relu ? vf_max(vf_all(0), r) : r);
                }
        }
    }
}

/* Products -------------------------------------------------------------------------- */

/* Tiles by output channels, summed over source channels: rows are BLOCK apart on both
 * sides, columns of the result step_column. */
TH_INLINE void product(int rows, int columns, const struct th_winograd *p,
    const float *src, const float *u, float *to)
{
    registers acc;
    clear(rows, columns, acc);
    for (int64_t c = 0; c < p->c; c += BLOCK)
        multiply(
            rows, columns, acc, src + c * p->block, BLOCK, 1, u + c * PANEL, BLOCK);
    for (int m = 0; m < rows; m++)
        for (int c = 0; c < columns; c++)
            vf_store(to + c / PER_BLOCK * p->block * BLOCK + m * BLOCK +
                         c % PER_BLOCK * TH_LANES,
                acc[m][c]);
}

/* Rows that are left over go by powers of two. */
TH_INLINE void product_rows(int columns, const struct th_winograd *p, int64_t n_rows,
    const float *src, const float *u, float *to)
{
    int64_t m = 0;
    for (; m + ROWS <= n_rows; m += ROWS)
        product(ROWS, columns, p, src + m * BLOCK, u, to + m * BLOCK);
    for (; m + 4 <= n_rows; m += 4)
        product(4, columns, p, src + m * BLOCK, u, to + m * BLOCK);
    for (; m < n_rows; m++)
        product(1, columns, p, src + m * BLOCK, u, to + m * BLOCK);
}

static void multiply_block(const struct th_winograd *p, int64_t o, int64_t n,
    int64_t n_tiles, const float *src, const float *packed, float *to)
{
    for (int64_t panel = 0; panel < n; panel += PANEL) {
        const float *u = packed + (o + panel) * p->c;
        float *at = to + panel / BLOCK * p->block * BLOCK;
        if (n - panel >= PANEL)
            product_rows(COLUMNS, p, n_tiles, src, u, at);
        else
            for (int64_t v = 0; v < (n - panel) / TH_LANES; v++)
                product_rows(1, p, n_tiles, src, u + v * TH_LANES,
                    at + v / PER_BLOCK * p->block * BLOCK + v % PER_BLOCK * TH_LANES);
    }
}

static void convolve(
    const struct th_winograd *p, const struct th_winograd_args *a, int64_t worker)
{
    int64_t tasks = p->splits * p->o_parts, done = -1;
    float *src = a->scratch + worker * p->worker_floats;
    float *dst = src + POINTS * p->src_point;
    for (int64_t i = worker * tasks / p->workers; i < (worker + 1) * tasks / p->workers;
         i++) {
        int64_t first = i / p->o_parts * p->block, o = i % p->o_parts * p->o_part;
        int64_t n_tiles = p->tiles - first < p->block ? p->tiles - first : p->block;
        int64_t n = p->o - o < p->o_part ? p->o - o : p->o_part;
        if (first != done)
            transform_image(p, a->src, 0, p->c, first, n_tiles, src);
        done = first;
        for (int k = 0; k < POINTS; k++)
            multiply_block(p, o, n, n_tiles, src + k * p->src_point,
                a->packed + k * p->packed_point, dst + k * p->dst_point);
        transform_products(p, a, o, n, first, n_tiles, dst);
    }
}

/* Weights --------------------------------------------------------------------------- */

/* What no weight is written to, so that packing twice gives the same bytes: the end of a
 * last panel of n channels, and what follows it. */
static void clear_gaps(const struct th_winograd *p, float *packed, int64_t o, int64_t n)
{
    for (int k = 0; k < POINTS; k++) {
        float *from = packed + k * p->packed_point + o * p->c;
        size_t after = (size_t)(p->packed_point - (o + PANEL) * p->c);
        for (int64_t c = 0; c < p->c && n < PANEL; c++)
            memset(from + c * PANEL + n, 0, sizeof *from * (size_t)(PANEL - n));
        memset(from + PANEL * p->c, 0, sizeof *from * after);
    }
}

/* Lanes are output channels: for dx, the parameter's input channels. */
static void pack(
    const struct th_winograd *p, const struct th_winograd_args *a, int64_t part)
{
    enum { TAPS = KERNEL * KERNEL };
    bool dx = p->direction == TH_DNNL_DX;
    int64_t step_c = dx ? p->o * TAPS : TAPS, step_o = dx ? TAPS : p->c * TAPS;
    int64_t o = part * PANEL, n = p->o - o < PANEL ? p->o - o : PANEL;
    if (o + PANEL >= p->o)
        clear_gaps(p, a->packed, o, n);
    for (int64_t c = 0; c < p->c; c++)
        for (int64_t v = 0; v < n; v += TH_LANES) {
            const float *w = a->w + c * step_c + (o + v) * step_o;
            float *to = a->packed + o * p->c + c * PANEL + v;
            float lanes[TAPS][TH_LANES];
            th_vf t[KERNEL][TILE], d[KERNEL], r[TILE];
            for (int l = 0; l < TH_LANES; l++)
                for (int k = 0; k < TAPS; k++)
                    lanes[dx ? TAPS - 1 - k : k][l] = w[l * step_o + k];
            for (int i = 0; i < KERNEL; i++) {
                for (int j = 0; j < KERNEL; j++)
                    d[j] = vf_load(lanes[i * KERNEL + j]);
                kernel_line(d, t[i]);
            }
            for (int j = 0; j < TILE; j++) {
                for (int i = 0; i < KERNEL; i++)
                    d[i] = t[i][j];
                kernel_line(d, r);
                for (int i = 0; i < TILE; i++)
                    vf_store(to + (i * TILE + j) * p->packed_point, r[i]);
            }
        }
}

/* Weight gradients ------------------------------------------------------------------ */

/* Source channels [c, c + rows) by a panel, summed over tiles, onto `sums` or in place of
 * what is there. */
TH_INLINE void weigh_product(int rows, int columns, int64_t n_tiles, const float *src,
    const float *dy, float *sums, bool onto)
{
    registers acc;
    if (onto)
        get(rows, columns, acc, PANEL, sums);
    else
        clear(rows, columns, acc);
    multiply(rows, columns, acc, src, 1, BLOCK, dy, n_tiles);
    put(rows, columns, acc, false, PANEL, sums);
}

TH_INLINE void weigh_columns(int columns, const struct th_winograd *p, int64_t n_c,
    int64_t n_tiles, const float *src, const float *dy, float *sums, bool onto)
{
    for (int64_t c = 0; c < n_c; c += DW_ROWS)
        weigh_product(DW_ROWS, columns, n_tiles,
            src + c / BLOCK * p->block * BLOCK + c % BLOCK, dy, sums + c * PANEL, onto);
}

static void weigh_block(const struct th_winograd *p, int64_t n_c, int64_t n_o,
    int64_t n_tiles, const float *src, const float *dy, float *sums, bool onto)
{
    for (int64_t o = 0; o < n_o; o += PANEL) {
        const float *panel = dy + o * p->block;
        float *to = sums + o * p->c_part;
        if (n_o - o >= PANEL)
            weigh_columns(COLUMNS, p, n_c, n_tiles, src, panel, to, onto);
        else
            for (int64_t v = 0; v < n_o - o; v += TH_LANES)
                weigh_columns(1, p, n_c, n_tiles, src, panel + v, to + v, onto);
    }
}

/* Sums of a panel's vector at source channel c, over the splits in their order, to
 * dw[o][c][3][3]. */
TH_INLINE void sum_tile(const struct th_winograd *p, const float *sums, int64_t step,
    float *dw, int64_t step_o)
{
    th_vf t[KERNEL][TILE], m[TILE], y[KERNEL];
    float lanes[KERNEL * KERNEL][TH_LANES];
    for (int j = 0; j < TILE; j++) {
        for (int i = 0; i < TILE; i++) {
            const float *at = sums + (i * TILE + j) * p->sum_point;
            m[i] = vf_load(at);
            for (int64_t s = 1; s < p->splits; s++)
                m[i] += vf_load(at + s * step);
        }
        sum_line(m, y);
        for (int i = 0; i < KERNEL; i++)
            t[i][j] = y[i];
    }
    for (int i = 0; i < KERNEL; i++) {
        sum_line(t[i], y);
        for (int j = 0; j < KERNEL; j++)
            vf_store(lanes[i * KERNEL + j], y[j]);
    }
    for (int l = 0; l < TH_LANES; l++)
        for (int k = 0; k < KERNEL * KERNEL; k++)
            dw[l * step_o + k] = lanes[k][l];
}

/* Channel ranges of a task, and their sums to dw. */
struct pair {
    int64_t c, n_c, o, n_o;
};

static struct pair pair_of(const struct th_winograd *p, int64_t i)
{
    int64_t c = i / p->o_parts * p->c_part, o = i % p->o_parts * p->o_part;
    return (struct pair){c, p->c - c < p->c_part ? p->c - c : p->c_part, o,
        p->o - o < p->o_part ? p->o - o : p->o_part};
}

static void write_pair(const struct th_winograd *p, struct pair r, const float *sums,
    int64_t step, float *dw)
{
    int64_t step_o = p->c * KERNEL * KERNEL;
    for (int64_t v = 0; v < r.n_o; v += TH_LANES)
        for (int64_t c = 0; c < r.n_c; c++)
            sum_tile(p, sums + v / PANEL * PANEL * p->c_part + c * PANEL + v % PANEL,
                step, dw + (r.o + v) * step_o + (r.c + c) * KERNEL * KERNEL, step_o);
}

static int64_t pairs_of(const struct th_winograd *p)
{
    return p->c_parts * p->o_parts;
}

static float *sums_of(
    const struct th_winograd *p, const struct th_winograd_args *a, int64_t i)
{
    return a->scratch + p->workers * p->worker_floats + i * p->sum;
}

/* Tiles of one split, in blocks. */
static void weigh_split(const struct th_winograd *p, const struct th_winograd_args *a,
    struct pair r, int64_t split, float *src, float *sums)
{
    float *dy = src + POINTS * p->src_point;
    int64_t from = split * p->tiles / p->splits,
            end = (split + 1) * p->tiles / p->splits;
    for (int64_t first = from; first < end; first += p->block) {
        int64_t n = end - first < p->block ? end - first : p->block;
        transform_image(p, a->src, r.c, r.n_c, first, n, src);
        transform_gradient(p, a->dy, r.o, r.n_o, first, n, dy);
        for (int k = 0; k < POINTS; k++)
            weigh_block(p, r.n_c, r.n_o, n, src + k * p->src_point,
                dy + k * p->dst_point, sums + k * p->sum_point, first > from);
    }
}

/* With one split a worker's sums are final, and written at once. */
static void weigh(
    const struct th_winograd *p, const struct th_winograd_args *a, int64_t worker)
{
    int64_t pairs = pairs_of(p), tasks = p->splits * pairs;
    float *src = a->scratch + worker * p->worker_floats;
    for (int64_t i = worker * tasks / p->workers; i < (worker + 1) * tasks / p->workers;
         i++) {
        struct pair r = pair_of(p, i % pairs);
        float *sums = sums_of(p, a, p->splits > 1 ? i : worker);
        weigh_split(p, a, r, i / pairs, src, sums);
        if (p->splits == 1)
            write_pair(p, r, sums, 0, a->dst);
    }
}

/* A part is one block of a pair's source channels. */
static void finish(
    const struct th_winograd *p, const struct th_winograd_args *a, int64_t part)
{
    int64_t n = p->c_part / BLOCK, c = part % n * BLOCK;
    struct pair r = pair_of(p, part / n);
    const float *sums = sums_of(p, a, part / n) + c * PANEL;
    if (c >= r.n_c)
        return;
    r.c += c;
    r.n_c = BLOCK;
    write_pair(p, r, sums, pairs_of(p) * p->sum, a->dst);
}

const struct th_winograd_isa TH_ISA_NAME(th_winograd) = {
    .block = BLOCK,
    .panel = PANEL,
    .rows = ROWS,
    .pack = pack,
    .convolve = convolve,
    .weigh = weigh,
    .finish = finish,
};
