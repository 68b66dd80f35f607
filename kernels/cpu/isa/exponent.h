/* SPDX-License-Identifier: Apache-2.0
 * exp, log(1 + x), the normal distribution function and the logistic function of vectors,
 * to a few units in the last place of float; the same operations on every instruction set. */
#ifndef TH_EXPONENT_H
#define TH_EXPONENT_H

#include "lanes.h"

/* x at most `most`; NaN stays. */
TH_INLINE th_vf vf_at_most(float most, th_vf x)
{
    return -vf_max(vf_all(-most), -x);
}

/* exp x, 0 and infinity out of float's normal range excepted: it ends at exp(-87) and
 * exp(88). x = n log 2 + r, |r| <= log(2)/2; exp r = 1 + r + r^2 q(r), q by least squares
 * at Chebyshev's points: 7e-8. n is rounded by adding 1.5*2^23, whose lowest bits are
 * then n; log 2 is in two parts, n times the first being exact (Cody and Waite 1980). */
TH_INLINE th_vf vf_exp_in_range(th_vf x)
{
    th_vf round = vf_all(12582912.0F);
    th_vf shifted = vf_fma(x, vf_all(1.44269504F), round);
    th_vf n = shifted - round;
    th_vf r = vf_fma(n, vf_all(-0.693359375F), x);
    r = vf_fma(n, vf_all(2.12194440e-4F), r);
    th_vf q = vf_all(0.00139345450F);
    q = vf_fma(q, r, vf_all(0.00836377684F));
    q = vf_fma(q, r, vf_all(0.0416664556F));
    q = vf_fma(q, r, vf_all(0.166665733F));
    q = vf_fma(q, r, vf_all(0.5F));
    th_vf y = vf_fma(r * r, q, r) + 1.0F;
    return (th_vf)((th_vi)y + ((th_vi)shifted << 23));
}

TH_INLINE th_vf vf_exp(th_vf x)
{
    return vf_exp_in_range(vf_max(vf_all(-87.0F), vf_at_most(88.0F, x)));
}

/* exp of what is not far above 0. */
TH_INLINE th_vf vf_exp_negative(th_vf x)
{
    return vf_exp_in_range(vf_max(vf_all(-87.0F), x));
}

/* P(x), the normal distribution function, and *e = exp(-x^2/2).
 * For t = |x|: 1 - P(t) = exp(-t^2/2) * Q(t), Q(t) = erfcx(t/sqrt 2)/2 as a polynomial in
 * w = 1/(1 + 0.3 t), by least squares of the relative error on [0,14]: 7e-8, in floats
 * 3.4e-7. So P keeps its relative accuracy where it is small. */
TH_INLINE th_vf vf_normal(th_vf x, th_vf *e)
{
    th_vf t = vf_max(x, -x);
    *e = vf_exp_negative(-0.5F * x * x);
    th_vf w = 1.0F / vf_fma(t, vf_all(0.3F), vf_all(1));
    th_vf q = vf_all(0.0388709195F);
    q = vf_fma(q, w, vf_all(-0.171443552F));
    q = vf_fma(q, w, vf_all(0.233107477F));
    q = vf_fma(q, w, vf_all(-0.0812823027F));
    q = vf_fma(q, w, vf_all(0.145609826F));
    q = vf_fma(q, w, vf_all(0.0934725851F));
    q = vf_fma(q, w, vf_all(0.122204594F));
    q = vf_fma(q, w, vf_all(0.119451404F));
    q = vf_fma(q, w, vf_all(9.09630853e-06F));
    th_vf above = *e * q; /* of |x| */
    th_vi negative = x < 0;
    return (th_vf)(((th_vi)above & negative) | ((th_vi)(1.0F - above) & ~negative));
}

/* log(1 + x), x within 0..1: 2 atanh(t), t = x/(2 + x) at most 1/3, as t times a polynomial
 * in t^2 by least squares of the relative error: 4e-9, in floats 1.8e-7. */
TH_INLINE th_vf vf_log1p(th_vf x)
{
    th_vf t = x / (x + 2.0F), w = t * t;
    th_vf q = vf_all(0.281614954F);
    q = vf_fma(q, w, vf_all(0.279643353F));
    q = vf_fma(q, w, vf_all(0.40024652F));
    q = vf_fma(q, w, vf_all(0.666663204F));
    q = vf_fma(q, w, vf_all(2));
    return q * t;
}

/* log x of normal x > 0: x = 2^n (1 + f). */
TH_INLINE th_vf vf_log(th_vf x)
{
    th_vi bits = (th_vi)x;
    th_vf fraction = (th_vf)((bits & 0x007fffff) | 0x3f800000) - 1.0F;
    th_vf n = __builtin_convertvector((bits >> 23) - 127, th_vf);
    return vf_fma(n, vf_all(0.693147181F), vf_log1p(fraction));
}

/* 1/(1 + exp(-x)) */
TH_INLINE th_vf vf_logistic(th_vf x)
{
    return 1.0F / (1.0F + vf_exp(-x));
}

#endif
