/* SPDX-License-Identifier: Apache-2.0
 * The gap meter: how far what BatchNorms see is from their running statistics, on a fixed
 * probe of training images, prepared as for evaluation and run in evaluation mode. It
 * means the same for every BatchNorm mode: that frozen statistics do not fit the data, or
 * that updated ones lag behind.
 *
 *   shift  mean over channels of |mean - running_mean| / sqrt(running_var + eps)
 *   scale  mean over channels of |ln((var + eps) / (running_var + eps))| / 2
 *
 * both averaged over the BatchNorms. Reads the network, changes nothing of it. */
#ifndef TH_GAP_H
#define TH_GAP_H

#include "calibrate.h"
#include "probe.h"

/* On a fiftieth of these images, 16 to 64, evenly spaced in the listing, at most `batch` at
 * once; ones that cannot be read are left out. NaN where there is no BatchNorm or no image. */
thaw_status th_gap_measure(struct th_network *net, const struct th_samples *samples,
    int batch, struct th_bn_distance *out);

#endif
