/* SPDX-License-Identifier: Apache-2.0
 * Owns the conversion between floats and half precision, in whole numbers, so that every
 * machine gives the same bits. Layout: sign 1, exponent 5 (bias 15), fraction 10; a float
 * has 1, 8 (bias 127), 23. */
#include "half.h"

#include <string.h>

enum { FRACTION = 13 }; /* bits of a float's fraction that a half lacks */
static const uint32_t infinity_bits = 0x7F800000;
static const uint32_t too_large = 0x477FF000;    /* 65520: would round to infinity */
static const uint32_t least_normal = 0x38800000; /* 2^-14 */

static uint32_t round_shift(uint32_t x, unsigned shift)
{
    uint32_t half = UINT32_C(1) << (shift - 1), rest = x & (2 * half - 1);
    uint32_t down = x >> shift;
    return down + (rest > half || (rest == half && (down & 1)));
}

static uint16_t narrow(uint32_t bits)
{
    uint32_t sign = bits >> 16 & 0x8000, x = bits & 0x7FFFFFFF;
    uint32_t out;
    if (x > infinity_bits)
        out = 0x7E00; /* NaN */
    else if (x == infinity_bits)
        out = 0x7C00;
    else if (x >= too_large)
        out = 0x7BFF;
    else if (x >= least_normal)
        out = round_shift(x - (UINT32_C(112) << 23), FRACTION);
    else { /* a multiple of 2^-24; below half of that: 0 */
        unsigned shift = 126 - (x >> 23);
        out = shift > 24 ? 0 : round_shift((x & 0x7FFFFF) | 0x800000, shift);
    }
    return (uint16_t)(sign | out);
}

static uint32_t widen(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31)
        return sign | infinity_bits | fraction << FRACTION;
    if (exponent)
        return sign | (exponent + 112) << 23 | fraction << FRACTION;
    if (!fraction)
        return sign;
    for (exponent = 113; !(fraction & 1024); exponent--)
        fraction <<= 1;
    return sign | exponent << 23 | (fraction & 1023) << FRACTION;
}

void th_half_from_float(uint16_t *half, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        half[i] = narrow(bits);
    }
}

void th_half_to_float(float *x, const uint16_t *half, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = widen(half[i]);
        memcpy(&x[i], &bits, sizeof bits);
    }
}
