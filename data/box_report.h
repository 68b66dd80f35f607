/* SPDX-License-Identifier: Apache-2.0
 * Boxes as a file has them, made fit: those without an inside in the image are left out,
 * those that reach over its edge are cut there. The first few are warned of by file and
 * line, then all are counted. */
#ifndef TH_BOX_REPORT_H
#define TH_BOX_REPORT_H

#include "dataset.h"

struct th_box_report {
    struct th_dataset *d; /* gets the warnings */
    const char *where;    /* what the counts are of */
    int64_t n_left_out, n_clipped;
};

/* Where a box stands. */
struct th_place {
    const char *file, *unit; /* as in "a.xml", "line" */
    int64_t number;
};

/* Whether the box (x0, y0, x1, y1) is kept, then in `fit`; w and h are the image's, 0 where
 * nobody said them. A failure is THAW_E_MEMORY. */
thaw_status th_box_fit(struct th_box_report *r, const double box[4], double w, double h,
    struct th_place at, float fit[4], bool *kept);

/* The counts, as warnings. */
thaw_status th_box_report_end(const struct th_box_report *r);

#endif
