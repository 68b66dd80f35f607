/* SPDX-License-Identifier: Apache-2.0
 * Owns the optimizer steps of an epoch: inputs in, one run of a plan, loss and flags out;
 * with --accumulate N runs of plans that gather, and one of the plan that updates.
 * Steps allocate nothing; a line of metrics.jsonl does. */
#include "trainer.h"

#include "report.h"
#include "rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* So many steps in a row that are not finite end the run. */
enum { TH_MOST_IN_A_ROW = 10 };

static const struct th_train_plan *plan_for(struct thaw_trainer *t, int64_t batch)
{
    for (int i = 0; i < TH_MAX_PLANS; i++)
        if (t->plans[i].plan && t->plans[i].batch == batch)
            return &t->plans[i];
    return NULL;
}

/* 64 bits a sample for every random layer: a function of (seed, epoch, sample id,
 * occurrence in the epoch). */
static void make_keys(struct thaw_trainer *t, const struct th_batch *b)
{
    uint64_t epoch =
        th_rng_mix(th_rng_mix_name(t->recipe.seed, "sample"), (uint64_t)t->at.epoch);
    for (int64_t i = 0; i < b->n; i++) {
        uint64_t key = th_rng_mix(
            th_rng_mix(epoch, (uint64_t)b->ids[i]), (uint64_t)b->occurrence[i]);
        memcpy(t->keys + 2 * i, &key, sizeof key);
    }
}

/* What is mixed with what: a function of (seed, epoch, optimizer step, batch). */
static void mix(struct thaw_trainer *t, const struct th_batch *b, const float **images,
    const float **target)
{
    uint64_t key = th_rng_mix_name(t->recipe.seed, "mix");
    key = th_rng_mix(th_rng_mix(key, (uint64_t)t->at.epoch), (uint64_t)t->at.global);
    th_mixer_apply(
        &t->mixer, th_rng_mix(key, (uint64_t)b->index), b->n, images, target);
}

/* The batches of one optimizer step, so far. */
struct group {
    int64_t batches, images;
    double weight; /* images, or the sum of their weights */
    double loss;   /* that times the batches' losses, summed */
    bool skipped;
};

/* The images, or what the cut makes of them or knows of them. *again: what it knew is
 * damaged, and nothing is set. */
static thaw_status set_images(struct thaw_trainer *t, const struct th_train_plan *p,
    const struct th_batch *b, const float *images, bool *again)
{
    *again = false;
    if (!p->above && b->index == t->sent)
        return th_plan_take(p->plan, "image");
    if (!p->above)
        return th_plan_set(p->plan, "image", images);
    TRY(th_cut_run(&t->cut, b, images, &t->events, again));
    return *again ? THAW_OK : th_cut_set(&t->cut, p->plan, b->n, b->n);
}

/* Into t->target. *weight: what the batch's loss is the mean over: its images, or their
 * weights' sum. Weighing comes before mixing, which is linear: the result is the same. */
static void make_targets(
    struct thaw_trainer *t, const struct th_batch *b, double *weight)
{
    int n_classes = t->net.model.n_classes;
    const int32_t *labels = t->mixer.target ? NULL : b->labels;
    *weight = (double)b->n;
    if (t->reader.detector)
        return;
    if (t->pos_weight) {
        th_many_targets(b->samples, b->n, n_classes, t->recipe.smoothing, t->target);
        return;
    }
    th_targets(b->labels, (int)b->n, n_classes, t->recipe.smoothing, t->target);
    *weight =
        th_class_weights_apply(t->class_weight, n_classes, labels, b->n, t->target);
}

/* A detector's: what the loader made of the objects. */
static thaw_status set_rows(
    struct thaw_trainer *t, struct th_plan *plan, const struct th_batch *b)
{
    const struct th_detector *d = t->reader.detector;
    th_reader_weights(&t->reader, b->part[0], b->n, t->weight);
    for (int k = 0; k < d->n_targets; k++)
        if (th_plan_has(plan, d->target[k].name))
            TRY(th_plan_set(plan, d->target[k].name, b->part[k]));
    return th_plan_has(plan, "weight") ? th_plan_set(plan, "weight", t->weight)
                                       : THAW_OK;
}

static thaw_status set_targets(struct thaw_trainer *t, struct th_plan *plan,
    const struct th_batch *b, const float *target)
{
    if (t->reader.detector)
        return set_rows(t, plan, b);
    if (th_plan_has(plan, "target"))
        TRY(th_plan_set(plan, "target", target));
    return th_plan_has(plan, "pos_weight")
               ? th_plan_set(plan, "pos_weight", t->pos_weight)
               : THAW_OK;
}

static thaw_status set_inputs(struct thaw_trainer *t, const struct th_train_plan *p,
    const struct th_batch *b, double *weight, bool *again)
{
    struct th_plan *plan = p->plan;
    const float *images = b->images, *target = t->target;
    make_targets(t, b, weight);
    mix(t, b, &images, &target);
    TRY(set_images(t, p, b, images, again));
    if (*again)
        return THAW_OK;
    TRY(set_targets(t, plan, b, target));
    if (!th_plan_has(plan, "keys"))
        return THAW_OK;
    make_keys(t, b);
    return th_plan_set(plan, "keys", t->keys);
}

/* While the device works: the images of the next batch, where they are ready and nothing is
 * mixed into them. */
static thaw_status send_next(struct thaw_trainer *t)
{
    struct th_batch next;
    bool sent;
    t->sent = -1;
    if (t->mixer.images || !th_loader_peek(t->loader, &next))
        return THAW_OK;
    const struct th_train_plan *p = plan_for(t, next.n);
    if (!p || p->above)
        return THAW_OK;
    TRY(th_plan_send(p->plan, "image", next.images, &sent));
    t->sent = sent ? next.index : -1;
    return THAW_OK;
}

/* The scalars' state on the device; absent where nothing is updated. */
static thaw_status put_scalars(
    struct thaw_trainer *t, const struct group *g, double loss_scale, double clip)
{
    const struct th_scalars scalars = {.lr = th_lr_at(&t->lr, t->at.global),
        .skip = g->skipped,
        .clip = (float)clip,
        .loss_scale = (float)loss_scale,
        .gathered = (float)g->batches,
        .momentum = th_momentum_at(&t->lr, t->at.global),
        .ema_decay = t->recipe.ema_decay};
    int id = th_store_find(&t->net.store, "scalars");
    if (id < 0)
        return THAW_OK;
    assert(t->net.store.states[id].bytes == sizeof scalars);
    return th_store_put(&t->net.store, id, (const float *)&scalars);
}

/* Whether the device skips the step: its loss was not finite, or with --clip the norm
 * of its gradients. */
static thaw_status get_skipped(struct thaw_trainer *t, double loss, bool *skipped)
{
    struct th_scalars scalars = {0};
    int id = th_store_find(&t->net.store, "scalars");
    if (id >= 0)
        TRY(th_store_get(&t->net.store, id, (float *)&scalars));
    *skipped = scalars.skip > 0 || scalars.n_skipped > 0 || !isfinite(loss);
    return THAW_OK;
}

static thaw_status count(struct thaw_trainer *t, const struct group *g, double loss)
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
    struct thaw_trainer *t, const struct th_batch *b, struct group *g, bool *again)
{
    float loss = 0;
    double weight = 0;
    const struct th_train_plan *p = plan_for(t, b->n);
    if (!p)
        return th_fail(THAW_E_FAIL, "no plan for a batch of %lld", (long long)b->n);
    TRY(set_inputs(t, p, b, &weight, again));
    if (*again)
        return THAW_OK;
    TRY(put_scalars(t, g, t->update ? weight : 1, 1));
    TRY(th_plan_run(p->plan));
    TRY(send_next(t));
    TRY(th_plan_get(p->plan, "loss", &loss));
    TRY(get_skipped(t, (double)loss, &g->skipped));
    g->batches++;
    g->images += b->n;
    g->weight += weight;
    g->loss += weight * (double)loss;
    return THAW_OK;
}

static thaw_status finish_group(struct thaw_trainer *t, struct group *g)
{
    double loss = (double)(float)(g->loss / g->weight);
    float lr = th_lr_at(&t->lr, t->at.global);
    if (t->update) {
        TRY(put_scalars(t, g, 1, 1 / g->weight));
        TRY(th_plan_run(t->update));
        TRY(get_skipped(t, loss, &g->skipped));
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
    struct group g = {0};
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
    t->sent = -1;
    t->train_seconds = 0;
    t->timed_images = t->timed_steps = 0;
    if (t->cut.cache)
        th_feature_cache_refresh(t->cut.cache);
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
