/* SPDX-License-Identifier: Apache-2.0
 * Owns the launches of roi.cu. */
#include "own_ops.h"

/* A box is read from a map of twice the stride from four times this area on: a square of 14
 * strides, and the 1e-6 of a level less that kernels/roi_points.c has. */
static float least_area(int stride)
{
    static const double SIDE = 14 * 2, LITTLE = 2 * 1e-6 * 0.6931471805599453;
    return (float)(SIDE * stride * SIDE * stride * (1 - LITTLE));
}

static struct th_k_roi roi_of(const struct th_call *call, const struct th_operand *rois)
{
    const struct th_attr_roi *a = &call->attr.roi;
    bool forward = call->op == TH_OP_roi_align;
    const struct th_operand *map = forward ? &call->in[0] : &call->out[0];
    return (struct th_k_roi){.boxes = (uint32_t)rois->shape.dim[1],
        .channels = (uint32_t)map->shape.dim[1],
        .pooled = (uint32_t)a->pooled,
        .sampling = (uint32_t)a->sampling,
        .n_maps = (uint32_t)a->n_maps,
        .stride = (float)a->stride,
        .least = least_area(a->stride)};
}

static thaw_status roi_align(const struct th_call *call)
{
    const struct th_args_roi_align *a = (const void *)call->args;
    const struct th_operand *rois = &call->in[TH_ROI_MAPS];
    struct th_k_roi_align p = {.y = a->y,
        .rois = a->rois,
        .images = rois->shape.dim[0],
        .r = roi_of(call, rois)};
    for (int i = 0; i < call->attr.roi.n_maps; i++) {
        p.x[i] = call->args[i];
        p.h[i] = (int32_t)call->in[i].shape.dim[2];
        p.w[i] = (int32_t)call->in[i].shape.dim[3];
    }
    enum {
        EACH = 16
    }; /* values of a thread: where a box's points are is not for free */
    return th_own_launch(call, TH_K_roi_align_f32,
        th_own_samples(p.images * p.r.boxes, th_own_sample(&call->out[0]), EACH), &p);
}

static int64_t parts(int64_t n, int64_t each)
{
    return (n + each - 1) / each;
}

static thaw_status roi_align_dx(const struct th_call *call)
{
    const struct th_args_roi_align_dx *a = (const void *)call->args;
    const int64_t *d = call->out[0].shape.dim;
    struct th_k_roi_align_dx p = {.dy = a->dy,
        .dx = a->dx,
        .rois = a->rois,
        .images = d[0],
        .r = roi_of(call, &call->in[1]),
        .map = (uint32_t)call->attr.roi.map,
        .h = (int32_t)d[2],
        .w = (int32_t)d[3]};
    int64_t vector = call->in[0].dtype == TH_BF16 ? 8 : 4;
    int64_t lanes = TH_OWN_THREADS / (TH_ROI_ROWS * TH_ROI_COLUMNS);
    p.slices = (uint32_t)parts(d[1], lanes * (d[1] % vector == 0 ? vector : 1));
    p.tiles = (uint32_t)(parts(d[2], TH_ROI_ROWS) * parts(d[3], TH_ROI_COLUMNS));
    int64_t blocks = (int64_t)p.tiles * p.slices;
    return th_own_launch(call, TH_K_roi_align_dx_f32,
        th_own_samples(d[0], blocks * TH_OWN_THREADS, 1), &p);
}

static thaw_status class_rows(const struct th_call *call)
{
    const struct th_args_class_rows *a = (const void *)call->args;
    int64_t rows = th_shape_count(&call->in[1].shape), width = call->attr.rows.width;
    return th_own_launch(call, TH_K_class_rows, th_own_values(rows * width, 1),
        &(struct th_k_class_rows){
            a->x, a->target, a->y, rows, width, call->in[0].shape.dim[2]});
}

static thaw_status class_rows_dx(const struct th_call *call)
{
    const struct th_args_class_rows_dx *a = (const void *)call->args;
    int64_t rows = th_shape_count(&call->in[1].shape), all = call->out[0].shape.dim[2];
    return th_own_launch(call, TH_K_class_rows_dx, th_own_values(rows * all, 1),
        &(struct th_k_class_rows_dx){
            a->dy, a->target, a->dx, rows, call->attr.rows.width, all});
}

const struct th_own th_own_roi_align = {.prepare = th_own_fits, .run = roi_align};
const struct th_own th_own_roi_align_dx = {.prepare = th_own_fits, .run = roi_align_dx};
const struct th_own th_own_class_rows = {.run = class_rows};
const struct th_own th_own_class_rows_dx = {.run = class_rows_dx};
