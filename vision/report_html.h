/* SPDX-License-Identifier: Apache-2.0
 * A run as one HTML file that needs nothing else: no script, no font, no picture from
 * elsewhere, and a policy in its head that would not let them in. */
#ifndef TH_REPORT_HTML_H
#define TH_REPORT_HTML_H

#include "fingerprint.h"
#include "html.h"
#include "metrics.h"
#include "run_history.h"

/* A validation image that was classified wrongly. */
struct th_report_mistake {
    const char *path; /* "": it lay in memory */
    int label, predicted;
    double loss;
    uint8_t *png; /* its thumbnail, owned; NULL: it could not be read again */
    size_t n_png;
    int w, h;
};

/* Everything is borrowed but the thumbnails. Texts may hold any bytes. */
struct th_report_facts {
    const char *run, *backbone, *device, *config; /* config: JSON, as in config.json */
    char *const *classes;
    int n_classes;
    const int64_t *counts;  /* [3][n_classes] images of train, val, test */
    const char *unreadable; /* lines of PATH TAB REASON; NULL: none */
    uint64_t seed;
    char data[TH_FINGERPRINT_TEXT]; /* fingerprint of the images */
    int threads, workers;
    int epochs_done, epochs; /* of all */
    int best_epoch;          /* from 0; -1: none */
    double best_top1;
    bool many;  /* images have any number of classes: mean average precision in place of
                  top-1, no confusions, no mistakes */
    bool boxes; /* a detector, which has `many`: COCO's AP in its place */
    const thaw_evaluation *val; /* after the last epoch; NULL: none */
    const struct th_report_mistake *mistakes;
    int n_mistakes;
    const struct th_run_history *history;
    bool finished;      /* the certificate holds */
    int frozen_tensors; /* throughout */
    double forecast_seconds, seconds;
    int64_t forecast_peak_bytes, peak_bytes;
};

/* Append the whole document. */
void th_report_html(struct th_html *h, const struct th_report_facts *facts);

#endif
