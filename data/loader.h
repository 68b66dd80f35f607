/* SPDX-License-Identifier: Apache-2.0
 * Batches of network inputs, decoded ahead by a pool of threads.
 *
 *     struct th_loader *loader;
 *     TRY(th_loader_open(&data, &options, &loader));
 *     for (int64_t epoch = 0; epoch < n_epochs; epoch++) {
 *         TRY(th_loader_start(loader, epoch, 0));
 *         struct th_batch batch;
 *         while (!(status = th_loader_next(loader, &batch)) && batch.n) ...
 *     }
 *     th_loader_close(loader);
 *
 * The batches are the same bit for bit for any number of workers. */
#ifndef TH_LOADER_H
#define TH_LOADER_H

#include "augment.h"
#include "batches.h"

struct th_loader;

enum { TH_MAX_PARTS = 5 };

/* A file that is not as it should be. replaced: it cannot be read, and another image of
 * its class stands in for it; else it is damaged at its end, but used. */
struct th_bad_image {
    const char *path; /* "" for an image in memory */
    const char *reason;
    bool replaced;
};

/* All zero is the default, but for preprocess and batch. */
struct th_loader_options {
    enum th_split split;
    int64_t batch; /* images a batch, at least 1 */
    uint64_t seed;
    bool shuffle;     /* a new order each epoch; else the listing's */
    bool balanced;    /* classes equally often (order.h); needs shuffle */
    bool join_single; /* a last batch of one joins the batch before it */
    struct th_augment augment;
    struct th_preprocess preprocess;
    /* Of a detector (preprocess.fit): the sizes of inputs, preprocess.size the first, pictures
     * going by buckets (batches.h) of a dataset that was measured; not balanced. n 0: all have
     * preprocess.size. */
    struct th_sizes sizes;
    int64_t
        views;    /* augmented views of an image: (epoch + repeat in the epoch) % views;
                  0: new ones each epoch */
    int workers;  /* 0: one a core */
    int prefetch; /* batches decoded ahead; 0: 2 */
    double
        max_bad; /* fraction of the split that may be unreadable, but always one image;
                       0: 0.01; below 0: none */
    /* Called in the thread of th_loader_next, once a file, in the order of the batches.
     * What it is given is valid during the call. */
    void (*report)(void *context, const struct th_bad_image *bad);
    /* Whether the caller knows already what it wants of an entry (sample of the split x
     * views + view, the sample counted within its bucket): its image is not read. In any
     * thread; needs views. NULL: never. */
    bool (*knows)(void *context, int64_t entry);
    void *context; /* of report */
    /* Of a detector (preprocess.fit): what it is to predict of an image, part_bytes[k] bytes
     * in part k, from the objects that the input shows, in its pixels; what it draws is a
     * function of the key, which is the image's and the epoch's. In any thread. */
    int n_parts; /* 0: nothing is wanted */
    void (*targets)(void *context, const struct th_object *objects, int32_t n,
        uint64_t key, void *const *part);
    /* Of inputs of each size; the first, where there is one. */
    struct th_loader_bucket {
        size_t part_bytes[TH_MAX_PARTS];
        void *targets_context, *knows_context;
    } bucket[TH_MAX_SIZES];
};

/* Valid until the next call on the loader. */
struct th_batch {
    int64_t n;             /* images; 0 at the end of the epoch */
    int64_t index;         /* in the epoch, from 0 */
    int bucket;            /* of options.sizes, that of the images */
    int64_t n_replaced;    /* images that stand in for unreadable ones */
    const float *images;   /* [n][3][h][w] */
    const int32_t *labels; /* [n] */
    const struct th_sample *const *samples; /* [n], the image that is shown */
    const int64_t *ids;                     /* [n], of the image that is shown */
    const int64_t *occurrence; /* [n], tells repeats of an image in an epoch apart: how
                                  often its place's image came before, << 32, + 1 + the id
                                  of that image where this one stands in for it */
    const int64_t *entry;      /* [n]; -1: endless views, or it stands in for another */
    const bool *known;         /* [n]: options.knows said so, and images has nothing */
    const struct th_size *size;     /* [n], of the pictures */
    const void *part[TH_MAX_PARTS]; /* [n][part_bytes] */
};

/* The dataset is borrowed and must stay as it is. THAW_E_USAGE for options that make no
 * sense, THAW_E_DATA for an empty split, THAW_E_MEMORY, THAW_E_FAIL without threads. */
thaw_status th_loader_open(const struct th_dataset *data,
    const struct th_loader_options *options, struct th_loader **out);
void th_loader_close(struct th_loader *loader); /* at any time; NULL is fine */

/* Begin an epoch at a batch (a resume); what was under way is dropped. */
thaw_status th_loader_start(
    struct th_loader *loader, int64_t epoch, int64_t first_batch);

/* Wait for the next batch. THAW_E_DATA when too many images cannot be read (how many,
 * and the first), THAW_E_MEMORY. */
thaw_status th_loader_next(struct th_loader *loader, struct th_batch *out);

/* Whether the batch that th_loader_next would give is whole: nothing is waited for, nor
 * reported. It is valid until the call of th_loader_next after that one. */
bool th_loader_peek(struct th_loader *loader, struct th_batch *out);

int64_t th_loader_n_batches(const struct th_loader *loader);    /* an epoch */
int64_t th_loader_max_batch(const struct th_loader *loader);    /* images, at most */
int64_t th_loader_n_unreadable(const struct th_loader *loader); /* so far */

#endif
