/* SPDX-License-Identifier: Apache-2.0
 * The run folder: one owner at a time (a lock that dies with its process), whole files
 * written durably, and metrics.jsonl appended a line at a time (DESIGN section 7). */
#ifndef TH_RUN_FOLDER_H
#define TH_RUN_FOLDER_H

#include "fingerprint.h"
#include "metrics.h"

struct th_run_folder {
    char *path;
    char *metrics; /* RUN/metrics.jsonl */
    int lock;      /* descriptor of the locked file; -1: none */
    size_t made;   /* length of the shortest prefix of path that create made; 0: none */
};

/* THAW_E_USAGE if th_run_folder_create would say so. */
thaw_status th_run_folder_check(const char *path);

/* A new folder, or one that exists and is empty, or in which a process was killed before
 * its config.json was there. THAW_E_USAGE for one with something in it. */
thaw_status th_run_folder_create(struct th_run_folder *f, const char *path);

/* A folder for other things than a run, made where there is none, and its lock.
 * THAW_E_USAGE where it is in use (by which process). */
thaw_status th_run_folder_claim(struct th_run_folder *f, const char *path);

/* Undo th_run_folder_create: what it and a run that could not begin wrote is removed. */
void th_run_folder_abandon(struct th_run_folder *f);

/* Bytes free for this user where the folder is; SIZE_MAX if that is not known. */
size_t th_run_folder_free(const struct th_run_folder *f);

/* A folder that a run left. THAW_E_USAGE where there is none or it is in use
 * (by which process). */
thaw_status th_run_folder_open(struct th_run_folder *f, const char *path);
void th_run_folder_close(struct th_run_folder *f);

/* "RUN/name"; fresh string. */
char *th_run_folder_path(const struct th_run_folder *f, const char *name);

/* Replace RUN/name by a text; read it back (for th_free). */
thaw_status th_run_folder_write(
    const struct th_run_folder *f, const char *name, const char *text);
thaw_status th_run_folder_read(
    const struct th_run_folder *f, const char *name, char **text);

/* Bytes of metrics.jsonl; and cut it back to so many, as a resumed run does with what
 * came after its checkpoint. */
thaw_status th_run_log_size(const struct th_run_folder *f, int64_t *bytes);
thaw_status th_run_log_cut(const struct th_run_folder *f, int64_t bytes);

/* The first line: what the run is made of. */
struct th_start_log {
    const char *backbone, *device; /* device: engine and instruction set, in words */
    const char *convolutions;      /* chosen by: instruction set, hash of the table */
    int threads;
    const struct th_fingerprint *data;
};
thaw_status th_run_log_start(
    const struct th_run_folder *f, const struct th_start_log *s);

thaw_status th_run_log_step(
    const struct th_run_folder *f, int64_t epoch, int64_t step, double loss, double lr);

struct th_epoch_log {
    int64_t epoch, skipped;
    double train_loss, images_per_s, seconds;
    const struct th_metrics *val; /* NULL: no validation */
    const char *thawed;
    double bn_shift, bn_scale; /* gap between what BatchNorms see and their running
                                  statistics, see gap.h; NaN: none */
};
thaw_status th_run_log_epoch(
    const struct th_run_folder *f, const struct th_epoch_log *e);

/* The best model on the test split, as RUN/test.json says it. */
struct th_test_log {
    int64_t images;
    double loss, top1, top1_low, top1_high, macro_f1, ece;
    double
        map; /* in place of top1, its interval and ece; NaN: an image has one class */
    double
        ap50; /* of a detector, whose AP is map, and which has neither loss nor macro_f1 */
};

struct th_end_log {
    double best_top1; /* NaN without validation */
    bool many;        /* it is the mean average precision */
    bool boxes;       /* it is a detector's AP */
    double
        best_top1_fp32; /* of the same model with a prefix in fp32; NaN: it had that */
    int frozen_tensors;
    const struct th_test_log *test;   /* NULL without a test split */
    double forecast_seconds, seconds; /* NaN where nothing was forecast */
    int64_t forecast_peak_bytes;
};
thaw_status th_run_log_end(const struct th_run_folder *f, const struct th_end_log *e);

#endif
