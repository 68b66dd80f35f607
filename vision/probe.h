/* SPDX-License-Identifier: Apache-2.0
 * Probes: a few images of a split, evenly spaced in the listing and prepared as for
 * evaluation, so that what is measured on them means the same in every epoch and run. */
#ifndef TH_PROBE_H
#define TH_PROBE_H

#include "dataset.h"
#include "network.h"

struct th_probe {
    int n;
    float *images; /* [n][3][s][s]; NULL: not read */
};

/* Up to n images, the first of them `first` of the way (0 to 1) to the second; ones that
 * cannot be read are left out. All zero before; release after failure, too. */
thaw_status th_probe_init(struct th_probe *p, const struct th_network *net,
    const struct th_samples *samples, int n, double first);
void th_probe_release(struct th_probe *p);

#endif
