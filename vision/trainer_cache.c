/* SPDX-License-Identifier: Apache-2.0
 * Owns what a phase keeps below its cut: which part of the network that is, under which
 * key, and where. Results never depend on it: what is kept has the bits of what would be
 * computed again, and where a cache cannot be opened the run goes on without. */
#include "trainer.h"

#include "labels.h"
#include "mem.h"
#include "report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- What moves ---- */

/* An average goes on moving when its tensor is frozen again. */
static bool has_average(const struct thaw_trainer *t, int param)
{
    char *name = th_format("ema/%s", t->net.model.params[param].name);
    bool has = !name || th_store_find(&t->net.store, name) >= 0;
    th_free(name);
    return has;
}

static thaw_status find_moving(struct thaw_trainer *t)
{
    size_t n = (size_t)t->net.model.n_params;
    t->moving = th_alloc(n, sizeof *t->moving);
    t->val_moving = th_alloc(n, sizeof *t->val_moving);
    if (!t->moving || !t->val_moving)
        return THAW_E_MEMORY;
    for (int i = 0; i < t->net.model.n_params; i++) {
        t->moving[i] = !th_freeze_is_frozen(&t->freeze, &t->net.model, i);
        t->val_moving[i] = t->moving[i] || (t->shadow.device && has_average(t, i));
    }
    return THAW_OK;
}

/* ---- The key ---- */

/* Two hashes of the same: 128 bits. */
struct key {
    uint64_t half[2];
};

static void add(struct key *k, const void *data, size_t bytes)
{
    for (int i = 0; i < 2; i++)
        k->half[i] = th_hash(data, bytes, k->half[i]);
}

static void add_text(struct key *k, const char *text)
{
    add(k, text, strlen(text) + 1);
}

static void add_number(struct key *k, double x)
{
    add(k, &x, sizeof x);
}

static void add_integer(struct key *k, int64_t x)
{
    add(k, &x, sizeof x);
}

/* What bits depend on beside the values: program, machine, threads, steps. */
static thaw_status add_plan(
    struct key *k, const struct thaw_trainer *t, const struct th_cut *c)
{
    struct th_device *d = t->net.device;
    char *text = th_plan_text(c->below);
    if (!text)
        return THAW_E_MEMORY;
    add_text(k, thaw_version());
    add_text(k, d->backend->name);
    add_text(k, d->backend->describe(d));
    add_text(k, d->isa);
    add_text(k, t->net.conv_table.hash);
    add_integer(k, d->threads);
    add_integer(k, d->block);
    add_text(k, t->net.model.variant->name);
    add_text(k, text);
    for (int i = 0; i < c->frontier.n; i++) {
        add_text(k, c->frontier.name[i]);
        add_integer(k, c->frontier.values[i]);
    }
    th_free(text);
    return THAW_OK;
}

/* Parameters and buffers that the plan reads. */
static thaw_status add_values(
    struct key *k, const struct th_cut *c, const struct th_store *store)
{
    const struct th_graph *g = th_plan_graph(c->below);
    for (int v = 0; v < g->n_values; v++) {
        uint64_t hash = 0;
        if (g->values[v].kind != TH_VALUE_STATE || th_graph_readers(g, v) == 0)
            continue;
        TRY(th_store_hash(store, th_store_find(store, g->values[v].name), &hash));
        add_text(k, g->values[v].name);
        add(k, &hash, sizeof hash);
    }
    return THAW_OK;
}

static void add_augment(struct key *k, const struct th_recipe *r)
{
    const struct th_augment *a = &r->augment;
    add_integer(k, r->views);
    add_integer(k, (int64_t)r->seed);
    add_integer(k, a->crop);
    add_integer(k, a->pad);
    add_integer(k, a->n_ops);
    add_integer(k, a->bin);
    const double numbers[] = {a->scale, a->mirror, a->flip, a->jitter, a->hue, a->erase,
        a->iou_crop, a->mosaic};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        add_number(k, numbers[i]);
}

/* Which image an entry is of: its file by name, size and time. */
static void add_images(struct key *k, const struct thaw_trainer *t, enum th_split split)
{
    const struct th_preprocess p = th_network_preprocess(&t->net);
    const struct th_samples *all = &t->data.split[split];
    if (t->recipe.augment.iou_crop > 0) /* a crop goes by the objects */
        add_integer(k, th_dataset_hash(&t->data));
    add_integer(k, p.size.w);
    add_integer(k, p.size.h);
    add_number(k, p.crop);
    add_integer(k, p.filter);
    add(k, p.mean, sizeof p.mean);
    add(k, p.std, sizeof p.std);
    if (split == TH_SPLIT_TRAIN && th_augment_is_random(&t->recipe.augment))
        add_augment(k, &t->recipe);
    for (int64_t i = 0; i < all->n; i++) {
        const struct th_sample *s = &all->sample[i];
        add_text(k, s->path ? s->path : "");
        add_integer(k, s->id);
        add_integer(k, s->bytes);
        add_integer(k, s->time);
        if (s->pixels)
            add(k, s->pixels, (size_t)s->w * (size_t)s->h);
    }
}

static thaw_status make_key(const struct thaw_trainer *t, const struct th_cut *c,
    enum th_split split, const struct th_store *store, uint64_t out[2])
{
    struct key k = {{1, 2}};
    TRY(add_plan(&k, t, c));
    TRY(add_values(&k, c, store));
    add_images(&k, t, split);
    memcpy(out, k.half, sizeof k.half);
    return THAW_OK;
}

/* ---- Opening ---- */

static int64_t entries(const struct thaw_trainer *t, enum th_split split)
{
    int64_t views = split == TH_SPLIT_TRAIN ? t->recipe.views : 1;
    return t->data.split[split].n * views;
}

/* The folder; fresh. */
static char *cache_dir(const struct thaw_trainer *t)
{
    return t->recipe.cache_dir ? th_strdup(t->recipe.cache_dir)
                               : th_run_folder_path(&t->folder, "cache");
}

/* The split's part of what both may take: as their sizes are. */
static size_t limit_of(const struct thaw_trainer *t, enum th_split split)
{
    double train = (double)t->cut.values * (double)entries(t, TH_SPLIT_TRAIN);
    double val = t->val_cut.below
                     ? (double)t->val_cut.values * (double)entries(t, TH_SPLIT_VAL)
                     : 0;
    double limit = (double)t->recipe.cache_limit;
    if (!t->recipe.cache_limit && t->recipe.cache == TH_CACHE_MEMORY)
        limit = (double)th_available_bytes() / 2;
    double part = limit * (split == TH_SPLIT_TRAIN ? train : val) / (train + val);
    return part > 0 && part < 1 ? 1 : (size_t)part;
}

/* Whether an entry is read again in this phase, or by others. */
static bool is_read_again(const struct thaw_trainer *t, enum th_split split)
{
    const struct th_timetable *table = &t->recipe.timetable;
    int phase = th_timetable_phase(table, (int)t->at.epoch);
    int64_t left =
        table->epoch[phase] + th_trainer_phase_epochs(t, phase) - t->at.epoch;
    bool shared = t->recipe.cache == TH_CACHE_DISK && t->recipe.cache_dir;
    return shared || left > (split == TH_SPLIT_TRAIN ? t->recipe.views : 1);
}

/* A failure is a warning. */
static void open_cache(struct thaw_trainer *t, struct th_cut *c, enum th_split split,
    const struct th_store *store)
{
    char *dir = cache_dir(t), *note = NULL;
    struct th_cache_spec spec = {.place = t->recipe.cache,
        .dir = dir,
        .entries = entries(t, split),
        .values = c->values,
        .half = t->recipe.cache_half,
        .limit = limit_of(t, split)};
    thaw_status status = dir ? make_key(t, c, split, store, spec.key) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_feature_cache_open(&spec, &c->cache, &note);
    if (note)
        th_say(&t->events, "warning", "%s", note);
    if (status != THAW_OK)
        th_say(&t->events, "warning", "going on without a cache: %s", thaw_error());
    th_free(note);
    th_free(dir);
}

static void say_kept(const struct thaw_trainer *t)
{
    const struct th_cut *c = &t->cut;
    int64_t all = entries(t, TH_SPLIT_TRAIN);
    int64_t room = th_feature_cache_room(c->cache);
    size_t each = th_feature_cache_entry_bytes(c->cache);
    int64_t there = th_feature_cache_filled(c->cache), val = 0;
    size_t bytes = (size_t)room * each;
    if (t->val_cut.cache) {
        val = th_feature_cache_room(t->val_cut.cache);
        bytes += (size_t)val * th_feature_cache_entry_bytes(t->val_cut.cache);
    }
    char one[32], sum[32], of[64] = "", found[64] = "", n[32], m[32];
    if (room < all)
        snprintf(
            of, sizeof of, " (of %s: --cache-limit)", th_text_count(all, n, sizeof n));
    if (there)
        snprintf(
            found, sizeof found, "; %s are there", th_text_count(there, n, sizeof n));
    th_say(&t->events, "cache",
        "up to %s nothing moves: computed once, %s an image, up to %s %s for %s "
        "views%s%s",
        c->frontier.name[0] + strlen("cut/"),
        th_text_bytes((double)each, one, sizeof one),
        th_text_bytes((double)bytes, sum, sizeof sum),
        t->recipe.cache == TH_CACHE_DISK ? "on disk" : "of memory",
        th_text_count(room + val, m, sizeof m), of, found);
}

/* ---- Why nothing is kept ---- */

/* A BatchNorm on batch statistics in a stage in which no parameter trains; NULL: none. */
static const char *needless_statistics(const struct thaw_trainer *t)
{
    const struct th_model *m = &t->net.model;
    for (int i = 0; i < m->n_bns; i++) {
        bool trains = false;
        for (int k = 0; k < m->n_params; k++)
            trains = trains ||
                     (m->params[k].stage == m->bns[i].stage && t->freeze.trainable[k]);
        if (!trains && th_bn_updates(t->freeze.bn[i]))
            return m->bns[i].name;
    }
    return NULL;
}

static void say_needless_statistics(const struct thaw_trainer *t)
{
    const char *bn = needless_statistics(t);
    if (bn)
        th_say(&t->events, "cache",
            "%s takes statistics of every batch though nothing trains there: with --bn "
            "frozen all that is below the trained layers would be kept",
            bn);
}

static void say_nothing_is_kept(const struct thaw_trainer *t)
{
    bool moves = t->moving[0]; /* the first layer */
    if (t->recipe.cache_asked && t->recipe.cache != TH_CACHE_OFF)
        th_say(&t->events, "cache", "off: nothing can be kept: the first layers train");
    else if (!t->recipe.cache_asked && t->recipe.cache == TH_CACHE_OFF && !moves &&
             !t->recipe.views)
        th_say(&t->events, "cache",
            "off: augmentation draws new variants of all images in every epoch; "
            "--views V "
            "would draw V of each, and compute what is below the trained layers once");
}

/* ---- The phase ---- */

struct th_plan_spec th_trainer_val_spec(
    const struct thaw_trainer *t, const struct th_freeze *f)
{
    return (struct th_plan_spec){.model = &t->net.model,
        .mode = TH_EVAL,
        .batch = t->recipe.batch,
        .loss = th_judges_loss(&t->net.model),
        .freeze = t->recipe.prefix_int8 ? f : NULL,
        .prefix_int8 = t->recipe.prefix_int8,
        .moving = t->val_moving};
}

/* Of validation: its own plan, on the values that are judged. */
static thaw_status open_val(struct thaw_trainer *t)
{
    struct th_store *store = t->shadow.device ? &t->shadow : &t->net.store;
    const struct th_plan_spec spec = th_trainer_val_spec(t, &t->freeze);
    TRY(th_cut_init(&t->val_cut, &spec, store, &t->net.arena, t->recipe.batch));
    t->val_cut.half = t->recipe.cache_half;
    return THAW_OK;
}

/* Caches come after both cuts, whose sizes share the limit. EMA's copy is filled before a
 * validation, and below the cut it has the values that the network has. */
static void open_caches(struct thaw_trainer *t)
{
    if (is_read_again(t, TH_SPLIT_TRAIN))
        open_cache(t, &t->cut, TH_SPLIT_TRAIN, &t->net.store);
    if (t->val_cut.below && is_read_again(t, TH_SPLIT_VAL))
        open_cache(t, &t->val_cut, TH_SPLIT_VAL, &t->net.store);
    if (t->cut.cache)
        say_kept(t);
}

thaw_status th_trainer_open_cuts(struct thaw_trainer *t)
{
    int64_t n = t->data.split[TH_SPLIT_TRAIN].n, batch = th_trainer_batch(t);
    bool keeps = t->recipe.cache != TH_CACHE_OFF, partial = n % batch != 0;
    TRY(find_moving(t));
    if (keeps || partial) {
        struct th_plan_spec spec = th_trainer_plan_spec(t, &t->freeze, batch);
        spec.moving = t->moving;
        spec.rare = !keeps;
        TRY(th_cut_init(&t->cut, &spec, &t->net.store, &t->net.arena, batch + 1));
        t->cut.half = keeps && t->recipe.cache_half;
    }
    if (keeps)
        say_needless_statistics(t);
    if (!keeps || !t->cut.below) {
        say_nothing_is_kept(t);
        return THAW_OK;
    }
    if (t->val_loader)
        TRY(open_val(t));
    open_caches(t);
    return THAW_OK;
}

void th_trainer_close_cuts(struct thaw_trainer *t)
{
    if (t->val_loader && t->val_cut.below) /* its workers ask no more */
        (void)th_loader_start(t->val_loader, 0, th_loader_n_batches(t->val_loader));
    th_cut_release(&t->cut);
    th_cut_release(&t->val_cut);
    th_free(t->moving);
    th_free(t->val_moving);
    t->moving = t->val_moving = NULL;
}

/* ---- What it costs ---- */

static void share_out(const struct thaw_trainer *t, double need, double has,
    double bytes, struct th_phase_cost *c)
{
    c->missing = has < need ? 1 - has / need : 0;
    c->full = (double)t->recipe.views;
    if (t->recipe.cache == TH_CACHE_MEMORY)
        c->cache_bytes = (int64_t)bytes;
}

void th_trainer_cache_cost(const struct thaw_trainer *t, struct th_phase_cost *c)
{
    if (t->recipe.cache == TH_CACHE_OFF || !t->cut.below)
        return;
    th_plan_stats(t->cut.below, &c->below);
    if (t->val_cut.below)
        th_plan_stats(t->val_cut.below, &c->eval_below);
    if (!t->cut.cache)
        return;
    double room = (double)th_feature_cache_room(t->cut.cache);
    double bytes = room * (double)th_feature_cache_entry_bytes(t->cut.cache);
    if (t->val_cut.cache)
        bytes += (double)th_feature_cache_room(t->val_cut.cache) *
                 (double)th_feature_cache_entry_bytes(t->val_cut.cache);
    share_out(t, (double)entries(t, TH_SPLIT_TRAIN), room, bytes, c);
    if ((double)th_feature_cache_filled(t->cut.cache) >= room)
        c->full = 0;
}

/* One side's statistics, and of the part below how many values it hands up. */
static thaw_status side_stats(struct th_plan_spec spec, enum th_side side,
    struct th_store *store, struct th_arena *arena, struct th_plan_stats *stats,
    int64_t *values)
{
    struct th_plan *plan = NULL;
    struct th_frontier f = {0};
    spec.side = side;
    TRY(th_plan_new(&spec, store, arena, &plan));
    if (!plan)
        return THAW_OK;
    th_plan_stats(plan, stats);
    th_plan_frontier(plan, &f);
    th_plan_free(plan);
    for (int i = 0; i < f.n; i++)
        *values += f.values[i];
    return THAW_OK;
}

static thaw_status both_sides(struct th_plan_spec spec, struct th_store *store,
    struct th_arena *arena, struct th_plan_stats *above, struct th_plan_stats *below,
    int64_t *values)
{
    int64_t again = 0;
    TRY(side_stats(spec, TH_BELOW, store, arena, below, values));
    return *values ? side_stats(spec, TH_ABOVE, store, arena, above, &again) : THAW_OK;
}

static double limit_for(const struct thaw_trainer *t, double need)
{
    if (t->recipe.cache_limit)
        return (double)t->recipe.cache_limit;
    return t->recipe.cache == TH_CACHE_MEMORY ? (double)th_available_bytes() / 2 : need;
}

thaw_status th_trainer_later_cache_cost(const struct thaw_trainer *t,
    const struct th_freeze *freeze, struct th_store *store, struct th_arena *arena,
    struct th_phase_cost *c)
{
    int64_t values = 0, val_values = 0;
    if (t->recipe.cache == TH_CACHE_OFF)
        return THAW_OK;
    bool *moving = th_alloc((size_t)t->net.model.n_params, sizeof *moving);
    if (!moving)
        return THAW_E_MEMORY;
    for (int i = 0; i < t->net.model.n_params; i++)
        moving[i] = !th_freeze_is_frozen(freeze, &t->net.model, i);
    struct th_plan_spec spec = th_trainer_plan_spec(t, freeze, th_trainer_batch(t));
    struct th_plan_spec eval = th_trainer_val_spec(t, freeze);
    spec.moving = eval.moving = moving;
    thaw_status status = both_sides(spec, store, arena, &c->train, &c->below, &values);
    if (status == THAW_OK && values && t->val_loader)
        status = both_sides(eval, store, arena, &c->eval, &c->eval_below, &val_values);
    th_free(moving);
    if (status == THAW_OK && values) {
        size_t each = t->recipe.cache_half ? sizeof(uint16_t) : sizeof(float);
        double need =
            (double)each * ((double)values * (double)entries(t, TH_SPLIT_TRAIN) +
                               (double)val_values * (double)entries(t, TH_SPLIT_VAL));
        double has = limit_for(t, need);
        share_out(t, need, has, has < need ? has : need, c);
    }
    return status;
}

void th_trainer_drop_cache(struct thaw_trainer *t)
{
    char *dir = t->recipe.cache_dir ? NULL : cache_dir(t);
    if (dir && t->cut.cache)
        th_feature_cache_unlink(t->cut.cache);
    if (dir && t->val_cut.cache)
        th_feature_cache_unlink(t->val_cut.cache);
    if (dir)
        rmdir(dir); /* unless a file of an earlier phase is left */
    th_free(dir);
}

bool th_trainer_knows_val(void *trainer, int64_t entry)
{
    const struct thaw_trainer *t = trainer;
    return t->val_cut.cache && th_feature_cache_has(t->val_cut.cache, entry);
}
