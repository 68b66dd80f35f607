/* SPDX-License-Identifier: Apache-2.0
 * Owns what a training step reads: images, targets, keys of random layers, scalars. Where the
 * device can, those of the next batch are sent ahead while a step runs. */
#include "trainer.h"

#include "rng.h"

#include <assert.h>
#include <string.h>

const struct th_train_plan *th_trainer_plan_for(
    const struct thaw_trainer *t, const struct th_batch *b)
{
    const struct th_train_plan *plans = t->bucket[b->bucket].plans;
    for (int i = 0; i < TH_MAX_PLANS; i++)
        if (plans[i].plan && plans[i].batch == b->n)
            return &plans[i];
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
static void mix(struct thaw_trainer *t, const struct th_batch *b, int64_t step,
    const float **images, const float **target)
{
    uint64_t key = th_rng_mix_name(t->recipe.seed, "mix");
    key = th_rng_mix(th_rng_mix(key, (uint64_t)t->at.epoch), (uint64_t)step);
    th_mixer_apply(
        &t->mixer, th_rng_mix(key, (uint64_t)b->index), b->n, images, target);
}

/* Into t->target. *weight: what the batch's loss is the mean over: its images, or their
 * weights' sum. Weighing comes before mixing, which is linear: the result is the same. */
static void make_targets(
    struct thaw_trainer *t, const struct th_batch *b, double *weight)
{
    int n_classes = t->net.model.n_classes;
    const int32_t *labels = t->mixer.target ? NULL : b->labels;
    *weight = (double)b->n;
    if (t->net.model.head->detector)
        return;
    if (t->pos_weight) {
        th_many_targets(b->samples, b->n, n_classes, t->recipe.smoothing, t->target);
        return;
    }
    th_targets(b->labels, (int)b->n, n_classes, t->recipe.smoothing, t->target);
    *weight =
        th_class_weights_apply(t->class_weight, n_classes, labels, b->n, t->target);
}

static void add(struct th_inputs *in, const char *name, const void *host)
{
    assert(in->n < TH_MAX_FEEDS);
    in->feed[in->n++] = (struct th_feed){name, host};
}

/* A detector's: what the loader made of the objects. */
static void add_rows(struct thaw_trainer *t, const struct th_plan *plan,
    const struct th_batch *b, struct th_inputs *in)
{
    const struct th_reader *r = &t->bucket[b->bucket].reader;
    const struct th_detector *d = r->detector;
    th_reader_weights(r, b->part[0], b->n, t->weight);
    for (int k = 0; k < d->n_targets; k++)
        if (th_plan_has(plan, d->target[k].name))
            add(in, d->target[k].name, b->part[k]);
    if (th_plan_has(plan, "weight"))
        add(in, "weight", t->weight);
}

/* All but the image and the scalars, and what the image is: mixed, or the loader's. Valid
 * until they are made of another batch. */
static void make_inputs(struct thaw_trainer *t, const struct th_plan *plan,
    const struct th_batch *b, int64_t step, struct th_inputs *in, const float **images)
{
    const float *target = t->target;
    in->n = 0;
    *images = b->images;
    make_targets(t, b, &in->weight);
    mix(t, b, step, images, &target);
    if (t->net.model.head->detector)
        add_rows(t, plan, b, in);
    else if (th_plan_has(plan, "target"))
        add(in, "target", target);
    if (th_plan_has(plan, "pos_weight"))
        add(in, "pos_weight", t->pos_weight);
    if (!th_plan_has(plan, "keys"))
        return;
    make_keys(t, b);
    add(in, "keys", t->keys);
}

static struct th_scalars scalars_of(const struct thaw_trainer *t,
    const struct th_group *g, int64_t step, double loss_scale, double clip)
{
    return (struct th_scalars){.lr = th_lr_at(&t->lr, step),
        .skip = g->skipped,
        .clip = (float)clip,
        .loss_scale = (float)loss_scale,
        .gathered = (float)g->batches,
        .momentum = th_momentum_at(&t->lr, step),
        .ema_decay = t->recipe.ema_decay};
}

thaw_status th_trainer_set_scalars(struct thaw_trainer *t, struct th_plan *plan,
    const struct th_group *g, double loss_scale, double clip)
{
    const struct th_scalars s = scalars_of(t, g, t->at.global, loss_scale, clip);
    return th_plan_has(plan, "scalars") ? th_plan_set(plan, "scalars", &s) : THAW_OK;
}

/* The batch's share of the group: in one of several batches its weight. */
static double loss_scale(const struct thaw_trainer *t, const struct th_inputs *in)
{
    return t->update ? in->weight : 1;
}

thaw_status th_trainer_set_inputs(struct thaw_trainer *t, const struct th_train_plan *p,
    const struct th_batch *b, const struct th_group *g, double *weight, bool *again)
{
    struct th_cut *cut = &t->bucket[b->bucket].cut;
    struct th_inputs in;
    const struct th_inputs *used = &in;
    const float *images;
    *again = false;
    if (t->sent.lot && b->index == t->sent.index) {
        used = &t->sent;
        TRY(th_plan_take(p->plan, used->feed, used->n, used->lot));
    } else {
        make_inputs(t, p->plan, b, t->at.global, &in, &images);
        if (p->above)
            TRY(th_cut_run(cut, b, images, &t->events, again));
        if (*again)
            return THAW_OK;
        TRY(p->above ? th_cut_set(cut, p->plan, b->n, b->n)
                     : th_plan_set(p->plan, "image", images));
        TRY(th_plan_set_all(p->plan, in.feed, in.n));
    }
    *weight = used->weight;
    if (used == &t->sent && used->has_scalars)
        return THAW_OK;
    return th_trainer_set_scalars(t, p->plan, g, loss_scale(t, used), 1);
}

/* Of a batch that begins a step all is known; within a group the scalars are not, which say
 * whether a batch before it was skipped. */
thaw_status th_trainer_send_next(struct thaw_trainer *t, const struct th_group *g)
{
    struct th_inputs *in = &t->sent;
    struct th_batch next;
    const float *images;
    in->lot = 0;
    if (!th_loader_peek(t->loader, &next))
        return THAW_OK;
    const struct th_train_plan *p = th_trainer_plan_for(t, &next);
    if (!p || p->above || !th_plan_can_send(p->plan))
        return THAW_OK;
    bool begins = g->batches + 1 == t->recipe.accumulate;
    int64_t step = t->at.global + begins;
    make_inputs(t, p->plan, &next, step, in, &images);
    add(in, "image", images);
    in->has_scalars = begins && th_plan_has(p->plan, "scalars");
    if (in->has_scalars) {
        in->scalars = scalars_of(t, &(struct th_group){0}, step, loss_scale(t, in), 1);
        add(in, "scalars", &in->scalars);
    }
    in->index = next.index;
    return th_plan_send(p->plan, in->feed, in->n, &in->lot);
}
