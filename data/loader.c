/* SPDX-License-Identifier: Apache-2.0
 * Owns the worker threads and the ring of batches they fill.
 *
 * Invariants. L1 which image, which variant and which substitute stands at a place of an
 * epoch is a function of (seed, epoch, place) and of the files, never of threads: that a
 * file was found sound before saves time and changes nothing. L2 a
 * slot's arrays are written by workers that took one of its items, and read only after
 * all of them are done; everything else is guarded by the mutex. L3 workers take items of
 * batches [kept, kept + n_slots) only, kept being the oldest batch that the caller may
 * still read. L4 files are reported, and counted, by the caller's thread in batch order. */
#include "loader_inside.h"

#include "cores.h"
#include "error.h"
#include "mem.h"

#include <math.h>
#include <signal.h>
#include <string.h>

enum { DEFAULT_PREFETCH = 2, MAX_PREFETCH = 64 };
static const double DEFAULT_MAX_BAD = 0.01;

int64_t th_loader_n_batches(const struct th_loader *l)
{
    return l->batches.n;
}

int64_t th_loader_max_batch(const struct th_loader *l)
{
    return l->batches.most;
}

int64_t th_loader_n_unreadable(const struct th_loader *l)
{
    return l->n_unreadable;
}

/* ---- the ring; the mutex is held ---- */

static void slot_clear(struct th_slot *slot, int64_t capacity)
{
    for (int64_t i = 0; i < capacity; i++)
        while (slot->problem[i]) {
            struct th_problem *p = slot->problem[i];
            slot->problem[i] = p->next;
            th_free(p->reason);
            th_free(p);
        }
    th_free(slot->error);
    slot->error = NULL;
    slot->status = THAW_OK;
    slot->n = slot->n_done = slot->n_replaced = 0;
}

static bool has_work(const struct th_loader *l)
{
    return l->next_batch < l->end && l->next_batch < l->kept + l->n_slots;
}

static void take_item(struct th_loader *l, int64_t *batch, int64_t *item)
{
    struct th_slot *slot = &l->slot[l->next_batch % l->n_slots];
    if (l->next_item == 0) {
        slot_clear(slot, l->batches.most);
        slot->n = l->batches.at[l->next_batch].n;
        slot->bucket = l->batches.at[l->next_batch].bucket;
    }
    *batch = l->next_batch;
    *item = l->next_item++;
    if (l->next_item == slot->n) {
        l->next_batch++;
        l->next_item = 0;
    }
}

/* The error kept is that of the earliest item, whichever worker met it first. */
static void finish_item(
    struct th_loader *l, int64_t batch, int64_t item, thaw_status status)
{
    struct th_slot *slot = &l->slot[batch % l->n_slots];
    if (status != THAW_OK && (slot->status == THAW_OK || item < slot->failed_item)) {
        th_free(slot->error);
        slot->error = th_strdup(thaw_error());
        slot->status = status;
        slot->failed_item = item;
    }
    slot->n_replaced += th_loader_is_replaced(slot->occurrence[item]);
    slot->n_done++;
    l->n_busy--;
    pthread_cond_signal(&l->done);
}

static void *run_worker(void *argument)
{
    struct th_loader *l = argument;
    struct th_bench bench = {0};
    pthread_mutex_lock(&l->mutex);
    for (;;) {
        int64_t batch, item;
        while (!l->stop && !has_work(l))
            pthread_cond_wait(&l->work, &l->mutex);
        if (l->stop)
            break;
        take_item(l, &batch, &item);
        l->n_busy++;
        pthread_mutex_unlock(&l->mutex);
        thaw_status status = th_loader_make_item(l, batch, item, &bench);
        pthread_mutex_lock(&l->mutex);
        finish_item(l, batch, item, status);
    }
    pthread_mutex_unlock(&l->mutex);
    th_image_reader_release(&bench.reader);
    th_example_maker_release(&bench.maker);
    th_block_release(&bench.objects);
    th_block_release(&bench.one);
    return NULL;
}

/* ---- the caller's thread ---- */

static void report(struct th_loader *l, const struct th_problem *p)
{
    const char *path = l->samples->sample[p->sample].path, *reason = p->reason;
    size_t n = path ? strlen(path) : 0;
    if (n && strncmp(reason, path, n) == 0 && strncmp(reason + n, ": ", 2) == 0)
        reason += n + 2;
    const struct th_bad_image bad = {path ? path : "", reason, p->replaced};
    if (l->o.report)
        l->o.report(l->o.context, &bad);
}

/* Tell of, and count, what was met while a batch was made. */
static thaw_status report_problems(struct th_loader *l, const struct th_slot *slot)
{
    for (int64_t i = 0; i < slot->n; i++)
        for (const struct th_problem *p = slot->problem[i]; p; p = p->next) {
            if (l->known[p->sample])
                continue;
            l->known[p->sample] = true;
            l->n_unreadable += p->replaced;
            if (p->replaced && !l->first_unreadable &&
                !(l->first_unreadable = th_strdup(p->reason)))
                return THAW_E_MEMORY;
            report(l, p);
        }
    if (l->n_unreadable <= l->max_unreadable)
        return THAW_OK;
    return th_fail(THAW_E_DATA,
        "%lld of %lld images cannot be read, more than the %lld that --max-bad allows; "
        "the first: %s",
        (long long)l->n_unreadable, (long long)l->samples->n,
        (long long)l->max_unreadable, l->first_unreadable);
}

static struct th_batch batch_of(
    const struct th_loader *l, const struct th_slot *slot, int64_t index)
{
    struct th_batch b = {.n = slot->n,
        .index = index,
        .bucket = slot->bucket,
        .n_replaced = slot->n_replaced,
        .images = slot->images,
        .labels = slot->labels,
        .samples = slot->samples,
        .ids = slot->ids,
        .occurrence = slot->occurrence,
        .entry = slot->entry,
        .known = slot->known,
        .size = slot->size};
    for (int k = 0; k < l->o.n_parts; k++)
        b.part[k] = slot->part[k];
    return b;
}

bool th_loader_peek(struct th_loader *l, struct th_batch *out)
{
    pthread_mutex_lock(&l->mutex);
    int64_t batch = l->to_give;
    const struct th_slot *slot = &l->slot[batch % l->n_slots];
    bool whole = batch < l->end && l->next_batch > batch && slot->n_done == slot->n &&
                 slot->status == THAW_OK;
    pthread_mutex_unlock(&l->mutex);
    if (whole)
        *out = batch_of(l, slot, batch);
    return whole;
}

thaw_status th_loader_next(struct th_loader *l, struct th_batch *out)
{
    *out = (struct th_batch){0};
    pthread_mutex_lock(&l->mutex);
    int64_t batch = l->to_give;
    struct th_slot *slot = &l->slot[batch % l->n_slots];
    if (batch >= l->end) {
        pthread_mutex_unlock(&l->mutex);
        return THAW_OK;
    }
    l->kept = batch; /* the batch before it goes back to the workers */
    pthread_cond_broadcast(&l->work);
    while (l->next_batch <= batch || slot->n_done < slot->n)
        pthread_cond_wait(&l->done, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
    TRY(report_problems(l, slot));
    if (slot->status != THAW_OK)
        return th_fail(slot->status, "%s", slot->error ? slot->error : "out of memory");
    l->to_give++;
    *out = batch_of(l, slot, batch);
    return THAW_OK;
}

thaw_status th_loader_start(struct th_loader *l, int64_t epoch, int64_t first_batch)
{
    int64_t n = l->batches.n;
    if (epoch < 0 || first_batch < 0 || first_batch > n)
        return th_fail(THAW_E_USAGE, "cannot start at epoch %lld, batch %lld of %lld",
            (long long)epoch, (long long)first_batch, (long long)n);
    pthread_mutex_lock(&l->mutex);
    l->end = 0; /* nothing more is taken */
    while (l->n_busy)
        pthread_cond_wait(&l->done, &l->mutex);
    l->epoch = epoch;
    th_order_draw(&l->order, l->o.seed, epoch);
    th_batches_draw(&l->batches, &l->order);
    l->next_batch = l->kept = l->to_give = first_batch;
    l->next_item = 0;
    l->end = n;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    return THAW_OK;
}

/* ---- opening and closing ---- */

/* Of inputs of any size. */
static size_t most_values(const struct th_loader *l)
{
    size_t most = 0;
    for (int b = 0; b < l->o.sizes.n; b++)
        most = th_loader_values(l, b) > most ? th_loader_values(l, b) : most;
    return most;
}

static size_t most_part_bytes(const struct th_loader *l, int part)
{
    size_t most = 0;
    for (int b = 0; b < l->o.sizes.n; b++)
        if (l->o.bucket[b].part_bytes[part] > most)
            most = l->o.bucket[b].part_bytes[part];
    return most;
}

static thaw_status init_slots(struct th_loader *l)
{
    size_t values = most_values(l), n = (size_t)l->batches.most;
    l->slot = th_alloc((size_t)l->n_slots, sizeof *l->slot);
    if (!l->slot)
        return THAW_E_MEMORY;
    for (int i = 0; i < l->n_slots; i++) {
        struct th_slot *slot = &l->slot[i];
        slot->images = th_alloc(n, values * sizeof *slot->images);
        slot->labels = th_alloc(n, sizeof *slot->labels);
        slot->samples = th_alloc(n, sizeof(void *));
        slot->ids = th_alloc(n, sizeof *slot->ids);
        slot->occurrence = th_alloc(n, sizeof *slot->occurrence);
        slot->entry = th_alloc(n, sizeof *slot->entry);
        slot->known = th_alloc(n, sizeof *slot->known);
        slot->problem = th_alloc(n, sizeof *slot->problem);
        slot->size = th_alloc(n, sizeof *slot->size);
        for (int k = 0; k < l->o.n_parts; k++)
            if (!(slot->part[k] = th_alloc(n, most_part_bytes(l, k))))
                return THAW_E_MEMORY;
        if (!slot->size || !slot->images || !slot->labels || !slot->samples ||
            !slot->ids || !slot->occurrence || !slot->entry || !slot->known ||
            !slot->problem)
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

static void slots_release(struct th_loader *l)
{
    for (int i = 0; l->slot && i < l->n_slots; i++) {
        struct th_slot *slot = &l->slot[i];
        if (slot->problem)
            slot_clear(slot, l->batches.most);
        th_free(slot->images);
        th_free(slot->labels);
        th_free(slot->samples);
        th_free(slot->ids);
        th_free(slot->occurrence);
        th_free(slot->entry);
        th_free(slot->known);
        th_free(slot->problem);
        th_free(slot->size);
        for (int k = 0; k < TH_MAX_PARTS; k++)
            th_free(slot->part[k]);
    }
    th_free(l->slot);
}

/* Signals are for the program's own threads. */
static thaw_status start_workers(struct th_loader *l, int n)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    while (l->n_workers < n && !error) {
        error = pthread_create(&l->worker[l->n_workers], NULL, run_worker, l);
        l->n_workers += !error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return l->n_workers ? THAW_OK
                        : th_fail(THAW_E_FAIL, "cannot start a loader thread: %s",
                              strerror(error));
}

static thaw_status check_options(
    const struct th_dataset *data, const struct th_loader_options *o)
{
    TRY(th_preprocess_check(&o->preprocess));
    if (o->batch < 1)
        return th_fail(
            THAW_E_USAGE, "batch size %lld: give at least 1", (long long)o->batch);
    if (o->workers < 0 || o->workers > MAX_WORKERS)
        return th_fail(
            THAW_E_USAGE, "%d workers: give 1 to %d", o->workers, MAX_WORKERS);
    if (o->prefetch < 0 || o->prefetch > MAX_PREFETCH)
        return th_fail(THAW_E_USAGE, "%d batches decoded ahead: give 1 to %d",
            o->prefetch, MAX_PREFETCH);
    if (o->balanced && !o->shuffle)
        return th_fail(THAW_E_USAGE, "a balanced order is drawn: it needs shuffle");
    if (o->sizes.n > 1 && (o->balanced || !o->preprocess.fit))
        return th_fail(THAW_E_USAGE, "inputs of several sizes are for detectors, whose "
                                     "images are not balanced by class");
    if (o->knows && o->views < 1)
        return th_fail(THAW_E_USAGE, "endless views of images cannot be known: "
                                     "give a number of views");
    if (!data->split[o->split].n)
        return th_fail(
            THAW_E_DATA, "the dataset has no %s images", th_split_name(o->split));
    return THAW_OK;
}

static void plan_buckets(struct th_loader *l)
{
    if (l->o.sizes.n == 0)
        l->o.sizes = (struct th_sizes){.n = 1, .at = {l->o.preprocess.size}};
    for (int b = 0; b < l->o.sizes.n; b++) {
        l->preprocess[b] = l->o.preprocess;
        l->preprocess[b].size = l->o.sizes.at[b];
    }
}

static void allow_unreadable(struct th_loader *l)
{
    int64_t n = l->samples->n;
    double max_bad = l->o.max_bad == 0 ? DEFAULT_MAX_BAD : l->o.max_bad;
    int64_t most = (int64_t)floor(max_bad * (double)n + 1e-9);
    l->max_unreadable = max_bad <= 0 ? 0 : most ? most : 1;
}

static thaw_status loader_init(struct th_loader *l)
{
    size_t n = (size_t)l->samples->n;
    plan_buckets(l);
    allow_unreadable(l);
    TRY(th_batches_init(
        &l->batches, l->samples, &l->o.sizes, l->o.batch, l->o.join_single));
    l->n_slots = (l->o.prefetch ? l->o.prefetch : DEFAULT_PREFETCH) + 1;
    l->known = th_alloc(n, sizeof *l->known);
    l->sound = th_alloc(n, sizeof *l->sound);
    l->sizes = th_alloc(n, sizeof *l->sizes);
    if (!l->known || !l->sound || !l->sizes)
        return THAW_E_MEMORY;
    TRY(th_order_init(&l->order,
        l->o.balanced  ? TH_ORDER_BALANCED
        : l->o.shuffle ? TH_ORDER_SHUFFLED
                       : TH_ORDER_LISTED,
        l->samples, l->data->n_classes));
    TRY(init_slots(l));
    int workers = l->o.workers ? l->o.workers : th_cores();
    return start_workers(l, workers < MAX_WORKERS ? workers : MAX_WORKERS);
}

thaw_status th_loader_open(const struct th_dataset *data,
    const struct th_loader_options *options, struct th_loader **out)
{
    *out = NULL;
    TRY(check_options(data, options));
    struct th_loader *l = th_alloc(1, sizeof *l);
    if (!l)
        return THAW_E_MEMORY;
    l->data = data;
    l->samples = &data->split[options->split];
    l->o = *options;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->done, NULL);
    thaw_status status = loader_init(l);
    if (status != THAW_OK)
        th_loader_close(l);
    else
        *out = l;
    return status;
}

void th_loader_close(struct th_loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (int i = 0; i < l->n_workers; i++)
        pthread_join(l->worker[i], NULL);
    pthread_cond_destroy(&l->done);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->mutex);
    slots_release(l);
    th_order_release(&l->order);
    th_batches_release(&l->batches);
    th_free(l->known);
    th_free(l->sound);
    th_free(l->sizes);
    th_free(l->first_unreadable);
    th_free(l);
}
