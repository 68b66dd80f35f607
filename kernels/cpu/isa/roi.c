/* SPDX-License-Identifier: Apache-2.0
 * Owns roi_align and its gradient: places of b channels, each times its share. Formulas:
 * kernels/roi.c. Boxes of an image are summed in their order, by one thread a plane. */
#include "roi_points.h"

#include "lanes.h"

enum { BOX = 4, ROIS = 4 }; /* values of a box; input of roi_align */

/* One window of a box, all channels: y[c] is `step` values behind y[c - 1]. */
TH_INLINE void read_window(const float *x, struct planes s,
    const struct th_corner *corner, int n, float *y, int64_t step, int b)
{
    for (int64_t k = 0; k < s.blocks; k++, x += s.size) {
        float sum[TH_GROUP] = {0};
        for (int i = 0; i < n; i++) {
            const float *place = x + corner[i].at * b;
            float share = (float)corner[i].share;
            for (int j = 0; j < b; j++)
                sum[j] += share * place[j];
        }
        for (int j = 0; j < b; j++, y += step)
            *y = sum[j];
    }
}

static void roi_align_box(const struct th_call *call, int64_t i)
{
    const struct th_args_roi_align *a = (const void *)call->args;
    const struct th_attr_roi *attr = &call->attr.roi;
    const float *box = (const float *)a->rois + i * BOX;
    bool is = th_roi_is(box);
    int map = is ? th_roi_map(attr, box) : 0, windows = attr->pooled * attr->pooled;
    struct planes s = planes_of(&call->in[map]);
    const int64_t *d = call->in[map].shape.dim;
    const float *x = call->args[map];
    float *y = (float *)a->y + i * d[1] * windows;
    struct th_corner corner[TH_MAX_CORNERS];
    x += i / call->in[ROIS].shape.dim[1] * s.blocks * s.size;
    for (int k = 0; k < windows; k++) {
        int n = is ? th_roi_corners(attr, box, d[2], d[3], k / attr->pooled,
                         k % attr->pooled, corner)
                   : 0;
        if (s.b == 16) /* as constants they are vectors */
            read_window(x, s, corner, n, y + k, windows, 16);
        else if (s.b == 8)
            read_window(x, s, corner, n, y + k, windows, 8);
        else
            read_window(x, s, corner, n, y + k, windows, s.b);
    }
}

TH_OWN(roi_align)
{
    const int64_t *d = call->in[ROIS].shape.dim;
    th_parallel(call, d[0] * d[1], roi_align_box);
    return THAW_OK;
}

/* What a window gives to the places of a plane; dy[j] is of channel j of the block. */
TH_INLINE void spread_window(const float *dy, int64_t step,
    const struct th_corner *corner, int n, float *dx, int b)
{
    float by[TH_GROUP];
    for (int j = 0; j < b; j++)
        by[j] = dy[j * step];
    for (int i = 0; i < n; i++) {
        float *place = dx + corner[i].at * b;
        float share = (float)corner[i].share;
        for (int j = 0; j < b; j++)
            place[j] += share * by[j];
    }
}

static void roi_align_dx_plane(const struct th_call *call, int64_t plane)
{
    const struct th_args_roi_align_dx *a = (const void *)call->args;
    const struct th_attr_roi *attr = &call->attr.roi;
    struct planes s = planes_of(&call->out[0]);
    const int64_t *d = call->out[0].shape.dim;
    int64_t boxes = call->in[1].shape.dim[1], first = plane / s.blocks * boxes;
    int windows = attr->pooled * attr->pooled;
    float *dx = (float *)a->dx + plane * s.size;
    struct th_corner corner[TH_MAX_CORNERS];
    memset(dx, 0, sizeof *dx * (size_t)s.size);
    for (int64_t i = first; i < first + boxes; i++) {
        const float *box = (const float *)a->rois + i * BOX;
        if (!th_roi_is(box) || th_roi_map(attr, box) != attr->map)
            continue;
        const float *dy = (const float *)a->dy;
        dy += (i * d[1] + plane % s.blocks * s.b) * windows;
        for (int k = 0; k < windows; k++) {
            int n = th_roi_corners(
                attr, box, d[2], d[3], k / attr->pooled, k % attr->pooled, corner);
            if (s.b == 16)
                spread_window(dy + k, windows, corner, n, dx, 16);
            else if (s.b == 8)
                spread_window(dy + k, windows, corner, n, dx, 8);
            else
                spread_window(dy + k, windows, corner, n, dx, s.b);
        }
    }
}

TH_OWN(roi_align_dx)
{
    struct planes s = planes_of(&call->out[0]);
    th_parallel(call, s.n * s.blocks, roi_align_dx_plane);
    return THAW_OK;
}
