/* SPDX-License-Identifier: Apache-2.0
 * Features: what a head reads of images, [n][values], computed by a plan that ends there. */
#ifndef TH_FEATURE_ROWS_H
#define TH_FEATURE_ROWS_H

#include "dataset.h"
#include "model_open.h"

struct th_features {
    int64_t n, values, unreadable;
    float *x;                        /* [n][values] */
    int64_t classes;                 /* of the model; 0: its answers were not wanted */
    float *logits;                   /* [n][classes] */
    const struct th_sample **sample; /* [n], of the dataset: path and label */
    enum th_split *split;            /* [n] */
};

/* All zero: features of all splits. */
struct th_features_spec {
    bool train_only; /* the other splits are not looked at */
    bool logits;     /* what the model's own head answers, too */
};

/* Of every image of a dataset that can be read, training images first; the dataset stays
 * open while they are used. Release after failure, too. */
thaw_status th_features_compute(struct thaw_model *m, const struct th_dataset *d,
    const struct th_features_spec *spec, const thaw_options *o,
    const thaw_events *events, struct th_features *out);
void th_features_release(struct th_features *f);

#endif
