/* SPDX-License-Identifier: Apache-2.0
 * Probes: a few images of a split, evenly spaced in the listing and prepared as for
 * evaluation, so that what is measured on them means the same in every epoch and run. */
#ifndef TH_PROBE_H
#define TH_PROBE_H

#include "dataset.h"
#include "network.h"

/* A walk over n of a split's images, the first of them `first` of the way (0 to 1) from one
 * place to the next. */
struct th_probe_walk {
    const struct th_samples *samples;
    int n, at; /* at most the split's; the next one */
    double first;
};

/* Up to `most` images, [got][3][h][w], ones that cannot be read left out; none: the end. */
thaw_status th_probe_read(struct th_probe_walk *walk, const struct th_network *net,
    int most, float *images, int *got);

struct th_probe {
    int n;
    float *images; /* [n][3][h][w] */
};

/* A whole walk's. All zero before; release after failure, too. */
thaw_status th_probe_init(struct th_probe *p, const struct th_network *net,
    const struct th_samples *samples, int n, double first);
void th_probe_release(struct th_probe *p);

#endif
