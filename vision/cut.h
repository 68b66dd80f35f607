/* SPDX-License-Identifier: Apache-2.0
 * What is below the cut of a plan: the frontier's rows for a batch of images, computed by
 * a plan of its own or taken from a cache.
 *
 * The plan always runs at the full batch, padded with repeats, so that an image's rows
 * have the same bits whatever stands beside it, in a last batch too (P7). */
#ifndef TH_CUT_H
#define TH_CUT_H

#include "feature_cache.h"
#include "loader.h"
#include "plan.h"

struct th_cut {
    struct th_plan *below; /* NULL: nothing is below */
    struct th_frontier frontier;
    int batch;
    int64_t most;                 /* images in a batch, at most */
    size_t pixels;                /* values of an image */
    int64_t values;               /* of all of the frontier, of one image */
    bool half;                    /* rows are rounded to half precision, kept or not */
    float *images;                /* [batch][pixels]: those to be computed, padded */
    float *made[TH_MAX_FRONTIER]; /* [batch][values of one]: of one run */
    float *rows[TH_MAX_FRONTIER]; /* [most][values of one]: of the batch in hand */
    float *entry;                 /* [values]: one image's */
    uint16_t *rounded;            /* [values] */
    int64_t *missing;             /* [most]: places that have to be computed */
    struct th_feature_cache *cache; /* NULL: none */
    bool lost_said, damage_said;    /* to the user */
};

/* spec: of the plan that is cut, at the full batch; `most` images in a batch. below is NULL
 * where there is nothing. Release after failure, too. */
thaw_status th_cut_init(struct th_cut *c, const struct th_plan_spec *spec,
    struct th_store *store, struct th_arena *arena, int64_t most);
void th_cut_release(struct th_cut *c);

/* For loaders: options.knows, on a cut with a cache. */
bool th_cut_knows(void *cut, int64_t entry);

/* The rows of a batch. images: what its images have become (b->images, or mixed).
 * *again: an entry that was known is damaged; the batch has to be loaded again. A cache
 * that cannot be written is told once, as a warning. */
thaw_status th_cut_run(struct th_cut *c, const struct th_batch *b, const float *images,
    const thaw_events *events, bool *again);

/* The rows into the plan above, of n >= b->n images: the first ones again at the end. */
thaw_status th_cut_set(
    const struct th_cut *c, struct th_plan *above, int64_t n_images, int64_t n);

#endif
