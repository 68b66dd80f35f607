/* SPDX-License-Identifier: Apache-2.0
 * Owns focal and its gradient. Formulas: kernels/detect.c.
 *
 * A part is some rows of one image. Its values are taken a chunk at a time, whose signs say
 * for each: 1 the class is the row's, -1 it is not, 0 the row counts nowhere; so rows of any
 * width fill whole vectors. */
#include "exponent.h"

enum { CHUNK = 256 }; /* values; a lane sums 16 of them in float */

struct logits {
    int64_t n, a, width; /* images, rows in one, classes */
    int64_t rows, parts; /* in a part; parts of an image */
};

TH_INLINE struct logits logits_of(const struct th_call *call)
{
    const int64_t *d = call->in[0].shape.dim;
    struct logits s = {.n = d[0], .a = d[1], .width = d[2]};
    s.rows = th_focal_rows(s.width);
    s.parts = th_parts(s.a, s.rows);
    return s;
}

/* Values of part i. */
TH_INLINE struct span values_of(struct logits s, int64_t i)
{
    int64_t image = i / s.parts * s.a, first = i % s.parts * s.rows;
    int64_t last = first + s.rows < s.a ? first + s.rows : s.a;
    return (struct span){(image + first) * s.width, (image + last) * s.width};
}

/* Of the chunk `c`, and 0 up to a whole group. */
TH_INLINE void fill_signs(
    const int32_t *target, int64_t width, struct span c, float *sign)
{
    memset(sign, 0, sizeof(float) * CHUNK);
    for (int64_t r = c.from / width; r * width < c.end; r++) {
        int64_t first = r * width, from = first > c.from ? first : c.from;
        int64_t end = first + width < c.end ? first + width : c.end;
        if (target[r] == -2)
            continue;
        for (int64_t i = from; i < end; i++)
            sign[i - c.from] = -1;
        int64_t own = target[r] < 0 ? end : first + target[r];
        if (own >= from && own < end)
            sign[own - c.from] = 1;
    }
}

/* z = x where the class is the row's, else -x: p = sigmoid(z), q = 1 - p, q^gamma and
 * -log p. */
struct focal {
    th_vf p, q, power, loss;
};

TH_INLINE struct focal focal_of(th_vf z, float gamma)
{
    th_vf zero = vf_all(0), e = vf_exp_negative(-vf_max(z, -z));
    th_vf likely = 1.0F / (1.0F + e), rest = vf_log1p(e);
    th_vi up = z > 0;
    th_vi a = (th_vi)likely, b = (th_vi)(e * likely);
    struct focal f = {.p = (th_vf)((a & up) | (b & ~up)),
        .q = (th_vf)((b & up) | (a & ~up)),
        .loss = vf_max(zero, -z) + rest};
    f.power =
        gamma == 2 ? f.q * f.q : vf_exp_negative(-gamma * (vf_max(zero, z) + rest));
    return f;
}

/* alpha, or 1 - alpha, or 0, by the sign */
TH_INLINE th_vf alpha_of(th_vf sign, float alpha)
{
    return vf_fma(sign * sign, vf_all(0.5F), sign * (alpha - 0.5F));
}

/* A group of logits times their signs; where that is 0 whatever the logit is. */
TH_INLINE v16 signed_group(const float *x, v16 sign, int n)
{
    v16 v = v_load_n(x, n, v_all(0));
    return v_mul(v_keep(v, v_positive(v_mul(sign, sign))), sign);
}

/* The sum over part i, into scratch [n][parts]. */
static void focal_part(const struct th_call *call, int64_t i)
{
    const struct th_args_focal *a = (const void *)call->args;
    const struct th_attr_focal *f = &call->attr.focal;
    const float *x = a->logits;
    struct logits s = logits_of(call);
    struct span values = values_of(s, i);
    double sum = 0;
    for (int64_t from = values.from; from < values.end; from += CHUNK) {
        struct span c = {from, from + CHUNK < values.end ? from + CHUNK : values.end};
        float sign[CHUNK];
        th_vf sums = vf_all(0);
        fill_signs(a->target, s.width, c, sign);
        for (int64_t at = from; at < c.end; at += TH_GROUP) {
            v16 side = v_load(sign + at - from);
            v16 z = signed_group(x + at, side, v_left(at, c.end));
            for (int k = 0; k < TH_VECTORS; k++) {
                struct focal t = focal_of(z.v[k], f->gamma);
                sums += alpha_of(side.v[k], f->alpha) * t.power * t.loss;
            }
        }
        sum += vf_sum(sums);
    }
    ((double *)call->scratch)[i] = sum;
}

TH_OWN(focal)
{
    const struct th_args_focal *a = (const void *)call->args;
    struct logits s = logits_of(call);
    const double *part = call->scratch;
    double loss = 0;
    th_parallel(call, s.n * s.parts, focal_part);
    for (int64_t i = 0; i < s.n * s.parts; i++)
        loss += (double)((const float *)a->weight)[i / s.parts] * part[i];
    *(float *)a->loss = (float)loss;
    return THAW_OK;
}

static void focal_dx_part(const struct th_call *call, int64_t i)
{
    const struct th_args_focal_dx *a = (const void *)call->args;
    const struct th_attr_focal *f = &call->attr.focal;
    const struct th_scalars *scalars = a->scalars;
    const float *x = a->logits;
    float *dx = a->dlogits;
    struct logits s = logits_of(call);
    struct span values = values_of(s, i);
    float scale = -((const float *)a->weight)[i / s.parts] * scalars->loss_scale;
    for (int64_t from = values.from; from < values.end; from += CHUNK) {
        struct span c = {from, from + CHUNK < values.end ? from + CHUNK : values.end};
        float sign[CHUNK];
        fill_signs(a->target, s.width, c, sign);
        for (int64_t at = from; at < c.end; at += TH_GROUP) {
            v16 side = v_load(sign + at - from), d;
            int n = v_left(at, c.end);
            v16 z = signed_group(x + at, side, n);
            for (int k = 0; k < TH_VECTORS; k++) {
                struct focal t = focal_of(z.v[k], f->gamma);
                th_vf slope = vf_fma(f->gamma * t.p, t.loss, t.q);
                d.v[k] =
                    scale * side.v[k] * alpha_of(side.v[k], f->alpha) * t.power * slope;
            }
            v_store_n(dx + at, n, d);
        }
    }
}

TH_OWN(focal_dx)
{
    struct logits s = logits_of(call);
    th_parallel(call, s.n * s.parts, focal_dx_part);
    return THAW_OK;
}
