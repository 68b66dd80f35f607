/* SPDX-License-Identifier: Apache-2.0
 * The part of params.h that is for detectors' kernels. */
#ifndef TH_CUDA_PARAMS_DETECT_H
#define TH_CUDA_PARAMS_DETECT_H

#include <stdint.h>

/* ---- detect.cu: rows of each image; losses [blocks] ---- */

struct th_k_focal {
    const float *logits, *weight;
    const int32_t *target;
    float *losses;
    int64_t images;
    uint32_t rows, width;
    float alpha, gamma;
};

struct th_k_focal_dx {
    const float *logits, *weight;
    const int32_t *target;
    float *dlogits;
    const struct th_scalars *scalars;
    int64_t images;
    uint32_t rows, width;
    float alpha, gamma;
};

struct th_k_boxes {
    const float *x, *box, *weight;
    const int32_t *target;
    int64_t images;
    uint32_t rows;
    int32_t kind; /* enum th_box_loss */
    float beta;
};

struct th_k_box_loss {
    struct th_k_boxes b;
    float *losses;
};

struct th_k_box_loss_dx {
    struct th_k_boxes b;
    float *dx;
    const struct th_scalars *scalars;
};

struct th_k_masked_ce {
    const float *logits, *target, *weight;
    float *losses;
    int64_t images;
    uint32_t rows;
};

struct th_k_masked_ce_dx {
    const float *logits, *target, *weight;
    float *dlogits;
    const struct th_scalars *scalars;
    int64_t images;
    uint32_t rows;
};

struct th_k_row_weight {
    const int32_t *target;
    float *weight;        /* [images] */
    int64_t images, rows; /* rows: of all images */
};

struct th_k_row_ce {
    const float *logits, *weight;
    const int32_t *target;
    float *losses;             /* [rows] */
    int64_t rows, each, width; /* each: rows of an image */
};

struct th_k_row_ce_dx {
    const float *logits, *weight;
    const int32_t *target;
    float *dlogits;
    const struct th_scalars *scalars;
    int64_t rows, each, width;
};

/* ---- roi.cu ---- */

enum { TH_ROI_MAPS = 4, TH_ROI_ROWS = 4, TH_ROI_COLUMNS = 8 }; /* of a tile of dx */

/* A box is read from the first map, or where its area is `least` from the next one, ... */
struct th_k_roi {
    uint32_t boxes, channels, pooled, sampling, n_maps; /* boxes: of an image */
    float stride, least;
};

struct th_k_roi_align {
    const void *x[TH_ROI_MAPS];
    void *y;
    const float *rois;
    int64_t images;
    struct th_k_roi r;
    int32_t h[TH_ROI_MAPS], w[TH_ROI_MAPS];
};

struct th_k_roi_align_dx {
    const void *dy;
    void *dx;
    const float *rois;
    int64_t images;
    struct th_k_roi r;
    uint32_t map, tiles, slices;
    int32_t h, w;
};

/* Rows of `all` values, of which a target chooses `width`. */
struct th_k_class_rows {
    const float *x;
    const int32_t *target;
    float *y;
    int64_t rows, width, all;
};

struct th_k_class_rows_dx {
    const float *dy;
    const int32_t *target;
    float *dx;
    int64_t rows, width, all;
};

#endif
