/* SPDX-License-Identifier: Apache-2.0
 * Metrics of a classifier: sums over images, exact and independent of batch limits, so
 * that they can be saved in mid-epoch and go on. Does not know where logits come from. */
#ifndef TH_METRICS_H
#define TH_METRICS_H

#include "ap.h"
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
    /* Where images have any number of classes, everything but images and loss (the mean
     * over the classes) is zero, and instead: */
    bool many;
    double threshold; /* probability from which on a class counts as predicted */
    int64_t capacity;
    float *logits; /* [capacity][n_classes] */
    bool *is;      /* likewise: whether the image is of the class */
    double map;    /* th_metrics_rank's */
    /* Of a detector, which has `many` and none of logits and is: what was found. `loss` is of
     * loss_images, where anybody counts it. */
    bool boxes;
    int64_t loss_images;
    struct th_ap ap;
    struct th_ap_scores found; /* th_metrics_rank's; map is its TH_AP */
};

thaw_status th_metrics_init(struct th_metrics *m, int n_classes, bool many);
/* Instead, a detector's. */
thaw_status th_metrics_init_boxes(struct th_metrics *m, int n_classes);
void th_metrics_release(struct th_metrics *m);
void th_metrics_reset(struct th_metrics *m);

/* Count one image: logits [n_classes], its class. Of equal logits the lowest class
 * counts as the prediction. */
void th_metrics_add(struct th_metrics *m, const float *logits, int label);

/* The same for images of any number of classes, n of them; THAW_E_MEMORY. */
thaw_status th_metrics_add_many(
    struct th_metrics *m, const float *logits, const int32_t *classes, int32_t n);
/* The same for a detector: the image's objects and what was found. */
thaw_status th_metrics_add_boxes(struct th_metrics *m, const struct th_object *objects,
    int32_t n_objects, const struct th_detection *found, int32_t n_found);
/* Beside them, where it is known: a detector's loss of n images. */
void th_metrics_add_loss(struct th_metrics *m, double loss, int64_t n);
/* Then, once all are counted: m->map, the mean over the classes that have images of their
 * average precision; NaN where none has. Does nothing without `many`. */
thaw_status th_metrics_rank(struct th_metrics *m);

/* How well one class is told from all others, by its logits alone. */
struct th_class_rank {
    int64_t images, predicted, right; /* predicted: at m->threshold or above */
    double ap; /* average precision, the sum over distinct scores of (R - R before)
                         P (scikit-learn's average_precision_score); NaN without images */
    double threshold; /* probability at which F1 is largest; NaN likewise */
    double best_f1;   /* there */
};
thaw_status th_metrics_rank_class(
    const struct th_metrics *m, int c, struct th_class_rank *out);

/* What the best model is chosen by: top-1, or the mean average precision. */
double th_metrics_score(const struct th_metrics *m);

/* Means over the images counted; NaN before the first. */
double th_metrics_loss(const struct th_metrics *m);
double th_metrics_top1(const struct th_metrics *m);
double th_metrics_top5(const struct th_metrics *m);

/* Index of the largest value; the first of equals. NaN never wins. */
int th_argmax(const float *x, int n);

/* p[i] = exp(x[i]) / sum, in double. */
void th_softmax(const float *x, int n, double *p);

/* 1 / (1 + exp(-x)) */
double th_sigmoid(double x);

/* Soft targets, [n][n_classes]: 1 - smoothing on the class and smoothing / n_classes
 * on each (Szegedy et al. 2016, section 7). */
void th_targets(
    const int32_t *labels, int n, int n_classes, float smoothing, float *target);

#endif
