/* SPDX-License-Identifier: Apache-2.0
 * Owns bias_grad: sums over images and pixels, or over rows. */
#include "lanes.h"

enum { SLICE = 4096 }; /* floats summed in float before they go into doubles */

/* [n][c][h][w]: sums of one plane's channels into scratch [n][channels]. */
static void plane_sums(const struct th_call *call, int64_t plane)
{
    const struct th_args_bias_grad *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    const float *dy = (const float *)a->dy + plane * s.size;
    double *sums = (double *)call->scratch + plane * s.b;
    float lanes[TH_GROUP];
    memset(sums, 0, sizeof *sums * (size_t)s.b);
    for (int64_t from = 0; from < s.size; from += SLICE) {
        int64_t end = s.size - from < SLICE ? s.size : from + SLICE;
        v16 sum = v_all(0);
        for (int64_t i = from; i < end; i += TH_GROUP) {
            int n = end - i < TH_GROUP ? (int)(end - i) : TH_GROUP;
            sum = v_add(sum, v_load_n(dy + i, n, v_all(0)));
        }
        v_store(lanes, sum);
        for (int l = 0; l < TH_GROUP; l++)
            sums[l % s.b] += (double)lanes[l];
    }
}

/* [rows][outputs]: sums of one part's rows into scratch [parts][outputs]. */
static void row_sums(const struct th_call *call, int64_t part)
{
    const struct th_args_bias_grad *a = (const void *)call->args;
    int64_t outputs = call->out[0].shape.dim[0];
    int64_t rows = th_shape_count(&call->in[0].shape) / outputs;
    int64_t from = part * TH_BIAS_ROWS;
    int64_t end = rows - from < TH_BIAS_ROWS ? rows : from + TH_BIAS_ROWS;
    double *restrict sums = (double *)call->scratch + part * outputs;
    memset(sums, 0, sizeof *sums * (size_t)outputs);
    for (int64_t r = from; r < end; r++) {
        const float *restrict dy = (const float *)a->dy + r * outputs;
        for (int64_t o = 0; o < outputs; o++)
            sums[o] += (double)dy[o];
    }
}

TH_OWN(bias_grad)
{
    const struct th_args_bias_grad *a = (const void *)call->args;
    struct planes s = planes_of(&call->in[0]);
    int64_t outputs = call->out[0].shape.dim[0];
    int64_t rows = th_shape_count(&call->in[0].shape) / outputs;
    int64_t n = call->in[0].shape.rank == 4 ? s.n : th_parts(rows, TH_BIAS_ROWS);
    const double *partial = call->scratch;
    float *db = a->db;
    if (call->in[0].shape.rank == 4)
        th_parallel(call, s.n * s.blocks, plane_sums);
    else
        th_parallel(call, n, row_sums);
    for (int64_t o = 0; o < outputs; o++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += partial[i * outputs + o];
        db[o] = (float)sum;
    }
    return THAW_OK;
}
