/* SPDX-License-Identifier: Apache-2.0
 * Owns what a run says of its time and memory before its first step, whether there is
 * room for it, and what became of that in the end. */
#include "trainer.h"

#include "cores.h"
#include "mem.h"
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <sys/statvfs.h>

/* At most so many images, and seconds, are spent to learn what an image takes. */
enum { MOST_IMAGES = 8 };
static const double most_seconds = 0.05;

/* Steps that tell what a step takes; and the factor from which that is worth a line. */
enum { FIRST_STEPS = 3 };
static const double worth_a_line = 1.5;

/* ---- One image ---- */

struct image_cost {
    double seconds;
    int64_t bytes; /* of the largest met, decoded */
};

/* What a worker of the loader has. */
struct worker {
    struct th_image_reader reader;
    struct th_example_maker maker;
    float *out;
};

/* Read, decode and make an input of one sample; false where it cannot be read. */
static bool make_input(const struct th_loader_options *o, const struct th_sample *s,
    struct worker *worker, int64_t *bytes)
{
    const struct th_example input = {.preprocess = &o->preprocess,
        .augment = &o->augment,
        .view = {.seed = o->seed, .sample = s->id},
        .objects = s->objects,
        .n_objects = s->n_objects};
    const struct th_wanted wanted = th_example_wants(&input);
    struct th_picture *picture = &worker->reader.picture;
    bool unused;
    if (th_sample_read_part(s, &worker->reader, &wanted, &unused) != THAW_OK)
        return false;
    *bytes = (int64_t)picture->w * picture->h * 3;
    return th_example_make(&worker->maker, &input, picture, worker->out) == THAW_OK;
}

/* Samples spread over the training images, one after the other. */
static void time_images(const struct th_samples *all, const struct th_loader_options *o,
    struct worker *worker, struct image_cost *cost)
{
    double began = th_seconds(), took = 0;
    int64_t most = all->n < MOST_IMAGES ? all->n : MOST_IMAGES, read = 0;
    for (int64_t i = 0; i < most && took < most_seconds; i++) {
        int64_t bytes = 0;
        read += make_input(o, &all->sample[i * all->n / most], worker, &bytes);
        cost->bytes = bytes > cost->bytes ? bytes : cost->bytes;
        took = th_seconds() - began;
    }
    cost->seconds = read ? took / (double)read : 0;
    cost->seconds *= 1 + (TH_MOSAIC - 1) * o->augment.mosaic;
}

static thaw_status measure_image(struct thaw_trainer *t, struct image_cost *cost)
{
    const struct th_loader_options o = th_trainer_loader_options(t);
    struct worker worker = {
        .out = th_alloc(th_input_values(&t->net.model.input), sizeof(float))};
    if (!worker.out)
        return THAW_E_MEMORY;
    time_images(&t->data.split[TH_SPLIT_TRAIN], &o, &worker, cost);
    th_image_reader_release(&worker.reader);
    th_example_maker_release(&worker.maker);
    th_free(worker.out);
    return THAW_OK;
}

/* ---- The forecast ---- */

static int64_t params_bytes(const struct thaw_trainer *t)
{
    int64_t bytes = 0;
    for (int i = 0; i < t->net.model.n_params; i++)
        bytes += (int64_t)sizeof(float) * th_shape_count(&t->net.model.params[i].shape);
    return bytes;
}

/* What the phases count themselves is not part of the base: plans' memory was not touched
 * yet. */
static struct th_memory memory_of(const struct thaw_trainer *t,
    const struct th_phase_cost *now, const struct image_cost *image, int workers)
{
    int64_t resumed = t->at.global ? now->slot_bytes : 0; /* they have their values */
    return (struct th_memory){.params = params_bytes(t),
        .base = th_resident_bytes() - resumed,
        .loading = (1 + (t->val_loader != NULL)) * workers * image->bytes,
        .shadow = t->shadow.device != NULL};
}

/* A free gigabyte more than is needed says nothing; too little is worth a warning. */
static void check_memory(const struct thaw_trainer *t, const struct th_phase_cost *c)
{
    char needed[32], free[32];
    int64_t more = t->forecast.peak_bytes - th_resident_bytes();
    int64_t available = th_available_bytes(), arena = (int64_t)c->train.arena_bytes;
    if (!available || more <= available || !arena)
        return;
    double fits = (double)(available - (more - arena)) / (double)arena;
    int batch = (int)(fits * (double)c->batch);
    th_text_bytes((double)more, needed, sizeof needed);
    th_text_bytes((double)available, free, sizeof free);
    if (batch > 0)
        th_say(&t->events, "warning",
            "%s of memory needed, %s available: the system may end the run; try "
            "%s--batch %d",
            needed, free, t->recipe.keep == TH_KEEP_LITTLE ? "" : "--memory low or ",
            batch);
    else
        th_say(&t->events, "warning",
            "%s of memory needed, %s available: the system may end the run; try a "
            "smaller --image-size or --backbone",
            needed, free);
}

static void check_disk(const struct thaw_trainer *t, int64_t needed)
{
    struct statvfs fs;
    char wanted[32], free[32];
    if (t->at.global || statvfs(t->folder.path, &fs))
        return;
    double available = (double)fs.f_bavail * (double)fs.f_frsize;
    if (available >= (double)needed)
        return;
    th_say(&t->events, "warning",
        "%s: %s needed for checkpoints and models, %s free: make room", t->folder.path,
        th_text_bytes((double)needed, wanted, sizeof wanted),
        th_text_bytes(available, free, sizeof free));
}

static void say(const struct thaw_trainer *t, const double *epoch, int n)
{
    char peak[32], all[32], each[128] = "", one[32];
    size_t used = 0;
    for (int i = 0; i < n && used < sizeof each - sizeof one; i++)
        used += (size_t)snprintf(each + used, sizeof each - used, "%s%s",
            i ? ", then " : "", th_text_seconds(epoch[i], one, sizeof one));
    th_say(&t->events, "forecast", "%s an epoch, %s in all, peak memory %s", each,
        th_text_seconds(t->forecast.seconds, all, sizeof all),
        th_text_bytes((double)t->forecast.peak_bytes, peak, sizeof peak));
}

/* Phases from this one on that the run reaches: their costs and seconds an epoch. */
struct outlook {
    struct th_phase_cost *cost;
    double *epoch; /* of each phase: one that computes all; one that finds it kept */
    int n, n_epoch;
};

static thaw_status look_ahead(
    struct thaw_trainer *t, const struct th_rates *rates, struct outlook *o)
{
    struct th_trainer_forecast *f = &t->forecast;
    int64_t model = params_bytes(t); /* best.h5 as often as a checkpoint, at most */
    for (int i = (int)t->at.phase; i < t->recipe.timetable.n; i++) {
        struct th_phase_cost *c = &o->cost[o->n];
        if (t->recipe.timetable.epoch[i] >= t->recipe.epochs)
            break;
        TRY(th_trainer_phase_cost(t, i, c));
        double training = th_forecast_train(c, rates);
        double save = th_forecast_save(2 * model + c->slot_bytes, rates);
        double all = training + th_forecast_eval(c, c->val_images, rates) + save;
        double kept = th_forecast_kept(c, rates) + save;
        double full = c->full < c->epochs ? c->full : c->epochs;
        if (full > 0)
            o->epoch[o->n_epoch++] = all;
        if (c->epochs > full)
            o->epoch[o->n_epoch++] = kept;
        f->seconds += full * all + (c->epochs - full) * kept;
        if (o->n++ == 0)
            f->training = full > 0 ? training : kept;
    }
    f->seconds += th_forecast_eval(o->cost, th_trainer_n_test(t), rates) +
                  th_forecast_save(model, rates);
    return THAW_OK;
}

static thaw_status make_forecast(struct thaw_trainer *t, struct outlook *o)
{
    struct th_trainer_forecast *f = &t->forecast;
    struct image_cost image = {0};
    struct th_rates rates = {.cores = th_cores()};
    *f = (struct th_trainer_forecast){.began = th_seconds()};
    TRY(th_rates_measure(t->net.device, &rates));
    TRY(measure_image(t, &image));
    rates.image = image.seconds;
    rates.workers = t->recipe.workers;
    TRY(look_ahead(t, &rates, o));
    struct th_memory memory = memory_of(t, o->cost, &image, rates.workers);
    f->peak_bytes = th_forecast_peak(o->cost, o->n, &memory);
    int64_t until_now = th_peak_bytes();
    f->peak_bytes = f->peak_bytes > until_now ? f->peak_bytes : until_now;
    say(t, o->epoch, o->n_epoch);
    check_memory(t, o->cost);
    check_disk(t, th_forecast_disk(o->cost, o->n, &memory));
    return THAW_OK;
}

void th_trainer_forecast(struct thaw_trainer *t)
{
    size_t n = (size_t)t->recipe.timetable.n;
    struct outlook o = {0};
    if (t->forecast.began > 0)
        return;
    o.cost = th_alloc(n, sizeof *o.cost);
    o.epoch = th_alloc(2 * n, sizeof *o.epoch);
    if (!o.cost || !o.epoch || make_forecast(t, &o) != THAW_OK)
        th_say(&t->events, "warning", "no forecast: %s", thaw_error());
    th_free(o.cost);
    th_free(o.epoch);
}

/* ---- Afterwards ---- */

void th_trainer_check_forecast(struct thaw_trainer *t)
{
    struct th_trainer_forecast *f = &t->forecast;
    char now[32], before[32];
    if (f->checked || f->training <= 0 || t->timed_steps < FIRST_STEPS)
        return;
    f->checked = true;
    double steps = (double)th_trainer_steps_per_epoch(t);
    double ratio = t->train_seconds / (double)t->timed_steps * steps / f->training;
    if (ratio > worth_a_line || ratio * worth_a_line < 1)
        th_say(&t->events, "forecast",
            "the first steps tell of %s in all rather than %s",
            th_text_seconds(ratio * f->seconds, now, sizeof now),
            th_text_seconds(f->seconds, before, sizeof before));
}

void th_trainer_compare_forecast(const struct thaw_trainer *t)
{
    const struct th_trainer_forecast *f = &t->forecast;
    char before[32], after[32], bytes_before[32], bytes_after[32];
    if (f->seconds <= 0)
        return;
    th_say(&t->events, "forecast", "%s and %s; it took %s and %s",
        th_text_seconds(f->seconds, before, sizeof before),
        th_text_bytes((double)f->peak_bytes, bytes_before, sizeof bytes_before),
        th_text_seconds(th_seconds() - f->began, after, sizeof after),
        th_text_bytes((double)th_peak_bytes(), bytes_after, sizeof bytes_after));
}
