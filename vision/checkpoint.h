/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: everything that a bit-exact resume needs, in one file under
 * RUN/checkpoints/: every state of the store (parameters, buffers, optimizer slots,
 * EMA), the model's description, the position with its partial sums, and the hashes of
 * the certificate. All randomness is counter-based, so the position says it all.
 *
 * The file is an HDF5 image followed by a hash of it, written durably; the newest two are
 * kept. Reading takes the newest that is sound and says so loudly when one was not. */
#ifndef TH_CHECKPOINT_H
#define TH_CHECKPOINT_H

#include "certificate.h"
#include "run_folder.h"

/* Where a run stands; between two optimizer steps. */
struct th_position {
    int64_t epoch, step; /* steps done in this epoch; all: validation comes next */
    int64_t global;      /* optimizer steps done in the run */
    int64_t phase;       /* whose frozen hashes the certificate holds */
    int64_t images;      /* counted in loss_sum */
    int64_t skipped, in_a_row; /* steps that were not finite; the last ones of them */
    int64_t epoch_skipped;
    int64_t best_epoch;           /* -1: none yet */
    double loss_sum;              /* of this epoch: sum over images */
    double last_loss, best_score; /* th_metrics_score of the best epoch */
};

/* What a checkpoint holds beside the store's states. */
struct th_checkpoint {
    struct th_position at;
    char *config;      /* options as JSON */
    char *certificate; /* th_certificate_text */
    int64_t data_hash, log_bytes;
};

thaw_status th_checkpoint_write(const struct th_run_folder *f, const struct th_model *m,
    const struct th_store *s, const struct th_checkpoint *c);

/* The newest sound checkpoint: *found false where there is none. `w` (initialised) gets
 * its tensors and the model's description. A damaged one is renamed and reported. */
thaw_status th_checkpoint_read(const struct th_run_folder *f, const thaw_events *events,
    struct th_checkpoint *c, struct th_weights *w, bool *found);
void th_checkpoint_release(struct th_checkpoint *c);

/* Path of the newest one of a step below `step`; fresh, NULL where there is none. */
char *th_checkpoint_before(const struct th_run_folder *f, int64_t step);

#endif
