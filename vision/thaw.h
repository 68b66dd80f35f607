/* SPDX-License-Identifier: Apache-2.0
 * Thaw: transfer learning for computer vision. The only public header. */
#ifndef THAW_H
#define THAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define THAW_API __attribute__((visibility("default")))
#else
#define THAW_API
#endif

/* What a call that can fail returns. A failure's negative is the program's exit code. */
typedef enum thaw_status {
    THAW_OK = 0,
    THAW_E_FAIL = -1,     /* anything else */
    THAW_E_USAGE = -2,    /* the caller asked for something that does not exist */
    THAW_E_DATA = -3,     /* bad images, annotations or weights */
    THAW_E_DIVERGED = -4, /* the loss is no longer finite */
    THAW_E_IO = -5,       /* reading or writing failed, disk full */
    THAW_E_MEMORY = -6    /* out of memory */
} thaw_status;

/* The sentence about this thread's last failed call: what, where, why, what to do.
 * Valid until this thread's next failure; "" before the first. */
THAW_API const char *thaw_error(void);

/* "0.1.0" */
THAW_API const char *thaw_version(void);

/* ---- Options ----
 * One table of options generates the command line, --help, man page, completion and
 * config.json. They are set by name and as text, as on the command line. */

typedef enum thaw_option_type {
    THAW_OPTION_FLAG, /* "1" or "0"; on the command line without a value */
    THAW_OPTION_INT,
    THAW_OPTION_REAL,
    THAW_OPTION_TEXT,
    THAW_OPTION_CHOICE, /* one of `choices`, separated by | */
    THAW_OPTION_SIZE /* pixels, N on a side, or WxH; or several, as 320x256,256x320 */
} thaw_option_type;

/* Commands that take an option: a set of bits. */
enum {
    THAW_CMD_TRAIN = 1,
    THAW_CMD_RESUME = 2,
    THAW_CMD_EVAL = 4,
    THAW_CMD_PREDICT = 8,
    THAW_CMD_INSPECT = 16,
    THAW_CMD_CONVERT = 32,
    THAW_CMD_DOCTOR = 64,
    THAW_CMD_ADAPT = 128,
    THAW_CMD_BENCH = 256,
    THAW_CMD_TUNE = 512,
    THAW_CMD_MERGE = 4096,
    THAW_CMD_FEATURES = 8192,
    THAW_CMD_SCORE = 16384,
    THAW_CMD_CHECK = 32768
};

typedef struct thaw_option {
    const char *name; /* "lr-schedule", without dashes */
    thaw_option_type type;
    const char *value;         /* what --help calls its value: "N", "FILE" */
    const char *default_value; /* text; NULL: unset */
    const char *choices;       /* "cosine|step|constant", else NULL */
    const char *help;          /* one line */
    unsigned commands;         /* THAW_CMD_ bits */
} thaw_option;

/* The table; *n rows. */
THAW_API const thaw_option *thaw_option_table(size_t *n);

/* The name nearest to a mistyped one among `names` (n of them), NULL if none is near. */
THAW_API const char *thaw_nearest(
    const char *typed, const char *const *names, size_t n);

typedef struct thaw_options thaw_options;

/* A set of options, all unset (so: defaults). Free with thaw_options_free. */
THAW_API thaw_status thaw_options_new(thaw_options **out);
THAW_API void thaw_options_free(thaw_options *o);

/* THAW_E_USAGE for an unknown name (with "did you mean") or a value that does not parse
 * or is out of range. The text is copied. "config" reads the file it names and sets what
 * is not set yet: also THAW_E_IO where it cannot be read. */
THAW_API thaw_status thaw_options_set(
    thaw_options *o, const char *name, const char *value);

/* The value in force: set, else the default, else NULL. Valid until the next set. */
THAW_API const char *thaw_options_get(const thaw_options *o, const char *name);
THAW_API bool thaw_options_is_set(const thaw_options *o, const char *name);

/* ---- Events ---- All callbacks may be NULL; they run on the caller's thread. */

typedef struct thaw_progress {
    int epoch, epochs;   /* epoch from 0 */
    int64_t step, steps; /* optimizer steps of this epoch, done and in all */
    double loss, images_per_s;
    double seconds_left; /* of the whole run, estimated */
} thaw_progress;

typedef struct thaw_events {
    void *context;
    /* One line of the report: topic "data", "weights", "input", "freeze", "cache",
     * "forecast", "resume", "epoch", "bn", "adapt", "frozen", "best", "test", "next", "warning",
     * "bench", "score"; text without newline. */
    void (*line)(void *context, const char *topic, const char *text);
    void (*progress)(void *context, const thaw_progress *p);
} thaw_events;

/* ---- Training ---- */

typedef struct thaw_trainer thaw_trainer;

typedef struct thaw_result {
    double best_top1, last_loss; /* top-1 in [0,1]; NaN without validation, and where
                                    images have any number of classes: */
    double best_map;             /* mean average precision in [0,1]; NaN likewise */
    int best_epoch, epochs;
    int64_t steps, skipped; /* optimizer steps; of them not finite and skipped */
    int frozen_tensors;     /* tensors that were frozen throughout */
    bool frozen_verified;   /* all of them hash as before */
    bool stopped;           /* by thaw_trainer_stop: saved, can be resumed */
} thaw_result;

/* A run from options ("data", "out", "weights", "thaw", ...): reads data and weights,
 * creates the run folder. THAW_E_USAGE, THAW_E_DATA, THAW_E_IO. */
THAW_API thaw_status thaw_trainer_new(
    const thaw_options *o, const thaw_events *events, thaw_trainer **out);
/* Continue the run in folder `run` from its newest sound checkpoint, bit for bit.
 * `overrides` (may be NULL): "epochs" (also "+N"), "threads", "workers", "isa",
 * "conv-table", "quiet". */
THAW_API thaw_status thaw_trainer_resume(const char *run, const thaw_options *overrides,
    const thaw_events *events, thaw_trainer **out);
/* Train to the end or until stopped. THAW_E_DIVERGED, THAW_E_IO, THAW_E_DATA. */
THAW_API thaw_status thaw_trainer_run(thaw_trainer *t, thaw_result *result);
typedef struct thaw_forecast {
    double seconds;     /* of the whole run: training, validation, saving */
    int64_t peak_bytes; /* of this process */
} thaw_forecast;

/* In place of thaw_trainer_run, of a new trainer: what the run would take, from so many
 * iterations of each phase. Its run folder is removed; the trainer can only be freed. */
THAW_API thaw_status thaw_trainer_forecast(
    thaw_trainer *t, int iterations, thaw_forecast *out);
/* Ask the running trainer to save and return after this step. Safe in a signal handler
 * and from other threads. */
THAW_API void thaw_trainer_stop(thaw_trainer *t);
THAW_API void thaw_trainer_free(thaw_trainer *t);

/* ---- Models ---- */

typedef struct thaw_model thaw_model;

/* MODEL: a model file, a bare weights file or a run folder (its best.h5). Options (may
 * be NULL): preprocessing, "backbone", "threads", "device", "precision", "isa",
 * "conv-table", "batch", "threshold", "split". THAW_E_DATA for a table that is none. */
THAW_API thaw_status thaw_model_open(
    const char *path, const thaw_options *o, thaw_model **out);
THAW_API void thaw_model_free(thaw_model *m);

/* Low-rank adapters: with the option "adapter", files separated by commas, the model is the
 * base that they belong to, and the first is on it. Another one is put on the same base,
 * which is not read again; -1: none. Class names, their number and the input may change
 * with it. THAW_E_DATA for an adapter of another base: what was there stays. */
THAW_API int thaw_model_n_adapters(const thaw_model *m);
THAW_API const char *thaw_model_adapter(const thaw_model *m, int i);
THAW_API thaw_status thaw_model_use(thaw_model *m, int i);

THAW_API int thaw_model_n_classes(const thaw_model *m);
THAW_API const char *thaw_model_class(const thaw_model *m, int i);

typedef struct thaw_box {
    float x0, y0, x1, y1; /* from the upper left corner */
    float score;          /* 0 to 1 */
    int class_index;
} thaw_box;

typedef struct thaw_prediction {
    const char *file;
    const thaw_model *model;             /* whose head this is; NULL with an error */
    const char *error;                   /* NULL, or why this image could not be read */
    int best;                            /* class index */
    const float *probabilities, *logits; /* [n_classes] */
    /* Of a model whose images have any number of classes: those whose probability is
     * "threshold" or more, the most probable first. NULL: its classes exclude each other. */
    const int *labels;
    int n_labels;
    /* Of a detector, which has none of best (-1), probabilities, logits and labels: what it
     * found, from the score "threshold" on, best first, in pixels of the image. */
    const thaw_box *boxes; /* NULL: it is no detector */
    int n_boxes;
    int width, height; /* of the image, likewise */
    /* Where the images' annotations number images and classes, as COCO's do: this image's,
     * and of each class [n_classes], -1: it has none there. NULL: they do not. */
    int64_t image_id;
    const int64_t *category_ids;
} thaw_prediction;

/* Put other's head on m's backbone as well: predictions of m then are m's and after it
 * those of every other head, image by image, and the backbone runs once for all of them.
 * They have the bits that each model has alone. THAW_E_DATA where the backbones are not
 * the same, bit for bit (which tensor is not), or the images are prepared otherwise;
 * THAW_E_USAGE with adapters. m stays as it is then. `other` outlives m; m is for
 * predictions from now on. */
THAW_API thaw_status thaw_model_share(thaw_model *m, thaw_model *other);

/* Classify an image, or every image under a folder, in byte order of their paths; or of
 * "FORMAT:..." those of the split that the model was opened with ("split": validation, all
 * where there is none), in the data's order. The
 * callback sees one prediction an image; unreadable ones carry `error`. */
THAW_API thaw_status thaw_model_predict(thaw_model *m, const char *path,
    void (*each)(void *context, const thaw_prediction *p), void *context);

/* The last thing that went wrong on the model's device and is no error, as a damaged plan
 * that was made again: a sentence, the model's, until it predicts again. NULL: nothing. */
THAW_API const char *thaw_model_warning(const thaw_model *m);

/* Whether it is a detector: its predictions have boxes. */
THAW_API bool thaw_model_is_detector(const thaw_model *m);

/* Draw a detector's prediction on its image, which is read again, and write that as
 * FOLDER/NAME.jpg, or NAME-2.jpg and so on: no file that is there is touched. THAW_E_IO,
 * THAW_E_USAGE of a classifier's, THAW_E_DATA, THAW_E_MEMORY. */
THAW_API thaw_status thaw_draw(const thaw_prediction *p, const char *folder);

/* Detectors' predictions in COCO's results format, [{"image_id", "category_id", "bbox",
 * "score"}]: with the numbers of the data's annotations, boxes of classes without one left
 * out; else images from 1 in the order in which they are added, classes from 1, and
 * "file_name". The file must not exist (THAW_E_USAGE), and is there once it was written:
 * THAW_E_IO, THAW_E_MEMORY. */
typedef struct thaw_coco_results thaw_coco_results;
THAW_API thaw_status thaw_coco_results_new(const char *path, thaw_coco_results **out);
THAW_API void thaw_coco_results_add(thaw_coco_results *r, const thaw_prediction *p);
THAW_API thaw_status thaw_coco_results_write(thaw_coco_results *r);
THAW_API void thaw_coco_results_free(thaw_coco_results *r);

/* Precision, recall and F1 = 2 PR / (P + R) of a class, or their average over classes.
 * What would divide by zero is 0, as scikit-learn's zero_division=0. */
typedef struct thaw_scores {
    double precision, recall, f1;
} thaw_scores;

typedef struct thaw_class_scores {
    const char *name;          /* the model's, valid as long as it */
    int64_t images, predicted; /* of this class; taken for it, rightly or not */
    thaw_scores scores;
    /* With `many`: average precision (scikit-learn's); the probability at which F1 is largest
     * on these images, and that F1. NaN without images of the class. */
    double ap, threshold, best_f1;
    /* Of a detector: `images` are objects, predicted and scores are 0, ap is COCO's, and AP at
     * an IoU of 0.5; threshold and best_f1 are at that IoU, too. */
    double ap50;
} thaw_class_scores;

/* Of 95 %. In an evaluation: the percentile interval of the bootstrap over images, 1,000
 * resamples drawn from a fixed seed: the same evaluation has the same interval. NaN
 * without images. */
typedef struct thaw_interval {
    double low, high;
} thaw_interval;

typedef struct thaw_evaluation {
    int64_t images, unreadable;
    double loss, top1, top5; /* loss: mean negative log likelihood, natural logarithm */
    int n_classes;           /* of the model */
    int64_t
        *confusion; /* [true][predicted], n_classes squared; thaw_evaluation_release */
    thaw_class_scores *classes; /* [n_classes] */
    thaw_scores macro;          /* plain mean over the classes that occur, as true or as
                                   predicted ones */
    thaw_scores weighted;       /* mean weighted by each class's images */
    double balanced_accuracy;   /* mean recall of the classes that have images */
    double
        ece; /* expected calibration error: 15 bins of the top probability (Guo et al.
                   2017, equation 3) */
    thaw_interval top1_interval, macro_f1_interval;
    /* Where images have any number of classes: loss is the mean binary cross-entropy, and
     * top1, top5, balanced_accuracy, ece and the intervals are NaN, confusion is NULL; a
     * class is predicted from "threshold" on. */
    bool many;
    double map;      /* mean of ap over the classes that have images */
    double micro_f1; /* of all decisions */
    double threshold;
    /* Of a detector, which has `many`: map is COCO's AP, loss and micro_f1 are NaN. */
    bool boxes;
    double
        coco[12]; /* AP, AP50, AP75, AP of small, medium, large objects, AR with 1, 10,
                        100 detections, AR of small, medium, large: pycocotools' order */
    double voc07, voc_area; /* VOC's AP at an IoU of 0.5: 11 points, area */
    /* What is wrong at an IoU of 0.5, how often, and how much higher AP50 were without it
     * (TIDE, arXiv:2008.08115). */
    int n_errors;
    const char *error_name[8];
    int64_t error_count[8];
    double error_cost[8];
} thaw_evaluation;

/* Evaluate on a data set's validation split (test with "split" = "test"; a folder without
 * splits: all of it). Classes are matched by name; differences are reported as lines. */
THAW_API thaw_status thaw_model_eval(thaw_model *m, const char *data,
    const thaw_options *o, const thaw_events *events, thaw_evaluation *out);
THAW_API void thaw_evaluation_release(thaw_evaluation *e);

/* All of it as one JSON object without newline, in one call of `write`. THAW_E_MEMORY. */
THAW_API thaw_status thaw_evaluation_json(const thaw_evaluation *e,
    void (*write)(void *context, const char *text), void *context);

typedef struct thaw_adaptation {
    int64_t images, unreadable;
    int layers, passes; /* BatchNorms; passes over the images */
    double shift,
        scale; /* how far statistics moved, mean over channels and layers: means
                            in old standard deviations, deviations as a factor */
} thaw_adaptation;

/* AdaBN: every BatchNorm's running mean and (unbiased) variance become those of its input
 * over the images of `data`, whose labels are not looked at, with the BatchNorms below it
 * adapted already; nothing else changes. `data`: the training images of a data set, or
 * every image below a folder without train/. Options: "max-bad". THAW_E_USAGE for a model
 * without BatchNorm; THAW_E_DATA. After a failure the model is partly adapted. */
THAW_API thaw_status thaw_model_adapt(thaw_model *m, const char *data,
    const thaw_options *o, const thaw_events *events, thaw_adaptation *out);

typedef struct thaw_features {
    int64_t images, values, unreadable; /* rows; numbers in each; images left out */
} thaw_features;

/* What a head reads of every image of a data set, training images first (or of an image
 * file, or a folder of images without classes: no "labels" then), to `path`: .npy,
 * an array [images][values]; or .h5, "features" beside "labels" and the classes' names; and
 * to `path`.csv image, split and class of each row. Options: "max-bad". THAW_E_USAGE for
 * another ending; THAW_E_DATA, THAW_E_IO, THAW_E_MEMORY. */
THAW_API thaw_status thaw_model_features(thaw_model *m, const char *data,
    const char *path, const thaw_options *o, const thaw_events *events,
    thaw_features *out);

/* Write the model as a model file (.h5), durably. THAW_E_IO, THAW_E_MEMORY. */
THAW_API thaw_status thaw_model_write(const thaw_model *m, const char *path);

/* What the model is and the plan for the options' "thaw", "bn", "batch": text lines; with
 * "json" one JSON object without newline, in one call of `write`: the model and, for each
 * phase of the timetable, the plan's figures and its steps. */
THAW_API thaw_status thaw_model_inspect(thaw_model *m, const thaw_options *o,
    void (*write)(void *context, const char *text), void *context);

/* ---- Comparing what to freeze ---- */

typedef struct thaw_bench thaw_bench;

/* One strategy, over the seeds that it was trained with. */
typedef struct thaw_bench_row {
    const char *strategy, *about;
    const char *thaw, *bn; /* what it sets; NULL where it cannot be had here */
    const char *command;   /* trains it again, of its best seed; for a shell */
    /* "winner", "kept", "dropped" (clearly worse: it was not given the other seeds),
     * "failed", "left out", "not run" or "forecast"; and why, "" where there is nothing to say. */
    const char *state, *note;
    int seeds;            /* that ended well */
    double top1;          /* validation, of best.h5, mean over seeds; NaN: none; of
                             detectors COCO's AP */
    thaw_interval images; /* Wilson's 95 % for so many images; of detectors NaN */
    double spread;        /* over seeds: half of Student's 95 %; NaN below two */
    double difference;    /* to the winner, over the seeds that both have */
    thaw_interval
        difference_interval; /* 95 %, paired by image and seed; of detectors by
                                          seed, NaN below two */
    int64_t trained;         /* values, in the phase that trains most */
    double seconds;          /* of training and validation, mean over seeds */
    int64_t peak_bytes;      /* of the process that trained, most over seeds */
    bool fast, small;        /* none is as good in less time; in less memory */
} thaw_bench_row;

typedef struct thaw_bench_result {
    const thaw_bench_row *rows; /* the best first, then what failed or was left out */
    int n_rows;
    int winner, cheapest; /* rows; -1: none. cheapest: the fastest not clearly worse */
    bool boxes;           /* detectors: AP stands in place of top-1 */
    int64_t val_images;
    bool stopped;        /* by thaw_bench_stop; the same call goes on */
    const char *model;   /* the winner's best model by validation; NULL: no winner */
    int64_t test_images; /* 0: there are none, or it was not asked for */
    double test_top1;    /* of that model, evaluated once */
    thaw_interval test_interval;
} thaw_bench_result;

/* Compare freeze strategies on a data set (docs/bench.md): options "data", "out" (a folder
 * for everything), "strategies", "seeds", "no-halving", "budget", and those of training.
 * Each training is a process of its own: `program` is the path of the program `thaw`.
 * A folder in which the same bench began is gone on with. With "forecast" the rows say what a
 * training would take, and nothing is trained. THAW_E_USAGE, THAW_E_DATA,
 * THAW_E_IO. */
THAW_API thaw_status thaw_bench_new(const thaw_options *o, const char *program,
    const thaw_events *events, thaw_bench **out);
/* Train what has to be trained; write bench.html and bench.json. A training that fails is a
 * row. The result is valid until thaw_bench_free. THAW_E_FAIL where no training ended well. */
THAW_API thaw_status thaw_bench_run(thaw_bench *b, const thaw_bench_result **result);
/* Ask it to save and return. Safe in a signal handler and from other threads. */
THAW_API void thaw_bench_stop(thaw_bench *b);
THAW_API void thaw_bench_free(thaw_bench *b);

/* The result as one JSON object without newline, in one call of `write`. */
THAW_API thaw_status thaw_bench_json(
    const thaw_bench *b, void (*write)(void *context, const char *text), void *context);

/* ---- Choosing weights ---- */

/* How well features may transfer to a data set, before any training (docs/score.md); the
 * larger the better. */
typedef enum thaw_score_kind {
    THAW_SCORE_LOGME, /* log evidence of a Bayesian linear model, per image, mean over
                            classes (You et al. 2021) */
    THAW_SCORE_H,     /* H-score (Bao et al. 2019): 0 to classes less one */
    THAW_SCORE_H_SHRUNK, /* with Ledoit's and Wolf's covariance (Ibrahim et al. 2021) */
    THAW_SCORE_LEEP,     /* of the file's own head (Nguyen et al. 2020); at most 0 */
    THAW_SCORE_KNN, /* accuracy of the 5 nearest neighbours by cosine, leave one out */
    THAW_SCORE_PROBE, /* accuracy of logistic regression, in five folds */
    THAW_N_SCORES
} thaw_score_kind;

typedef struct thaw_score_row {
    char *weights;       /* as it was given */
    const char *network; /* "resnet20" */
    char image_size[24]; /* pixels that it saw: "224", or width and height, "320x240" */
    int64_t images, unreadable, values; /* rows; left out; numbers in each */
    double feature_seconds, score_seconds;
    double score[THAW_N_SCORES]; /* NaN: cannot be had, as LEEP without a head */
    int rank
        [THAW_N_SCORES]; /* 1: the best by this score; equal ones share it; 0: none */
    double probe_error;  /* standard error of the probe's accuracy */
} thaw_score_row;

typedef struct thaw_score_result {
    thaw_score_row *rows; /* by LogME, the best first */
    int n_rows;
} thaw_score_result;

/* Score weight files on the training images of a data set. Options: "data"; "weights", files
 * separated by commas, `random` among them for random values of the first file's network
 * (or "backbone"'s), BatchNorms calibrated on 64 images; "max-images", "val", "seed",
 * preprocessing. Nothing is trained but the probe. THAW_E_USAGE; THAW_E_DATA for weights of
 * an unknown network, one class, a class with fewer than two images; THAW_E_IO,
 * THAW_E_MEMORY. */
THAW_API thaw_status thaw_score_run(
    const thaw_options *o, const thaw_events *events, thaw_score_result *out);
THAW_API void thaw_score_release(thaw_score_result *r);

/* "logme", and what it is (about may be NULL); NULL for no such kind. */
THAW_API const char *thaw_score_name(thaw_score_kind kind, const char **about);

/* ---- Files, lists, the machine ---- */

/* A base and its adapter to one whole model file; it keeps what it changed of the base, so
 * that thaw_unmerge makes the base of it again, bit for bit. THAW_E_DATA, THAW_E_IO. */
THAW_API thaw_status thaw_merge(const char *base, const char *adapter, const char *out,
    const thaw_options *o, const thaw_events *events);
THAW_API thaw_status thaw_unmerge(
    const char *merged, const char *out, const thaw_events *events);

/* Weights to weights (.h5 out), or idx:DIR to a folder of PNGs ("per-class"). */
THAW_API thaw_status thaw_convert(
    const char *in, const char *out, const thaw_options *o, const thaw_events *events);

/* kind "backbones", "heads", "formats": row i as name and one line about it. false past
 * the end or for an unknown kind. */
THAW_API bool thaw_list(
    const char *kind, size_t i, const char **name, const char **about);

/* The machine: CPU, instruction sets, engines, libraries, threads, and how fast a large
 * matrix product and the memory are; a line each, or with "json" one object in one call.
 * Takes half a second.
 * With "check", or a "device" other than cpu, then every op on the device beside plain C, and
 * the time of training steps of a ResNet and a ViT, in "limit" seconds; a line each, as soon
 * as they are known. THAW_E_FAIL where an op computes something else or a step fails, after
 * all lines; or where there is no such device. THAW_E_USAGE, THAW_E_MEMORY. */
THAW_API thaw_status thaw_doctor(const thaw_options *o,
    void (*write)(void *context, const char *text), void *context);

/* What is in the data set "data", and what is wrong with it: every image is read and decoded
 * by "workers" threads. A line each, or with "json" one object in one call. THAW_E_DATA where
 * training would refuse the data, after all lines where they could be made; THAW_E_IO,
 * THAW_E_USAGE, THAW_E_MEMORY. */
THAW_API thaw_status thaw_check(const thaw_options *o,
    void (*write)(void *context, const char *text), void *context);

/* Time every algorithm for the convolutions of "backbone" at "image-size" and "batch" on
 * "threads", and write the fastest as a table for "conv-table" (JSON, durably); a line a
 * convolution. THAW_E_USAGE for an unknown backbone; THAW_E_IO, THAW_E_MEMORY. */
THAW_API thaw_status thaw_tune(const char *path, const thaw_options *o,
    void (*write)(void *context, const char *text), void *context);

#ifdef __cplusplus
}
#endif
#endif
