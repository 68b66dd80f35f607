/* SPDX-License-Identifier: Apache-2.0
 * Half precision (IEEE 754 binary16) as a way to store floats. */
#ifndef TH_HALF_H
#define TH_HALF_H

#include <stddef.h>
#include <stdint.h>

/* Rounded to nearest, ties to even; what is too large becomes the largest finite number,
 * 65504, with its sign, and infinities and NaNs stay. */
void th_half_from_float(uint16_t *half, const float *x, size_t n);
void th_half_to_float(float *x, const uint16_t *half, size_t n);

#endif
