/* SPDX-License-Identifier: Apache-2.0
 * Scores: what follows from a classifier's counts. Per class and averaged as scikit-learn
 * does with zero_division=0, calibration error, and bootstrap intervals. Sees no image;
 * the sums are metrics.h's. */
#ifndef TH_SCORES_H
#define TH_SCORES_H

#include "json.h"
#include "metrics.h"

/* Expected calibration error (Guo et al. 2017, equation 3): over the bins, the sum of
 * |B|/n |accuracy(B) - mean confidence(B)|. NaN without images, or where one of them had
 * no finite confidence. */
double th_scores_ece(const struct th_metrics *m);

/* Mean F1 of the classes that occur, as true or as predicted ones. */
double th_scores_macro_f1(const struct th_metrics *m);

/* Everything that thaw.h's struct says. `names` [n_classes] are borrowed; the confusion
 * counts move from `m` to `e`, which thaw_evaluation_release frees, after failure too. */
thaw_status th_scores_take(
    struct th_metrics *m, char *const *names, thaw_evaluation *e);

/* Its members, into an object that is open. */
void th_scores_json(const thaw_evaluation *e, struct th_json_out *o);

#endif
