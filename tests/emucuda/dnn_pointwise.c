/* SPDX-License-Identifier: Apache-2.0
 * Owns what works element by element, and sums along axes. Axes are walked in the order of
 * the strides of the larger tensor, so that NHWC runs along channels. */
#include "dnn.h"

#include <math.h>
#include <stdlib.h>

/* ---- walking ---- */

/* The axes of `shape`, the largest stride first; the last is walked by the caller. */
static void sort_axes(const struct dnn_view *shape, int *axis)
{
    for (int i = 0; i < shape->rank; i++) {
        int k = i;
        for (; k > 0; k--) {
            int64_t before =
                shape->dim[axis[k - 1]] == 1 ? INT64_MAX : shape->stride[axis[k - 1]];
            int64_t own = shape->dim[i] == 1 ? INT64_MAX : shape->stride[i];
            if (before >= own)
                break;
            axis[k] = axis[k - 1];
        }
        axis[k] = i;
    }
}

static int64_t stride_of(const struct dnn_view *v, int axis)
{
    return v->v && axis < v->rank && v->dim[axis] > 1 ? v->stride[axis] : 0;
}

enum { LANES = 3 }; /* views that are walked together, the first has the whole shape */

/* Runs along one axis: n elements, where each view begins and its stride. */
typedef void along(void *context, int64_t n, float *const *at, const int64_t *stride);

static void move(const struct dnn_view *views, float **start, int axis, int64_t steps)
{
    for (int k = 0; k < LANES; k++)
        if (start[k])
            start[k] += steps * stride_of(&views[k], axis);
}

static void walk(const struct dnn_view *views, along *f, void *context)
{
    const struct dnn_view *whole = &views[0];
    int axis[DNN_RANK];
    int64_t at[DNN_RANK] = {0}, step[LANES];
    float *start[LANES];
    sort_axes(whole, axis);
    int last = whole->rank - 1;
    for (int k = 0; k < LANES; k++) {
        start[k] = views[k].v;
        step[k] = stride_of(&views[k], axis[last]);
    }
    for (;;) {
        int i = last - 1;
        f(context, whole->dim[axis[last]], start, step);
        for (; i >= 0; i--) {
            bool carry = ++at[i] == whole->dim[axis[i]];
            move(views, start, axis[i], carry ? 1 - at[i] : 1);
            if (!carry)
                break;
            at[i] = 0;
        }
        if (i < 0)
            return;
    }
}

/* ---- element by element ---- */

static float gelu(float x)
{
    return 0.5F * x * (1 + erff(x * 0.70710678F));
}

static float gelu_slope(float x)
{
    return 0.5F * (1 + erff(x * 0.70710678F)) + x * expf(-0.5F * x * x) * 0.39894228F;
}

static const float C = 0.79788456F, CUBIC = 0.044715F; /* sqrt(2 / pi) */

static float gelu_tanh(float x)
{
    return 0.5F * x * (1 + tanhf(C * (x + CUBIC * x * x * x)));
}

static float gelu_tanh_slope(float x)
{
    float t = tanhf(C * (x + CUBIC * x * x * x));
    return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * C * (1 + 3 * CUBIC * x * x);
}

bool dnn_pointwise_known(int mode)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
    case CUDNN_POINTWISE_SUB:
    case CUDNN_POINTWISE_MUL:
    case CUDNN_POINTWISE_RSQRT:
    case CUDNN_POINTWISE_EXP:
    case CUDNN_POINTWISE_IDENTITY:
    case CUDNN_POINTWISE_RELU_FWD:
    case CUDNN_POINTWISE_CMP_GT:
    case CUDNN_POINTWISE_GELU_FWD:
    case CUDNN_POINTWISE_GELU_BWD:
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
    case CUDNN_POINTWISE_GELU_APPROX_TANH_BWD:
        return true;
    }
    return false;
}

static float function(int mode, float x)
{
    switch (mode) {
    case CUDNN_POINTWISE_RSQRT:
        return 1 / sqrtf(x);
    case CUDNN_POINTWISE_EXP:
        return expf(x);
    case CUDNN_POINTWISE_GELU_FWD:
        return gelu(x);
    case CUDNN_POINTWISE_GELU_APPROX_TANH_FWD:
        return gelu_tanh(x);
    case CUDNN_POINTWISE_GELU_BWD:
        return gelu_slope(x);
    case CUDNN_POINTWISE_GELU_APPROX_TANH_BWD:
        return gelu_tanh_slope(x);
    case CUDNN_POINTWISE_RELU_FWD:
        return x > 0 ? x : 0;
    }
    return x;
}

/* y, x, b */
static void compute(void *context, int64_t n, float *const *at, const int64_t *stride)
{
    float *y = at[0];
    const float *x = at[1], *b = at[2];
    int64_t ys = stride[0], xs = stride[1], bs = stride[2];
    int mode = *(const int *)context;
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        for (int64_t i = 0; i < n; i++)
            y[i * ys] = x[i * xs] + b[i * bs];
        return;
    case CUDNN_POINTWISE_SUB:
        for (int64_t i = 0; i < n; i++)
            y[i * ys] = x[i * xs] - b[i * bs];
        return;
    case CUDNN_POINTWISE_MUL:
        for (int64_t i = 0; i < n; i++)
            y[i * ys] = x[i * xs] * b[i * bs];
        return;
    case CUDNN_POINTWISE_CMP_GT:
        for (int64_t i = 0; i < n; i++)
            y[i * ys] = x[i * xs] > b[i * bs] ? 1.0F : 0.0F;
        return;
    default:
        for (int64_t i = 0; i < n; i++)
            y[i * ys] = function(mode, x[i * xs]);
    }
}

void dnn_pointwise(int mode, struct dnn_view x, struct dnn_view b, struct dnn_view y)
{
    walk((struct dnn_view[]){y, x, b}, compute, &mode);
}

/* dx, dy, x */
static void slope(void *context, int64_t n, float *const *at, const int64_t *stride)
{
    int mode = *(const int *)context;
    for (int64_t i = 0; i < n; i++)
        at[0][i * stride[0]] =
            at[1][i * stride[1]] * function(mode, at[2][i * stride[2]]);
}

void dnn_pointwise_dx(
    int mode, struct dnn_view dy, struct dnn_view x, struct dnn_view dx)
{
    walk((struct dnn_view[]){dx, dy, x}, slope, &mode);
}

/* ---- sums ---- */

/* Sums of a few values first, then of these: as a device adds, and with its error. */
enum { PART = 32 };

struct sum {
    float *part; /* like y; NULL: y is so large that parts are not worth it */
    int64_t n, runs;
};

static float line(const float *x, int64_t stride, int64_t n, bool backwards)
{
    float lane[8] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % 8] += x[(backwards ? n - 1 - i : i) * stride];
    return ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
           ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

static void flush(struct sum *s, float *y)
{
    for (int64_t i = 0; i < s->n; i++) {
        y[i] += s->part[i];
        s->part[i] = 0;
    }
}

/* x, y */
static void add(void *context, int64_t n, float *const *at, const int64_t *stride)
{
    struct sum *s = context;
    const float *x = at[0];
    float *y = at[1];
    if (stride[1] == 0)
        *y += line(x, stride[0], n, emu.options.any_sum_order);
    else
        for (int64_t i = 0; i < n; i++)
            y[i * stride[1]] += x[i * stride[0]];
    s->runs++;
}

/* The same into the parts, which are like y. */
static void add_in_parts(
    void *context, int64_t n, float *const *at, const int64_t *stride)
{
    struct sum *s = context;
    float *whole = at[2], *parts[LANES] = {at[0], s->part + (at[1] - whole), NULL};
    add(s, n, parts, stride);
    if (s->runs % PART == 0)
        flush(s, whole);
}

static void zero(void *context, int64_t n, float *const *at, const int64_t *stride)
{
    (void)context;
    for (int64_t i = 0; i < n; i++)
        at[0][i * stride[0]] = 0;
}

void dnn_sum(struct dnn_view x, struct dnn_view y)
{
    int64_t all = 1, extent = 1;
    for (int i = 0; i < x.rank; i++) {
        all *= x.dim[i];
        extent += (y.dim[i] - 1) * y.stride[i];
    }
    struct sum s = {.n = extent};
    struct dnn_view whole = {.v = y.v, .rank = 0};
    walk((struct dnn_view[]){y, whole, whole}, zero, NULL);
    if (extent * PART > all) {
        walk((struct dnn_view[]){x, y, whole}, add, &s);
        return;
    }
    s.part = dnn_temporary(extent);
    walk((struct dnn_view[]){x, y, whole}, add_in_parts, &s);
    flush(&s, y.v);
    free(s.part);
}
