/* SPDX-License-Identifier: Apache-2.0
 * A bench, inside. One struct, six files: bench.c chooses what trains next and who wins,
 * bench_strategies.c holds the table of strategies, bench_run.c makes one training happen and
 * remembers it, bench_process.c is its process, bench_result.c makes rows and JSON of it all,
 * bench_html.c the page. bench_stats.c has the formulas.
 *
 * Invariants: strategies differ in nothing but their settings, and seeds in nothing but
 * --seed: --val-seed keeps the validation images the same. What is chosen is a function of
 * validation results, never of the test images. All that a bench knows is in its folder, so that the same
 * command goes on where a killed one was:
 *
 *     DIR/runs/NAME-seedN.json         options of the training; what the command says now must agree
 *     DIR/runs/NAME-seedN/             the run folder
 *     DIR/runs/NAME-seedN.log          what it printed
 *     DIR/runs/NAME-seedN.result.json  what became of it; written last
 *     DIR/cache/                       features that trainings share
 *     DIR/bench.json, bench.html       the table
 *     DIR/test.json                    the winner on the test images */
#ifndef TH_BENCH_H
#define TH_BENCH_H

#include "bench_stats.h"
#include "html.h"
#include "json.h"
#include "network.h"
#include "run_folder.h"

#include <stdatomic.h>

/* ---- bench_strategies.c ---- */

enum { TH_BENCH_NAME = 32, TH_MOST_STRATEGIES = 32 };

/* What one strategy sets over the user's options. */
struct th_bench_settings {
    char name[TH_BENCH_NAME]; /* "last2" */
    const char *about;
    char *thaw, *bn;         /* owned; NULL: the user's own */
    char *lora;              /* owned; NULL: no adapters */
    const char *lr_schedule; /* NULL: the user's */
    char *missing;           /* owned; why it cannot be trained here; NULL: it can */
    int64_t trained;         /* values, in the phase that trains most */
};

/* Names from --strategies; NULL: the default list, and "own" where the user gave --thaw or
 * --bn. THAW_E_USAGE for an unknown name (with the nearest) or one that stands twice. */
thaw_status th_bench_names(
    const thaw_options *o, char names[TH_MOST_STRATEGIES][TH_BENCH_NAME], int *n);

/* The settings of a name for a model and a number of epochs; what cannot be said of it
 * has `missing` set. THAW_E_MEMORY alone. */
thaw_status th_bench_settings(const char *name, const thaw_options *o,
    const struct th_model *m, struct th_bench_settings *out);
void th_bench_settings_release(struct th_bench_settings *s);

/* ---- The bench ---- */

/* One training. */
struct th_bench_run {
    bool done;      /* it ended; else not trained yet */
    int code;       /* exit code; 0: well */
    char *reason;   /* owned; why it failed */
    char *marks;    /* owned; of best.h5 on the validation images, see th_marks; of a
                       detector '1' is an image that was read */
    double score;   /* the share of right images, or a detector's AP (COCO's) */
    double seconds; /* in training and validation */
    int64_t peak_bytes;
    bool warm; /* its features were kept by another training */
};

struct th_bench_entry {
    struct th_bench_settings settings;
    struct th_bench_run *runs; /* [seeds] */
    int n_runs;                /* done and well, from the first on */
    bool failed;               /* one was not well: no more are trained */
    bool forecast;             /* runs[0] is no training but a forecast */
    int dropped;               /* after so many seeds, being clearly worse; 0: not */
};

struct thaw_bench {
    thaw_options *options; /* the user's, paths absolute */
    bool threads_given;
    char *program;
    thaw_events events;
    struct th_run_folder folder; /* path and lock */
    struct th_dataset data;
    bool boxes; /* detectors, judged by AP */
    char fingerprint[TH_FINGERPRINT_TEXT];
    char *device, *backbone; /* owned */
    int64_t n_values;        /* of the network */
    struct th_bench_entry *entries;
    int n_entries, seeds;
    int n_trainings; /* ended in this process */
    bool over_budget;
    thaw_bench_result result; /* rows and their texts owned */
    char *commands[TH_MOST_STRATEGIES],
        *notes[TH_MOST_STRATEGIES]; /* owned; the rows' */
    char *winner_run;               /* owned */
    atomic_bool stop;
};

/* ---- bench_run.c ---- */

/* "DIR/runs/NAME-seedN" and what follows; fresh. */
char *th_bench_path(const struct thaw_bench *b, const struct th_bench_entry *e,
    int seed, const char *suffix);

/* The options of one training, complete. Free with thaw_options_free. */
thaw_status th_bench_options(const struct thaw_bench *b,
    const struct th_bench_settings *s, int seed, thaw_options **out);

/* Bring run e->runs[seed] about: from its record, or by training it or going on with it,
 * then judging its best.h5. A training that fails is a run with a code; a failure is one
 * of the bench itself. run->done stays false where the bench was stopped. */
thaw_status th_bench_train(struct thaw_bench *b, struct th_bench_entry *e, int seed);

/* What a training of the entry would take, into e->runs[0]: seconds and peak_bytes. */
thaw_status th_bench_forecast(struct thaw_bench *b, struct th_bench_entry *e);

/* ---- bench_process.c ---- */

/* Run `argv` (NULL at the end) with its output appended to the file `log`, and wait. It is asked to
 * stop (SIGTERM) once when *stop becomes true, and does not outlive this process. *code:
 * its exit code, or 128 + the signal that ended it. THAW_E_IO where it cannot be started. */
thaw_status th_bench_process(
    char *const *argv, const char *log, const atomic_bool *stop, int *code);

/* In a child, before exec: be killed when the parent, which has this number, dies.
 * Async-signal-safe. */
void th_bench_tie(long parent);

/* ---- bench.c ---- */

/* Mean score over the seeds that ended well; NaN without any. */
double th_bench_mean(const struct th_bench_entry *e);
/* a - b over the seeds that both have; at least one. */
struct th_difference th_bench_difference(const struct thaw_bench *b,
    const struct th_bench_entry *x, const struct th_bench_entry *y);
/* Of those that are left the one with most seeds, then with the highest mean; NULL. */
struct th_bench_entry *th_bench_best(const struct thaw_bench *b);

/* ---- bench_result.c ---- */

/* Fill b->result from the entries. */
thaw_status th_bench_result(struct thaw_bench *b);
void th_bench_result_release(struct thaw_bench *b);
/* Of run e->runs[seed]: what a person types to train it, for a shell; fresh. */
char *th_bench_command(
    const struct thaw_bench *b, const struct th_bench_entry *e, int seed);
thaw_status th_bench_json(const struct thaw_bench *b, struct th_json_out *o);

/* ---- bench_html.c ---- */

void th_bench_html(struct th_html *h, const struct thaw_bench *b);

#endif
