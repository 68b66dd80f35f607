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

struct th_evaluator {
    struct th_network *net;
    struct th_plan *plan;
    struct th_cut *cut;        /* what runs below the plan; NULL: the plan is whole */
    const thaw_events *events; /* for its warnings; may be NULL */
    int batch;
    size_t pixels; /* values of one image */
    float *images; /* [batch][3][s][s], for padding */
    float
        *logits; /* [batch][classes], of a detector [batch][rows or boxes][classes, and
                      the background], of the last run */
    float *output[TH_MAX_OUTPUTS]; /* a detector's others, likewise */
    struct th_reader reader;       /* of a detector; else zero */
    struct th_mistakes *mistakes;  /* the caller's, of th_evaluate; NULL: not wanted */
    /* Likewise, by sample id, of each image that was judged; of a detector nothing but that
     * it was: TH_RIGHT. */
    enum th_verdict { TH_UNSEEN, TH_WRONG, TH_RIGHT } * verdicts;
};

/* On the values in `store`: the network's own or a mirror of it. Both outlive it. */
thaw_status th_evaluator_init(
    struct th_evaluator *e, struct th_network *net, struct th_store *store, int batch);
/* The same with the int8 prefix that training with this freeze state has (NULL: without);
 * its scales are in the store. */
thaw_status th_evaluator_init_int8(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, int batch, const struct th_freeze *freeze);
/* By `cut`, and the part above it of the same plan: `whole`, at cut->batch. */
thaw_status th_evaluator_init_above(struct th_evaluator *e, struct th_network *net,
    struct th_store *store, struct th_cut *cut, const struct th_plan_spec *whole);
void th_evaluator_release(struct th_evaluator *e);

/* An image as the network's input, [3][s][s], prepared as for evaluation; rgb [s][s][3]
 * is room to work in. *size (may be NULL) is the image's. */
thaw_status th_read_input(const struct th_preprocess *preprocess,
    const struct th_sample *s, uint8_t *rgb, float *out, struct th_size *size);

/* e->logits of n <= batch images. */
thaw_status th_evaluator_run(struct th_evaluator *e, const float *images, int64_t n);

/* Metrics of what the network answers. */
thaw_status th_network_metrics(const struct th_network *net, struct th_metrics *m);

/* Of a detector, what was found in image i of the last run: e->reader.found, in pixels of
 * the image, which has that size. */
void th_evaluator_read(struct th_evaluator *e, int64_t i, struct th_size size);

/* The whole of the loader's split into `m` (reset first). Ends early, with *stopped, when
 * `stop` (may be NULL) becomes true. map: class of the model for each label, -1 to leave
 * the image out (of an image with any number of classes: this one); NULL: the same. What
 * the plan derived from weights is verified at the end. */
thaw_status th_evaluate(struct th_evaluator *e, struct th_loader *loader,
    const int32_t *map, const atomic_bool *stop, struct th_metrics *m, bool *stopped);

#endif
