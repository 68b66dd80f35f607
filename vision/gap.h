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

struct th_gap {
    struct th_probe probe;
    int batch; /* images of a run */
};

/* Takes a fiftieth of the training images, 16 to 64, evenly spaced in the listing; ones
 * that cannot be read are left out. All zero before; release after failure, too. */
thaw_status th_gap_init(struct th_gap *g, const struct th_network *net,
    const struct th_dataset *d, int batch);
void th_gap_release(struct th_gap *g);

/* NaN where there is no BatchNorm or no probe. */
thaw_status th_gap_measure(
    const struct th_gap *g, struct th_network *net, struct th_bn_distance *out);

#endif
