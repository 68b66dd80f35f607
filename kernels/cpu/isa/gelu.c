/* SPDX-License-Identifier: Apache-2.0
 * Owns gelu and its gradient, in any layout. Formulas: kernels/act.c. */
#include "exponent.h"

/* 1/sqrt(2 pi); 2*sqrt(2/pi), since (1 + tanh u)/2 is the logistic function of 2u */
static const float DENSITY = 0.398942280F, TWICE_SQRT = 1.59576912F;
static const float CUBIC = 0.044715F, QUICK = 1.702F;

/* y = x*s(x): returns s; *slope = dy/dx. */
TH_INLINE th_vf share(enum th_gelu kind, th_vf x, th_vf *slope)
{
    th_vf e, s, inner;
    if (kind == TH_GELU_ERF) {
        s = vf_normal(x, &e);
        *slope = vf_fma(x * e, vf_all(DENSITY), s);
        return s;
    }
    if (kind == TH_GELU_TANH) {
        s = vf_logistic(TWICE_SQRT * x * vf_fma(x * x, vf_all(CUBIC), vf_all(1)));
        inner = TWICE_SQRT * vf_fma(x * x, vf_all(3 * CUBIC), vf_all(1));
    } else {
        s = vf_logistic(QUICK * x);
        inner = vf_all(QUICK);
    }
    *slope = s * vf_fma(x * (1.0F - s), inner, vf_all(1));
    return s;
}

/* y of x, or dx of x and dy. */
TH_INLINE v16 group(enum th_gelu kind, bool dx, v16 x, v16 dy)
{
    v16 out = dx ? dy : x;
    for (int i = 0; i < TH_VECTORS; i++) {
        th_vf slope, s = share(kind, x.v[i], &slope);
        out.v[i] *= dx ? slope : s;
    }
    return out;
}

/* y, or with dy the gradient of x, of a span's values. The last group, where it is not a
 * whole one, by itself: its calls would cost all others the registers with constants. */
TH_INLINE void values(
    enum th_gelu kind, struct span s, const float *x, const float *dy, float *out)
{
    int64_t at = s.from;
    for (; at + TH_GROUP <= s.end; at += TH_GROUP)
        v_store(
            out + at, group(kind, dy, v_load(x + at), dy ? v_load(dy + at) : v_all(0)));
    int n = v_left(at, s.end);
    if (n > 0)
        v_store_n(out + at, n,
            group(kind, dy, v_load_n(x + at, n, v_all(0)),
                dy ? v_load_n(dy + at, n, v_all(0)) : v_all(0)));
}

TH_INLINE void part_of(
    const struct th_call *call, int64_t i, const float *x, const float *dy, float *out)
{
    struct span s = span_of(&call->in[0], i);
    switch (call->attr.act.kind) {
    case TH_GELU_ERF:
        values(TH_GELU_ERF, s, x, dy, out);
        break;
    case TH_GELU_TANH:
        values(TH_GELU_TANH, s, x, dy, out);
        break;
    case TH_GELU_QUICK:
        values(TH_GELU_QUICK, s, x, dy, out);
        break;
    }
}

static void gelu_part(const struct th_call *call, int64_t i)
{
    const struct th_args_gelu *a = (const void *)call->args;
    part_of(call, i, a->x, NULL, a->y);
}

TH_OWN(gelu)
{
    return run_spans(call, gelu_part);
}

static void gelu_dx_part(const struct th_call *call, int64_t i)
{
    const struct th_args_gelu_dx *a = (const void *)call->args;
    part_of(call, i, a->x, a->dy, a->dx);
}

TH_OWN(gelu_dx)
{
    return run_spans(call, gelu_dx_part);
}
