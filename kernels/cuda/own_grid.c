/* SPDX-License-Identifier: Apache-2.0
 * Owns the shapes of grids. They depend on shapes alone, so that a sum is taken in the same
 * order whenever it is taken. */
#include "own_ops.h"

#include <string.h>

enum {
    VECTOR = 4,        /* values of fp32 that a thread takes at a time */
    ROWS_A_CHUNK = 64, /* rows that a thread adds up before there is a second chunk */
    COLUMN_BLOCKS = 1024, /* blocks of a first stage, chunks times columns */
    MOST_ROWS = 65535,    /* of a grid */
};

thaw_status th_own_launch(const struct th_call *call, enum th_cuda_kernel kernel,
    struct th_cuda_grid grid, const void *params)
{
    const char *name = th_cuda_kernel_name(kernel);
    size_t length = strlen(name);
    bool half = call->in[0].dtype == TH_BF16 && length > 4 &&
                strcmp(name + length - 4, "_f32") == 0;
    return th_cuda_launch(call->device, half ? kernel + 1 : kernel, &grid,
        (void *[]){(void *)(uintptr_t)params});
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t parts(int64_t n, int64_t each)
{
    return n > 0 ? (n + each - 1) / each : 1;
}

static struct th_cuda_grid grid_of(int64_t x, int64_t y)
{
    return (struct th_cuda_grid){
        .blocks = {(unsigned)x, (unsigned)y, 1}, .threads = {TH_OWN_THREADS, 1, 1}};
}

struct th_cuda_grid th_own_blocks(int64_t blocks)
{
    return grid_of(least(blocks, 8 * TH_OWN_WAVE), 1);
}

struct th_cuda_grid th_own_values(int64_t count, int each)
{
    return grid_of(least(parts(count, (int64_t)TH_OWN_THREADS * each), TH_OWN_WAVE), 1);
}

struct th_cuda_grid th_own_samples(int64_t samples, int64_t sample, int each)
{
    return grid_of(least(parts(sample, (int64_t)TH_OWN_THREADS * each), TH_OWN_WAVE),
        least(samples, MOST_ROWS));
}

struct th_cuda_grid th_own_rows(int64_t rows)
{
    return grid_of(least(parts(rows, TH_OWN_THREADS / 32), 8 * TH_OWN_WAVE), 1);
}

struct th_cuda_grid th_own_once(void)
{
    return (struct th_cuda_grid){.blocks = {1, 1, 1}, .threads = {1, 1, 1}};
}

/* ---- sums over rows ---- */

struct th_k_columns th_own_columns(int64_t rows, int64_t columns)
{
    int64_t threads = columns % VECTOR == 0 ? columns / VECTOR : columns;
    struct th_k_columns c = {.rows = rows, .columns = columns, .lanes = 1};
    while (c.lanes < 32 && c.lanes < threads)
        c.lanes *= 2;
    int64_t side = parts(threads, c.lanes);
    int64_t most = COLUMN_BLOCKS / side > 1 ? COLUMN_BLOCKS / side : 1;
    int64_t slots = TH_OWN_THREADS / c.lanes;
    c.each = parts(rows, least(parts(rows, slots * ROWS_A_CHUNK), most));
    c.chunks = (int32_t)parts(rows, c.each);
    return c;
}

/* In bf16 a thread has twice the columns, and half the blocks have none. */
struct th_cuda_grid th_own_column_grid(const struct th_k_columns *c)
{
    int64_t threads = c->columns % VECTOR == 0 ? c->columns / VECTOR : c->columns;
    return grid_of(parts(threads, c->lanes), c->chunks);
}

size_t th_own_sums_bytes(const struct th_k_columns *c, int n)
{
    return c->chunks == 1
               ? 0
               : (size_t)n * (size_t)c->chunks * (size_t)c->columns * sizeof(float);
}

void th_own_sums(
    struct th_k_columns *c, const struct th_call *call, float *first, float *second)
{
    float *scratch = call->scratch;
    c->sum[0] = c->chunks == 1 ? first : scratch;
    c->sum[1] = c->chunks == 1 ? second : scratch + c->chunks * c->columns;
}

thaw_status th_own_sums_end(const struct th_k_columns *c, const struct th_call *call,
    float *first, float *second)
{
    if (c->chunks == 1)
        return THAW_OK;
    return th_own_launch(call, TH_K_sum_chunks, th_own_values(2 * c->columns, 1),
        &(struct th_k_sum_chunks){.to = {first, second},
            .sum = {c->sum[0], c->sum[1]},
            .columns = c->columns,
            .chunks = c->chunks});
}

/* ---- operands ---- */

int64_t th_own_width(const struct th_operand *o)
{
    const struct th_shape *s = &o->shape;
    return s->rank == 4 ? s->dim[1] : s->rank == 0 ? 1 : s->dim[s->rank - 1];
}

int64_t th_own_height(const struct th_operand *o)
{
    return th_shape_count(&o->shape) / th_own_width(o);
}

int64_t th_own_sample(const struct th_operand *o)
{
    return th_shape_count(&o->shape) / o->shape.dim[0];
}

thaw_status th_own_fits(struct th_call *call)
{
    char text[128];
    for (int i = 0; i < TH_MAX_IN + TH_MAX_OUT; i++) {
        const struct th_operand *o =
            i < TH_MAX_IN ? &call->in[i] : &call->out[i - TH_MAX_IN];
        if (o->present && o->shape.rank > 0 && th_own_sample(o) > INT32_MAX)
            return th_fail(THAW_E_USAGE,
                "%s: a tensor %s has more than 2^31 - 1 values a sample, which its "
                "kernel cannot count: use smaller images, or --device cpu",
                th_op_rule(call->op)->name,
                th_shape_text(&o->shape, text, sizeof text));
    }
    return THAW_OK;
}
