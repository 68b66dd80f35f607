/* SPDX-License-Identifier: Apache-2.0
 * The loader, inside: loader.c owns threads and the ring of batches, loader_item.c makes one
 * input. */
#ifndef TH_LOADER_INSIDE_H
#define TH_LOADER_INSIDE_H

#include "loader.h"
#include "order.h"

#include <pthread.h>
#include <stdatomic.h>

enum { REPEAT_SHIFT = 32 }; /* of th_batch.occurrence */
enum { CHANNELS = 3, MAX_WORKERS = 256 };

/* Something to tell about a sample, found while an item was made. */
struct th_problem {
    struct th_problem *next;
    int64_t sample; /* index in the split */
    bool replaced;
    char *reason;
};

struct th_slot {
    int64_t n, n_done, n_replaced;
    int bucket;
    float *images;                    /* [capacity][3][h][w] */
    int32_t *labels;                  /* [capacity] */
    const struct th_sample **samples; /* [capacity] */
    int64_t *ids;                     /* [capacity] */
    int64_t *occurrence;              /* [capacity] */
    int64_t *entry;                   /* [capacity] */
    bool *known;                      /* [capacity] */
    struct th_size *size;             /* [capacity] */
    void *part[TH_MAX_PARTS];         /* [capacity][part_bytes] */
    struct th_problem **problem;      /* [capacity], in the order they were met */
    thaw_status status;               /* of the first item that failed */
    int64_t failed_item;
    char *error;
};

struct th_loader {
    const struct th_dataset *data;
    const struct th_samples *samples;
    struct th_loader_options o;
    struct th_preprocess preprocess[TH_MAX_SIZES]; /* by bucket */
    struct th_order order;                         /* of the epoch */
    struct th_batches batches;                     /* likewise */
    bool *known;                                   /* [n], already reported */
    atomic_bool *sound;            /* [n], once read to its end without fault */
    _Atomic struct th_size *sizes; /* [n], of what was read once; 0: not yet */
    int64_t n_unreadable, max_unreadable;
    char *first_unreadable; /* its sentence */
    int n_slots;
    struct th_slot *slot; /* [n_slots], batch b in slot b % n_slots */

    pthread_mutex_t mutex;
    pthread_cond_t work, done; /* there is an item to take; an item is done */
    int64_t epoch;
    int64_t next_batch, next_item; /* to be taken by a worker */
    int64_t kept, to_give;         /* oldest batch in use; next to hand out */
    int64_t end;                   /* batches of the epoch under way; 0: none */
    int n_busy;
    bool stop;
    int n_workers;
    pthread_t worker[MAX_WORKERS];
};

/* What a worker keeps from item to item: nothing is allocated for an image but libjpeg's
 * own, once it has met the largest. */
struct th_bench {
    struct th_image_reader reader;
    struct th_example_maker maker;
    struct th_block objects;
    struct th_block one; /* of a mosaic, an input with one of its pictures */
};

/* Make an item of a batch, or what stands in for it; in a worker. */
thaw_status th_loader_make_item(
    struct th_loader *l, int64_t batch, int64_t item, struct th_bench *bench);

static inline size_t th_loader_values(const struct th_loader *l, int bucket)
{
    return CHANNELS * th_size_pixels(l->preprocess[bucket].size);
}

/* Whether another image stands in for the place's own: of th_batch.occurrence. */
static inline bool th_loader_is_replaced(int64_t occurrence)
{
    return occurrence & ((INT64_C(1) << REPEAT_SHIFT) - 1);
}

#endif
