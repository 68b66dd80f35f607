/* SPDX-License-Identifier: Apache-2.0
 * How an epoch's images become batches: which images go together, and in which order batches
 * come. Inputs of a batch have one size; where there are several, images of a size are a bucket.
 *
 * Invariants: which bucket an image is in is a function of its picture's width and height; each
 * image of the order is in one batch; within a bucket images keep the order's order, and a batch
 * comes when the order has had its last image. So one bucket has the batches of a run without
 * buckets, and several come mixed as the order mixes their images. */
#ifndef TH_BATCHES_H
#define TH_BATCHES_H

#include "dataset.h"
#include "order.h"
#include "size.h"

/* n images: `full` batches of the size asked for, and one of `last` others; 0: none. */
struct th_cutting {
    int64_t full, last;
};

/* join_single: a last batch of one joins the batch before it. */
struct th_cutting th_cutting_of(int64_t n, int64_t batch, bool join_single);

/* Images of a split by bucket; `images` has place for so many numbers as there are sizes. */
void th_bucket_count(
    const struct th_samples *samples, const struct th_sizes *sizes, int64_t *images);

struct th_batches {
    int64_t n;    /* of an epoch */
    int64_t most; /* images in one */
    int64_t batch, n_samples;
    int n_buckets;
    struct th_cutting cutting[TH_MAX_SIZES];
    int64_t first[TH_MAX_SIZES]; /* where a bucket begins among all images by bucket */
    uint8_t *bucket;             /* [samples] */
    int64_t *rank; /* [samples], among those of its bucket in the listing */
    struct th_batch_images {
        int64_t from, n; /* places of the order */
        int bucket;
    } * at;          /* [n], of the epoch */
    int64_t *sorted; /* [samples], scratch */
};

/* Sizes of pictures are those of th_dataset_measure. THAW_E_MEMORY. */
thaw_status th_batches_init(struct th_batches *b, const struct th_samples *samples,
    const struct th_sizes *sizes, int64_t batch, bool join_single);
void th_batches_release(struct th_batches *b);

/* Of an epoch whose order was drawn: its places are sorted by bucket. */
void th_batches_draw(struct th_batches *b, struct th_order *order);

#endif
