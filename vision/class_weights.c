/* SPDX-License-Identifier: Apache-2.0
 * Owns the formulas of class weights.
 *
 * PyTorch (aten/src/ATen/native/LossNLL.cpp): with labels y and smoothing e,
 *   (1-e) sum_r w[y_r] (-log p[r,y_r]) / W + e/k sum_r sum_c w[c] (-log p[r,c]) / W,
 *   W = sum_r w[y_r]
 * which is sum_r sum_c w[c] target[r,c] (-log p[r,c]) / W for the smoothed target; with a
 * distribution as target the same sum / n. */
#include "class_weights.h"

#include "mem.h"

thaw_status th_class_weights(
    const struct th_samples *samples, int n_classes, float **weight)
{
    int64_t *count = th_alloc((size_t)n_classes, sizeof *count);
    *weight = th_alloc((size_t)n_classes, sizeof **weight);
    if (!count || !*weight) {
        th_free(count);
        return THAW_E_MEMORY;
    }
    int64_t k = 0;
    for (int64_t i = 0; i < samples->n; i++)
        k += count[samples->sample[i].label]++ == 0;
    for (int c = 0; c < n_classes; c++)
        if (count[c])
            (*weight)[c] = (float)((double)samples->n / ((double)k * (double)count[c]));
    th_free(count);
    return THAW_OK;
}

double th_class_weights_apply(
    const float *weight, int n_classes, const int32_t *labels, int64_t n, float *target)
{
    double sum = labels && weight ? 0 : (double)n;
    if (!weight)
        return sum;
    for (int64_t i = 0; labels && i < n; i++)
        sum += (double)weight[labels[i]];
    for (int64_t i = 0; i < n * n_classes; i++)
        target[i] = (float)((double)target[i] * (double)weight[i % n_classes] *
                            ((double)n / sum));
    return sum;
}

thaw_status th_pos_weights(
    const struct th_samples *samples, int n_classes, float **weight)
{
    int64_t *count = th_alloc((size_t)n_classes, sizeof *count);
    *weight = th_alloc((size_t)n_classes, sizeof **weight);
    if (!count || !*weight) {
        th_free(count);
        return THAW_E_MEMORY;
    }
    const int32_t *class;
    for (int64_t i = 0; i < samples->n; i++)
        for (int32_t k = th_sample_classes(&samples->sample[i], &class); k > 0; k--)
            count[class[k - 1]]++;
    for (int c = 0; c < n_classes; c++)
        if (count[c])
            (*weight)[c] = (float)((double)(samples->n - count[c]) / (double)count[c]);
    th_free(count);
    return THAW_OK;
}

void th_many_targets(const struct th_sample *const *samples, int64_t n, int n_classes,
    float smoothing, float *target)
{
    const int32_t *class;
    for (int64_t i = 0; i < n * n_classes; i++)
        target[i] = smoothing / 2;
    for (int64_t i = 0; i < n; i++)
        for (int32_t k = th_sample_classes(samples[i], &class); k > 0; k--)
            target[i * n_classes + class[k - 1]] = 1 - smoothing / 2;
}
