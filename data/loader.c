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
#include "loader.h"

#include "cores.h"
#include "error.h"
#include "mem.h"
#include "order.h"
#include "rng.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { REPEAT_SHIFT = 32 }; /* of th_batch.occurrence */
enum { CHANNELS = 3, DEFAULT_PREFETCH = 2, MAX_WORKERS = 256, MAX_PREFETCH = 64 };
static const double DEFAULT_MAX_BAD = 0.01;

/* Something to tell about a sample, found while an item was made. */
struct problem {
    struct problem *next;
    int64_t sample; /* index in the split */
    bool replaced;
    char *reason;
};

struct slot {
    int64_t n, n_done, n_replaced;
    float *images;                    /* [capacity][3][N][N] */
    int32_t *labels;                  /* [capacity] */
    const struct th_sample **samples; /* [capacity] */
    int64_t *ids;                     /* [capacity] */
    int64_t *occurrence;              /* [capacity] */
    int64_t *entry;                   /* [capacity] */
    bool *known;                      /* [capacity] */
    struct problem **problem;         /* [capacity], in the order they were met */
    thaw_status status;               /* of the first item that failed */
    int64_t failed_item;
    char *error;
};

struct th_loader {
    const struct th_dataset *data;
    const struct th_samples *samples;
    struct th_loader_options o;
    int64_t n_batches, capacity; /* batches an epoch; most images a batch */
    struct th_order order;       /* of the epoch */
    bool *known;                 /* [n], already reported */
    atomic_bool *sound;          /* [n], once read to its end without fault */
    int64_t n_unreadable, max_unreadable;
    char *first_unreadable; /* its sentence */
    int n_slots;
    struct slot *slot; /* [n_slots], batch b in slot b % n_slots */

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

int64_t th_loader_n_batches(const struct th_loader *l)
{
    return l->n_batches;
}

int64_t th_loader_max_batch(const struct th_loader *l)
{
    return l->capacity;
}

int64_t th_loader_n_unreadable(const struct th_loader *l)
{
    return l->n_unreadable;
}

static int64_t batch_size(const struct th_loader *l, int64_t batch)
{
    int64_t from = batch * l->o.batch;
    return batch == l->n_batches - 1 ? l->samples->n - from : l->o.batch;
}

/* ---- one item, in a worker ---- */

static thaw_status note_problem(
    struct problem **list, int64_t sample, bool replaced, const char *reason)
{
    struct problem *p = th_alloc(1, sizeof *p);
    char *copy = p ? th_strdup(reason) : NULL;
    if (!copy) {
        th_free(p);
        return THAW_E_MEMORY;
    }
    *p = (struct problem){.sample = sample, .replaced = replaced, .reason = copy};
    while (*list)
        list = &(*list)->next;
    *list = p;
    return THAW_OK;
}

/* With a number of views they are what tells an image's variants apart; without one each
 * epoch, and each time in it, has its own. */
static struct th_view variant_of(
    const struct th_loader *l, int64_t sample, int64_t occurrence)
{
    struct th_view v = {.seed = l->o.seed,
        .epoch = l->epoch,
        .sample = l->samples->sample[sample].id,
        .occurrence = occurrence};
    if (l->o.views > 0) {
        int64_t repeat = occurrence >> REPEAT_SHIFT;
        v.epoch = (l->epoch + repeat) % l->o.views;
        v.occurrence -= repeat << REPEAT_SHIFT;
    }
    return v;
}

static void label_item(const struct th_loader *l, struct slot *slot, int64_t item,
    int64_t sample, int64_t occurrence)
{
    const struct th_sample *s = &l->samples->sample[sample];
    slot->labels[item] = s->label;
    slot->samples[item] = s;
    slot->ids[item] = s->id;
    slot->occurrence[item] = occurrence;
}

/* What a worker keeps from item to item: nothing is allocated for an image but libjpeg's
 * own, once it has met the largest. */
struct bench {
    struct th_image_reader reader;
    struct th_example_maker maker;
};

/* Decode a sample and make the item's input of it. */
static thaw_status make_input(struct th_loader *l, struct slot *slot, int64_t item,
    int64_t sample, int64_t occurrence, struct bench *bench)
{
    const struct th_sample *s = &l->samples->sample[sample];
    size_t n = (size_t)l->o.preprocess.size;
    const struct th_example input = {
        &l->o.preprocess, &l->o.augment, variant_of(l, sample, occurrence)};
    struct th_wanted wanted = th_example_wants(&input);
    bool damaged = false;
    wanted.sound = atomic_load(&l->sound[sample]);
    thaw_status status = th_sample_read_part(s, &bench->reader, &wanted, &damaged);
    atomic_store(&l->sound[sample], status == THAW_OK && !damaged);
    if (status == THAW_OK && damaged)
        status = note_problem(&slot->problem[item], sample, false,
            "damaged near its end; used all the same");
    if (status == THAW_OK)
        status = th_example_make(&bench->maker, &input, &bench->reader.picture,
            slot->images + (size_t)item * CHANNELS * n * n);
    label_item(l, slot, item, sample, occurrence);
    return status;
}

/* Another image of the same class: the first readable one from a drawn place on. */
static thaw_status make_substitute(struct th_loader *l, struct slot *slot, int64_t item,
    int64_t sample, int64_t repeat, struct bench *bench)
{
    const struct th_sample *s = &l->samples->sample[sample];
    int32_t class = s->label < 0 ? 0 : s->label;
    const int64_t *member = l->order.member + l->order.class_from[class];
    int64_t n = l->order.class_from[class + 1] - l->order.class_from[class];
    uint64_t key = th_rng_mix_name(l->o.seed, "substitute");
    key = th_rng_mix(th_rng_mix(key, (uint64_t)l->epoch), (uint64_t)s->id);
    int64_t from = (int64_t)th_rng_below(key, 0, (uint64_t)n) + repeat;
    int64_t occurrence = repeat << REPEAT_SHIFT | (1 + s->id);
    for (int64_t i = 0; i < n; i++) {
        int64_t other = member[(from + i) % n];
        if (other == sample)
            continue;
        thaw_status status = make_input(l, slot, item, other, occurrence, bench);
        if (status == THAW_OK || status == THAW_E_MEMORY)
            return status;
        TRY(note_problem(&slot->problem[item], other, true, thaw_error()));
    }
    return th_fail(THAW_E_DATA,
        "none of the %lld images of class \"%s\" can be read: %s", (long long)n,
        s->label < 0 ? "" : l->data->classes[class], slot->problem[item]->reason);
}

static bool is_replaced(int64_t occurrence)
{
    return occurrence & ((INT64_C(1) << REPEAT_SHIFT) - 1);
}

static thaw_status make_item(
    struct th_loader *l, int64_t batch, int64_t item, struct bench *bench)
{
    struct slot *slot = &l->slot[batch % l->n_slots];
    int64_t place = batch * l->o.batch + item, sample = l->order.sample[place];
    int64_t repeat = l->order.repeat ? l->order.repeat[place] : 0;
    int64_t view = variant_of(l, sample, repeat << REPEAT_SHIFT).epoch;
    slot->entry[item] = l->o.views > 0 ? sample * l->o.views + view : -1;
    slot->known[item] = l->o.knows && l->o.knows(l->o.knows_context, slot->entry[item]);
    if (slot->known[item]) {
        label_item(l, slot, item, sample, repeat << REPEAT_SHIFT);
        return THAW_OK;
    }
    thaw_status status =
        make_input(l, slot, item, sample, repeat << REPEAT_SHIFT, bench);
    if (status == THAW_OK || status == THAW_E_MEMORY)
        return status;
    TRY(note_problem(&slot->problem[item], sample, true, thaw_error()));
    slot->entry[item] = -1;
    return make_substitute(l, slot, item, sample, repeat, bench);
}

/* ---- the ring; the mutex is held ---- */

static void slot_clear(struct slot *slot, int64_t capacity)
{
    for (int64_t i = 0; i < capacity; i++)
        while (slot->problem[i]) {
            struct problem *p = slot->problem[i];
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
    struct slot *slot = &l->slot[l->next_batch % l->n_slots];
    if (l->next_item == 0) {
        slot_clear(slot, l->capacity);
        slot->n = batch_size(l, l->next_batch);
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
    struct slot *slot = &l->slot[batch % l->n_slots];
    if (status != THAW_OK && (slot->status == THAW_OK || item < slot->failed_item)) {
        th_free(slot->error);
        slot->error = th_strdup(thaw_error());
        slot->status = status;
        slot->failed_item = item;
    }
    slot->n_replaced += is_replaced(slot->occurrence[item]);
    slot->n_done++;
    l->n_busy--;
    pthread_cond_signal(&l->done);
}

static void *run_worker(void *argument)
{
    struct th_loader *l = argument;
    struct bench bench = {0};
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
        thaw_status status = make_item(l, batch, item, &bench);
        pthread_mutex_lock(&l->mutex);
        finish_item(l, batch, item, status);
    }
    pthread_mutex_unlock(&l->mutex);
    th_image_reader_release(&bench.reader);
    th_example_maker_release(&bench.maker);
    return NULL;
}

/* ---- the caller's thread ---- */

static void report(struct th_loader *l, const struct problem *p)
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
static thaw_status report_problems(struct th_loader *l, const struct slot *slot)
{
    for (int64_t i = 0; i < slot->n; i++)
        for (const struct problem *p = slot->problem[i]; p; p = p->next) {
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

thaw_status th_loader_next(struct th_loader *l, struct th_batch *out)
{
    *out = (struct th_batch){0};
    pthread_mutex_lock(&l->mutex);
    int64_t batch = l->to_give;
    struct slot *slot = &l->slot[batch % l->n_slots];
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
    *out = (struct th_batch){.n = slot->n,
        .index = batch,
        .n_replaced = slot->n_replaced,
        .images = slot->images,
        .labels = slot->labels,
        .samples = slot->samples,
        .ids = slot->ids,
        .occurrence = slot->occurrence,
        .entry = slot->entry,
        .known = slot->known};
    return THAW_OK;
}

thaw_status th_loader_start(struct th_loader *l, int64_t epoch, int64_t first_batch)
{
    if (epoch < 0 || first_batch < 0 || first_batch > l->n_batches)
        return th_fail(THAW_E_USAGE, "cannot start at epoch %lld, batch %lld of %lld",
            (long long)epoch, (long long)first_batch, (long long)l->n_batches);
    pthread_mutex_lock(&l->mutex);
    l->end = 0; /* nothing more is taken */
    while (l->n_busy)
        pthread_cond_wait(&l->done, &l->mutex);
    l->epoch = epoch;
    th_order_draw(&l->order, l->o.seed, epoch);
    l->next_batch = l->kept = l->to_give = first_batch;
    l->next_item = 0;
    l->end = l->n_batches;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    return THAW_OK;
}

/* ---- opening and closing ---- */

static thaw_status init_slots(struct th_loader *l)
{
    size_t side = (size_t)l->o.preprocess.size, n = (size_t)l->capacity;
    l->slot = th_alloc((size_t)l->n_slots, sizeof *l->slot);
    if (!l->slot)
        return THAW_E_MEMORY;
    for (int i = 0; i < l->n_slots; i++) {
        struct slot *slot = &l->slot[i];
        slot->images = th_alloc(n, CHANNELS * side * side * sizeof *slot->images);
        slot->labels = th_alloc(n, sizeof *slot->labels);
        slot->samples = th_alloc(n, sizeof(void *));
        slot->ids = th_alloc(n, sizeof *slot->ids);
        slot->occurrence = th_alloc(n, sizeof *slot->occurrence);
        slot->entry = th_alloc(n, sizeof *slot->entry);
        slot->known = th_alloc(n, sizeof *slot->known);
        slot->problem = th_alloc(n, sizeof *slot->problem);
        if (!slot->images || !slot->labels || !slot->samples || !slot->ids ||
            !slot->occurrence || !slot->entry || !slot->known || !slot->problem)
            return THAW_E_MEMORY;
    }
    return THAW_OK;
}

static void slots_release(struct th_loader *l)
{
    for (int i = 0; l->slot && i < l->n_slots; i++) {
        struct slot *slot = &l->slot[i];
        if (slot->problem)
            slot_clear(slot, l->capacity);
        th_free(slot->images);
        th_free(slot->labels);
        th_free(slot->samples);
        th_free(slot->ids);
        th_free(slot->occurrence);
        th_free(slot->entry);
        th_free(slot->known);
        th_free(slot->problem);
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
    if (o->knows && o->views < 1)
        return th_fail(THAW_E_USAGE, "endless views of images cannot be known: "
                                     "give a number of views");
    if (!data->split[o->split].n)
        return th_fail(
            THAW_E_DATA, "the dataset has no %s images", th_split_name(o->split));
    return THAW_OK;
}

static void plan_batches(struct th_loader *l)
{
    int64_t n = l->samples->n, batch = l->o.batch;
    l->n_batches = n / batch + (n % batch > 0);
    l->capacity = batch < n ? batch : n;
    if (l->o.join_single && n % batch == 1 && n > 1 && batch > 1) {
        l->n_batches--;
        l->capacity++;
    }
    double max_bad = l->o.max_bad == 0 ? DEFAULT_MAX_BAD : l->o.max_bad;
    int64_t most = (int64_t)floor(max_bad * (double)n + 1e-9);
    l->max_unreadable = max_bad <= 0 ? 0 : most ? most : 1;
}

static thaw_status loader_init(struct th_loader *l)
{
    size_t n = (size_t)l->samples->n;
    plan_batches(l);
    l->n_slots = (l->o.prefetch ? l->o.prefetch : DEFAULT_PREFETCH) + 1;
    l->known = th_alloc(n, sizeof *l->known);
    l->sound = th_alloc(n, sizeof *l->sound);
    if (!l->known || !l->sound)
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
    th_free(l->known);
    th_free(l->sound);
    th_free(l->first_unreadable);
    th_free(l);
}
