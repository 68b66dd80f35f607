/* SPDX-License-Identifier: Apache-2.0
 * Owns tokens and tokens_dx for any channel block: a patch's values, which are a block here
 * and a block there in an image, are a row of the tokens. */
#include "cpu.h"

#include <string.h>

/* Where patch p of image n begins; its blocks are `apart`. */
struct patch {
    int64_t at, apart, blocks;
    size_t bytes; /* of a block */
};

static struct patch patch_of(const struct th_operand *image, int64_t n, int64_t p)
{
    const int64_t *d = image->shape.dim;
    int64_t b = image->block, plane = d[2] * d[3];
    return (struct patch){.at = (n * d[1] / b * plane + p) * b,
        .apart = plane * b,
        .blocks = d[1] / b,
        .bytes = sizeof(float) * (size_t)b};
}

static void get_patch(
    const struct th_operand *image, const float *x, int64_t n, int64_t p, float *row)
{
    struct patch s = patch_of(image, n, p);
    for (int64_t k = 0; k < s.blocks; k++)
        memcpy(row + k * image->block, x + s.at + k * s.apart, s.bytes);
}

static void put_patch(
    const struct th_operand *image, const float *row, int64_t n, int64_t p, float *x)
{
    struct patch s = patch_of(image, n, p);
    for (int64_t k = 0; k < s.blocks; k++)
        memcpy(x + s.at + k * s.apart, row + k * image->block, s.bytes);
}

/* Tokens before the patches. */
static int64_t tokens_before(
    const struct th_operand *tokens, const struct th_operand *image)
{
    return tokens->shape.dim[1] - image->shape.dim[2] * image->shape.dim[3];
}

/* Token i of sample n: the class token, one of `more`, or a patch; and its position. */
static void tokens_row(const struct th_call *call, int64_t row)
{
    const struct th_args_tokens *a = (const void *)call->args;
    const int64_t *o = call->out[0].shape.dim;
    int64_t n = row / o[1], i = row % o[1], d = o[2];
    int64_t p = i - tokens_before(&call->out[0], &call->in[0]);
    int64_t first = call->attr.token.first;
    float *y = (float *)a->y + row * d;
    if (p >= 0)
        get_patch(&call->in[0], a->x, n, p, y);
    else
        memcpy(y, i < first ? a->cls_ : (const float *)a->more_ + (i - first) * d,
            sizeof *y * (size_t)d);
    if (!a->pos_)
        return;
    int64_t bare = o[1] - call->in[3].shape.dim[1]; /* tokens without a position */
    const float *pos = (const float *)a->pos_ + (i - bare) * d;
    for (int64_t c = 0; i >= bare && c < d; c++)
        y[c] += pos[c];
}

static thaw_status tokens_run(const struct th_call *call)
{
    const int64_t *o = call->out[0].shape.dim;
    th_parallel(call, o[0] * o[1], tokens_row);
    return THAW_OK;
}

static void tokens_dx_patch(const struct th_call *call, int64_t i)
{
    const struct th_args_tokens_dx *a = (const void *)call->args;
    const struct th_operand *dy = &call->in[0], *image = &call->out[0];
    const int64_t *o = dy->shape.dim;
    int64_t before = tokens_before(dy, image), plane = o[1] - before;
    int64_t n = i / plane, p = i % plane;
    const float *row = (const float *)a->dy + (n * o[1] + before + p) * o[2];
    put_patch(image, row, n, p, a->dx);
}

static thaw_status tokens_dx_run(const struct th_call *call)
{
    const int64_t *d = call->out[0].shape.dim;
    th_parallel(call, d[0] * d[2] * d[3], tokens_dx_patch);
    return THAW_OK;
}

const struct th_kernel th_cpu_tokens = {.run = tokens_run};
const struct th_kernel th_cpu_tokens_dx = {.run = tokens_dx_run};
