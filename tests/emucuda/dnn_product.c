/* SPDX-License-Identifier: Apache-2.0
 * Owns sums of products in fp32: whole trainings run through here. Convolutions work on
 * [n][h][w][c] and [r][s][c][k], row by row; other orders are copied first. */
#include "dnn.h"

#include "number.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 4, COLUMNS = 8 };

/* c [m <= ROWS][n <= COLUMNS] += a b */
static void small_tile(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
    int64_t a_column, const float *b, int64_t b_row, float *c, int64_t c_row)
{
    for (int64_t i = 0; i < m; i++) {
        float sum[COLUMNS] = {0};
        for (int64_t p = 0; p < k; p++) {
            float x = a[i * a_row + p * a_column];
            for (int64_t j = 0; j < n; j++)
                sum[j] += x * b[p * b_row + j];
        }
        for (int64_t j = 0; j < n; j++)
            c[i * c_row + j] += sum[j];
    }
}

static void tile(int64_t k, const float *a, int64_t a_row, int64_t a_column,
    const float *b, int64_t b_row, float *c, int64_t c_row)
{
    float sum[ROWS][COLUMNS] = {{0}};
    for (int64_t p = 0; p < k; p++) {
        const float *x = a + p * a_column, *y = b + p * b_row;
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLUMNS; j++)
                sum[i][j] += x[i * a_row] * y[j];
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++)
            c[i * c_row + j] += sum[i][j];
}

/* c += a b; b and c have their columns side by side */
static void gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
    int64_t a_column, const float *b, int64_t b_row, float *c, int64_t c_row)
{
    for (int64_t j = 0; j < n; j += COLUMNS)
        for (int64_t i = 0; i < m; i += ROWS) {
            int64_t rows = m - i < ROWS ? m - i : ROWS;
            int64_t columns = n - j < COLUMNS ? n - j : COLUMNS;
            const float *x = a + i * a_row;
            float *to = c + i * c_row + j;
            if (rows == ROWS && columns == COLUMNS)
                tile(k, x, a_row, a_column, b + j, b_row, to, c_row);
            else
                small_tile(
                    rows, columns, k, x, a_row, a_column, b + j, b_row, to, c_row);
        }
}

/* In parts, so that sums are as short as on a device, in the order of the seed. */
void dnn_gemm(int64_t m, int64_t n, int64_t k, const float *a, int64_t a_row,
    int64_t a_column, const float *b, int64_t b_row, float *c, int64_t c_row)
{
    enum { PART = 128 };
    int64_t parts = (k + PART - 1) / PART;
    int64_t first = emu.options.any_sum_order && parts > 0
                        ? (int64_t)(emu.options.seed % (uint64_t)parts)
                        : 0;
    for (int64_t i = 0; i < parts; i++) {
        int64_t p = (first + i) % parts * PART, size = k - p < PART ? k - p : PART;
        gemm(m, n, size, a + p * a_column, a_row, a_column, b + p * b_row, b_row, c,
            c_row);
    }
}

/* ---- copies ---- */

/* A dense copy of v with its axes in this order. */
static float *packed(const struct dnn_view *v, const int *order, bool tf32)
{
    int64_t n = 1, at[DNN_RANK] = {0}, offset = 0;
    for (int i = 0; i < v->rank; i++)
        n *= v->dim[i];
    float *copy = dnn_temporary(n);
    for (int64_t i = 0; i < n; i++) {
        copy[i] = tf32 ? to_tf32(v->v[offset]) : v->v[offset];
        for (int k = v->rank - 1; k >= 0; k--) {
            int axis = order[k];
            offset += v->stride[axis];
            if (++at[k] < v->dim[axis])
                break;
            offset -= at[k] * v->stride[axis];
            at[k] = 0;
        }
    }
    return copy;
}

/* And back. */
static void unpack(const struct dnn_view *v, const int *order, const float *copy)
{
    int64_t n = 1, at[DNN_RANK] = {0}, offset = 0;
    for (int i = 0; i < v->rank; i++)
        n *= v->dim[i];
    for (int64_t i = 0; i < n; i++) {
        v->v[offset] = copy[i];
        for (int k = v->rank - 1; k >= 0; k--) {
            int axis = order[k];
            offset += v->stride[axis];
            if (++at[k] < v->dim[axis])
                break;
            offset -= at[k] * v->stride[axis];
            at[k] = 0;
        }
    }
}

/* ---- matrix products ---- */

void dnn_matmul(struct dnn_view a, struct dnn_view b, struct dnn_view c, bool tf32)
{
    static const int plain[DNN_RANK] = {0, 1, 2, 3, 4, 5, 6, 7};
    int row = a.rank - 2, column = a.rank - 1;
    int64_t m = a.dim[row], k = a.dim[column], n = b.dim[column], batches = 1;
    for (int i = 0; i < row; i++)
        batches *= a.dim[i];
    float *x = packed(&a, plain, tf32), *y = packed(&b, plain, tf32);
    float *z = dnn_temporary(batches * m * n);
    for (int64_t i = 0; i < batches; i++)
        dnn_gemm(m, n, k, x + i * m * k, k, 1, y + i * k * n, n, z + i * m * n, n);
    unpack(&c, plain, z);
    free(x);
    free(y);
    free(z);
}

/* ---- convolutions ---- */

static const int NHWC[] = {0, 2, 3, 1}, RSCK[] = {2, 3, 1, 0}, RSKC[] = {2, 3, 0, 1};

struct conv {
    enum dnn_makes makes;
    const struct dnn_window *w;
    const int64_t *x, *f, *y;  /* [n][c][h][w], [k][c / groups][r][s], [n][k][h][w] */
    float *at_x, *at_f, *at_y; /* packed */
    int64_t groups, in, out;   /* channels of a group */
};

/* Outputs [first, end) of a row whose windows have their s-th column inside. */
static void inside(const struct conv *c, int64_t s, int64_t *first, int64_t *end)
{
    int64_t stride = c->w->stride[1];
    int64_t shift = s * c->w->dilation[1] - c->w->before[1], width = c->x[3];
    *first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    int64_t last = (width - 1 - shift) / stride; /* of those that may be inside */
    *end = width - 1 - shift < 0 ? 0 : last + 1;
    if (*end > c->y[3])
        *end = c->y[3];
}

/* A row of outputs and one position of the window: m pixels, in and out channels. */
static void run_row(
    const struct conv *c, int64_t n, int64_t h, int64_t row, int64_t r, int64_t s)
{
    int64_t first, end, channels = c->x[1], filters = c->y[1];
    inside(c, s, &first, &end);
    if (first >= end)
        return;
    int64_t m = end - first, step = c->w->stride[1] * channels;
    int64_t column = first * c->w->stride[1] + s * c->w->dilation[1] - c->w->before[1];
    float *x = c->at_x + ((n * c->x[2] + row) * c->x[3] + column) * channels;
    float *y = c->at_y + ((n * c->y[2] + h) * c->y[3] + first) * filters;
    float *f = c->at_f + (r * c->f[3] + s) * c->in * filters;
    for (int64_t g = 0; g < c->groups; g++) {
        float *xg = x + g * c->in, *yg = y + g * c->out;
        if (c->makes == DNN_MAKES_Y) /* [r][s][c][k] */
            dnn_gemm(
                m, c->out, c->in, xg, step, 1, f + g * c->out, filters, yg, filters);
        else if (c->makes == DNN_MAKES_X) /* [r][s][k][c] */
            dnn_gemm(m, c->in, c->out, yg, filters, 1, f + g * c->out * c->in, c->in,
                xg, step);
        else
            dnn_gemm(
                c->in, c->out, m, xg, 1, step, yg, filters, f + g * c->out, filters);
    }
}

static void run_conv(const struct conv *c)
{
    int64_t rows = c->y[0] * c->y[2], window = c->f[2] * c->f[3];
    uint64_t turn = emu.options.any_sum_order ? emu.options.seed : 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = (i + (int64_t)(turn % (uint64_t)rows)) % rows;
        int64_t n = at / c->y[2], h = at % c->y[2];
        for (int64_t k = 0; k < window; k++) {
            int64_t place = (k + (int64_t)(turn % (uint64_t)window)) % window;
            int64_t r = place / c->f[3], s = place % c->f[3];
            int64_t row = h * c->w->stride[0] + r * c->w->dilation[0] - c->w->before[0];
            if (row >= 0 && row < c->x[2])
                run_row(c, n, h, row, r, s);
        }
    }
}

static float *empty(const struct dnn_view *v)
{
    return dnn_temporary(v->dim[0] * v->dim[1] * v->dim[2] * v->dim[3]);
}

void dnn_conv(enum dnn_makes makes, const struct dnn_window *w, struct dnn_view x,
    struct dnn_view f, struct dnn_view y, bool tf32)
{
    const int *order = makes == DNN_MAKES_X ? RSKC : RSCK;
    struct conv c = {.makes = makes, .w = w, .x = x.dim, .f = f.dim, .y = y.dim};
    c.groups = x.dim[1] / f.dim[1];
    c.in = f.dim[1];
    c.out = y.dim[1] / c.groups;
    c.at_x = makes == DNN_MAKES_X ? empty(&x) : packed(&x, NHWC, tf32);
    c.at_f = makes == DNN_MAKES_W ? empty(&f) : packed(&f, order, tf32);
    c.at_y = makes == DNN_MAKES_Y ? empty(&y) : packed(&y, NHWC, tf32);
    run_conv(&c);
    if (makes == DNN_MAKES_X)
        unpack(&x, NHWC, c.at_x);
    else if (makes == DNN_MAKES_W)
        unpack(&f, order, c.at_f);
    else
        unpack(&y, NHWC, c.at_y);
    free(c.at_x);
    free(c.at_f);
    free(c.at_y);
}
