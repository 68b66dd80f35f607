/* SPDX-License-Identifier: Apache-2.0
 * Owns shapes, element sizes, host tensors and the content hash. */
#include "tensor.h"

#include "error.h"
#include "mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct th_shape th_shape_of(int rank, const int64_t *dims)
{
    struct th_shape s = {.rank = rank};
    for (int i = 0; i < rank; i++)
        s.dim[i] = dims[i];
    return s;
}

int64_t th_shape_count(const struct th_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->dim[i];
    return n;
}

bool th_shape_equal(const struct th_shape *a, const struct th_shape *b)
{
    return a->rank == b->rank &&
           memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

const char *th_shape_text(const struct th_shape *s, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < s->rank && used < size; i++)
        used += (size_t)snprintf(
            text + used, size - used, "%s%lld", i ? "," : "", (long long)s->dim[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

size_t th_dtype_bytes(enum th_dtype t, int64_t n)
{
    switch (t) {
    case TH_F32:
    case TH_I32:
        return (size_t)n * 4;
    case TH_U8:
    case TH_BOOL:
    case TH_I8:
        return (size_t)n;
    case TH_BIT:
        return ((size_t)n + 7) / 8;
    case TH_BF16:
        return (size_t)n * 2;
    }
    return 0;
}

const char *th_dtype_name(enum th_dtype t)
{
    static const char *const name[] = {"f32", "u8", "i32", "bool", "bit", "i8", "bf16"};
    return name[t];
}

bool th_dtype_is_real(enum th_dtype t)
{
    return t == TH_F32 || t == TH_BF16;
}

uint16_t th_bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float th_bf16_value(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

int64_t th_not_finite(const float *x, int64_t n)
{
    enum { BLOCK = 4096 };
    for (int64_t from = 0; from < n; from += BLOCK) {
        int64_t to = n - from < BLOCK ? n : from + BLOCK;
        int bad = 0;
        for (int64_t i = from; i < to; i++)
            bad |= !isfinite(x[i]);
        for (int64_t i = from; bad && i < to; i++)
            if (!isfinite(x[i]))
                return i;
    }
    return -1;
}

thaw_status th_tensor_init(
    struct th_tensor *t, enum th_dtype dtype, struct th_shape shape)
{
    size_t bytes = th_dtype_bytes(dtype, th_shape_count(&shape));
    *t = (struct th_tensor){.dtype = dtype, .shape = shape, .data = th_alloc(bytes, 1)};
    return t->data ? THAW_OK : THAW_E_MEMORY;
}

void th_tensor_release(struct th_tensor *t)
{
    th_free(t->data);
    *t = (struct th_tensor){0};
}

static uint64_t rotl(uint64_t x, int r)
{
    return x << r | x >> (64 - r);
}

/* XXH64's round and avalanche on 8-byte words (Collet, xxHash specification, 2016),
 * without its four-lane stripe loop: speed here is not worth the code. */
uint64_t th_hash(const void *data, size_t bytes, uint64_t seed)
{
    const uint64_t p1 = 0x9E3779B185EBCA87u, p2 = 0xC2B2AE3D27D4EB4Fu,
                   p3 = 0x165667B19E3779F9u, p4 = 0x85EBCA77C2B2AE63u;
    const unsigned char *at = data;
    uint64_t h = seed + p3 + (uint64_t)bytes;
    for (; bytes >= 8; at += 8, bytes -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        h = rotl(h ^ (rotl(word * p2, 31) * p1), 27) * p1 + p4;
    }
    for (; bytes; at++, bytes--)
        h = rotl(h ^ (*at * p3), 11) * p1;
    h = (h ^ h >> 33) * p2;
    h = (h ^ h >> 29) * p3;
    return h ^ h >> 32;
}
