/* SPDX-License-Identifier: Apache-2.0
 * Owns the optimizer steps of an epoch: inputs in (trainer_inputs.c), one run of a plan, loss
 * and flags out; with --accumulate N runs of plans that gather, and one of the plan that updates.
 * Steps allocate nothing; a line of metrics.jsonl does. */
#include "trainer.h"

#include "report.h"

#include <math.h>

/* So many steps in a row that are not finite end the run. */
enum { TH_MOST_IN_A_ROW = 10 };

/* What a run of the plan says: the loss of a plan that has one, and whether the device skips
 * the step, because that was not finite or, with --clip, the norm of its gradients. */
static thaw_status get_outcome(
    struct thaw_trainer *t, struct th_plan *plan, float *loss, bool *skipped)
{
    struct th_scalars scalars = {0};
    struct th_fetch out[2];
    int n = 0;
    if (th_plan_has(plan, "scalars"))
        out[n++] = (struct th_fetch){"scalars", &scalars};
    if (t->update != plan)
        out[n++] = (struct th_fetch){"loss", loss};
    TRY(th_plan_get_all(plan, out, n));
    *skipped = scalars.skip > 0 || scalars.n_skipped > 0 || !isfinite(*loss);
    return THAW_OK;
}

static thaw_status count(struct thaw_trainer *t, const struct th_group *g, double loss)
{
    struct th_position *at = &t->at;
    at->step++;
    at->global++;
    at->last_loss = loss;
    at->in_a_row = g->skipped ? at->in_a_row + 1 : 0;
    at->skipped += g->skipped;
    at->epoch_skipped += g->skipped;
    if (!g->skipped) {
        at->loss_sum += loss * (double)g->images;
        at->images += g->images;
    }
    if (at->in_a_row < TH_MOST_IN_A_ROW)
        return THAW_OK;
    return th_fail(THAW_E_DIVERGED,
        "step %lld: loss or gradients were not finite %d times in a row",
        (long long)at->global, TH_MOST_IN_A_ROW);
}

void th_trainer_say_lost_line(struct thaw_trainer *t, thaw_status status)
{
    if (status != THAW_OK && !t->log_failed)
        th_say(&t->events, "warning",
            "going on without lines that cannot be logged: %s", thaw_error());
    t->log_failed = status != THAW_OK;
}

static void log_step(struct thaw_trainer *t, double loss, float lr)
{
    if (t->probing)
        return;
    th_trainer_say_lost_line(
        t, th_run_log_step(&t->folder, t->at.epoch, t->at.global, loss, (double)lr));
    th_trainer_step_events(t, loss, (double)lr);
}

/* One batch: a whole step, or in a group its share of the gradients: each image's times
 * its weight, which the update divides by the group's sum of weights. */
static thaw_status run_batch(
    struct thaw_trainer *t, const struct th_batch *b, struct th_group *g, bool *again)
{
    float loss = 0;
    double weight = 0;
    const struct th_train_plan *p = th_trainer_plan_for(t, b);
    if (!p)
        return th_fail(THAW_E_FAIL, "no plan for a batch of %lld", (long long)b->n);
    TRY(th_trainer_set_inputs(t, p, b, g, &weight, again));
    if (*again)
        return THAW_OK;
    TRY(th_plan_run(p->plan));
    TRY(th_trainer_send_next(t, g));
    TRY(get_outcome(t, p->plan, &loss, &g->skipped));
    g->batches++;
    g->images += b->n;
    g->weight += weight;
    g->loss += weight * (double)loss;
    return THAW_OK;
}

static thaw_status finish_group(struct thaw_trainer *t, struct th_group *g)
{
    float group_loss = (float)(g->loss / g->weight);
    double loss = (double)group_loss;
    float lr = th_lr_at(&t->lr, t->at.global);
    if (t->update) {
        TRY(th_trainer_set_scalars(t, t->update, g, 1, 1 / g->weight));
        TRY(th_plan_run(t->update));
        TRY(get_outcome(t, t->update, &group_loss, &g->skipped));
    }
    thaw_status status = count(t, g, loss);
    if (t->at.global % t->recipe.log_every == 0)
        log_step(t, loss, lr);
    return status;
}

static void say_progress(struct thaw_trainer *t)
{
    if (!t->events.progress || !t->timed_steps)
        return;
    double each = t->train_seconds / (double)t->timed_steps;
    const struct thaw_progress p = {.epoch = (int)t->at.epoch,
        .epochs = t->recipe.epochs,
        .step = t->at.step,
        .steps = th_trainer_steps_per_epoch(t),
        .loss = t->at.last_loss,
        .images_per_s = (double)t->timed_images / t->train_seconds,
        .seconds_left = each * (double)(t->lr.total - t->at.global)};
    t->events.progress(t->events.context, &p);
}

/* The next group of batches and its step; *more false at the epoch's end. */
static thaw_status next_step(struct thaw_trainer *t, bool *more)
{
    struct th_group g = {0};
    struct th_batch batch = {.n = 1};
    bool again = false;
    double began = th_seconds();
    while (batch.n && g.batches < t->recipe.accumulate) {
        TRY(th_loader_next(t->loader, &batch));
        if (batch.n)
            TRY(run_batch(t, &batch, &g, &again));
        if (again)
            TRY(th_loader_start(t->loader, t->at.epoch, batch.index));
    }
    *more = g.batches > 0;
    if (!*more)
        return THAW_OK;
    TRY(finish_group(t, &g));
    t->train_seconds += th_seconds() - began;
    t->timed_images += g.images;
    t->timed_steps++;
    return THAW_OK;
}

thaw_status th_trainer_steps(struct thaw_trainer *t)
{
    int64_t steps = th_trainer_steps_per_epoch(t);
    double began = th_seconds();
    if (t->step_limit && t->step_limit < steps)
        steps = t->step_limit;
    bool more = t->at.step < steps;
    t->sent.lot = 0;
    t->train_seconds = 0;
    t->timed_images = t->timed_steps = 0;
    for (int b = 0; b < t->n_buckets; b++)
        if (t->bucket[b].cut.cache)
            th_feature_cache_refresh(t->bucket[b].cut.cache);
    if (more)
        TRY(th_loader_start(t->loader, t->at.epoch, t->at.step * t->recipe.accumulate));
    while (more && t->at.step < steps && !atomic_load(&t->stop)) {
        TRY(next_step(t, &more));
        th_trainer_check_forecast(t);
        say_progress(t);
        TRY(th_trainer_save_if_due(t));
    }
    t->epoch_seconds = th_seconds() - began;
    return THAW_OK;
}
