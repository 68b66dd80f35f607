/* SPDX-License-Identifier: Apache-2.0
 * Class weights: each image counts by how rare its class is. Made once from the training
 * images; applied to a batch's targets, so that no kernel knows of them. */
#ifndef TH_CLASS_WEIGHTS_H
#define TH_CLASS_WEIGHTS_H

#include "dataset.h"

/* weight[c] = n / (k n_c), fresh, for th_free: n images, k classes that have any, n_c of
 * class c; 0 for a class without images. scikit-learn's class_weight="balanced". */
thaw_status th_class_weights(
    const struct th_samples *samples, int n_classes, float **weight);

/* Targets [n][n_classes], smoothed or mixed already, times their classes' weights, such
 * that the mean of the rows' cross-entropies is torch.nn.CrossEntropyLoss(weight): with
 * labels sum / (sum of the labels' weights), for mixed ones (labels NULL) sum / n. Returns
 * what the sum is divided by. weight NULL: all 1, the targets stay as they are. */
double th_class_weights_apply(const float *weight, int n_classes, const int32_t *labels,
    int64_t n, float *target);

#endif
