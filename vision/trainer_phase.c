/* SPDX-License-Identifier: Apache-2.0
 * Owns the phases of the timetable: freeze state, plans, optimizer slots, loader, and
 * the certificate's beginning and end. */
#include "trainer.h"

#include "file.h"
#include "mem.h"
#include "options.h"
#include "report.h"

#include <string.h>

/* ---- Before the run ---- */

int th_trainer_batch(const struct thaw_trainer *t)
{
    int64_t n = t->data.split[TH_SPLIT_TRAIN].n;
    return n < t->recipe.batch ? (int)n : t->recipe.batch;
}

thaw_status th_trainer_freeze_of(
    const struct thaw_trainer *t, int64_t phase, struct th_freeze *f)
{
    return th_freeze_init(f, &t->net.model, t->recipe.timetable.spec[phase],
        t->recipe.bn, th_trainer_batch(t));
}

/* Running statistics are updated with the batch's wherever these are computed. */
static bool takes_statistics(const struct th_freeze *f)
{
    bool any = false;
    for (int i = 0; i < f->n_bns; i++)
        any = any || th_bn_updates(f->bn[i]);
    return any;
}

/* A last batch of one image joins the batch before it where statistics come from it. */
struct th_cutting th_trainer_cutting(
    const struct thaw_trainer *t, const struct th_freeze *f, int bucket)
{
    return th_cutting_of(t->bucket[bucket].images[TH_SPLIT_TRAIN], th_trainer_batch(t),
        takes_statistics(f));
}

static int64_t count_steps(const struct thaw_trainer *t, const struct th_freeze *f)
{
    int64_t batches = 0;
    for (int b = 0; b < t->n_buckets; b++) {
        struct th_cutting c = th_trainer_cutting(t, f, b);
        batches += c.full + (c.last > 0);
    }
    return (batches + t->recipe.accumulate - 1) / t->recipe.accumulate;
}

int64_t th_trainer_phase_epochs(const struct thaw_trainer *t, int phase)
{
    const struct th_timetable *table = &t->recipe.timetable;
    int64_t from = table->epoch[phase], to = t->recipe.epochs;
    if (phase + 1 < table->n && table->epoch[phase + 1] < to)
        to = table->epoch[phase + 1];
    return to > from ? to - from : 0;
}

/* Steps, certificate, and what is trained at all, of one phase. */
static thaw_status survey_phase(
    struct thaw_trainer *t, int phase, bool *trained, int64_t *steps)
{
    struct th_freeze f = {0};
    int64_t epochs = th_trainer_phase_epochs(t, phase);
    TRY(th_trainer_freeze_of(t, phase, &f));
    t->phase_steps[phase] = count_steps(t, &f);
    *steps += epochs * t->phase_steps[phase];
    thaw_status status = epochs ? th_trainer_survey_int8(t, &f) : THAW_OK;
    for (int i = 0; epochs && i < f.n_params; i++)
        trained[i] = trained[i] || f.trainable[i];
    if (epochs)
        th_certificate_restrict(&t->certificate, &t->net.model, &f);
    th_freeze_release(&f);
    return status;
}

/* A tensor of a new head that stayed random would make every training worthless. Running
 * statistics do not train. */
static thaw_status check_new_head(const struct thaw_trainer *t, const bool *trained)
{
    if (t->recipe.keep_head || t->recipe.epochs == 0)
        return THAW_OK;
    for (int i = 0; i < t->net.model.n_params; i++) {
        const struct th_param *p = &t->net.model.params[i];
        if (!th_network_in_head(&t->net, i) || trained[i] || th_param_is_buffer(p))
            continue;
        if (p->role == TH_ROLE_GAMMA || p->role == TH_ROLE_BETA)
            return th_fail(THAW_E_USAGE,
                "--bn \"%s\" keeps %s of the head as it is, which is new: leave --bn "
                "away, or say head:train in it (or --keep-head where the weights have "
                "one)",
                th_option_text(t->options, "bn"), p->name);
        return th_fail(THAW_E_USAGE,
            "--thaw \"%s\" never trains %s of the head, which is new and random: add "
            ",head (or --keep-head where the weights have one)",
            th_option_text(t->options, "thaw"), p->name);
    }
    return THAW_OK;
}

thaw_status th_trainer_survey(struct thaw_trainer *t)
{
    int n = t->recipe.timetable.n;
    int64_t total = 0;
    bool *trained = th_alloc((size_t)t->net.model.n_params, sizeof *trained);
    t->phase_steps = th_alloc((size_t)n, sizeof *t->phase_steps);
    thaw_status status = trained && t->phase_steps ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; i < n && status == THAW_OK; i++)
        status = survey_phase(t, i, trained, &total);
    if (status == THAW_OK) {
        t->lr = th_recipe_lr(&t->recipe, total, t->phase_steps[0]);
        status = check_new_head(t, trained);
        if (status == THAW_OK)
            status = th_trainer_check_int8(t);
    }
    th_free(trained);
    return status;
}

int64_t th_trainer_steps_per_epoch(const struct thaw_trainer *t)
{
    return t->phase_steps[th_timetable_phase(&t->recipe.timetable, (int)t->at.epoch)];
}

/* ---- Leaving ---- */

static void free_plans(struct th_train_bucket *bucket)
{
    for (int i = 0; i < TH_MAX_PLANS; i++) {
        th_plan_free(bucket->plans[i].plan);
        bucket->plans[i] = (struct th_train_plan){0};
    }
}

void th_trainer_release_phase(struct thaw_trainer *t)
{
    for (int b = 0; b < t->n_buckets; b++)
        free_plans(&t->bucket[b]);
    if (t->update)
        th_plan_free(t->update);
    t->update = NULL;
    th_evaluators_release(&t->evaluators);
    th_loader_close(t->loader);
    t->loader = NULL;
    th_trainer_close_cuts(t);
    th_freeze_release(&t->freeze);
    t->freeze = (struct th_freeze){0};
}

static thaw_status verify_bucket(const struct th_train_bucket *b)
{
    for (int i = 0; i < TH_MAX_PLANS; i++)
        if (b->plans[i].plan)
            TRY(th_plan_verify(b->plans[i].plan));
    if (b->cut.below)
        TRY(th_plan_verify(b->cut.below));
    return b->val_cut.below ? th_plan_verify(b->val_cut.below) : THAW_OK;
}

thaw_status th_trainer_verify(struct thaw_trainer *t)
{
    TRY(th_certificate_verify(&t->certificate, &t->net.model, &t->net.store));
    for (int b = 0; b < t->n_buckets; b++)
        TRY(verify_bucket(&t->bucket[b]));
    for (int b = 0; b < t->evaluators.n; b++)
        if (t->evaluators.of[b].plan)
            TRY(th_plan_verify(t->evaluators.of[b].plan));
    return THAW_OK;
}

thaw_status th_trainer_leave(struct thaw_trainer *t)
{
    if (!t->entered)
        return THAW_OK;
    t->entered = false;
    thaw_status status = th_trainer_verify(t);
    if (status == THAW_OK)
        th_trainer_drop_cache(t);
    th_trainer_release_phase(t);
    return status;
}

/* ---- Entering ---- */

static const char *const slot_prefixes[] = {
    "momentum/", "adam.m/", "adam.v/", "adam.t/", "total/"};

/* The parameter that an optimizer slot or total belongs to; NULL for another state. */
static const char *slot_param(const char *state)
{
    for (size_t i = 0; i < sizeof slot_prefixes / sizeof slot_prefixes[0]; i++) {
        size_t length = strlen(slot_prefixes[i]);
        if (!strncmp(state, slot_prefixes[i], length))
            return state + length;
    }
    return NULL;
}

/* Slots of what no longer trains go; what stays keeps its slots. */
static void drop_slots(struct thaw_trainer *t)
{
    struct th_store *s = &t->net.store;
    for (int i = 0; i < s->n; i++) {
        const char *name = s->states[i].name ? slot_param(s->states[i].name) : NULL;
        int param = name ? th_model_param(&t->net.model, name) : -1;
        if (param >= 0 && !t->freeze.trainable[param])
            th_store_drop(s, i);
    }
}

static thaw_status copy_state(
    const struct th_store *from, int i, struct th_store *to, int j)
{
    float *value = th_alloc(from->states[i].bytes, 1);
    if (!value)
        return THAW_E_MEMORY;
    thaw_status status = th_store_get(from, i, value);
    if (status == THAW_OK)
        status = th_store_put(to, j, value);
    th_free(value);
    return status;
}

/* KIND/NAME, a copy of the parameter's value, where there is none yet. */
static thaw_status begin_copy(struct thaw_trainer *t, const char *kind, int param)
{
    struct th_store *s = &t->net.store;
    const struct th_param *p = &t->net.model.params[param];
    int id = -1;
    char *name = th_format("%s/%s", kind, p->name);
    if (!name)
        return THAW_E_MEMORY;
    bool is_new = th_store_find(s, name) < 0;
    thaw_status status = th_store_add(s, name, p->shape, &id);
    th_free(name);
    if (status == THAW_OK && is_new)
        status = copy_state(s, th_store_find(s, p->name), s, id);
    return status;
}

/* Of what begins to train the average begins at its value, and the start that L2-SP
 * decays to is its value: that of the weights file, since it was frozen until now. Both
 * stay for good: they are in checkpoints, and a tensor frozen again keeps them. */
static thaw_status begin_copies(struct thaw_trainer *t)
{
    const struct th_optim *o = &t->recipe.optim;
    for (int i = 0; i < t->freeze.n_params; i++) {
        if (t->freeze.trainable[i] && o->ema)
            TRY(begin_copy(t, "ema", i));
        if (t->freeze.trainable[i] && th_optim_pulls(o, &t->net.model, i))
            TRY(begin_copy(t, "start", i));
    }
    return THAW_OK;
}

struct th_plan_spec th_trainer_plan_spec(
    const struct thaw_trainer *t, const struct th_freeze *f, int bucket, int64_t batch)
{
    return (struct th_plan_spec){.model = &t->bucket[bucket].model,
        .freeze = f,
        .mode = TH_TRAIN,
        .part = t->recipe.accumulate > 1 ? TH_PART_GATHER : TH_PART_ALL,
        .batch = (int)batch,
        .prefix_int8 = t->recipe.prefix_int8,
        .optim = &t->recipe.optim,
        .keep = t->recipe.keep};
}

static thaw_status add_plan(struct thaw_trainer *t, int bucket, int i, int64_t batch)
{
    struct th_train_bucket *b = &t->bucket[bucket];
    struct th_plan_spec spec = th_trainer_plan_spec(t, &t->freeze, bucket, batch);
    bool full = batch == th_trainer_batch(t);
    spec.rare = i > 0 || batch < th_trainer_batch(t);
    b->plans[i].batch = (int)batch;
    b->plans[i].above = b->cut.below && (t->recipe.cache != TH_CACHE_OFF || !full);
    if (b->plans[i].above) {
        spec.side = TH_ABOVE;
        spec.moving = t->moving;
    }
    return th_plan_new(&spec, &t->net.store, &t->net.arena, &b->plans[i].plan);
}

thaw_status th_trainer_make_update(const struct thaw_trainer *t,
    const struct th_freeze *f, struct th_store *store, struct th_arena *arena,
    struct th_plan **out)
{
    struct th_plan_spec spec = th_trainer_plan_spec(t, f, 0, 0);
    spec.part = TH_PART_UPDATE;
    return t->recipe.accumulate > 1 ? th_plan_new(&spec, store, arena, out) : THAW_OK;
}

/* Of a bucket, for full batches, and for a last one of another size. */
static thaw_status add_plans(struct thaw_trainer *t, int bucket)
{
    struct th_cutting c = th_trainer_cutting(t, &t->freeze, bucket);
    int used = 0;
    if (c.full)
        TRY(add_plan(t, bucket, used++, th_trainer_batch(t)));
    return c.last ? add_plan(t, bucket, used, c.last) : THAW_OK;
}

static thaw_status add_evaluator(struct thaw_trainer *t, int bucket)
{
    struct th_evaluator *e = &t->evaluators.of[bucket];
    struct th_cut *cut = &t->bucket[bucket].val_cut;
    struct th_store *values = t->shadow.device ? &t->shadow : &t->net.store;
    const struct th_plan_spec spec = th_trainer_val_spec(t, &t->freeze, bucket);
    t->evaluators.n = bucket + 1;
    if (!cut->below)
        return th_evaluator_init_plan(e, &t->net, values, &spec);
    TRY(th_evaluator_init_above(e, &t->net, values, cut, &spec));
    e->events = &t->events;
    return THAW_OK;
}

static thaw_status make_plans(struct thaw_trainer *t)
{
    TRY(th_trainer_open_cuts(t));
    for (int b = 0; b < t->n_buckets; b++)
        TRY(add_plans(t, b));
    TRY(th_trainer_make_update(
        t, &t->freeze, &t->net.store, &t->net.arena, &t->update));
    for (int b = 0; b < t->n_buckets; b++)
        TRY(add_evaluator(t, b));
    return THAW_OK;
}

void th_trainer_bad_image(void *context, const struct th_bad_image *bad)
{
    const struct thaw_trainer *t = context;
    char *line = th_format("%s\t%s", bad->path, bad->reason), *list = NULL;
    char *path = th_run_folder_path(&t->folder, "unreadable.txt");
    bool known = line &&
                 th_run_folder_read(&t->folder, "unreadable.txt", &list) == THAW_OK &&
                 strstr(list, line);
    if (!known)
        th_say(&t->events, "warning", "%s: %s%s", bad->path, bad->reason,
            bad->replaced ? "; another image of its class stands in" : "");
    if (!known && line && path && th_file_append_line(path, line, NULL) != THAW_OK)
        th_say(&t->events, "warning", "%s", thaw_error());
    th_free(line);
    th_free(path);
    th_free(list);
}

struct th_loader_options th_trainer_judge_options(
    struct thaw_trainer *t, enum th_split split)
{
    return (struct th_loader_options){.split = split,
        .batch = t->recipe.batch,
        .preprocess = th_network_preprocess(&t->net),
        .sizes = th_input_sizes(&t->net.model.input),
        .workers = t->recipe.workers,
        .max_bad = t->recipe.max_bad > 0 ? t->recipe.max_bad : -1,
        .report = th_trainer_bad_image,
        .context = t};
}

void th_trainer_want_targets(struct thaw_trainer *t, struct th_loader_options *o)
{
    const struct th_detector *d = t->net.model.head->detector;
    o->n_parts = d->n_targets;
    o->targets = th_reader_targets;
    for (int b = 0; b < t->n_buckets; b++) {
        struct th_reader *r = &t->bucket[b].reader;
        o->bucket[b].targets_context = r;
        for (int k = 0; k < d->n_targets; k++)
            o->bucket[b].part_bytes[k] = th_target_bytes(r->pyramid, &d->target[k]);
    }
}

struct th_loader_options th_trainer_loader_options(struct thaw_trainer *t)
{
    struct th_loader_options o = th_trainer_judge_options(t, TH_SPLIT_TRAIN);
    o.batch = th_trainer_batch(t);
    o.seed = t->recipe.seed;
    o.shuffle = t->recipe.shuffle;
    o.balanced = t->recipe.balanced;
    o.join_single = takes_statistics(&t->freeze);
    o.augment = t->recipe.augment;
    o.views = t->recipe.views;
    o.knows = th_trainer_keeps(t) ? th_cut_knows : NULL;
    for (int b = 0; b < t->n_buckets; b++)
        o.bucket[b].knows_context = &t->bucket[b].cut;
    if (t->net.model.head->detector)
        th_trainer_want_targets(t, &o);
    return o;
}

static thaw_status open_loader(struct thaw_trainer *t)
{
    const struct th_loader_options o = th_trainer_loader_options(t);
    return th_loader_open(&t->data, &o, &t->loader);
}

static bool adapters_train(const struct thaw_trainer *t)
{
    const struct th_model *m = &t->net.model;
    for (int i = 0; i < m->n_params; i++)
        if (th_param_is_lora(&m->params[i]) && t->freeze.trainable[i])
            return true;
    return false;
}

static void say_freeze(const struct thaw_trainer *t)
{
    char trained[32], all[32];
    char *bn = th_freeze_bn_text(&t->freeze, &t->net.model);
    th_text_count(
        th_freeze_trained(&t->freeze, &t->net.model), trained, sizeof trained);
    th_text_short((double)th_model_values(&t->net.model), all, sizeof all);
    th_say(&t->events, "freeze",
        "epoch %lld: %s%s trains, %s of %s values; BatchNorm %s",
        (long long)t->at.epoch + 1, t->recipe.timetable.spec[t->at.phase],
        adapters_train(t) ? " with adapters" : "", trained, all,
        bn && *bn ? bn : "none");
    th_free(bn);
}

/* Certify the frozen: a phase that a checkpoint left goes on against its own hashes. */
static thaw_status certify(struct thaw_trainer *t, bool goes_on)
{
    struct th_certificate *c = &t->certificate;
    if (goes_on)
        return th_certificate_continue(c, &t->net.model, &t->net.store, &t->freeze);
    return th_certificate_begin(c, &t->net.model, &t->net.store, &t->freeze);
}

/* Of a phase that another one follows; the run's end says the rest. */
static void say_verified(const struct thaw_trainer *t)
{
    int n = 0;
    for (int i = 0; i < t->certificate.n; i++)
        n += t->certificate.frozen[i];
    th_say(&t->events, "frozen",
        "to the end of epoch %lld: %d tensors, verified unchanged",
        (long long)t->at.epoch, n);
}

thaw_status th_trainer_enter(struct thaw_trainer *t)
{
    int phase = th_timetable_phase(&t->recipe.timetable, (int)t->at.epoch);
    bool resumed = !t->entered && t->at.phase >= 0, begins = t->at.phase != phase;
    if (t->entered && t->at.phase == phase)
        return THAW_OK;
    if (resumed) { /* verify the phase that the checkpoint was in, then it may end */
        TRY(th_trainer_freeze_of(t, t->at.phase, &t->freeze));
        TRY(certify(t, true));
        t->entered = true;
    }
    if (t->at.phase != phase) {
        bool follows = t->entered;
        TRY(th_trainer_leave(t));
        if (follows)
            say_verified(t);
        TRY(th_trainer_freeze_of(t, phase, &t->freeze));
        t->entered = true;
        t->at.phase = phase;
        TRY(certify(t, false));
    }
    t->gap_known = t->gap_said = false;
    drop_slots(t);
    TRY(begin_copies(t));
    TRY(th_trainer_enter_int8(t, begins));
    TRY(make_plans(t));
    th_network_warn(&t->net, &t->events);
    say_freeze(t);
    return open_loader(t);
}
