/* SPDX-License-Identifier: Apache-2.0
 * How well features of labelled images may transfer, as numbers from their values alone:
 * LogME, H-score, LEEP and nearest neighbours. All in double, the same bits for any number
 * of threads. The linear probe is linear_probe.h's. */
#ifndef TH_TRANSFER_H
#define TH_TRANSFER_H

#include "spectrum.h"

/* Rows and the classes that they are of. Every class has a row. */
struct th_labelled {
    int64_t n, values;
    double *x;            /* [n][values] */
    const int32_t *label; /* [n] */
    int n_classes;
    const int64_t *count; /* [n_classes] rows of each */
    int threads;
};

/* Of x as it is. Larger is better; per image, a mean over classes. */
double th_logme(const struct th_spectrum *s, const int64_t *count);

/* Of x less its mean. From 0 to the number of classes less one; at that bound whatever the
 * labels where rows are linearly independent, as with more values than images. */
double th_h_score(const struct th_spectrum *s, const int64_t *count);

/* Its covariance shrunk as Ledoit and Wolf do; x is what s was made of. */
double th_h_score_shrunk(const struct th_spectrum *s, const struct th_labelled *x);

/* From a source model's probabilities [n][n_source] of each image; at most 0. */
thaw_status th_leep(const struct th_labelled *x, const float *probability,
    int64_t n_source, double *out);

/* Share of rows whose class is that of most among the k rows with the largest cosine to
 * it, itself left out; of as many the nearer ones, by the sum of cosines. */
thaw_status th_nearest_accuracy(const struct th_labelled *x, int k, double *out);

#endif
