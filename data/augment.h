/* SPDX-License-Identifier: Apache-2.0
 * Random variants of a training image. Everything drawn is a function of a key, so the
 * same sample in the same epoch looks the same for any number of workers.
 *
 *   none    evaluation preprocessing
 *   basic   random resized crop (area 8..100 %, ratio 3/4..4/3), mirrored or not
 *   strong  basic, then brightness, contrast and saturation by 0.6..1.4 in random order,
 *           then perhaps a rectangle erased */
#ifndef TH_AUGMENT_H
#define TH_AUGMENT_H

#include "preprocess.h"

enum th_augment_kind { TH_AUGMENT_NONE, TH_AUGMENT_BASIC, TH_AUGMENT_STRONG };

/* All zero: evaluation preprocessing. */
struct th_augment {
    enum th_augment_kind kind;
    double scale; /* smallest share of the area in a random resized crop; 0: 0.08 */
    int pad; /* instead of it, shift the evaluation pixels by -pad..pad over black: He et
                al. 2015, section 4.2 */
};

/* Which variant of which sample. */
struct th_view {
    uint64_t seed;
    int64_t epoch, sample, occurrence;
};

/* "none", "basic", "strong"; THAW_E_USAGE for anything else. */
thaw_status th_augment_parse(const char *name, enum th_augment_kind *out);

/* The part of a w x h image that the variant's random resized crop shows, of at least
 * `scale` of its area. */
struct th_box th_augment_crop(uint64_t key, double scale, int w, int h);
uint64_t th_view_key(const struct th_view *v);

/* out[3][N][N], normalised. `pixels` is scratch of N * N * 3 bytes. */
thaw_status th_augment_input(const struct th_preprocess *p, const struct th_augment *a,
    const struct th_view *variant, const struct th_image *src, uint8_t *pixels,
    float *out);

#endif
