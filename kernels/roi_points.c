/* SPDX-License-Identifier: Apache-2.0
 * Owns the geometry of roi_align. */
#include "roi_points.h"

#include <assert.h>
#include <math.h>

/* The level whose stride is 16, and the size of a box that is read from it. */
static const double LEVEL = 4, SIZE = 224, LITTLE = 1e-6;

int th_roi_map(const struct th_attr_roi *a, const float box[4])
{
    double w = (double)(box[2] - box[0]), h = (double)(box[3] - box[1]);
    double level = floor(LEVEL + log2(sqrt(w * h) / SIZE) + LITTLE);
    double map = level - log2((double)a->stride);
    return map > 0 ? (int)fmin(map, a->n_maps - 1) : 0;
}

/* The two places on both sides of a point of an axis. */
struct between {
    int64_t at[2];
    double share[2];
};

static struct between between_of(double x, int64_t n)
{
    double v = fmax(x, 0);
    int64_t low = (int64_t)v;
    if (low >= n - 1)
        return (struct between){{n - 1, n - 1}, {1, 0}};
    double far = v - (double)low;
    return (struct between){{low, low + 1}, {1 - far, far}};
}

/* Of an axis of a box: point i of window p. */
static double point(const struct th_attr_roi *a, const float box[4], int axis, int p,
    int i, double stride)
{
    double from = (double)box[axis] / stride;
    double size = fmax((double)box[2 + axis] / stride - from, 1) / a->pooled;
    return from + (p + (i + 0.5) / a->sampling) * size;
}

/* A point this far outside is 0. */
static bool outside(double x, int64_t n)
{
    return x < -1 || x > (double)n;
}

int th_roi_corners(const struct th_attr_roi *a, const float box[4], int64_t h,
    int64_t w, int p, int q, struct th_corner corner[TH_MAX_CORNERS])
{
    int n = 0, points = a->sampling * a->sampling;
    double stride = ldexp((double)a->stride, th_roi_map(a, box));
    assert(a->sampling <= TH_MAX_SAMPLING);
    for (int i = 0; i < points; i++) {
        double y = point(a, box, 1, p, i / a->sampling, stride);
        double x = point(a, box, 0, q, i % a->sampling, stride);
        if (outside(y, h) || outside(x, w))
            continue;
        struct between v = between_of(y, h), u = between_of(x, w);
        for (int k = 0; k < 4; k++)
            corner[n++] = (struct th_corner){v.at[k / 2] * w + u.at[k % 2],
                v.share[k / 2] * u.share[k % 2] / points};
    }
    return n;
}
