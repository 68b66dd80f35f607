/* SPDX-License-Identifier: Apache-2.0
 * What a run's metrics.jsonl says, read back: the file is the truth, also of what an
 * earlier process of the same run wrote. */
#ifndef TH_RUN_HISTORY_H
#define TH_RUN_HISTORY_H

#include "run_folder.h"

/* Columns of one kind of event, as many rows as there are lines; NaN for null. Epochs are
 * numbered from 1, as people count. */
struct th_step_history {
    int n, capacity;
    double *step, *epoch, *loss, *lr;
};

struct th_epoch_history {
    int n, capacity;
    /* val_top1: val_map where images have any number of classes */
    double *epoch, *train_loss, *val_loss, *val_top1, *images_per_s, *seconds;
    char **thawed; /* [n], owned */
};

struct th_run_history {
    struct th_step_history steps;
    struct th_epoch_history epochs;
    bool ended;                  /* it says that the run came to its end */
    double test_top1, test_loss; /* of the end; NaN without */
    double peak_bytes;           /* the highest that any line names; 0: none does */
};

/* Lines that are no such event, or damaged, are passed over. More steps than a curve has
 * pixels are thinned out. Release after failure, too. */
thaw_status th_run_history_read(
    const struct th_run_folder *f, struct th_run_history *history);
void th_run_history_release(struct th_run_history *history);

#endif
