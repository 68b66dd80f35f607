/* SPDX-License-Identifier: Apache-2.0
 * What the int8 prefix needs besides its plans: the scales of activations, and how near its
 * features are to those of the fp32 prefix. Formulas of the ops: kernels/quant.c; who is in
 * the prefix: pass_int8.c.
 *
 * A scale is the largest |x| of the calibration images over 255 (u8) or 127 (i8). Clipping
 * at less lost (CIFAR-10 ResNet-20 and 56, 2,000 images: the clipping point of the smallest
 * squared error agrees as often with fp32 but has worse outliers, cosine 0.980 instead of
 * 0.991 at the least; 99.9 % of the values costs a point of accuracy). Scales are
 * states of the store, so a checkpoint has them and a resume does not calibrate again. */
#ifndef TH_INT8_H
#define TH_INT8_H

#include "network.h"
#include "probe.h"

/* How many convolutions training with `freeze` has in int8. */
thaw_status th_int8_count(
    struct th_network *net, const struct th_freeze *freeze, int *n);

/* Put the scales for `freeze` into the network's store, from the probe's images; any that
 * were there are replaced. *n: convolutions in int8; 0: nothing to do, no scales. */
thaw_status th_int8_calibrate(struct th_network *net, const struct th_freeze *freeze,
    const struct th_probe *probe, int *n);

/* The scales of `from` into `to`, a mirror of it. */
thaw_status th_int8_copy(const struct th_store *from, struct th_store *to);

/* Cosine similarity of an image's features (all that the part below the cut hands up), int8
 * to fp32. No images where there is no such part. */
struct th_int8_likeness {
    int images;
    double least, mean;
};
thaw_status th_int8_compare(struct th_network *net, const struct th_freeze *freeze,
    const struct th_probe *probe, struct th_int8_likeness *out);

#endif
