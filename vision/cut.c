/* SPDX-License-Identifier: Apache-2.0
 * Owns the plan below a cut, and the rows that it hands up. Does not decide what is kept,
 * or where. */
#include "cut.h"

#include "half.h"
#include "mem.h"
#include "report.h"

#include <string.h>

static thaw_status alloc_rows(struct th_cut *c)
{
    size_t batch = (size_t)c->batch, most = (size_t)c->most;
    for (int k = 0; k < c->frontier.n; k++) {
        size_t bytes = (size_t)c->frontier.values[k] * sizeof(float);
        c->made[k] = th_alloc(batch, bytes);
        c->rows[k] = th_alloc(most, bytes);
        c->values += c->frontier.values[k];
        if (!c->made[k] || !c->rows[k])
            return THAW_E_MEMORY;
    }
    c->images = th_alloc(batch, c->pixels * sizeof *c->images);
    c->entry = th_alloc((size_t)c->values, sizeof *c->entry);
    c->rounded = th_alloc((size_t)c->values, sizeof *c->rounded);
    c->missing = th_alloc(most, sizeof *c->missing);
    return c->images && c->entry && c->rounded && c->missing ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_cut_init(struct th_cut *c, const struct th_plan_spec *spec,
    struct th_store *store, struct th_arena *arena, int64_t most)
{
    struct th_plan_spec below = *spec;
    *c = (struct th_cut){.batch = spec->batch,
        .most = most,
        .pixels = th_input_values(&spec->model->input)};
    below.side = TH_BELOW;
    TRY(th_plan_new(&below, store, arena, &c->below));
    if (!c->below)
        return THAW_OK;
    th_plan_frontier(c->below, &c->frontier);
    return alloc_rows(c);
}

void th_cut_release(struct th_cut *c)
{
    for (int k = 0; k < TH_MAX_FRONTIER; k++) {
        th_free(c->made[k]);
        th_free(c->rows[k]);
    }
    th_free(c->images);
    th_free(c->entry);
    th_free(c->rounded);
    th_free(c->missing);
    th_feature_cache_close(c->cache);
    th_plan_free(c->below);
    *c = (struct th_cut){0};
}

bool th_cut_knows(void *cut, int64_t entry)
{
    const struct th_cut *c = cut;
    return th_feature_cache_has(c->cache, entry);
}

/* c->entry is the row of image i, value after value. */
static void put_row(struct th_cut *c, int64_t i)
{
    const float *from = c->entry;
    for (int k = 0; k < c->frontier.n; k++) {
        size_t n = (size_t)c->frontier.values[k];
        memcpy(c->rows[k] + (size_t)i * n, from, n * sizeof *from);
        from += n;
    }
}

static void take_made(struct th_cut *c, int64_t j)
{
    float *to = c->entry;
    for (int k = 0; k < c->frontier.n; k++) {
        size_t n = (size_t)c->frontier.values[k];
        memcpy(to, c->made[k] + (size_t)j * n, n * sizeof *to);
        to += n;
    }
    if (c->half) {
        th_half_from_float(c->rounded, c->entry, (size_t)c->values);
        th_half_to_float(c->entry, c->rounded, (size_t)c->values);
    }
}

/* Rows of what is known; the others are listed as missing. */
static int64_t take_known(
    struct th_cut *c, const struct th_batch *b, const thaw_events *events, bool *again)
{
    int64_t n_missing = 0;
    *again = false;
    for (int64_t i = 0; i < b->n && !*again; i++) {
        if (!b->known[i]) {
            c->missing[n_missing++] = i;
            continue;
        }
        if (th_feature_cache_get(c->cache, b->entry[i], c->entry) == THAW_OK)
            put_row(c, i);
        else
            *again = true;
    }
    if (*again && !c->damage_said) {
        th_say(events, "warning", "%s; it is computed again", thaw_error());
        c->damage_said = true;
    }
    return n_missing;
}

static void keep(struct th_cut *c, int64_t entry, const thaw_events *events)
{
    if (!c->cache || entry < 0 ||
        th_feature_cache_put(c->cache, entry, c->entry) == THAW_OK || c->lost_said)
        return;
    th_say(
        events, "warning", "going on without keeping more features: %s", thaw_error());
    c->lost_said = true;
}

/* One run: the images at `from` .. `from` + n of those that are missing. */
static thaw_status compute(struct th_cut *c, const struct th_batch *b,
    const float *images, int64_t from, int64_t n, const thaw_events *events)
{
    const int64_t *at = c->missing + from;
    bool as_they_are = n == c->batch && b->n == n;
    for (int64_t j = 0; !as_they_are && j < c->batch; j++)
        memcpy(c->images + (size_t)j * c->pixels,
            images + (size_t)at[j % n] * c->pixels, c->pixels * sizeof *images);
    TRY(th_plan_set(c->below, "image", as_they_are ? images : c->images));
    TRY(th_plan_run(c->below));
    for (int k = 0; k < c->frontier.n; k++)
        TRY(th_plan_get(c->below, c->frontier.name[k], c->made[k]));
    for (int64_t j = 0; j < n; j++) {
        take_made(c, j);
        put_row(c, at[j]);
        keep(c, b->entry[at[j]], events);
    }
    return THAW_OK;
}

thaw_status th_cut_run(struct th_cut *c, const struct th_batch *b, const float *images,
    const thaw_events *events, bool *again)
{
    int64_t n_missing = take_known(c, b, events, again), n = 0;
    for (int64_t from = 0; from < n_missing && !*again; from += n) {
        n = n_missing - from < c->batch ? n_missing - from : c->batch;
        TRY(compute(c, b, images, from, n, events));
    }
    return THAW_OK;
}

thaw_status th_cut_set(
    const struct th_cut *c, struct th_plan *above, int64_t n_images, int64_t n)
{
    for (int k = 0; k < c->frontier.n; k++) {
        size_t values = (size_t)c->frontier.values[k];
        for (int64_t i = n_images; i < n; i++)
            memcpy(c->rows[k] + (size_t)i * values,
                c->rows[k] + (size_t)(i % n_images) * values,
                values * sizeof *c->rows[k]);
        TRY(th_plan_set(above, c->frontier.name[k], c->rows[k]));
    }
    return THAW_OK;
}
