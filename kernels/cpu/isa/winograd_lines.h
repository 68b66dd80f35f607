/* SPDX-License-Identifier: Apache-2.0
 * Winograd's transforms of one line of a tile; a tile's are those of its lines, then of
 * its columns. Functions of vectors alone, a lane a channel.
 *
 * The interpolation points are 0, +-A, +-B and infinity. A = 5/8, B = 3/2 are exact in
 * binary and give half the rounding error of Lavin & Gray's 1 and 2 (over normal data,
 * 64 channels: relative L2 8e-7 against 1.7e-6). With N_i the product of a point's
 * differences to the other finite ones, 1/N_i belongs to the weights (F(4,3)) or to the
 * sums over tiles (F(3,4)), whichever is transformed less often. */
#ifndef TH_WINOGRAD_LINES_H
#define TH_WINOGRAD_LINES_H

#include "lanes.h"
#include "winograd.h"

enum {
    TILE = TH_WINOGRAD_TILE,
    OUT = TH_WINOGRAD_OUT,
    POINTS = TH_WINOGRAD_POINTS,
    KERNEL = 3,
};

static const float A = 0.625f, B = 1.5f;
static const float A2 = 0.390625f, B2 = 2.25f;     /* squares */
static const float A3 = 0.244140625f, B3 = 3.375f; /* cubes */
static const float A2_B2 = 2.640625f;              /* A^2 + B^2 */
static const float A2B2 = 0.87890625f;             /* A^2 B^2 */
/* 1/N of 0, of +-A, of +-B: A^2 B^2, 2 A^2 (A^2 - B^2), 2 B^2 (B^2 - A^2) */
static const float N0 = 1.1377777777777778f, NA = -0.68840336134453782f,
                   NB = 0.11951447245564893f;

/* c + a b, c - a b */
TH_INLINE th_vf plus(th_vf c, float a, th_vf b)
{
    return vf_fma(vf_all(a), b, c);
}

/* Transforms of one line ------------------------------------------------------------ */

/* B^T: each row the polynomial that is zero at the other points. */
TH_INLINE void image_line(const th_vf d[TILE], th_vf t[TILE])
{
    th_vf a_even = plus(d[4], -B2, d[2]), a_odd = plus(d[3], -B2, d[1]);
    th_vf b_even = plus(d[4], -A2, d[2]), b_odd = plus(d[3], -A2, d[1]);
    t[0] = plus(plus(d[4], -A2_B2, d[2]), A2B2, d[0]);
    t[1] = plus(a_even, A, a_odd);
    t[2] = plus(a_even, -A, a_odd);
    t[3] = plus(b_even, B, b_odd);
    t[4] = plus(b_even, -B, b_odd);
    t[5] = plus(plus(d[5], -A2_B2, d[3]), A2B2, d[1]);
}

/* G of F(4,3): a kernel's polynomial at the points, over N. */
TH_INLINE void kernel_line(const th_vf g[KERNEL], th_vf t[TILE])
{
    th_vf a_even = plus(g[0], A2, g[2]) * vf_all(NA), a_odd = g[1] * vf_all(A * NA);
    th_vf b_even = plus(g[0], B2, g[2]) * vf_all(NB), b_odd = g[1] * vf_all(B * NB);
    t[0] = g[0] * vf_all(N0);
    t[1] = a_even + a_odd;
    t[2] = a_even - a_odd;
    t[3] = b_even + b_odd;
    t[4] = b_even - b_odd;
    t[5] = g[2];
}

/* G of F(3,4) without 1/N: a line of dy at the points. */
TH_INLINE void gradient_line(const th_vf g[OUT], th_vf t[TILE])
{
    th_vf a_even = plus(g[0], A2, g[2]), a_odd = plus(g[1], A2, g[3]);
    th_vf b_even = plus(g[0], B2, g[2]), b_odd = plus(g[1], B2, g[3]);
    t[0] = g[0];
    t[1] = plus(a_even, A, a_odd);
    t[2] = plus(a_even, -A, a_odd);
    t[3] = plus(b_even, B, b_odd);
    t[4] = plus(b_even, -B, b_odd);
    t[5] = g[3];
}

/* A^T of F(4,3). */
TH_INLINE void product_line(const th_vf m[TILE], th_vf y[OUT])
{
    th_vf a_even = m[1] + m[2], a_odd = m[1] - m[2];
    th_vf b_even = m[3] + m[4], b_odd = m[3] - m[4];
    y[0] = m[0] + a_even + b_even;
    y[1] = plus(a_odd * vf_all(A), B, b_odd);
    y[2] = plus(a_even * vf_all(A2), B2, b_even);
    y[3] = plus(plus(m[5], A3, a_odd), B3, b_odd);
}

/* A^T of F(3,4), over N. */
TH_INLINE void sum_line(const th_vf m[TILE], th_vf y[KERNEL])
{
    th_vf a_even = m[1] + m[2], a_odd = m[1] - m[2];
    th_vf b_even = m[3] + m[4], b_odd = m[3] - m[4];
    y[0] = plus(plus(m[0] * vf_all(N0), NA, a_even), NB, b_even);
    y[1] = plus(a_odd * vf_all(A * NA), B * NB, b_odd);
    y[2] = plus(plus(m[5], A2 * NA, a_even), B2 * NB, b_even);
}

#endif
