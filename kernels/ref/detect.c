/* SPDX-License-Identifier: Apache-2.0
 * Owns the plain C kernels of the losses of dense detectors. Formulas: kernels/detect.c. */
#include "ref.h"

#include <math.h>

/* The rows of a prediction [n][a][width]. */
struct rows {
    int64_t n, a, width;
};

static struct rows rows_of(const struct th_operand *x, const struct th_operand *target)
{
    const int64_t *d = target->shape.dim;
    return (struct rows){d[0], d[1], th_shape_count(&x->shape) / (d[0] * d[1])};
}

/* log(1 + exp(x)), which never overflows. */
static double softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

static double sigmoid(double x)
{
    double e = exp(-fabs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

/* Sum over images of weight times what `row` says of each row. */
static float sum_rows(const struct th_call *call, struct rows s, const float *weight,
    double (*row)(const struct th_call *call, struct rows s, int64_t r))
{
    double loss = 0;
    for (int64_t n = 0; n < s.n; n++) {
        double image = 0;
        for (int64_t r = n * s.a; r < (n + 1) * s.a; r++)
            image += row(call, s, r);
        loss += (double)weight[n] * image;
    }
    return (float)loss;
}

/* ---- focal ---- */

static double focal_row(const struct th_call *call, struct rows s, int64_t r)
{
    const struct th_args_focal *a = (const void *)call->args;
    const struct th_attr_focal *f = &call->attr.focal;
    int32_t target = ((const int32_t *)a->target)[r];
    const float *x = (const float *)a->logits + r * s.width;
    double loss = 0;
    for (int64_t k = 0; k < s.width && target != -2; k++) {
        double z = (double)(k == target ? x[k] : -x[k]);
        double alpha = (double)(k == target ? f->alpha : 1 - f->alpha);
        loss += alpha * pow(sigmoid(-z), (double)f->gamma) * softplus(-z);
    }
    return loss;
}

thaw_status th_ref_focal(const struct th_call *call)
{
    const struct th_args_focal *a = (const void *)call->args;
    struct rows s = rows_of(&call->in[0], &call->in[1]);
    *(float *)a->loss = sum_rows(call, s, a->weight, focal_row);
    return THAW_OK;
}

thaw_status th_ref_focal_dx(const struct th_call *call)
{
    const struct th_args_focal_dx *a = (const void *)call->args;
    const struct th_attr_focal *f = &call->attr.focal;
    const struct th_scalars *scalars = a->scalars;
    const float *x = a->logits;
    struct rows s = rows_of(&call->in[0], &call->in[1]);
    for (int64_t i = 0; i < s.n * s.a * s.width; i++) {
        int64_t r = i / s.width, k = i % s.width;
        int32_t target = ((const int32_t *)a->target)[r];
        double sign = k == target ? 1 : -1, z = sign * (double)x[i];
        double alpha = (double)(k == target ? f->alpha : 1 - f->alpha);
        double q = sigmoid(-z), gamma = (double)f->gamma;
        double d = -alpha * pow(q, gamma) * (q + gamma * sigmoid(z) * softplus(-z));
        double w = (double)((const float *)a->weight)[r / s.a];
        ((float *)a->dlogits)[i] =
            target == -2 ? 0 : (float)(sign * d * w * (double)scalars->loss_scale);
    }
    return THAW_OK;
}

/* ---- box_loss ---- */

static const double LEAST = 1e-7;

/* x0, y0, x1, y1 of four values. */
struct corners {
    double at[4];
};

/* Of a width or height, at most 1000/16. */
static double extent(float v)
{
    return exp(fmin((double)v, log(1000.0 / 16)));
}

static struct corners corners_of(enum th_box_loss kind, const float *v)
{
    struct corners c;
    if (kind == TH_BOX_GIOU_SIDES) {
        for (int i = 0; i < 4; i++)
            c.at[i] = i < 2 ? -(double)v[i] : (double)v[i];
        return c;
    }
    for (int i = 0; i < 2; i++) {
        double half = extent(v[2 + i]) / 2;
        c.at[i] = (double)v[i] - half;
        c.at[2 + i] = (double)v[i] + half;
    }
    return c;
}

/* Widths and heights of the overlap and of the box around both, and areas. */
struct meeting {
    double in[2], out[2], own, both, unite, around;
    bool meet;
};

static struct meeting meeting_of(struct corners a, struct corners b)
{
    struct meeting m;
    for (int i = 0; i < 2; i++) {
        m.in[i] = fmin(a.at[2 + i], b.at[2 + i]) - fmax(a.at[i], b.at[i]);
        m.out[i] = fmax(a.at[2 + i], b.at[2 + i]) - fmin(a.at[i], b.at[i]);
    }
    m.meet = m.in[0] > 0 && m.in[1] > 0;
    m.both = m.meet ? m.in[0] * m.in[1] : 0;
    m.own = (a.at[2] - a.at[0]) * (a.at[3] - a.at[1]);
    m.unite = m.own + (b.at[2] - b.at[0]) * (b.at[3] - b.at[1]) - m.both;
    m.around = m.out[0] * m.out[1];
    return m;
}

/* The loss of a row's box, and its derivative by the corners. */
static double giou(struct corners a, struct corners b, struct corners *d)
{
    struct meeting m = meeting_of(a, b);
    double u = m.unite + LEAST, c = m.around + LEAST;
    for (int i = 0; i < 4; i++) {
        int axis = i % 2, other = 1 - axis;
        double sign = i < 2 ? -1 : 1; /* moved outwards */
        bool inner = sign * a.at[i] < sign * b.at[i];
        double both = inner && m.meet ? sign * m.in[other] : 0;
        double own = sign * (a.at[2 + other] - a.at[other]);
        double around = inner ? 0 : sign * m.out[other];
        d->at[i] = -both / u + (m.both / (u * u) - 1 / c) * (own - both) +
                   u / (c * c) * around;
    }
    return 1 - m.both / u + (m.around - m.unite) / c;
}

static double smooth_l1(const float *x, const float *box, double beta, double *d)
{
    double loss = 0;
    for (int i = 0; i < 4; i++) {
        double e = (double)x[i] - (double)box[i], size = fabs(e);
        bool near = size < beta;
        loss += near ? e * e / (2 * beta) : size - beta / 2;
        d[i] = near ? e / beta : (e > 0) - (e < 0);
    }
    return loss;
}

/* Of one row, and its derivative by the four values. */
static double row_loss(
    const struct th_attr_box *t, const float *x, const float *box, double *d)
{
    struct corners by;
    if (t->kind == TH_BOX_SMOOTH_L1)
        return smooth_l1(x, box, (double)t->beta, d);
    double loss = giou(corners_of(t->kind, x), corners_of(t->kind, box), &by);
    for (int i = 0; i < 2; i++) {
        bool sides = t->kind == TH_BOX_GIOU_SIDES;
        bool cut = !sides && (double)x[2 + i] > log(1000.0 / 16);
        d[i] = sides ? -by.at[i] : by.at[i] + by.at[2 + i];
        d[2 + i] = sides ? by.at[2 + i]
                   : cut ? 0
                         : (by.at[2 + i] - by.at[i]) / 2 * extent(x[2 + i]);
    }
    return loss;
}

static double box_row(const struct th_call *call, struct rows s, int64_t r)
{
    const struct th_args_box_loss *a = (const void *)call->args;
    const float *x = (const float *)a->x + r * s.width;
    const float *box = (const float *)a->box + r * s.width;
    double d[4];
    return ((const int32_t *)a->target)[r] < 0 ? 0
                                               : row_loss(&call->attr.box, x, box, d);
}

thaw_status th_ref_box_loss(const struct th_call *call)
{
    const struct th_args_box_loss *a = (const void *)call->args;
    struct rows s = rows_of(&call->in[0], &call->in[2]);
    *(float *)a->loss = sum_rows(call, s, a->weight, box_row);
    return THAW_OK;
}

thaw_status th_ref_box_loss_dx(const struct th_call *call)
{
    const struct th_args_box_loss_dx *a = (const void *)call->args;
    const struct th_scalars *scalars = a->scalars;
    struct rows s = rows_of(&call->in[0], &call->in[2]);
    for (int64_t r = 0; r < s.n * s.a; r++) {
        const float *x = (const float *)a->x + r * 4,
                    *box = (const float *)a->box + r * 4;
        double w = (double)((const float *)a->weight)[r / s.a], d[4] = {0};
        if (((const int32_t *)a->target)[r] >= 0)
            row_loss(&call->attr.box, x, box, d);
        for (int i = 0; i < 4; i++)
            ((float *)a->dx)[r * 4 + i] =
                (float)(d[i] * w * (double)scalars->loss_scale);
    }
    return THAW_OK;
}

/* ---- masked_ce ---- */

static double masked_row(const struct th_call *call, struct rows s, int64_t r)
{
    (void)s;
    const struct th_args_masked_ce *a = (const void *)call->args;
    double x = (double)((const float *)a->logits)[r];
    double t = (double)((const float *)a->target)[r];
    return t < 0 ? 0 : softplus(x) - t * x;
}

thaw_status th_ref_masked_ce(const struct th_call *call)
{
    const struct th_args_masked_ce *a = (const void *)call->args;
    struct rows s = rows_of(&call->in[0], &call->in[1]);
    *(float *)a->loss = sum_rows(call, s, a->weight, masked_row);
    return THAW_OK;
}

thaw_status th_ref_masked_ce_dx(const struct th_call *call)
{
    const struct th_args_masked_ce_dx *a = (const void *)call->args;
    const struct th_scalars *scalars = a->scalars;
    struct rows s = rows_of(&call->in[0], &call->in[1]);
    for (int64_t r = 0; r < s.n * s.a; r++) {
        double t = (double)((const float *)a->target)[r];
        double w = (double)((const float *)a->weight)[r / s.a];
        double d = sigmoid((double)((const float *)a->logits)[r]) - t;
        ((float *)a->dlogits)[r] =
            t < 0 ? 0 : (float)(d * w * (double)scalars->loss_scale);
    }
    return THAW_OK;
}

/* ---- row_ce ---- */

thaw_status th_ref_row_weight(const struct th_call *call)
{
    const struct th_args_row_weight *a = (const void *)call->args;
    int64_t rows = th_shape_count(&call->in[0].shape), found = 0;
    for (int64_t r = 0; r < rows; r++)
        found += ((const int32_t *)a->target)[r] != -2;
    for (int64_t n = 0; n < call->in[0].shape.dim[0]; n++)
        ((float *)a->weight)[n] = 1 / (float)(found ? found : 1);
    return THAW_OK;
}

/* log(sum(exp(x))) */
static double log_sum(const float *x, int64_t n)
{
    double most = (double)x[0], sum = 0;
    for (int64_t k = 1; k < n; k++)
        most = fmax(most, (double)x[k]);
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)x[k] - most);
    return most + log(sum);
}

static double ce_row(const struct th_call *call, struct rows s, int64_t r)
{
    const struct th_args_row_ce *a = (const void *)call->args;
    const float *x = (const float *)a->logits + r * s.width;
    int32_t t = ((const int32_t *)a->target)[r];
    return t == -2 ? 0 : log_sum(x, s.width) - (double)x[1 + t];
}

thaw_status th_ref_row_ce(const struct th_call *call)
{
    const struct th_args_row_ce *a = (const void *)call->args;
    struct rows s = rows_of(&call->in[0], &call->in[1]);
    *(float *)a->loss = sum_rows(call, s, a->weight, ce_row);
    return THAW_OK;
}

thaw_status th_ref_row_ce_dx(const struct th_call *call)
{
    const struct th_args_row_ce_dx *a = (const void *)call->args;
    const struct th_scalars *scalars = a->scalars;
    struct rows s = rows_of(&call->in[0], &call->in[1]);
    for (int64_t r = 0; r < s.n * s.a; r++) {
        const float *x = (const float *)a->logits + r * s.width;
        float *dx = (float *)a->dlogits + r * s.width;
        int32_t t = ((const int32_t *)a->target)[r];
        double w = (double)((const float *)a->weight)[r / s.a],
               all = log_sum(x, s.width);
        w *= t == -2 ? 0 : (double)scalars->loss_scale;
        for (int64_t k = 0; k < s.width; k++)
            dx[k] = (float)(w * (exp((double)x[k] - all) - (k == 1 + t)));
    }
    return THAW_OK;
}
