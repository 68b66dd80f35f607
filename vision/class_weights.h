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

/* Where images have any number of classes: weight[c] = (n - n_c) / n_c, what a yes counts
 * beside a no (the example of torch.nn.BCEWithLogitsLoss's pos_weight), fresh. */
thaw_status th_pos_weights(
    const struct th_samples *samples, int n_classes, float **weight);

/* And their targets, [n][n_classes]: 1 - e/2 for a yes, e/2 for a no, e the smoothing: its
 * share is spread over the two answers that each class has (Keras' BinaryCrossentropy). */
void th_many_targets(const struct th_sample *const *samples, int64_t n, int n_classes,
    float smoothing, float *target);

/* Targets [n][n_classes], smoothed or mixed already, times their classes' weights, such
 * that the mean of the rows' cross-entropies is torch.nn.CrossEntropyLoss(weight): with
 * labels sum / (sum of the labels' weights), for mixed ones (labels NULL) sum / n. Returns
 * what the sum is divided by. weight NULL: all 1, the targets stay as they are. */
double th_class_weights_apply(const float *weight, int n_classes, const int32_t *labels,
    int64_t n, float *target);

#endif
