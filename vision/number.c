/* SPDX-License-Identifier: Apache-2.0
 * Owns the conversion of file elements to fp32, rounded to nearest. */
#include "number.h"

#include "bytes.h"
#include "half.h"

#include <string.h>

size_t th_number_bytes(enum th_number type)
{
    static const unsigned char bytes[TH_N_NUMBERS] = {
        4, 8, 2, 2, 8, 4, 2, 1, 1, 2, 4, 8};
    return bytes[type];
}

static float load_f32(const unsigned char *p)
{
    uint32_t bits = th_le32(p);
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static float load_f64(const unsigned char *p)
{
    uint64_t bits = th_le64(p);
    double out;
    memcpy(&out, &bits, sizeof out);
    return (float)out;
}

static float load_f16(const unsigned char *p)
{
    uint16_t half = th_le16(p);
    float out;
    th_half_to_float(&out, &half, 1);
    return out;
}

/* bfloat16 is the upper half of fp32. */
static float load_bf16(const unsigned char *p)
{
    uint32_t bits = (uint32_t)th_le16(p) << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static float load_i64(const unsigned char *p)
{
    return (float)(int64_t)th_le64(p);
}

static float load_i32(const unsigned char *p)
{
    return (float)(int32_t)th_le32(p);
}

static float load_i16(const unsigned char *p)
{
    return (float)(int16_t)th_le16(p);
}

static float load_i8(const unsigned char *p)
{
    return (float)(int8_t)*p;
}

static float load_u8(const unsigned char *p)
{
    return (float)*p;
}

static float load_u16(const unsigned char *p)
{
    return (float)th_le16(p);
}

static float load_u32(const unsigned char *p)
{
    return (float)th_le32(p);
}

static float load_u64(const unsigned char *p)
{
    return (float)th_le64(p);
}

void th_number_load(
    enum th_number type, const unsigned char *src, size_t step, float *dst, int64_t n)
{
    static float (*const load[TH_N_NUMBERS])(const unsigned char *p) = {
        [TH_NUMBER_F32] = load_f32,
        [TH_NUMBER_F64] = load_f64,
        [TH_NUMBER_F16] = load_f16,
        [TH_NUMBER_BF16] = load_bf16,
        [TH_NUMBER_I64] = load_i64,
        [TH_NUMBER_I32] = load_i32,
        [TH_NUMBER_I16] = load_i16,
        [TH_NUMBER_I8] = load_i8,
        [TH_NUMBER_U8] = load_u8,
        [TH_NUMBER_U16] = load_u16,
        [TH_NUMBER_U32] = load_u32,
        [TH_NUMBER_U64] = load_u64};
    if (type == TH_NUMBER_F32) { /* by far the most common: let it be inlined */
        for (int64_t i = 0; i < n; i++)
            dst[i] = load_f32(src + (size_t)i * step);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        dst[i] = load[type](src + (size_t)i * step);
}
