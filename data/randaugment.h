/* SPDX-License-Identifier: Apache-2.0
 * RandAugment (Cubuk et al. 2020): a few operations drawn from a fixed list, all of one
 * magnitude. List, magnitudes and pixels are torchvision.transforms.RandAugment's. */
#ifndef TH_RANDAUGMENT_H
#define TH_RANDAUGMENT_H

#include "image.h"

enum { TH_RANDAUGMENT_OPS = 14, TH_RANDAUGMENT_BINS = 31 };

struct th_randaugment_op {
    const char *name; /* torchvision's */
    double from, to;  /* magnitude at the first and the last bin */
    bool is_signed;   /* the magnitude's sign is drawn */
    char per;         /* 'w', 'h': a share of the width, the height; else 0 */
    /* `copy` is scratch of the image's bytes. */
    void (*apply)(struct th_image *image, double magnitude, uint8_t *copy);
};
extern const struct th_randaugment_op th_randaugment_ops[TH_RANDAUGMENT_OPS];

/* Of a w x h image at a bin, 0 to 30; without sign. */
double th_randaugment_magnitude(
    const struct th_randaugment_op *op, int bin, int w, int h);

/* Apply n operations, drawn with replacement. */
void th_randaugment(
    struct th_image *image, uint64_t key, int n_ops, int bin, uint8_t *copy);

#endif
