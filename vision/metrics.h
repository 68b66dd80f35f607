/* SPDX-License-Identifier: Apache-2.0
 * Metrics of a classifier: sums over images, exact and independent of batch limits, so
 * that they can be saved in mid-epoch and go on. Does not know where logits come from. */
#ifndef TH_METRICS_H
#define TH_METRICS_H

#include "error.h"

enum { TH_ECE_BINS = 15 }; /* equal widths; Guo et al. 2017 (arXiv:1706.04599) */

struct th_metrics {
    int n_classes;
    int64_t images, top1, top5;
    double loss;        /* sum of cross-entropies, natural logarithm, no smoothing */
    int64_t *confusion; /* [true][predicted] */
    /* By top probability, bin b being (b/15, (b+1)/15]: right predictions, and the sum of
     * those probabilities. */
    int64_t bin_right[TH_ECE_BINS];
    double bin_confidence[TH_ECE_BINS];
};

thaw_status th_metrics_init(struct th_metrics *m, int n_classes);
void th_metrics_release(struct th_metrics *m);
void th_metrics_reset(struct th_metrics *m);

/* Count one image: logits [n_classes], its class. Of equal logits the lowest class
 * counts as the prediction. */
void th_metrics_add(struct th_metrics *m, const float *logits, int label);

/* Means over the images counted; NaN before the first. */
double th_metrics_loss(const struct th_metrics *m);
double th_metrics_top1(const struct th_metrics *m);
double th_metrics_top5(const struct th_metrics *m);

/* Index of the largest value; the first of equals. NaN never wins. */
int th_argmax(const float *x, int n);

/* p[i] = exp(x[i]) / sum, in double. */
void th_softmax(const float *x, int n, double *p);

/* Soft targets, [n][n_classes]: 1 - smoothing on the class and smoothing / n_classes
 * on each (Szegedy et al. 2016, section 7). */
void th_targets(
    const int32_t *labels, int n, int n_classes, float smoothing, float *target);

#endif
