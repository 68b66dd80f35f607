/* SPDX-License-Identifier: Apache-2.0
 * How long training steps take on a device: a ResNet and a ViT, as large as the time allows,
 * in three freeze states each. */
#ifndef TH_DOCTOR_STEPS_H
#define TH_DOCTOR_STEPS_H

#include "thaw.h"

enum { TH_TIMED_STEPS = 6 };

struct th_timed_step {
    const char *network;
    int size, batch; /* pixels, images */
    char thaw[64];   /* what trains: "all", "stage4,head", "head" */
    double
        seconds; /* the median of `runs`; the first, which prepares, is none of them */
    int runs;
    int64_t trained, arena_bytes; /* values; memory between a step's kernels */
    char why[256];                /* it could not be run: the sentence; "": it could */
};

/* No step begins after `until` (th_seconds); *n did. What fails in one is its own. */
thaw_status th_time_steps(const char *device, int threads, double until,
    struct th_timed_step steps[TH_TIMED_STEPS], int *n);

#endif
