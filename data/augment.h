/* SPDX-License-Identifier: Apache-2.0
 * Random variants of a training image. Everything drawn is a function of a key, so the
 * same sample in the same epoch looks the same for any number of workers.
 *
 *   none    evaluation preprocessing
 *   basic   random resized crop (area 8..100 %, ratio 3/4..4/3), mirrored or not
 *   strong  basic, then two operations of RandAugment at magnitude 9, and in one of four
 *           images a rectangle erased
 *
 * A detector's input (preprocess.fit) shows the whole picture: basic is mirrored or not;
 * strong also enlarges or shrinks it, by a factor of 0.5 to 2 drawn evenly in its logarithm
 * (what is too large is cropped, what is too small lies anywhere; Ghiasi et al. 2021,
 * arXiv:2012.07177, "large scale jittering"), and jitters colours. RandAugment, erasing and
 * shifting do not know boxes and are left out. Beside both, torchvision's RandomIoUCrop, and
 * a mosaic of four pictures around a point (Bochkovskiy et al. 2020, arXiv:2004.10934),
 * which are neither cropped nor resized otherwise.
 *
 * In this order: crop (or evaluation pixels, perhaps shifted), mirror, flip, RandAugment,
 * colour jitter, normalise, erase: timm's order. */
#ifndef TH_AUGMENT_H
#define TH_AUGMENT_H

#include "preprocess.h"

/* All zero: evaluation preprocessing. */
struct th_augment {
    bool crop;    /* random resized crop, unless pad is set */
    double scale; /* smallest share of the area that it shows; 0: 0.08 */
    int pad; /* instead of it, shift the evaluation pixels by -pad..pad over black: He et
                al. 2015, section 4.2 */
    double mirror, flip; /* probability of left-right, of up-down */
    int n_ops, bin;      /* RandAugment: operations, and their magnitude, 0..30 */
    double jitter, hue;  /* brightness, contrast, saturation by 1 +- jitter (not below
                            0), hue by +- so much of the circle; in random order */
    double erase;        /* probability: Zhong et al., "Random Erasing", 2017 */
    double iou_crop, mosaic; /* probabilities, of a detector's inputs */
};

/* Which variant of which sample. */
struct th_view {
    uint64_t seed;
    int64_t epoch, sample, occurrence;
};

/* What "none", "basic" or "strong" stands for; THAW_E_USAGE for anything else. */
thaw_status th_augment_named(const char *name, struct th_augment *out);

/* The part of a w x h image that the variant's random resized crop shows, of at least
 * `scale` of its area. */
struct th_box th_augment_crop(uint64_t key, double scale, int w, int h);
uint64_t th_view_key(const struct th_view *v);

/* One of the four pictures of a mosaic: 0 to 3 by rows, and the point of the input where
 * they meet. All zero: none. */
enum { TH_MOSAIC = 4 };
struct th_mosaic {
    bool on;
    int quadrant, x, y;
};

/* An input to be made: which variant of which sample, and how. */
struct th_example {
    const struct th_preprocess *preprocess;
    const struct th_augment *augment;
    struct th_view view;
    const struct th_object *objects; /* [n_objects], by which a crop is chosen */
    int32_t n_objects;
    struct th_mosaic mosaic;
};

/* Whether the variant is a mosaic on an input of this size: where its pictures meet, and the
 * places in a listing of n of those beside its own, which is the first. */
bool th_mosaic_draw(const struct th_augment *a, const struct th_view *v,
    struct th_size size, int64_t n, struct th_mosaic *m, int64_t other[TH_MOSAIC - 1]);

/* Memory in which inputs are made one after the other; zero at first. */
struct th_example_maker {
    struct th_block pixels;
    struct th_resizer resizer;
};
void th_example_maker_release(struct th_example_maker *maker);

/* The part of a picture that the input needs: a function of its size and of what is drawn,
 * never of pixels. */
struct th_wanted th_example_wants(const struct th_example *example);

/* Where a w x h picture is on the input, with preprocess->fit. */
struct th_placement th_example_place(const struct th_example *example, int w, int h);

/* out[3][h][w], normalised, from a picture that holds at least what the input wants;
 * maker->pixels begins with its 8-bit pixels. */
thaw_status th_example_make(struct th_example_maker *maker,
    const struct th_example *example, const struct th_picture *src, float *out);

#endif
