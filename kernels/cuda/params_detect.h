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

/* ---- proposals.cu ---- */

/* Of a block, which has a grid of an image; grids; candidates of a grid. */
enum { TH_RANK_THREADS = 1024, TH_GRIDS = 8, TH_RANK_MOST = 2048 };

/* Rows and candidates of each image are its grids', one behind the other. */
struct th_k_grids {
    uint32_t images, n;
    int32_t size[2]; /* of the input: width, height */
    uint32_t row[TH_GRIDS + 1],
        candidate[TH_GRIDS + 1]; /* the first of each; how many */
    int32_t h[TH_GRIDS], w[TH_GRIDS], stride[TH_GRIDS];
};

/* rank: [images][candidates], of each grid best first; an order and a row */
struct th_k_proposals_rank {
    const float *logits;
    uint64_t *rank;
    struct th_k_grids g;
};

/* What is left of each grid, `kept` [images][grids]; of its candidates these come first. */
struct th_k_proposals_keep {
    const float *deltas;
    uint64_t *rank;
    float *box; /* [images][candidates][4] */
    uint32_t *kept;
    struct th_k_grids g;
    float overlap;
};

struct th_k_proposals_merge {
    const uint64_t *rank;
    const float *box;
    const uint32_t *kept;
    float *rois; /* [images][most][4] */
    struct th_k_grids g;
    uint32_t most;
};

/* A box or an object of an image: what it is to be, and its place in a draw. */
struct th_k_drawn {
    uint64_t order;
    int32_t target, object;
};

/* Rows of an image are its boxes, and behind them its objects. */
struct th_k_rois {
    const float *rois, *box;
    const int32_t *label;
    struct th_k_drawn *row;
    int64_t images;
    uint32_t n_rois, n_box;
};

struct th_k_rois_match {
    struct th_k_rois r;
    const int32_t *keys;
    uint64_t purpose;
    float overlap;
};

struct th_k_rois_draw {
    struct th_k_rois r;
    uint8_t *is; /* [images][rows]: it is drawn */
    uint32_t count, positive;
};

struct th_k_rois_place {
    struct th_k_rois r;
    const uint8_t *is;
    float *sampled, *target_box;
    int32_t *target;
    uint32_t count;
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
