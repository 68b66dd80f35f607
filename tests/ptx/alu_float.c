/* SPDX-License-Identifier: Apache-2.0
 * Owns fp32 arithmetic. Exact operations round as IEEE 754 has it; approximate ones give the
 * nearest value or, where a launch asks for it, one within the bound that the PTX manual
 * states, drawn from their operand: the same operand gives the same value in any order. */
#include "inside.h"

#include <fenv.h>
#include <math.h>
#include <string.h>

typedef lane_float f32;
typedef lane32 u32;

/* Rounding to nearest with subnormal operands and results: what nvcc emits by default. */
LANE_STEP(add_f32, f32, f32, f32, f32, a[l] + b[l])
LANE_STEP(sub_f32, f32, f32, f32, f32, a[l] - b[l])
LANE_STEP(mul_f32, f32, f32, f32, f32, a[l] * b[l])
LANE_STEP(fma_f32, f32, f32, f32, f32, fmaf(a[l], b[l], c[l]))
LANE_STEP(div_f32, f32, f32, f32, f32, a[l] / b[l])
LANE_STEP(rcp_f32, f32, f32, f32, f32, 1 / a[l])
LANE_STEP(sqrt_f32, f32, f32, f32, f32, sqrtf(a[l]))
LANE_STEP(neg_f32, u32, u32, u32, u32, a[l] ^ 0x80000000)
LANE_STEP(abs_f32, u32, u32, u32, u32, a[l] & 0x7fffffff)
LANE_STEP(copysign_f32, u32, u32, u32, u32, (a[l] & 0x80000000) | (b[l] & 0x7fffffff))

/* -0 is below +0; of a number and a NaN, the number */
static float least(float a, float b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) ? b : a;
    return a < b || (a == b && signbit(a)) ? a : b;
}
LANE_STEP(min_f32, f32, f32, f32, f32, least(a[l], b[l]))
LANE_STEP(max_f32, f32, f32, f32, f32, -least(-a[l], -b[l]))
LANE_STEP(max_nan_f32, f32, f32, f32, f32,
    isnan(a[l]) || isnan(b[l]) ? NAN : -least(-a[l], -b[l]))

/* ---- other directions ---- */

#define ROUNDED_STEP(name, direction, nearest)                                         \
    static void name(struct warp *w, const struct insn *in, uint32_t active)           \
    {                                                                                  \
        fesetround(direction);                                                         \
        nearest(w, in, active);                                                        \
        fesetround(FE_TONEAREST);                                                      \
    }
ROUNDED_STEP(fma_rm, FE_DOWNWARD, fma_f32)
ROUNDED_STEP(fma_rp, FE_UPWARD, fma_f32)
ROUNDED_STEP(fma_rz, FE_TOWARDZERO, fma_f32)
ROUNDED_STEP(add_rz, FE_TOWARDZERO, add_f32)
ROUNDED_STEP(mul_rz, FE_TOWARDZERO, mul_f32)

/* ---- approximations ---- */

static float flushed(float v)
{
    return fabsf(v) < 0x1p-126F ? copysignf(0, v) : v;
}

/* The nearest fp32 of `exact`, or one whose relative error is at most `bound`. */
static float near(const struct warp *w, double exact, float operand, double bound)
{
    uint64_t seed = w->run->launch->approximate;
    uint32_t bits;
    memcpy(&bits, &operand, sizeof bits);
    if (!seed || !isfinite(exact) || exact == 0)
        return (float)exact;
    double u = (double)(ptx_mix(bits, seed) >> 11) * 0x1p-52 - 1; /* in [-1, 1) */
    /* the rounding takes its part of the bound */
    return (float)(exact * (1 + u * (bound - 0x1p-24)));
}

/* max relative error of ex2.approx, lg2.approx (of its result away from 1), rsqrt.approx,
 * and 1, 1, 2 units in the last place of rcp.approx, sqrt.approx, div.full */
static const double EX2 = 0x1p-22, LG2 = 0x1p-22, RSQRT = 0x1p-22, ULP = 0x1p-23;

LANE_STEP(ex2_ftz, f32, f32, f32, f32,
    flushed(near(w, exp2((double)flushed(a[l])), a[l], EX2)))
LANE_STEP(ex2, f32, f32, f32, f32, near(w, exp2((double)a[l]), a[l], EX2))
LANE_STEP(lg2, f32, f32, f32, f32, near(w, log2((double)a[l]), a[l], LG2))
LANE_STEP(lg2_ftz, f32, f32, f32, f32, near(w, log2((double)flushed(a[l])), a[l], LG2))
LANE_STEP(
    rcp_ftz, f32, f32, f32, f32, flushed(near(w, 1 / (double)flushed(a[l]), a[l], ULP)))
LANE_STEP(rsqrt, f32, f32, f32, f32, near(w, 1 / sqrt((double)a[l]), a[l], RSQRT))
LANE_STEP(rsqrt_ftz, f32, f32, f32, f32,
    near(w, 1 / sqrt((double)flushed(a[l])), a[l], RSQRT))

/* ---- comparisons ---- */

#define EITHER_NAN (isnan(a[l]) || isnan(b[l]))
LANE_TEST(eq, f32, a[l] == b[l])
LANE_TEST(ne, f32, a[l] != b[l] && !EITHER_NAN)
LANE_TEST(lt, f32, a[l] < b[l])
LANE_TEST(le, f32, a[l] <= b[l])
LANE_TEST(gt, f32, a[l] > b[l])
LANE_TEST(ge, f32, a[l] >= b[l])
LANE_TEST(equ, f32, a[l] == b[l] || EITHER_NAN)
LANE_TEST(neu, f32, a[l] != b[l])
LANE_TEST(ltu, f32, !(a[l] >= b[l]))
LANE_TEST(leu, f32, !(a[l] > b[l]))
LANE_TEST(gtu, f32, !(a[l] <= b[l]))
LANE_TEST(geu, f32, !(a[l] < b[l]))
LANE_TEST(both_numbers, f32, !EITHER_NAN)
LANE_TEST(any_nan, f32, EITHER_NAN)

#define ROW(text, signature, run)                                                      \
    {                                                                                  \
        text, signature, run, PLAIN                                                    \
    }
#define TEST(name) ROW("setp." #name ".f32", "p=rr", name)

const struct op ptx_float_ops[] = {
    ROW("add.f32", "r=rr", add_f32),
    ROW("add.rn.f32", "r=rr", add_f32),
    ROW("add.rz.f32", "r=rr", add_rz),
    ROW("sub.f32", "r=rr", sub_f32),
    ROW("sub.rn.f32", "r=rr", sub_f32),
    ROW("mul.f32", "r=rr", mul_f32),
    ROW("mul.rn.f32", "r=rr", mul_f32),
    ROW("mul.rz.f32", "r=rr", mul_rz),
    ROW("fma.rn.f32", "r=rrr", fma_f32),
    ROW("fma.rm.f32", "r=rrr", fma_rm),
    ROW("fma.rp.f32", "r=rrr", fma_rp),
    ROW("fma.rz.f32", "r=rrr", fma_rz),
    ROW("div.rn.f32", "r=rr", div_f32),
    ROW("rcp.rn.f32", "r=r", rcp_f32),
    ROW("sqrt.rn.f32", "r=r", sqrt_f32),
    ROW("neg.f32", "r=r", neg_f32),
    ROW("abs.f32", "r=r", abs_f32),
    ROW("copysign.f32", "r=rr", copysign_f32),
    ROW("min.f32", "r=rr", min_f32),
    ROW("max.f32", "r=rr", max_f32),
    ROW("max.NaN.f32", "r=rr", max_nan_f32),
    ROW("ex2.approx.ftz.f32", "r=r", ex2_ftz),
    ROW("ex2.approx.f32", "r=r", ex2),
    ROW("lg2.approx.f32", "r=r", lg2),
    ROW("lg2.approx.ftz.f32", "r=r", lg2_ftz),
    ROW("rcp.approx.ftz.f32", "r=r", rcp_ftz),
    ROW("rsqrt.approx.f32", "r=r", rsqrt),
    ROW("rsqrt.approx.ftz.f32", "r=r", rsqrt_ftz),
    TEST(eq),
    TEST(ne),
    TEST(lt),
    TEST(le),
    TEST(gt),
    TEST(ge),
    TEST(equ),
    TEST(neu),
    TEST(ltu),
    TEST(leu),
    TEST(gtu),
    TEST(geu),
    ROW("setp.num.f32", "p=rr", both_numbers),
    ROW("setp.nan.f32", "p=rr", any_nan),
    {0},
};
