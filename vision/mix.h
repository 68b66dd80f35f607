/* SPDX-License-Identifier: Apache-2.0
 * Mixup and CutMix: each image of a batch with another of the same batch, and their
 * targets in the same shares. What is drawn is a function of a key alone. Works on what
 * the loader made and on any rows of targets (smoothed, weighted); allocates nothing but
 * its buffers. Mixes images, so it excludes keeping features. */
#ifndef TH_MIX_H
#define TH_MIX_H

#include "error.h"
#include "size.h"

/* Lambda ~ Beta(a, a); 0: not done. Both: one or the other, evenly, as timm does. */
struct th_mix {
    double mixup, cutmix;
};

/* How a batch is mixed: image i with image (i + partner) % n. */
struct th_mix_draw {
    int64_t partner; /* 1..n-1; 0: not at all */
    bool cuts;       /* the partner shows in the box, or everywhere */
    double lambda;   /* the image's own share; CutMix: the area outside the box */
    int left, top, right, bottom; /* the box, without its last column and row */
};

/* For a batch of n images of that size; one image is not mixed. */
struct th_mix_draw th_mix_draw(
    const struct th_mix *m, uint64_t key, int64_t n, struct th_size size);

/* Give d a box of the area 1 - lambda about pixel (x, y), cut off at the border; lambda
 * becomes the share that is really left. timm's rand_bbox: the paper's own loses a row and
 * a column where its side is odd. */
void th_mix_box(struct th_mix_draw *d, int x, int y, struct th_size size);

/* images [n][3][h][w]: lambda x + (1 - lambda) x' (Zhang et al. 2018, eq. 1), or x
 * with the box of x' (Yun et al. 2019, eq. 1). */
void th_mix_images(const struct th_mix_draw *d, int64_t n, struct th_size size,
    const float *in, float *out);
/* target [n][classes]: lambda y + (1 - lambda) y' (eq. 2 there and there). */
void th_mix_targets(
    const struct th_mix_draw *d, int64_t n, int classes, const float *in, float *out);

/* The buffers of a run. */
struct th_mixer {
    struct th_mix mix;
    struct th_size size;
    int classes;
    float *images, *target; /* NULL where nothing is mixed */
};

thaw_status th_mixer_init(struct th_mixer *m, const struct th_mix *mix, int64_t batch,
    struct th_size size, int classes);
void th_mixer_release(struct th_mixer *m);

/* Point *images and *target to the mixed batch; to what they were where it is not mixed. */
void th_mixer_apply(const struct th_mixer *m, uint64_t key, int64_t n,
    const float **images, const float **target);

#endif
