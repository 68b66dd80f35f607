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

/* What is below the cut in training, and in validation. */
enum { N_CUTS = 2 };
static const enum th_split cut_split[N_CUTS] = {TH_SPLIT_TRAIN, TH_SPLIT_VAL};

static const struct th_cut *cut_of(
    const struct thaw_trainer *t, int bucket, enum th_split split)
{
    const struct th_train_bucket *b = &t->bucket[bucket];
    return split == TH_SPLIT_TRAIN ? &b->cut : &b->val_cut;
}

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
static void add_images(
    struct key *k, const struct thaw_trainer *t, int bucket, enum th_split split)
{
    const struct th_preprocess p = th_network_preprocess(&t->net);
    const struct th_size size = t->bucket[bucket].model.input.size;
    const struct th_sizes sizes = th_input_sizes(&t->net.model.input);
    const struct th_samples *all = &t->data.split[split];
    if (t->recipe.augment.iou_crop > 0) /* a crop goes by the objects */
        add_integer(k, th_dataset_hash(&t->data));
    add_integer(k, size.w);
    add_integer(k, size.h);
    add_number(k, p.crop);
    add_integer(k, p.filter);
    add(k, p.mean, sizeof p.mean);
    add(k, p.std, sizeof p.std);
    if (split == TH_SPLIT_TRAIN && th_augment_is_random(&t->recipe.augment))
        add_augment(k, &t->recipe);
    for (int64_t i = 0; i < all->n; i++) {
        const struct th_sample *s = &all->sample[i];
        if (th_sizes_choose(&sizes, s->w, s->h) != bucket)
            continue;
        add_text(k, s->path ? s->path : "");
        add_integer(k, s->id);
        add_integer(k, s->bytes);
        add_integer(k, s->time);
        if (s->pixels)
            add(k, s->pixels, (size_t)s->w * (size_t)s->h);
    }
}

static thaw_status make_key(
    const struct thaw_trainer *t, int bucket, enum th_split split, uint64_t out[2])
{
    const struct th_cut *c = cut_of(t, bucket, split);
    struct key k = {{1, 2}};
    TRY(add_plan(&k, t, c));
    TRY(add_values(&k, c, &t->net.store));
    add_images(&k, t, bucket, split);
    memcpy(out, k.half, sizeof k.half);
    return THAW_OK;
}

/* ---- Opening ---- */

static int64_t entries(const struct thaw_trainer *t, int bucket, enum th_split split)
{
    int64_t views = split == TH_SPLIT_TRAIN ? t->recipe.views : 1;
    return t->bucket[bucket].images[split] * views;
}

/* Values of all entries of a bucket. */
static double values_of(const struct thaw_trainer *t, int bucket, enum th_split split)
{
    const struct th_cut *c = cut_of(t, bucket, split);
    return c->below ? (double)c->values * (double)entries(t, bucket, split) : 0;
}

/* The folder; fresh. */
static char *cache_dir(const struct thaw_trainer *t)
{
    return t->recipe.cache_dir ? th_strdup(t->recipe.cache_dir)
                               : th_run_folder_path(&t->folder, "cache");
}

/* The part of what all may take: as their sizes are. */
static size_t limit_of(const struct thaw_trainer *t, int bucket, enum th_split split)
{
    double all = 0, limit = (double)t->recipe.cache_limit;
    for (int b = 0; b < t->n_buckets; b++)
        for (int i = 0; i < N_CUTS; i++)
            all += values_of(t, b, cut_split[i]);
    if (!t->recipe.cache_limit && t->recipe.cache == TH_CACHE_MEMORY)
        limit = (double)th_available_bytes() / 2;
    double part = limit * values_of(t, bucket, split) / all;
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
static void open_cache(struct thaw_trainer *t, int bucket, enum th_split split)
{
    struct th_train_bucket *b = &t->bucket[bucket];
    struct th_cut *c = split == TH_SPLIT_TRAIN ? &b->cut : &b->val_cut;
    char *dir = cache_dir(t), *note = NULL;
    struct th_cache_spec spec = {.place = t->recipe.cache,
        .dir = dir,
        .entries = entries(t, bucket, split),
        .values = c->values,
        .half = t->recipe.cache_half,
        .limit = limit_of(t, bucket, split)};
    thaw_status status = dir ? make_key(t, bucket, split, spec.key) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_feature_cache_open(&spec, &c->cache, &note);
    if (note)
        th_say(&t->events, "warning", "%s", note);
    if (status != THAW_OK)
        th_say(&t->events, "warning", "going on without a cache: %s", thaw_error());
    th_free(note);
    th_free(dir);
}

/* Of the caches of a split, summed over buckets. */
struct kept {
    int64_t room, filled, all; /* entries */
    size_t bytes, largest;     /* of the room, and of an entry */
};

static struct kept kept_of(const struct thaw_trainer *t, enum th_split split)
{
    struct kept k = {0};
    for (int b = 0; b < t->n_buckets; b++) {
        const struct th_feature_cache *cache = cut_of(t, b, split)->cache;
        if (!cache)
            continue;
        size_t each = th_feature_cache_entry_bytes(cache);
        k.room += th_feature_cache_room(cache);
        k.filled += th_feature_cache_filled(cache);
        k.all += entries(t, b, split);
        k.bytes += (size_t)th_feature_cache_room(cache) * each;
        k.largest = each > k.largest ? each : k.largest;
    }
    return k;
}

static void say_kept(const struct thaw_trainer *t, const struct th_cut *first)
{
    const struct kept k = kept_of(t, TH_SPLIT_TRAIN), val = kept_of(t, TH_SPLIT_VAL);
    char one[32], sum[32], of[64] = "", found[64] = "", n[32], m[32];
    if (k.room < k.all)
        snprintf(of, sizeof of, " (of %s: --cache-limit)",
            th_text_count(k.all, n, sizeof n));
    if (k.filled)
        snprintf(found, sizeof found, "; %s are there",
            th_text_count(k.filled, n, sizeof n));
    th_say(&t->events, "cache",
        "up to %s nothing moves: computed once, %s an image, up to %s %s for %s "
        "views%s%s",
        first->frontier.name[0] + strlen("cut/"),
        th_text_bytes((double)k.largest, one, sizeof one),
        th_text_bytes((double)(k.bytes + val.bytes), sum, sizeof sum),
        t->recipe.cache == TH_CACHE_DISK ? "on disk" : "of memory",
        th_text_count(k.room + val.room, m, sizeof m), of, found);
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
    const struct thaw_trainer *t, const struct th_freeze *f, int bucket)
{
    return (struct th_plan_spec){.model = &t->bucket[bucket].model,
        .mode = TH_EVAL,
        .batch = t->recipe.batch,
        .loss = th_judges_loss(&t->net.model),
        .freeze = t->recipe.prefix_int8 ? f : NULL,
        .prefix_int8 = t->recipe.prefix_int8,
        .moving = t->val_moving};
}

static bool caches(const struct thaw_trainer *t)
{
    return t->recipe.cache != TH_CACHE_OFF;
}

/* Of a bucket's training: for all its batches, or for one that is not full. */
static thaw_status open_cut(struct thaw_trainer *t, int bucket)
{
    struct th_cutting c = th_trainer_cutting(t, &t->freeze, bucket);
    struct th_train_bucket *b = &t->bucket[bucket];
    int64_t batch = th_trainer_batch(t);
    struct th_plan_spec spec = th_trainer_plan_spec(t, &t->freeze, bucket, batch);
    bool any = c.full || c.last, partial = c.last && c.last != batch;
    if (!any || !(caches(t) || partial))
        return THAW_OK;
    spec.moving = t->moving;
    spec.rare = !caches(t);
    TRY(th_cut_init(&b->cut, &spec, &t->net.store, &t->net.arena, batch + 1));
    b->cut.half = caches(t) && t->recipe.cache_half;
    return THAW_OK;
}

/* Of validation: its own plan, on the values that are judged. */
static thaw_status open_val(struct thaw_trainer *t, int bucket)
{
    struct th_cut *cut = &t->bucket[bucket].val_cut;
    struct th_store *store = t->shadow.device ? &t->shadow : &t->net.store;
    const struct th_plan_spec spec = th_trainer_val_spec(t, &t->freeze, bucket);
    TRY(th_cut_init(cut, &spec, store, &t->net.arena, t->recipe.batch));
    cut->half = t->recipe.cache_half;
    return THAW_OK;
}

bool th_trainer_keeps(const struct thaw_trainer *t)
{
    return kept_of(t, TH_SPLIT_TRAIN).all > 0;
}

/* Caches come after all cuts, whose sizes share the limit. EMA's copy is filled before a
 * validation, and below the cut it has the values that the network has. */
static void open_caches(struct thaw_trainer *t)
{
    for (int b = 0; b < t->n_buckets; b++)
        for (int i = 0; i < N_CUTS; i++)
            if (values_of(t, b, cut_split[i]) > 0 && is_read_again(t, cut_split[i]))
                open_cache(t, b, cut_split[i]);
}

/* The first bucket's that has something below it; NULL: none has. */
static const struct th_cut *find_below(
    const struct thaw_trainer *t, enum th_split split)
{
    for (int b = 0; b < t->n_buckets; b++)
        if (cut_of(t, b, split)->below)
            return cut_of(t, b, split);
    return NULL;
}

thaw_status th_trainer_open_cuts(struct thaw_trainer *t)
{
    TRY(find_moving(t));
    for (int b = 0; b < t->n_buckets; b++)
        TRY(open_cut(t, b));
    const struct th_cut *first = find_below(t, TH_SPLIT_TRAIN);
    if (caches(t))
        say_needless_statistics(t);
    if (!caches(t) || !first) {
        say_nothing_is_kept(t);
        return THAW_OK;
    }
    for (int b = 0; b < t->n_buckets && t->val_loader; b++)
        TRY(open_val(t, b));
    open_caches(t);
    if (th_trainer_keeps(t))
        say_kept(t, first);
    return THAW_OK;
}

void th_trainer_close_cuts(struct thaw_trainer *t)
{
    if (t->val_loader && find_below(t, TH_SPLIT_VAL)) /* its workers ask no more */
        (void)th_loader_start(t->val_loader, 0, th_loader_n_batches(t->val_loader));
    for (int b = 0; b < t->n_buckets; b++) {
        th_cut_release(&t->bucket[b].cut);
        th_cut_release(&t->bucket[b].val_cut);
    }
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

/* The bucket's part of a split's images. */
static double share_of(const struct thaw_trainer *t, int bucket, enum th_split split)
{
    int64_t n = t->data.split[split].n;
    return n ? (double)t->bucket[bucket].images[split] / (double)n : 0;
}

void th_trainer_cache_cost(const struct thaw_trainer *t, struct th_phase_cost *c)
{
    struct th_plan_stats one;
    if (!caches(t) || !find_below(t, TH_SPLIT_TRAIN))
        return;
    for (int b = 0; b < t->n_buckets; b++)
        for (int i = 0; i < N_CUTS; i++) {
            const struct th_cut *cut = cut_of(t, b, cut_split[i]);
            if (!cut->below)
                continue;
            th_plan_stats(cut->below, &one);
            th_trainer_add_stats(
                i ? &c->eval_below : &c->below, &one, share_of(t, b, cut_split[i]));
        }
    const struct kept k = kept_of(t, TH_SPLIT_TRAIN), val = kept_of(t, TH_SPLIT_VAL);
    if (!k.all)
        return;
    share_out(t, (double)k.all, (double)k.room, (double)(k.bytes + val.bytes), c);
    if (k.filled >= k.room)
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

/* Of a split; the statistics are added, weighed by the bucket's images, and the values of all
 * its entries. */
static thaw_status both_sides(const struct thaw_trainer *t, struct th_plan_spec spec,
    int bucket, enum th_split split, struct th_store *store, struct th_arena *arena,
    struct th_plan_stats *above, struct th_plan_stats *below, double *values)
{
    struct th_plan_stats upper = {0}, lower = {0};
    int64_t each = 0, again = 0;
    double share = share_of(t, bucket, split);
    TRY(side_stats(spec, TH_BELOW, store, arena, &lower, &each));
    if (each)
        TRY(side_stats(spec, TH_ABOVE, store, arena, &upper, &again));
    th_trainer_add_stats(above, &upper, share);
    th_trainer_add_stats(below, &lower, share);
    *values += (double)each * (double)entries(t, bucket, split);
    return THAW_OK;
}

static double limit_for(const struct thaw_trainer *t, double need)
{
    if (t->recipe.cache_limit)
        return (double)t->recipe.cache_limit;
    return t->recipe.cache == TH_CACHE_MEMORY ? (double)th_available_bytes() / 2 : need;
}

/* Training's and validation's plans of a bucket, as two parts each. */
static thaw_status split_bucket(const struct thaw_trainer *t,
    const struct th_freeze *freeze, int bucket, const bool *moving,
    struct th_store *store, struct th_arena *arena, struct th_phase_cost *c,
    double *values)
{
    struct th_plan_spec spec =
        th_trainer_plan_spec(t, freeze, bucket, th_trainer_batch(t));
    struct th_plan_spec eval = th_trainer_val_spec(t, freeze, bucket);
    spec.moving = eval.moving = moving;
    if (t->bucket[bucket].images[TH_SPLIT_TRAIN])
        TRY(both_sides(t, spec, bucket, TH_SPLIT_TRAIN, store, arena, &c->train,
            &c->below, values));
    if (!t->val_loader)
        return THAW_OK;
    return both_sides(
        t, eval, bucket, TH_SPLIT_VAL, store, arena, &c->eval, &c->eval_below, values);
}

thaw_status th_trainer_later_cache_cost(const struct thaw_trainer *t,
    const struct th_freeze *freeze, struct th_store *store, struct th_arena *arena,
    struct th_phase_cost *c)
{
    double values = 0;
    struct th_phase_cost kept = *c;
    if (!caches(t))
        return THAW_OK;
    bool *moving = th_alloc((size_t)t->net.model.n_params, sizeof *moving);
    if (!moving)
        return THAW_E_MEMORY;
    for (int i = 0; i < t->net.model.n_params; i++)
        moving[i] = !th_freeze_is_frozen(freeze, &t->net.model, i);
    kept.train = kept.eval = (struct th_plan_stats){0};
    thaw_status status = THAW_OK;
    for (int b = 0; b < t->n_buckets && status == THAW_OK; b++)
        status = split_bucket(t, freeze, b, moving, store, arena, &kept, &values);
    th_free(moving);
    if (status == THAW_OK && values > 0) {
        size_t each = t->recipe.cache_half ? sizeof(uint16_t) : sizeof(float);
        double need = (double)each * values, has = limit_for(t, need);
        share_out(t, need, has, has < need ? has : need, &kept);
        *c = kept;
    }
    return status;
}

void th_trainer_drop_cache(struct thaw_trainer *t)
{
    char *dir = t->recipe.cache_dir ? NULL : cache_dir(t);
    for (int b = 0; dir && b < t->n_buckets; b++)
        for (int i = 0; i < N_CUTS; i++)
            if (cut_of(t, b, cut_split[i])->cache)
                th_feature_cache_unlink(cut_of(t, b, cut_split[i])->cache);
    if (dir)
        rmdir(dir); /* unless a file of an earlier phase is left */
    th_free(dir);
}

bool th_trainer_knows_val(void *bucket, int64_t entry)
{
    const struct th_train_bucket *b = bucket;
    return b->val_cut.cache && th_feature_cache_has(b->val_cut.cache, entry);
}
