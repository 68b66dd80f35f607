/* SPDX-License-Identifier: Apache-2.0
 * Owns the making of one input: which variant of which image, what a detector is to predict
 * of it, and what stands in for an image that cannot be read. See loader.h's invariants. */
#include "loader_inside.h"

#include "error.h"
#include "mem.h"
#include "rng.h"

#include <string.h>

static thaw_status note_problem(
    struct th_problem **list, int64_t sample, bool replaced, const char *reason)
{
    struct th_problem *p = th_alloc(1, sizeof *p);
    char *copy = p ? th_strdup(reason) : NULL;
    if (!copy) {
        th_free(p);
        return THAW_E_MEMORY;
    }
    *p = (struct th_problem){.sample = sample, .replaced = replaced, .reason = copy};
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

static void label_item(const struct th_loader *l, struct th_slot *slot, int64_t item,
    int64_t sample, int64_t occurrence)
{
    const struct th_sample *s = &l->samples->sample[sample];
    slot->labels[item] = s->label;
    slot->samples[item] = s;
    slot->ids[item] = s->id;
    slot->occurrence[item] = occurrence;
}

static struct th_example example_of(const struct th_loader *l,
    const struct th_slot *slot, int64_t sample, int64_t occurrence)
{
    const struct th_sample *s = &l->samples->sample[sample];
    return (struct th_example){.preprocess = &l->preprocess[slot->bucket],
        .augment = &l->o.augment,
        .view = variant_of(l, sample, occurrence),
        .objects = s->objects,
        .n_objects = s->n_objects};
}

/* What a detector is to predict of the item, from what it shows. */
static void give_targets(struct th_loader *l, struct th_slot *slot, int64_t item,
    const struct th_object *shown, int32_t n)
{
    void *part[TH_MAX_PARTS] = {0};
    const struct th_loader_bucket *bucket = &l->o.bucket[slot->bucket];
    for (int k = 0; k < l->o.n_parts; k++)
        part[k] = (char *)slot->part[k] + (size_t)item * bucket->part_bytes[k];
    uint64_t key =
        th_rng_mix(th_rng_mix_name(l->o.seed, "targets"), (uint64_t)l->epoch);
    key = th_rng_mix(
        th_rng_mix(key, (uint64_t)slot->ids[item]), (uint64_t)slot->occurrence[item]);
    l->o.targets(bucket->targets_context, shown, n, key, part);
}

/* The same of one picture. */
static thaw_status make_targets(struct th_loader *l, struct th_slot *slot, int64_t item,
    const struct th_example *input, struct th_bench *bench)
{
    struct th_size size = slot->size[item];
    if (l->o.n_parts == 0)
        return THAW_OK;
    struct th_object *shown =
        th_block_take(&bench->objects, ((size_t)input->n_objects + 1) * sizeof *shown);
    if (!shown)
        return THAW_E_MEMORY;
    struct th_placement place = th_example_place(input, size.w, size.h);
    int32_t n = th_placement_objects(&place, input->objects, input->n_objects, shown);
    give_targets(l, slot, item, shown, n);
    return THAW_OK;
}

/* Decode a sample and make an input of it: out[3][h][w]. */
static thaw_status read_picture(struct th_loader *l, struct th_slot *slot, int64_t item,
    int64_t sample, const struct th_example *input, float *out, struct th_bench *bench)
{
    struct th_wanted wanted = th_example_wants(input);
    bool damaged = false;
    wanted.sound = atomic_load(&l->sound[sample]);
    thaw_status status = th_sample_read_part(
        &l->samples->sample[sample], &bench->reader, &wanted, &damaged);
    atomic_store(&l->sound[sample], status == THAW_OK && !damaged);
    if (status == THAW_OK && damaged)
        status = note_problem(&slot->problem[item], sample, false,
            "damaged near its end; used all the same");
    if (status == THAW_OK)
        status = th_example_make(&bench->maker, input, &bench->reader.picture, out);
    return status;
}

static void copy_part(
    const float *from, struct th_size size, struct th_box part, float *to)
{
    for (int c = 0; c < CHANNELS; c++)
        for (int y = part.y; y < part.y + part.h; y++) {
            size_t row = (size_t)c * (size_t)size.h + (size_t)y;
            size_t at = row * (size_t)size.w + (size_t)part.x;
            memcpy(to + at, from + at, (size_t)part.w * sizeof *to);
        }
}

/* One picture of a mosaic on the item, and its objects behind the n that are there. */
static thaw_status add_quadrant(struct th_loader *l, struct th_slot *slot, int64_t item,
    int64_t sample, const struct th_example *input, struct th_bench *bench, int32_t *n)
{
    struct th_size size = l->preprocess[slot->bucket].size;
    size_t values = th_loader_values(l, slot->bucket);
    float *one = th_block_take(&bench->one, values * sizeof *one);
    if (!one)
        return THAW_E_MEMORY;
    TRY(read_picture(l, slot, item, sample, input, one, bench));
    int w = bench->reader.picture.w, h = bench->reader.picture.h;
    struct th_placement place = th_example_place(input, w, h);
    copy_part(one, size, place.to, slot->images + (size_t)item * values);
    struct th_object *shown = bench->objects.p;
    *n += th_placement_objects(&place, input->objects, input->n_objects, shown + *n);
    if (input->mosaic.quadrant == 0)
        slot->size[item] = (struct th_size){w, h};
    return THAW_OK;
}

/* Four pictures; where one of the others cannot be read its place stays empty. */
static thaw_status make_mosaic(struct th_loader *l, struct th_slot *slot, int64_t item,
    const struct th_example *own, const int64_t sample[TH_MOSAIC], int64_t occurrence,
    struct th_bench *bench)
{
    size_t values = th_loader_values(l, slot->bucket), room = 1;
    int32_t n = 0;
    for (int i = 0; i < TH_MOSAIC; i++)
        room += (size_t)l->samples->sample[sample[i]].n_objects;
    if (!th_block_take(&bench->objects, room * sizeof(struct th_object)))
        return THAW_E_MEMORY;
    memset(slot->images + (size_t)item * values, 0, values * sizeof *slot->images);
    for (int i = 0; i < TH_MOSAIC; i++) {
        struct th_example input = example_of(l, slot, sample[i], occurrence);
        input.mosaic = own->mosaic;
        input.mosaic.quadrant = i;
        thaw_status status = add_quadrant(l, slot, item, sample[i], &input, bench, &n);
        if (status == THAW_E_MEMORY || (status != THAW_OK && i == 0))
            return status;
        if (status != THAW_OK)
            TRY(note_problem(&slot->problem[item], sample[i], true, thaw_error()));
    }
    if (l->o.n_parts)
        give_targets(l, slot, item, bench->objects.p, n);
    return THAW_OK;
}

/* Decode a sample and make the item's input of it. */
static thaw_status make_input(struct th_loader *l, struct th_slot *slot, int64_t item,
    int64_t sample, int64_t occurrence, struct th_bench *bench)
{
    struct th_size size = l->preprocess[slot->bucket].size;
    struct th_example input = example_of(l, slot, sample, occurrence);
    int64_t all[TH_MOSAIC] = {sample};
    label_item(l, slot, item, sample, occurrence);
    if (l->o.preprocess.fit && th_mosaic_draw(&l->o.augment, &input.view, size,
                                   l->samples->n, &input.mosaic, all + 1))
        return make_mosaic(l, slot, item, &input, all, occurrence, bench);
    TRY(read_picture(l, slot, item, sample, &input,
        slot->images + (size_t)item * th_loader_values(l, slot->bucket), bench));
    slot->size[item] =
        (struct th_size){bench->reader.picture.w, bench->reader.picture.h};
    atomic_store(&l->sizes[sample], slot->size[item]);
    return make_targets(l, slot, item, &input, bench);
}

/* The caller knows what it wants of the image; its targets go by its size, which was read
 * once. */
static thaw_status label_known(struct th_loader *l, struct th_slot *slot, int64_t item,
    int64_t sample, int64_t occurrence, struct th_bench *bench)
{
    const struct th_example input = example_of(l, slot, sample, occurrence);
    label_item(l, slot, item, sample, occurrence);
    slot->size[item] = atomic_load(&l->sizes[sample]);
    return make_targets(l, slot, item, &input, bench);
}

/* Another image of the same class: the first readable one from a drawn place on. */
static thaw_status make_substitute(struct th_loader *l, struct th_slot *slot,
    int64_t item, int64_t sample, int64_t repeat, struct th_bench *bench)
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

thaw_status th_loader_make_item(
    struct th_loader *l, int64_t batch, int64_t item, struct th_bench *bench)
{
    struct th_slot *slot = &l->slot[batch % l->n_slots];
    int64_t place = l->batches.at[batch].from + item, sample = l->order.sample[place];
    int64_t repeat = l->order.repeat ? l->order.repeat[place] : 0;
    int64_t view = variant_of(l, sample, repeat << REPEAT_SHIFT).epoch;
    slot->entry[item] =
        l->o.views > 0 ? l->batches.rank[sample] * l->o.views + view : -1;
    const struct th_size size =
        l->o.preprocess.fit ? atomic_load(&l->sizes[sample]) : (struct th_size){1, 1};
    slot->known[item] =
        size.w > 0 && l->o.knows &&
        l->o.knows(l->o.bucket[slot->bucket].knows_context, slot->entry[item]);
    if (slot->known[item])
        return label_known(l, slot, item, sample, repeat << REPEAT_SHIFT, bench);
    thaw_status status =
        make_input(l, slot, item, sample, repeat << REPEAT_SHIFT, bench);
    if (status == THAW_OK || status == THAW_E_MEMORY)
        return status;
    TRY(note_problem(&slot->problem[item], sample, true, thaw_error()));
    slot->entry[item] = -1;
    return make_substitute(l, slot, item, sample, repeat, bench);
}
