/* SPDX-License-Identifier: Apache-2.0
 * Sixteen floats at a time on any instruction set, and activations seen as planes of them.
 *
 * A plane is one image's channel block: [h*w][b] values, contiguous. Walked in groups of
 * sixteen, lane l always belongs to channel l % b of the block (b divides 16), so one
 * loop serves b = 1, 8 and 16: a channel's coefficient is repeated over its lanes.
 *
 * The files of this folder are compiled once per instruction set; TH_ISA is its name,
 * TH_VECTORS_H is the header with its vectors. They contain no threads: see cpu.h. */
#ifndef TH_LANES_H
#define TH_LANES_H

#include "cpu.h"

#include <string.h>

#define TH_TEXT_(x) #x
#define TH_TEXT(x) TH_TEXT_(x)
#include TH_VECTORS_H

#define TH_JOIN_(a, b) a##_##b
#define TH_JOIN(a, b) TH_JOIN_(a, b)
/* th_bn_apply becomes th_bn_apply_avx2 */
#define TH_ISA_NAME(name) TH_JOIN(name, TH_ISA)

/* A kernel of this folder, as table.c lists it. */
#define TH_OWN(name) thaw_status TH_ISA_NAME(th_##name)(const struct th_call *call)

#define TH_INLINE static inline __attribute__((always_inline))

enum { TH_GROUP = 16, TH_VECTORS = TH_GROUP / TH_LANES };

typedef struct {
    th_vf v[TH_VECTORS];
} v16;

typedef th_vf th_vf_unaligned __attribute__((aligned(4), may_alias));

/* One vector, at any address. */
TH_INLINE th_vf vf_load(const float *p)
{
    return *(const th_vf_unaligned *)p;
}

TH_INLINE void vf_store(float *p, th_vf v)
{
    *(th_vf_unaligned *)p = v;
}

TH_INLINE th_vf vf_all(float x)
{
    return x - (th_vf){0};
}

/* The sum of the lanes in double, halves onto halves: no chain of LANES additions. */
TH_INLINE double vf_sum(th_vf v)
{
    float lanes[TH_LANES];
    double sum[TH_LANES];
    vf_store(lanes, v);
    for (int l = 0; l < TH_LANES; l++)
        sum[l] = (double)lanes[l];
    for (int n = TH_LANES / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            sum[l] += sum[l + n];
    return sum[0];
}

/* v[i][j] = v[j][i]. Each round zips row i with row i + LANES/2, which turns the number
 * of a value's place, row and lane, by a bit to the left. */
TH_INLINE void vf_transpose(th_vf v[TH_LANES])
{
    th_vf from[TH_LANES];
    for (int bit = 1; bit < TH_LANES; bit *= 2) {
        memcpy(from, v, sizeof from);
        for (int i = 0; i < TH_LANES / 2; i++)
            vf_zip(from[i], from[i + TH_LANES / 2], &v[2 * i], &v[2 * i + 1]);
    }
}

TH_INLINE v16 v_load(const float *p)
{
    v16 r;
    for (int i = 0; i < TH_VECTORS; i++)
        r.v[i] = vf_load(p + i * TH_LANES);
    return r;
}

TH_INLINE void v_store(float *p, v16 a)
{
    for (int i = 0; i < TH_VECTORS; i++)
        vf_store(p + i * TH_LANES, a.v[i]);
}

/* The first n lanes; the others are those of `rest`, and not stored. */
TH_INLINE v16 v_load_n(const float *p, int n, v16 rest)
{
    float lanes[TH_GROUP];
    if (n == TH_GROUP)
        return v_load(p);
    v_store(lanes, rest);
    memcpy(lanes, p, sizeof(float) * (size_t)n);
    return v_load(lanes);
}

TH_INLINE void v_store_n(float *p, int n, v16 a)
{
    float lanes[TH_GROUP];
    if (n == TH_GROUP) {
        v_store(p, a);
        return;
    }
    v_store(lanes, a);
    memcpy(p, lanes, sizeof(float) * (size_t)n);
}

TH_INLINE v16 v_all(float x)
{
    v16 r;
    for (int i = 0; i < TH_VECTORS; i++)
        r.v[i] = vf_all(x);
    return r;
}

/* Lanes of the group at `at` that lie before `end`. */
TH_INLINE int v_left(int64_t at, int64_t end)
{
    return end - at < TH_GROUP ? (int)(end - at) : TH_GROUP;
}

TH_INLINE v16 v_add(v16 a, v16 b)
{
    for (int i = 0; i < TH_VECTORS; i++)
        a.v[i] += b.v[i];
    return a;
}

TH_INLINE v16 v_sub(v16 a, v16 b)
{
    for (int i = 0; i < TH_VECTORS; i++)
        a.v[i] -= b.v[i];
    return a;
}

TH_INLINE v16 v_mul(v16 a, v16 b)
{
    for (int i = 0; i < TH_VECTORS; i++)
        a.v[i] *= b.v[i];
    return a;
}

/* a > b ? a : b, so that a NaN in b comes through. */
TH_INLINE v16 v_max(v16 a, v16 b)
{
    for (int i = 0; i < TH_VECTORS; i++)
        a.v[i] = vf_max(a.v[i], b.v[i]);
    return a;
}

/* Bit l: lane l > 0. */
TH_INLINE uint32_t v_positive(v16 a)
{
    uint32_t bits = 0;
    for (int i = 0; i < TH_VECTORS; i++)
        bits |= vf_positive(a.v[i]) << (i * TH_LANES);
    return bits;
}

/* Lanes whose bit is set, others 0. */
TH_INLINE v16 v_keep(v16 a, uint32_t bits)
{
    for (int i = 0; i < TH_VECTORS; i++)
        a.v[i] = vf_keep(a.v[i], bits >> (i * TH_LANES));
    return a;
}

/* Values [from,end) of part i of a tensor that is seen as a row of values. */
struct span {
    int64_t from, end;
};

TH_INLINE struct span span_of(const struct th_operand *o, int64_t i)
{
    int64_t count = th_shape_count(&o->shape), from = i * TH_FLAT_PART;
    return (struct span){
        from, count < from + TH_FLAT_PART ? count : from + TH_FLAT_PART};
}

/* Those parts of the first input, each by `part`. */
TH_INLINE thaw_status run_spans(
    const struct th_call *call, void (*part)(const struct th_call *, int64_t))
{
    int64_t count = th_shape_count(&call->in[0].shape);
    th_parallel(call, th_parts(count, TH_FLAT_PART), part);
    return THAW_OK;
}

/* Planes of an operand. */
struct planes {
    int64_t n, channels, blocks; /* images, channels, channel blocks: n*blocks planes */
    int64_t size;                /* values in a plane */
    int b;
};

TH_INLINE struct planes planes_of(const struct th_operand *o)
{
    const int64_t *d = o->shape.dim;
    int64_t image = 1;
    for (int i = 2; i < o->shape.rank; i++)
        image *= d[i];
    struct planes p = {.n = d[0], .channels = d[1], .b = o->block > 0 ? o->block : 1};
    p.blocks = p.channels / p.b;
    p.size = image * p.b;
    return p;
}

/* Channel coefficients of a plane over its lanes. */
TH_INLINE v16 v_channels(const float *p, struct planes s, int64_t plane)
{
    float lanes[TH_GROUP];
    const float *first = p + plane % s.blocks * s.b;
    for (int i = 0; i < TH_GROUP; i++)
        lanes[i] = first[i % s.b];
    return v_load(lanes);
}

/* Masks. n <= 16 bits from position `bit` on; bytes are shared between the two sides of
 * a position that is not a multiple of 8, so neighbours belong to the same part. */
TH_INLINE uint32_t bits_read(const uint8_t *mask, int64_t bit, int n)
{
    uint32_t r = 0;
    if (bit % 8 == 0 && n == TH_GROUP)
        return mask[bit / 8] | (uint32_t)mask[bit / 8 + 1] << 8;
    for (int i = 0; i < n; i++)
        r |= ((uint32_t)mask[(bit + i) / 8] >> ((bit + i) % 8) & 1) << i;
    return r;
}

TH_INLINE void bits_write(uint8_t *mask, int64_t bit, int n, uint32_t value)
{
    if (bit % 8 == 0 && n == TH_GROUP) {
        mask[bit / 8] = (uint8_t)value;
        mask[bit / 8 + 1] = (uint8_t)(value >> 8);
        return;
    }
    for (int i = 0; i < n; i++) {
        uint8_t one = (uint8_t)(1u << ((bit + i) % 8));
        uint8_t *byte = &mask[(bit + i) / 8];
        *byte = (uint8_t)(value >> i & 1 ? *byte | one : *byte & ~one);
    }
}

/* Planes in a part: as few as end on a whole byte of mask. */
TH_INLINE int64_t planes_in_part(struct planes s)
{
    int64_t n = 1;
    while (n * s.size % 8 != 0)
        n *= 2;
    return n;
}

#endif
