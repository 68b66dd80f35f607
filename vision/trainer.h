/* SPDX-License-Identifier: Apache-2.0
 * The trainer, inside. One struct, fourteen files: trainer.c is the public face,
 * trainer_open.c builds it, trainer_phase.c enters the phases of the timetable, trainer_cost.c says what one takes, trainer_cache.c says what is kept below
 * what trains, trainer_epoch.c runs steps, trainer_inputs.c has what they read,
 * trainer_finish.c validates, keeps the best, saves and ends, trainer_test.c evaluates the
 * test split, trainer_events.c tells TensorBoard, trainer_forecast.c says before what it will
 * take, trainer_report.c writes report.html, trainer_int8.c has the scales of an int8 prefix
 * and says what it costs, trainer_probe.c forecasts from a few iterations.
 *
 * Invariants: what is drawn and computed is a function of the options, the data and the
 * position alone; saving changes nothing; the stop flag is polled in every loop, between
 * optimizer steps: with --accumulate a group of batches is finished first, so that no total
 * of gradients outlives a stop. */
#ifndef TH_TRAINER_H
#define TH_TRAINER_H

#include "checkpoint.h"
#include "class_weights.h"
#include "evaluate.h"
#include "forecast.h"
#include "gap.h"
#include "recipe.h"
#include "tfevents.h"

enum { TH_MAX_PLANS = 2 }; /* batch sizes of a phase: full, and the last one */

struct th_train_plan {
    int batch;
    struct th_plan *plan;
    bool above; /* its input is what the cut hands up, not the image */
};

/* What a step reads of a batch. */
struct th_inputs {
    struct th_feed feed[TH_MAX_FEEDS];
    int n;
    double weight;    /* what the batch's loss is the mean over */
    int64_t index;    /* of the batch; of what was sent ahead: */
    uint64_t lot;     /* 0: nothing was */
    bool has_scalars; /* they are among it: */
    struct th_scalars scalars;
};

/* The batches of one optimizer step, so far. */
struct th_group {
    int64_t batches, images;
    double weight; /* images, or the sum of their weights */
    double loss;   /* that times the batches' losses, summed */
    bool skipped;
};

/* Of one size of inputs, and of the pictures that have it (batches.h); most runs have one. */
struct th_train_bucket {
    struct th_model model;   /* the network's, on inputs of that size: a view */
    struct th_reader reader; /* of a detector; else zero */
    int64_t images[TH_N_SPLITS];
    /* This phase. Below what moves in training, and in validation (where averages move, too):
     * with --cache, and for batches that are not full ones (P7). Nothing below: no plan. */
    struct th_train_plan plans[TH_MAX_PLANS];
    struct th_cut cut, val_cut;
};

struct thaw_trainer {
    thaw_options *options; /* complete: what config.json says */
    thaw_events events;
    struct th_recipe recipe;
    struct th_dataset data;
    struct th_network net;
    struct th_run_folder folder;
    struct th_tfevents tfevents;
    struct th_certificate certificate;
    struct th_position at;
    int64_t data_hash;
    float *class_weight;  /* [classes]; NULL: none */
    float *pos_weight;    /* [classes]; NULL: an image has one class */
    int64_t *phase_steps; /* optimizer steps an epoch, by phase */
    struct th_lr lr;
    struct th_train_bucket bucket[TH_MAX_SIZES];
    int n_buckets;

    /* This phase. */
    bool entered;
    struct th_freeze freeze;
    struct th_plan *update; /* after a group of batches; NULL: plans have their own */
    struct th_loader *loader;
    bool *moving, *val_moving; /* [n_params]; in training, and in validation */

    /* One step's inputs. */
    float *target; /* [batch][classes] */
    int32_t *keys; /* [batch][2]: 64 bits a sample, low word first */
    float *weight; /* [batch], of a detector's loss */
    struct th_mixer mixer;
    struct th_inputs sent; /* ahead, of the epoch's next batch */

    /* Validation, on the network's values or on `shadow`. */
    struct th_store shadow; /* EMA's copy; device NULL: none */
    struct th_evaluators evaluators;
    struct th_loader *val_loader; /* NULL: no validation */
    struct th_metrics val;
    struct th_mistakes mistakes; /* of the last validation */

    /* Between what BatchNorms see and their running statistics, after the last epoch. */
    struct th_bn_distance gap;
    bool gap_known, gap_said; /* in this phase */

    int most_int8; /* convolutions in int8 in the phase that has most of them */

    /* Not part of the state: time and saving. */
    double train_seconds, epoch_seconds; /* this epoch: in steps, in all */
    int64_t timed_images, timed_steps;
    double saved_at, save_took;      /* clock and seconds of the last checkpoint */
    double reported_at, report_took; /* the same of the last report.html */
    int64_t save_every;              /* steps; 0: by the clock. For tests. */
    struct th_trainer_forecast {
        double seconds;  /* from `began` to the end of the run */
        double training; /* of them, an epoch of the first phase */
        int64_t peak_bytes;
        double began; /* clock; 0: there is none */
        bool checked; /* against the first steps */
    } forecast;
    bool probing;       /* nothing is logged, and an epoch's steps end at ... */
    int64_t step_limit; /* steps of the epoch; 0: no limit */
    bool log_failed;    /* said already that a line is lost */

    /* The bytes of best.h5 until they are on the disk. No checkpoint is written before:
     * one that names an epoch as the best finds that epoch's model beside it. */
    unsigned char *best_image; /* NULL: nothing is waiting */
    size_t best_bytes;
    unsigned char *best_adapter; /* of best.adapter.h5; NULL: no adapters */
    size_t best_adapter_bytes;
    atomic_bool stop;
};

/* ---- trainer_open.c ---- */

/* All but the run folder, from t->options; `checkpoint` has the values, or NULL. */
thaw_status th_trainer_build(
    struct thaw_trainer *t, const struct th_weights *checkpoint);

/* ---- trainer_phase.c ---- */

/* What each phase trains, for steps an epoch, the certificate, and what has to be. */
thaw_status th_trainer_survey(struct thaw_trainer *t);
/* Be in the phase of epoch t->at.epoch: freeze state, plans, loader, certificate. */
thaw_status th_trainer_enter(struct thaw_trainer *t);
/* The frozen tensors are what they were, and what every plan derived from them, those of
 * training and of validation, is what they give. */
thaw_status th_trainer_verify(struct thaw_trainer *t);
/* Verify and leave the phase. */
thaw_status th_trainer_leave(struct thaw_trainer *t);
/* For loaders: name an unreadable image, once a run, and list it in RUN/unreadable.txt. */
void th_trainer_bad_image(void *trainer, const struct th_bad_image *bad);
/* Of this phase's training images. */
struct th_loader_options th_trainer_loader_options(struct thaw_trainer *t);
/* Of the images that judge: validation, test. */
struct th_loader_options th_trainer_judge_options(
    struct thaw_trainer *t, enum th_split split);
/* Of a detector: what the loss reads. */
void th_trainer_want_targets(struct thaw_trainer *t, struct th_loader_options *o);
/* Free what the phase holds. */
void th_trainer_release_phase(struct thaw_trainer *t);

thaw_status th_trainer_freeze_of(
    const struct thaw_trainer *t, int64_t phase, struct th_freeze *f);
/* A training plan of this phase, or of another freeze state. */
struct th_plan_spec th_trainer_plan_spec(
    const struct thaw_trainer *t, const struct th_freeze *f, int bucket, int64_t batch);
/* The plan that ends a group of batches; NULL where each batch is a step. */
thaw_status th_trainer_make_update(const struct thaw_trainer *t,
    const struct th_freeze *f, struct th_store *store, struct th_arena *arena,
    struct th_plan **out);
/* How the bucket's training images become batches of an epoch. */
struct th_cutting th_trainer_cutting(
    const struct thaw_trainer *t, const struct th_freeze *f, int bucket);
/* Whether validation computes the loss: a classifier's is one of its answers alone; a detector
 * of two stages learns from other boxes than those that it answers about. */
static inline bool th_judges_loss(const struct th_model *m)
{
    return m->head->detector && !m->head->detector->background;
}
/* And a validation plan, on what this phase's validation finds still. */
struct th_plan_spec th_trainer_val_spec(
    const struct thaw_trainer *t, const struct th_freeze *f, int bucket);
/* Images of a full batch. */
int th_trainer_batch(const struct thaw_trainer *t);
/* The epochs of a phase that this run reaches. */
int64_t th_trainer_phase_epochs(const struct thaw_trainer *t, int phase);

/* ---- trainer_cost.c ---- */

/* What the phase takes, for a forecast; while in the phase of epoch t->at.epoch. */
thaw_status th_trainer_phase_cost(
    struct thaw_trainer *t, int phase, struct th_phase_cost *cost);
/* What plans of all sizes take, weighed by their images: `one` is of `share` of these, and joins
 * the sum. */
void th_trainer_add_stats(
    struct th_plan_stats *sum, const struct th_plan_stats *one, double share);

/* ---- trainer_cache.c ---- */

/* What of this phase is below its cut, and whether it is kept; says so. */
thaw_status th_trainer_open_cuts(struct thaw_trainer *t);
void th_trainer_close_cuts(struct thaw_trainer *t);
/* What the cache changes in the cost of this phase, or of one that comes, with `freeze`,
 * planned on `store` and `arena`. c->epochs is known. */
void th_trainer_cache_cost(const struct thaw_trainer *t, struct th_phase_cost *c);
thaw_status th_trainer_later_cache_cost(const struct thaw_trainer *t,
    const struct th_freeze *freeze, struct th_store *store, struct th_arena *arena,
    struct th_phase_cost *c);
/* Whether anything is kept of training images. */
bool th_trainer_keeps(const struct thaw_trainer *t);
/* The phase is over: what is kept in the run's own folder goes. */
void th_trainer_drop_cache(struct thaw_trainer *t);
/* For the validation loader: options.knows, of a bucket. */
bool th_trainer_knows_val(void *bucket, int64_t entry);

/* ---- trainer_epoch.c ---- */

/* Steps from t->at.step to the epoch's end, or to a stop. */
thaw_status th_trainer_steps(struct thaw_trainer *t);
/* A full disk must not end a run that can still compute: a line of metrics.jsonl that was
 * not written is a warning, once until one is written again. */
void th_trainer_say_lost_line(struct thaw_trainer *t, thaw_status status);
int64_t th_trainer_steps_per_epoch(const struct thaw_trainer *t);

/* ---- trainer_inputs.c ---- */

const struct th_train_plan *th_trainer_plan_for(
    const struct thaw_trainer *t, const struct th_batch *b);
/* All that a run on this batch, the next of its group, reads. *weight: what its loss is the
 * mean over. *again: what the cache knew is damaged, and nothing is set. */
thaw_status th_trainer_set_inputs(struct thaw_trainer *t, const struct th_train_plan *p,
    const struct th_batch *b, const struct th_group *g, double *weight, bool *again);
thaw_status th_trainer_set_scalars(struct thaw_trainer *t, struct th_plan *plan,
    const struct th_group *g, double loss_scale, double clip);
/* While the device works on a batch of the group, which does not count it yet: the next
 * one's inputs, where it is ready. */
thaw_status th_trainer_send_next(struct thaw_trainer *t, const struct th_group *g);

/* ---- trainer_forecast.c ---- Nothing in it ends a run or changes what it computes. */

/* Say what the rest of the run will take; once, before the first step. */
void th_trainer_forecast(struct thaw_trainer *t);
/* Say so where the first steps tell something else. */
void th_trainer_check_forecast(struct thaw_trainer *t);
/* Say what it was, and what became of it. */
void th_trainer_compare_forecast(const struct thaw_trainer *t);

/* ---- trainer_report.c ---- */

/* Write report.html; of a run that goes on (frozen_tensors -1) only where that takes a
 * small part of the time. A failure is a warning. */
void th_trainer_report(struct thaw_trainer *t, int frozen_tensors);

/* ---- trainer_events.c ---- Nothing in it ends a run: a failure is a warning. */

/* Before the first step of a process. */
void th_trainer_begin_events(struct thaw_trainer *t);
/* Of the step just done: remembered. */
void th_trainer_step_events(struct thaw_trainer *t, double loss, double lr);
/* Of the epoch just done: written, with the steps before it. */
void th_trainer_epoch_events(struct thaw_trainer *t, const struct th_epoch_log *e);

/* ---- trainer_int8.c ---- Nothing without --prefix int8. */

/* Count what a phase with this freeze state would have in int8. */
thaw_status th_trainer_survey_int8(struct thaw_trainer *t, const struct th_freeze *f);
/* THAW_E_USAGE where no phase has any, or this machine would not gain. */
thaw_status th_trainer_check_int8(const struct thaw_trainer *t);
/* The scales for this phase: calibrated where it begins, else the checkpoint's. Before
 * its plans are made. */
thaw_status th_trainer_enter_int8(struct thaw_trainer *t, bool begins);
/* best.h5 on the validation images in fp32, as thaw eval has it: *top1, NaN where nothing
 * was validated. *stopped: by the user. */
thaw_status th_trainer_best_in_fp32(
    struct thaw_trainer *t, double *top1, bool *stopped);

/* ---- trainer_test.c ---- */

/* Test images that the run evaluates at its end. */
int64_t th_trainer_n_test(const struct thaw_trainer *t);
/* The values of best.h5 into a mirror of the network's store. */
thaw_status th_trainer_read_best(struct thaw_trainer *t, struct th_store *into);
/* A split on these values, in fp32. */
thaw_status th_trainer_judge(struct thaw_trainer *t, struct th_store *values,
    enum th_split split, thaw_evaluation *e, bool *stopped);

/* best.h5 on the test split, or what is recorded where that model was there before.
 * *stopped: by the user, and nothing is recorded. */
thaw_status th_trainer_test(
    struct thaw_trainer *t, struct th_test_log *log, bool *stopped);

/* ---- trainer_finish.c ---- */

/* After the last step of an epoch: validate, keep the best, log, go to the next epoch;
 * does nothing more once stopped. */
thaw_status th_trainer_end_epoch(struct thaw_trainer *t);
/* Write a checkpoint. THAW_E_DIVERGED names a tensor that is not finite; nothing is
 * written then. */
thaw_status th_trainer_save(struct thaw_trainer *t);
/* As asked by the clock; a failure to write is a warning. */
thaw_status th_trainer_save_if_due(struct thaw_trainer *t);
/* Stopped: save. Else verify, write last.h5 and best.h5, evaluate the test split, log
 * the end. */
thaw_status th_trainer_finish(
    struct thaw_trainer *t, bool stopped, struct thaw_result *result);

#endif
