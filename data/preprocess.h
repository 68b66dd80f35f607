/* SPDX-License-Identifier: Apache-2.0
 * From an image to a network's input: resize, crop, normalise, as torchvision does. */
#ifndef TH_PREPROCESS_H
#define TH_PREPROCESS_H

#include "placement.h"
#include "resize.h"

struct th_preprocess {
    struct th_size size; /* of the input */
    double crop;         /* what is resized covers floor(size / crop), in (0,1] */
    bool fit;            /* instead, the whole picture is shown: th_placement_whole */
    enum th_filter filter;
    float mean[3], std[3]; /* of values in 0..1 */
};

/* N x N, crop 0.875, bilinear, ImageNet's mean and std. */
struct th_preprocess th_preprocess_imagenet(int n);

/* THAW_E_USAGE for sizes, crops and deviations that make no sense. */
thaw_status th_preprocess_check(const struct th_preprocess *p);

/* The resize that an evaluation input of a w x h picture is. THAW_E_DATA for one that is too
 * narrow. */
thaw_status th_preprocess_resize(
    const struct th_preprocess *p, int w, int h, struct th_resize *r);

/* Evaluation without fit: rgb[h][w][3], on a square torchvision's Resize(floor(N / crop)),
 * CenterCrop(N). Else the picture is resized, its sides' ratio kept, so that it just covers
 * floor(size / crop), and the centre is cut out of that: timm's ResizeKeepRatio, but the side
 * that is longer than it need be is rounded down, as torchvision does. */
thaw_status th_preprocess_pixels(
    const struct th_preprocess *p, const struct th_image *src, uint8_t *rgb);

/* out[3][h][w] = (rgb / 255 - mean) / std in fp32: ToTensor, Normalize. */
void th_preprocess_normalise(
    const struct th_preprocess *p, const uint8_t *rgb, bool mirror, float *out);

/* An evaluation input, fit or not: out[3][h][w]; rgb[h][w][3] is room to work in. */
thaw_status th_preprocess_input(const struct th_preprocess *p,
    const struct th_image *src, uint8_t *rgb, float *out);

/* The resize of which `placement` is made. */
struct th_resize th_placement_resize(
    const struct th_preprocess *p, const struct th_placement *placement);

/* 0 everywhere in an input out[3][h][w] but in `to`. */
void th_preprocess_clear(struct th_size size, struct th_box to, float *out);

#endif
