/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of what is done with several feature maps at once.
 *
 * upsample, to a finer map's size by the nearest value (torch's interpolate, "nearest"), and
 * that map added, the step of a feature pyramid (Lin et al. 2017, arXiv:1612.03144, figure 3):
 *
 *   y[n,c,p,q] = x[n, c, p*h/H, q*w/W] + add[n,c,p,q]     (divisions rounded down)
 *   dx[n,c,i,j] = sum of dy over the p, q that show i, j;  dadd = dy
 *
 * map_rows, maps [n][k*width][h][w] one behind the other as rows, k a place:
 *
 *   y[n, first + (p*w + q)*k + i, j] = x[n, i*width + j, p, q]    -> [n][rows][width]
 *
 * rows_map, the last h*w rows of x [n][rows][factor^2*c] as a map: those of tokens, or, with
 * factor 2 behind a linear layer, a transposed convolution of 2x2 with stride 2 (Dumoulin and
 * Visin 2016, arXiv:1603.07285, chapter 4), b its bias:
 *
 *   y[n, k, i*f + u, j*f + v] = x[n, rows - h*w + i*w + j, (u*f + v)*c + k] + b[k]
 *   dx: dy turned back, 0 for rows before those;  db = sum of dy over n and places */
#include "rule.h"

static thaw_status upsample_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const int *size = attr->upsample.size;
    const int64_t *x = in[0].shape.dim;
    TRY(th_rule_rank("upsample", "x", &in[0], 4));
    if (size[0] < x[2] || size[1] < x[3])
        return th_fail(THAW_E_USAGE,
            "upsample: from %lld x %lld to %d x %d, which is no larger",
            (long long)x[2], (long long)x[3], size[0], size[1]);
    th_rule_f32(&out[0], TH_SHAPE(x[0], x[1], size[0], size[1]));
    return in[1].present ? th_rule_same("upsample", "add", &in[1], "y", &out[0])
                         : THAW_OK;
}

static thaw_status upsample_grad(struct th_grad *g)
{
    if (g->need[0])
        TRY(th_rule_emit(
            g, TH_OP_upsample_dx, (int[]){g->dout[0]}, g->in[0], &g->din[0]));
    if (g->need[1])
        g->din[1] = g->dout[0];
    return THAW_OK;
}

const struct th_op_fn th_rule_upsample = {
    .shape = upsample_shape, .grad = upsample_grad};
const struct th_op_fn th_rule_upsample_dx = {0};

/* Rows that a map becomes. */
static int64_t rows_of(const union th_attr *attr, const struct th_operand *map)
{
    const int64_t *d = map->shape.dim;
    return d[1] / attr->rows.width * d[2] * d[3];
}

static thaw_status map_rows_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    int64_t rows = 0;
    for (int i = 0; i < TH_MAX_IN; i++) {
        const int64_t *d = in[i].shape.dim;
        if (i && !in[i].present)
            continue;
        TRY(th_rule_rank("map_rows", "a map", &in[i], 4));
        if (d[0] != in[0].shape.dim[0] || d[1] != in[0].shape.dim[1] ||
            attr->rows.width < 1 || d[1] % attr->rows.width)
            return th_fail(THAW_E_USAGE,
                "map_rows: maps of as many images and channels, rows of %d values each",
                attr->rows.width);
        rows += rows_of(attr, &in[i]);
    }
    th_rule_f32(&out[0], TH_SHAPE(in[0].shape.dim[0], rows, attr->rows.width));
    return THAW_OK;
}

static thaw_status map_rows_grad(struct th_grad *g)
{
    union th_attr attr = *g->attr;
    for (int i = 0; i < TH_MAX_IN; i++) {
        if (g->in[i] < 0)
            continue;
        if (g->need[i])
            TRY(g->emit(g, TH_OP_map_rows_dx, &attr, (int[]){g->dout[0]},
                (int[]){g->in[i]}, &g->din[i]));
        attr.rows.first += rows_of(&attr, g->operand(g, g->in[i]));
    }
    return THAW_OK;
}

const struct th_op_fn th_rule_map_rows = {
    .shape = map_rows_shape, .grad = map_rows_grad};
const struct th_op_fn th_rule_map_rows_dx = {0};

static thaw_status rows_map_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    const int64_t *d = in[0].shape.dim, f = attr->rows.factor;
    int64_t h = attr->rows.grid[0], w = attr->rows.grid[1];
    TRY(th_rule_rank("rows_map", "x", &in[0], 3));
    if (h < 1 || w < 1 || f < 1 || h * w > d[1] || d[2] % (f * f))
        return th_fail(THAW_E_USAGE,
            "rows_map: %lld rows of %lld values are no map of %lld x %lld places, %lld "
            "squared a row",
            (long long)d[1], (long long)d[2], (long long)h, (long long)w, (long long)f);
    TRY(th_rule_vector("rows_map", "b", &in[1], d[2] / (f * f)));
    th_rule_f32(&out[0], TH_SHAPE(d[0], d[2] / (f * f), h * f, w * f));
    return THAW_OK;
}

static thaw_status rows_map_grad(struct th_grad *g)
{
    if (g->need[0])
        TRY(th_rule_emit(g, TH_OP_rows_map_dx, g->dout, g->in[0], &g->din[0]));
    if (g->need[1])
        TRY(th_rule_emit(g, TH_OP_bias_grad, g->dout, g->in[1], &g->din[1]));
    return THAW_OK;
}

const struct th_op_fn th_rule_rows_map = {
    .shape = rows_map_shape, .grad = rows_map_grad};
const struct th_op_fn th_rule_rows_map_dx = {0};
