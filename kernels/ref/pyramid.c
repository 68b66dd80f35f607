/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of feature pyramids. Formulas: kernels/pyramid.c. */
#include "ref.h"

#include <string.h>

thaw_status th_ref_upsample(const struct th_call *call)
{
    const struct th_args_upsample *a = (const void *)call->args;
    const struct th_operand *x = &call->in[0], *y = &call->out[0];
    const int64_t *from = x->shape.dim, *to = y->shape.dim;
    const float *add = a->add_;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < to[0] * to[1]; m++)
        for (int64_t i = 0; i < to[2] * to[3]; i++) {
            int64_t n = m / to[1], c = m % to[1], p = i / to[3], q = i % to[3];
            int64_t at = th_ref_at(y, n, c, p, q);
            int64_t seen = th_ref_at(x, n, c, p * from[2] / to[2], q * from[3] / to[3]);
            ((float *)a->y)[at] = ((const float *)a->x)[seen] + (add ? add[at] : 0);
        }
    return THAW_OK;
}

/* The first of `to` places that shows i of `from`. */
static int64_t first_of(int64_t i, int64_t from, int64_t to)
{
    return (i * to + from - 1) / from;
}

thaw_status th_ref_upsample_dx(const struct th_call *call)
{
    const struct th_args_upsample_dx *a = (const void *)call->args;
    const struct th_operand *dy = &call->in[0], *dx = &call->out[0];
    const int64_t *d = dx->shape.dim, *to = dy->shape.dim;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t m = 0; m < d[0] * d[1]; m++)
        for (int64_t i = 0; i < d[2] * d[3]; i++) {
            int64_t n = m / d[1], c = m % d[1], u = i / d[3], v = i % d[3];
            double sum = 0;
            for (int64_t p = first_of(u, d[2], to[2]); p < first_of(u + 1, d[2], to[2]);
                 p++)
                for (int64_t q = first_of(v, d[3], to[3]);
                     q < first_of(v + 1, d[3], to[3]); q++)
                    sum += (double)((const float *)a->dy)[th_ref_at(dy, n, c, p, q)];
            ((float *)a->dx)[th_ref_at(dx, n, c, u, v)] = (float)sum;
        }
    return THAW_OK;
}

/* Between a map and its rows of one image, which begin at `rows`; `into` the rows or out. */
static void move_rows(const struct th_operand *map, int64_t n, int64_t width, float *x,
    float *rows, bool into)
{
    const int64_t *d = map->shape.dim;
    int64_t each = d[1] / width;
    for (int64_t i = 0; i < d[1] * d[2] * d[3]; i++) {
        int64_t j = i % width, k = i / width % each, place = i / d[1];
        float *at = x + th_ref_at(map, n, k * width + j, place / d[3], place % d[3]);
        if (into)
            rows[i] = *at;
        else
            *at = rows[i];
    }
}

thaw_status th_ref_map_rows(const struct th_call *call)
{
    const struct th_args_map_rows *a = (const void *)call->args;
    int64_t images = call->in[0].shape.dim[0], width = call->attr.rows.width;
    int64_t image = th_shape_count(&call->out[0].shape) / images;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t n = 0; n < images; n++) {
        float *rows = (float *)a->y + n * image;
        for (int i = 0; i < TH_MAX_IN; i++) {
            if (!call->args[i])
                continue;
            move_rows(&call->in[i], n, width, call->args[i], rows, true);
            rows += th_shape_count(&call->in[i].shape) / images;
        }
    }
    return THAW_OK;
}

thaw_status th_ref_map_rows_dx(const struct th_call *call)
{
    const struct th_args_map_rows_dx *a = (const void *)call->args;
    int64_t images = call->in[0].shape.dim[0], width = call->attr.rows.width;
    int64_t image = th_shape_count(&call->in[0].shape) / images;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t n = 0; n < images; n++)
        move_rows(&call->out[0], n, width, a->dx,
            (float *)a->dy + n * image + call->attr.rows.first * width, false);
    return THAW_OK;
}

/* Between a row and its factor^2 places of the map, which begin at i, j; `b` is added to the
 * map. */
static void move_row(const struct th_operand *map, const int64_t at[3], int64_t factor,
    float *x, const float *b, float *row, bool into)
{
    int64_t channels = map->shape.dim[1];
    for (int64_t k = 0; k < factor * factor * channels; k++) {
        int64_t c = k % channels, place = k / channels;
        float *y = x + th_ref_at(map, at[0], c, at[1] * factor + place / factor,
                           at[2] * factor + place % factor);
        if (into)
            *y = row[k] + (b ? b[c] : 0);
        else
            row[k] = *y;
    }
}

thaw_status th_ref_rows_map(const struct th_call *call)
{
    const struct th_args_rows_map *a = (const void *)call->args;
    const struct th_attr_rows *r = &call->attr.rows;
    const int64_t *d = call->in[0].shape.dim;
    int64_t places = (int64_t)r->grid[0] * r->grid[1];
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < d[0] * places; i++) {
        int64_t n = i / places, p = i % places;
        int64_t at[3] = {n, p / r->grid[1], p % r->grid[1]};
        float *row = (float *)a->x + (n * d[1] + d[1] - places + p) * d[2];
        move_row(&call->out[0], at, r->factor, a->y, a->b_, row, true);
    }
    return THAW_OK;
}

thaw_status th_ref_rows_map_dx(const struct th_call *call)
{
    const struct th_args_rows_map_dx *a = (const void *)call->args;
    const struct th_attr_rows *r = &call->attr.rows;
    const int64_t *d = call->out[0].shape.dim;
    int64_t places = (int64_t)r->grid[0] * r->grid[1], before = d[1] - places;
#pragma omp parallel for num_threads(call->device->threads)
    for (int64_t i = 0; i < d[0] * d[1]; i++) {
        int64_t n = i / d[1], p = i % d[1] - before;
        int64_t at[3] = {n, p / r->grid[1], p % r->grid[1]};
        float *row = (float *)a->dx + i * d[2];
        if (p < 0)
            memset(row, 0, (size_t)d[2] * sizeof *row);
        else
            move_row(&call->in[0], at, r->factor, a->dy, NULL, row, false);
    }
    return THAW_OK;
}
