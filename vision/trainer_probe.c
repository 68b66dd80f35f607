/* SPDX-License-Identifier: Apache-2.0
 * Owns the forecast from a few real iterations of each phase, of a run that is then given up:
 * nothing of it stays. The forecast of every run, trainer_forecast.c's, runs no step. */
#include "trainer.h"

#include "mem.h"
#include "report.h"

#include <math.h>
#include <unistd.h>

/* First steps touch new memory and wait for the first images. */
enum { WARM_UP = 2, VALIDATION_BATCHES = 5 };

/* On from where the phase is, so many steps or to the epoch's end. */
static thaw_status run_steps(struct thaw_trainer *t, int64_t steps)
{
    t->step_limit = t->at.step + steps;
    return th_trainer_steps(t);
}

static thaw_status time_steps(struct thaw_trainer *t, int iterations, double *seconds)
{
    if (th_trainer_steps_per_epoch(t) > WARM_UP)
        TRY(run_steps(t, WARM_UP));
    TRY(run_steps(t, iterations));
    *seconds = t->timed_steps ? t->train_seconds / (double)t->timed_steps : 0;
    return THAW_OK;
}

/* Seconds of a validation, from its first batches. */
static thaw_status time_validation(struct thaw_trainer *t, double *seconds)
{
    struct th_batch b = {.n = 1};
    int64_t images = 0;
    *seconds = 0;
    if (!t->val_loader)
        return THAW_OK;
    double began = th_seconds();
    TRY(th_loader_start(t->val_loader, 0, 0));
    for (int i = 0; i < VALIDATION_BATCHES && b.n; i++) {
        TRY(th_loader_next(t->val_loader, &b));
        if (b.n)
            TRY(th_evaluator_run(&t->evaluators.of[b.bucket], b.images, b.n));
        images += b.n;
    }
    if (images)
        *seconds = (th_seconds() - began) * (double)t->data.split[TH_SPLIT_VAL].n /
                   (double)images;
    return THAW_OK;
}

static int64_t store_bytes(const struct thaw_trainer *t)
{
    int64_t bytes = 0;
    for (int i = 0; i < t->net.store.n; i++)
        bytes += (int64_t)t->net.store.states[i].bytes;
    return bytes;
}

/* Enter the phase and see what it takes; its epochs' seconds are added. */
static thaw_status probe_phase(struct thaw_trainer *t, int phase, int iterations,
    const struct th_rates *rates, thaw_forecast *f)
{
    const struct th_timetable *table = &t->recipe.timetable;
    int end = phase + 1 < table->n && table->epoch[phase + 1] < t->recipe.epochs
                  ? table->epoch[phase + 1]
                  : t->recipe.epochs;
    double step = 0, validation = 0;
    t->at.epoch = table->epoch[phase];
    t->at.step = 0;
    TRY(th_trainer_enter(t));
    TRY(time_steps(t, iterations, &step));
    TRY(time_validation(t, &validation));
    int64_t saved = store_bytes(t), now = th_resident_bytes();
    int64_t saving = now + saved - (int64_t)t->net.arena.bytes; /* th_forecast_peak's */
    now = saving > now ? saving : now;
    double epoch = step * (double)th_trainer_steps_per_epoch(t) + validation +
                   th_forecast_save(saved, rates);
    f->seconds += (end - table->epoch[phase]) * epoch;
    f->peak_bytes = now > f->peak_bytes ? now : f->peak_bytes;
    return THAW_OK;
}

static thaw_status probe(struct thaw_trainer *t, int iterations, thaw_forecast *f)
{
    const struct th_timetable *table = &t->recipe.timetable;
    struct th_rates rates = {0};
    TRY(th_rates_measure(t->net.device, &rates));
    for (int i = 0; i < table->n && table->epoch[i] < t->recipe.epochs; i++) {
        TRY(probe_phase(t, i, iterations, &rates, f));
        if (atomic_load(&t->stop))
            return th_fail(THAW_E_FAIL, "the forecast was stopped");
    }
    int64_t until_now = th_peak_bytes();
    f->peak_bytes = until_now > f->peak_bytes ? until_now : f->peak_bytes;
    return THAW_OK;
}

/* What a run writes beside the files that th_run_folder_abandon knows. */
static void forget(const struct thaw_trainer *t)
{
    char *unreadable = th_run_folder_path(&t->folder, "unreadable.txt");
    if (unreadable)
        unlink(unreadable);
    unlink(t->folder.metrics);
    th_free(unreadable);
}

thaw_status thaw_trainer_forecast(thaw_trainer *t, int iterations, thaw_forecast *out)
{
    *out = (thaw_forecast){0};
    t->probing = true;
    t->saved_at = (double)INFINITY; /* no checkpoint is due */
    t->recipe.cache = TH_CACHE_OFF; /* later epochs from a cache are not foreseen */
    thaw_status status = probe(t, iterations, out);
    forget(t);
    th_run_folder_abandon(&t->folder);
    return status;
}
