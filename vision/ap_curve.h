/* SPDX-License-Identifier: Apache-2.0
 * Precision over recall of one class: its detections from the highest score on. */
#ifndef TH_AP_CURVE_H
#define TH_AP_CURVE_H

#include "ap.h"

/* Indices of records by class, and in it by score from the highest; of equal scores the
 * one that was added first. */
struct th_ap_order {
    int32_t *index; /* [n], owned */
    int64_t *first; /* [n_classes + 2], owned: where each class starts */
};
thaw_status th_ap_order_init(struct th_ap_order *order,
    const struct th_ap_record *record, int64_t n, int32_t n_classes);
void th_ap_order_release(struct th_ap_order *order);

/* How many detections count up to each, and of what. */
struct th_ap_curve {
    int64_t n;
    double *recall,
        *precision; /* [n]; precision[i] the largest from i on, once closed */
    float *score;
    double hits, alarms;
    int64_t positives;
};

/* Room for `most` detections. */
thaw_status th_ap_curve_init(struct th_ap_curve *c, int64_t most);
void th_ap_curve_release(struct th_ap_curve *c);

/* Start again, add all, close. An ignored one is a point, too, as in pycocotools. */
void th_ap_curve_start(struct th_ap_curve *c, int64_t positives);
void th_ap_curve_add(struct th_ap_curve *c, float score, bool hit, bool ignored);
void th_ap_curve_close(struct th_ap_curve *c);

double th_ap_curve_recall(const struct th_ap_curve *c); /* the largest */

/* The mean precision at the recalls 0, 1/(n-1) ... 1; 0 where they are not reached. Each
 * to at[n], where that is wanted. */
double th_ap_curve_sample(const struct th_ap_curve *c, int n, float *at);

/* The area under it (VOC from 2010 on). */
double th_ap_curve_area(const struct th_ap_curve *c);

#endif
