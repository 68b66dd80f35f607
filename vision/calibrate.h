/* SPDX-License-Identifier: Apache-2.0
 * Calibration: mean and variance of what BatchNorms see, over any number of images, with
 * the network in evaluation mode. Batches are merged in double (Chan, Golub, LeVeque
 * 1983), so that the result does not depend on their sizes but for rounding, and in the
 * order of the calls, so that it does not depend on threads at all.
 *
 * Changes nothing: what is done with the statistics is adapt's and gap's business. */
#ifndef TH_CALIBRATE_H
#define TH_CALIBRATE_H

#include "network.h"

/* A BatchNorm's place. Level l sees the outputs of levels below l only: 0 is the first. */
struct th_bn_place {
    int level;
    float eps;
};

/* Of the model's BatchNorms; `place` is [n_bns]. */
thaw_status th_bn_places(
    const struct th_model *m, struct th_bn_place *place, int *n_levels);

/* What one BatchNorm saw so far. */
struct th_bn_moments {
    int64_t channels;
    double n;          /* values per channel */
    double *mean, *m2; /* [channels]; m2: sum of squared deviations from the mean */
};

struct th_calibration {
    struct th_network *net;   /* borrowed */
    bool *measured;           /* [n_bns] */
    struct th_bn_moments *of; /* [n_bns]; empty where not measured */
    float *mean, *var;        /* of a batch; as long as the widest BatchNorm */
    float *pair; /* [2][3][s][s]: a single image runs twice, see th_calibration_plan */
};

/* All moments zero; `measured` [n_bns] is copied. Release after failure, too. */
thaw_status th_calibration_init(
    struct th_calibration *c, struct th_network *net, const bool *measured);
void th_calibration_release(struct th_calibration *c);

/* A plan for batches of n images. A single image runs as two that are the same: it may
 * have one value per channel, and so has the same mean and variance. */
thaw_status th_calibration_plan(
    const struct th_calibration *c, int n, struct th_plan **out);

/* Run a batch of n images on the plan for so many, and add what was seen. */
thaw_status th_calibration_run(
    struct th_calibration *c, struct th_plan *plan, const float *images, int n);

/* How far statistics (mean, var) are from others, over the channels: mean of
 * |mean - other| / sqrt(other_var + eps), and of |ln((var + eps) / (other_var + eps))|/2. */
struct th_bn_distance {
    double shift, scale;
};

/* Between what BatchNorm i saw and its running statistics. */
thaw_status th_calibration_distance(
    const struct th_calibration *c, int bn, float eps, struct th_bn_distance *out);

#endif
