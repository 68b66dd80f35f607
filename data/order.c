/* SPDX-License-Identifier: Apache-2.0
 * Owns the order of an epoch and the index of samples by class. */
#include "order.h"

#include "mem.h"
#include "rng.h"

static int64_t class_of(const struct th_samples *samples, int64_t i)
{
    int32_t label = samples->sample[i].label;
    return label < 0 ? 0 : label;
}

/* Sample indices by class: a counting sort. */
static thaw_status index_classes(struct th_order *o, const struct th_samples *samples)
{
    o->member = th_alloc((size_t)o->n, sizeof *o->member);
    o->class_from = th_alloc((size_t)o->n_classes + 2, sizeof *o->class_from);
    if (!o->member || !o->class_from)
        return THAW_E_MEMORY;
    /* Counts two places on, then running sums; filling moves each one place back. */
    for (int64_t i = 0; i < o->n; i++)
        o->class_from[class_of(samples, i) + 2]++;
    for (int64_t c = 0; c < o->n_classes; c++)
        o->class_from[c + 2] += o->class_from[c + 1];
    for (int64_t i = 0; i < o->n; i++)
        o->member[o->class_from[class_of(samples, i) + 1]++] = i;
    return THAW_OK;
}

thaw_status th_order_init(struct th_order *o, enum th_order_kind kind,
    const struct th_samples *samples, int64_t n_classes)
{
    size_t n = (size_t)samples->n;
    *o = (struct th_order){
        .kind = kind, .n = samples->n, .n_classes = n_classes ? n_classes : 1};
    o->sample = th_alloc(n, sizeof *o->sample);
    if (!o->sample)
        return THAW_E_MEMORY;
    if (kind == TH_ORDER_BALANCED) {
        o->repeat = th_alloc(n, sizeof *o->repeat);
        o->place = th_alloc(n, sizeof *o->place);
        o->drawn = th_alloc(n, sizeof *o->drawn);
        if (!o->repeat || !o->place || !o->drawn)
            return THAW_E_MEMORY;
    }
    return index_classes(o, samples);
}

void th_order_release(struct th_order *o)
{
    th_free(o->sample);
    th_free(o->repeat);
    th_free(o->member);
    th_free(o->class_from);
    th_free(o->place);
    th_free(o->drawn);
    *o = (struct th_order){0};
}

/* ---- Balanced ---- */

static int64_t class_size(const struct th_order *o, int64_t class)
{
    return o->class_from[class + 1] - o->class_from[class];
}

/* `share` draws of a class from place[*used] on: all its images in a drawn order, then
 * all again in another, until the share is full. */
static void draw_class(
    struct th_order *o, uint64_t key, int64_t class, int64_t share, int64_t *used)
{
    int64_t n = class_size(o, class);
    const int64_t *member = o->member + o->class_from[class];
    for (int64_t i = 0; i < share; i++) {
        int64_t round = i / n, place = o->place[(*used)++];
        if (i % n == 0)
            th_rng_permutation(th_rng_mix(key, (uint64_t)round), n, o->drawn);
        o->sample[place] = member[o->drawn[i % n]];
        o->repeat[place] = round;
    }
}

/* Each class that has images gets n / classes places; the n % classes that are left go to
 * classes from a drawn one on, so that in the long run shares are equal. */
static void draw_balanced(struct th_order *o, uint64_t key)
{
    int64_t present = 0, used = 0, rank = 0;
    for (int64_t c = 0; c < o->n_classes; c++)
        present += class_size(o, c) > 0;
    int64_t extra = o->n % present,
            first = (int64_t)th_rng_below(
                th_rng_mix_name(key, "extra"), 0, (uint64_t)present);
    th_rng_permutation(th_rng_mix_name(key, "places"), o->n, o->place);
    for (int64_t c = 0; c < o->n_classes; c++) {
        if (class_size(o, c) == 0)
            continue;
        bool more = (rank++ - first + present) % present < extra;
        draw_class(o, th_rng_mix(th_rng_mix_name(key, "class"), (uint64_t)c), c,
            o->n / present + more, &used);
    }
}

void th_order_draw(struct th_order *o, uint64_t seed, int64_t epoch)
{
    uint64_t key = th_rng_mix(th_rng_mix_name(seed, "order"), (uint64_t)epoch);
    if (o->kind == TH_ORDER_BALANCED)
        draw_balanced(o, key);
    else if (o->kind == TH_ORDER_SHUFFLED)
        th_rng_permutation(key, o->n, o->sample);
    else
        for (int64_t i = 0; i < o->n; i++)
            o->sample[i] = i;
}
