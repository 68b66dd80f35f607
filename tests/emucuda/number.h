/* SPDX-License-Identifier: Apache-2.0
 * Numbers of less than 32 bits, to and from fp32; to the nearest, of two the even one. */
#ifndef EMU_NUMBER_H
#define EMU_NUMBER_H

#include <stdint.h>
#include <string.h>

static inline uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float from_bf16(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

static inline uint16_t to_bf16(float x)
{
    uint32_t u = bits_of(x);
    if ((u & 0x7FFFFFFFU) > 0x7F800000U)
        return (uint16_t)(u >> 16 | 0x40); /* NaN stays one */
    return (uint16_t)((u + 0x7FFFU + (u >> 16 & 1)) >> 16);
}

static inline float from_fp16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7FFFU;
    if (rest >= 0x7C00U) /* infinite, NaN */
        return float_of(sign | 0x7F800000U | (rest & 0x3FFU) << 13);
    /* 2^112 puts the exponent right, of subnormal numbers, too */
    float x = float_of(rest << 13) * float_of(0x77800000U);
    return float_of(sign | bits_of(x));
}

static inline uint16_t to_fp16(float x)
{
    uint32_t u = bits_of(x), sign = u >> 16 & 0x8000U, rest = u & 0x7FFFFFFFU;
    if (rest > 0x7F800000U)
        return (uint16_t)(sign | 0x7E00U);
    if (rest >= 0x47800000U) /* 65536 and above */
        return (uint16_t)(sign | 0x7C00U);
    if (rest < 0x38800000U) { /* below 2^-14: adding 0.5 rounds at the last bit */
        float y = float_of(rest) + float_of(0x3F000000U);
        return (uint16_t)(sign | (bits_of(y) - 0x3F000000U));
    }
    rest += 0xFFFU + (rest >> 13 & 1);
    return (uint16_t)(sign | (rest - 0x38000000U) >> 13);
}

/* What tensor cores read of an fp32 number: 10 bits of mantissa. */
static inline float to_tf32(float x)
{
    uint32_t u = bits_of(x);
    if ((u & 0x7F800000U) == 0x7F800000U)
        return x;
    return float_of((u + 0xFFFU + (u >> 13 & 1)) & ~0x1FFFU);
}

#endif
