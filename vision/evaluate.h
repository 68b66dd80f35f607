/* SPDX-License-Identifier: Apache-2.0
 * Evaluation: logits of images by a plan of fixed batch size; smaller batches are padded
 * with repeats, so that an image's logits do not depend on how many came with it. */
#ifndef TH_EVALUATE_H
#define TH_EVALUATE_H

#include "cut.h"
#include "loader.h"
#include "metrics.h"
#include "mistakes.h"
#include "network.h"

#include <stdatomic.h>

/* What a head said of the last batch. */
struct th_answer {
    struct th_model model; /* whose head, on inputs of the plan's size */
    struct th_scope scope; /* before the names of what it answers */
    /* [batch][classes], of a detector [batch][rows or boxes][classes, and the background] */
    float *logits;
    float *output[TH_MAX_OUTPUTS]; /* a detector's others, likewise */
    struct th_reader reader;       /* of a detector; else zero */
};

/* Of inputs of one size. */
struct th_evaluator {
    struct th_network *net;
    struct th_plan *plan;
    struct th_cut *cut;        /* what runs below the plan; NULL: the plan is whole */
    const thaw_events *events; /* for its warnings; may be NULL */
    int batch;
    size_t pixels; /* values of one image */
    float *images; /* [batch][3][s][s], for padding */
    /* [n_answers]: the network's own, then those of models that share its backbone. */
    struct th_answer *answers;
    int n_answers;
    /* Where the plan has the loss, a detector's: its inputs, [batch]. */
    void *target[TH_MAX_TARGETS];
    float *weight;                /* NULL: it has none */
    struct th_mistakes *mistakes; /* the caller's, of th_evaluate; NULL: not wanted */
    /* Likewise, by sample id, of each image that was judged; of a detector nothing but that
     * it was: TH_RIGHT. */
    enum th_verdict { TH_UNSEEN, TH_WRONG, TH_RIGHT } * verdicts;
};

/* On the values in `store`: the network's own or a mirror of it. Both outlive it. Of inputs of
 * size number `bucket` (th_input_sizes). */
thaw_status th_evaluator_init(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, int bucket, int batch);
/* The same with a plan of one's own, of spec->model's size: an int8 prefix, whose scales are in the store; or the
 * loss of a detector of one stage, which th_evaluate then counts: its loader has targets. */
thaw_status th_evaluator_init_plan(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, const struct th_plan_spec *spec);
/* By `cut`, and the part above it of the same plan: `whole`, at cut->batch. */
thaw_status th_evaluator_init_above(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, struct th_cut *cut, const struct th_plan_spec *whole);
void th_evaluator_release(struct th_evaluator *e);

/* By bucket: one for each size of the network's inputs. */
struct th_evaluators {
    int n;
    struct th_evaluator of[TH_MAX_SIZES];
    /* Of th_evaluate: the loader's batch whose images were sent ahead; lot 0: none were. */
    int64_t sent;
    uint64_t lot;
};
thaw_status th_evaluators_init(struct th_evaluators *all, struct th_network *net,
    struct th_store *store, int batch);
void th_evaluators_release(struct th_evaluators *all);

/* An image as the network's input, [3][s][s], prepared as for evaluation; rgb [s][s][3]
 * is room to work in. *size (may be NULL) is the image's. */
thaw_status th_read_input(const struct th_preprocess *preprocess,
    const struct th_sample *s, uint8_t *rgb, float *out, struct th_size *size);

/* The answers about n <= batch images. */
thaw_status th_evaluator_run(struct th_evaluator *e, const float *images, int64_t n);

/* Metrics of what the network answers. */
thaw_status th_network_metrics(const struct th_network *net, struct th_metrics *m);

/* Of a detector's answer, what was found in image i of the last run: its reader's `found`, in
 * pixels of the image, which has that size. */
void th_evaluator_read(
    struct th_evaluator *e, struct th_answer *a, int64_t i, struct th_size size);

/* The whole of the loader's split into `m` (reset first), by the evaluator of each batch's
 * bucket; mistakes are the first one's. Ends early, with *stopped, when
 * `stop` (may be NULL) becomes true. map: class of the model for each label, -1 to leave
 * the image out (of an image with any number of classes: this one); NULL: the same. What
 * the plan derived from weights is verified at the end. */
thaw_status th_evaluate(struct th_evaluators *all, struct th_loader *loader,
    const int32_t *map, const atomic_bool *stop, struct th_metrics *m, bool *stopped);

#endif
