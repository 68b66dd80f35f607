/* SPDX-License-Identifier: Apache-2.0
 * Owns what a phase of the timetable takes: work and memory of its plans, for forecasts. */
#include "trainer.h"

static int64_t slot_bytes(const struct thaw_trainer *t, const struct th_store *s)
{
    int64_t bytes = 0;
    for (int i = 0; i < s->n; i++)
        if (s->states[i].name && th_model_param(&t->net.model, s->states[i].name) < 0)
            bytes += (int64_t)s->states[i].bytes;
    return bytes;
}

void th_trainer_add_stats(
    struct th_plan_stats *sum, const struct th_plan_stats *one, double share)
{
    size_t arena = sum->arena_bytes;
    sum->work_macs += share * one->work_macs;
    sum->work_bytes += share * one->work_bytes;
    sum->derived_bytes += one->derived_bytes;
    sum->kept_bytes += one->kept_bytes;
    sum->arena_bytes = one->arena_bytes > arena ? one->arena_bytes : arena;
}

/* The bucket's part of an epoch's images: what the plan for `batch` of them adds to that for
 * full batches. */
static double share_of(const struct thaw_trainer *t, int bucket, int64_t batch)
{
    double n = (double)t->data.split[TH_SPLIT_TRAIN].n;
    return (double)t->bucket[bucket].images[TH_SPLIT_TRAIN] / n *
           (double)th_trainer_batch(t) / (double)batch;
}

static thaw_status plan_cost(const struct thaw_trainer *t, const struct th_freeze *f,
    struct th_store *store, struct th_arena *arena, struct th_phase_cost *c)
{
    struct th_plan *update = NULL;
    for (int b = 0; b < t->n_buckets; b++) {
        int batch = th_trainer_batch(t);
        const struct th_plan_spec spec = th_trainer_plan_spec(t, f, b, batch);
        struct th_plan_stats one;
        struct th_plan *plan = NULL;
        if (!t->bucket[b].images[TH_SPLIT_TRAIN])
            continue;
        TRY(th_plan_new(&spec, store, arena, &plan));
        th_plan_stats(plan, &one);
        th_trainer_add_stats(&c->train, &one, share_of(t, b, batch));
        th_plan_free(plan);
    }
    TRY(th_trainer_make_update(t, f, store, arena, &update));
    c->slot_bytes = slot_bytes(t, store);
    th_plan_free(update);
    return th_trainer_later_cache_cost(t, f, store, arena, c);
}

/* Of this phase's plans. */
static void count_plans(const struct thaw_trainer *t, struct th_phase_cost *c)
{
    struct th_plan_stats one;
    for (int b = 0; b < t->n_buckets; b++) {
        const struct th_train_plan *p = &t->bucket[b].plans[0];
        if (!p->plan)
            continue;
        th_plan_stats(p->plan, &one);
        th_trainer_add_stats(&c->train, &one, share_of(t, b, p->batch));
    }
}

static void count_evaluators(const struct thaw_trainer *t, struct th_phase_cost *c)
{
    int64_t n = t->data.split[TH_SPLIT_VAL].n;
    struct th_plan_stats one;
    for (int b = 0; b < t->n_buckets; b++) {
        double images = (double)t->bucket[b].images[TH_SPLIT_VAL];
        th_plan_stats(t->evaluators.of[b].plan, &one);
        th_trainer_add_stats(
            &c->eval, &one, n ? images / (double)n : 1.0 / t->n_buckets);
    }
}

/* With a store and an arena of its own, whose pages nobody touches. */
static thaw_status later_cost(
    struct thaw_trainer *t, int phase, struct th_phase_cost *c)
{
    struct th_freeze f;
    struct th_store store;
    struct th_arena arena;
    TRY(th_trainer_freeze_of(t, phase, &f));
    th_arena_init(&arena, t->net.device);
    thaw_status status = th_network_mirror(&t->net, &store);
    if (status == THAW_OK)
        status = plan_cost(t, &f, &store, &arena, c);
    th_arena_release(&arena);
    th_store_release(&store);
    th_freeze_release(&f);
    return status;
}

thaw_status th_trainer_phase_cost(
    struct thaw_trainer *t, int phase, struct th_phase_cost *c)
{
    int64_t n = t->data.split[TH_SPLIT_TRAIN].n, batch = th_trainer_batch(t);
    int64_t begun = t->at.epoch - t->recipe.timetable.epoch[phase];
    double part = (double)t->at.step / (double)t->phase_steps[t->at.phase];
    *c = (struct th_phase_cost){.epochs = (double)th_trainer_phase_epochs(t, phase),
        .images = n,
        .val_images = t->val_loader ? t->data.split[TH_SPLIT_VAL].n : 0,
        .batch = batch,
        .val_batch = t->recipe.batch};
    count_evaluators(t, c);
    c->full = c->epochs;
    c->missing = 1;
    if (phase != t->at.phase)
        return later_cost(t, phase, c);
    c->epochs -= (double)begun + part;
    c->full = c->epochs;
    c->slot_bytes = slot_bytes(t, &t->net.store);
    count_plans(t, c);
    th_trainer_cache_cost(t, c);
    return THAW_OK;
}
