/* SPDX-License-Identifier: Apache-2.0
 * Places every temporary value, input and scratch buffer of a plan in one arena. A value
 * lives from the step that makes it to the last that reads it (inputs from the start,
 * wanted ones to the end); what is kept from run to run, always. Offsets are greedy by size, as in Pisarchyk and Lee, "Efficient
 * Memory Management for Deep Neural Net Inference", 2020 (greedy by size).
 * P4: two storages alive together share no byte, but for views and in-place steps, whose
 * `root` is the storage that they use. */
#include "pass.h"

#include "mem.h"

#include <stdlib.h>

struct interval {
    int first, last; /* steps */
    size_t bytes, offset;
    int order;     /* among those that are alike, so that a sort has one result */
    size_t *place; /* where the offset belongs: a value's, a step's scratch or kept */
};

struct lifetimes {
    int *first, *last; /* [n_values], of roots */
    int n_steps;
};

static bool in_arena(const struct th_plan *p, int v)
{
    enum th_value_kind kind = p->graph.values[v].kind;
    if (p->places[v].nowhere)
        return false;
    return kind == TH_VALUE_TEMP || kind == TH_VALUE_INPUT ||
           (kind == TH_VALUE_DERIVED && !p->places[v].derived);
}

static int root_of(const struct th_plan *p, int v)
{
    while (p->places[v].root != v)
        v = p->places[v].root;
    return v;
}

/* in[0] dies in this step, is ours alone and as large as out[0]. */
static bool can_run_in_place(
    const struct th_plan *p, const struct lifetimes *t, int step, bool reuse)
{
    const struct th_step *s = &p->steps[step];
    if (!reuse || !s->kernel->in_place || s->partner >= 0 || s->in[0] < 0 ||
        s->out[0] < 0 || !in_arena(p, s->in[0]) || !in_arena(p, s->out[0]))
        return false;
    int root = root_of(p, s->in[0]);
    for (int k = 1; k < TH_MAX_IN; k++)
        if (s->in[k] >= 0 && root_of(p, s->in[k]) == root)
            return false;
    return t->last[root] == step &&
           p->places[root].bytes == p->places[s->out[0]].bytes &&
           !p->graph.values[root].wanted && p->graph.values[s->out[0]].view_of < 0;
}

static void find_uses(const struct th_plan *p, struct lifetimes *t)
{
    for (int v = 0; v < p->graph.n_values; v++) {
        bool input = p->graph.values[v].kind == TH_VALUE_INPUT;
        t->first[v] = input ? 0 : -1;
        t->last[v] = input ? 0 : -1;
    }
    for (int i = 0; i < p->n_steps; i++) {
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (p->steps[i].out[k] >= 0) {
                int r = root_of(p, p->steps[i].out[k]), at = p->steps[i].runs_at;
                if (t->first[r] < 0 || at < t->first[r])
                    t->first[r] = at;
                t->last[r] = at > t->last[r] ? at : t->last[r];
            }
        for (int k = 0; k < TH_MAX_IN; k++)
            if (p->steps[i].in[k] >= 0) {
                int r = root_of(p, p->steps[i].in[k]), at = p->steps[i].runs_at;
                t->last[r] = at > t->last[r] ? at : t->last[r];
            }
    }
    for (int v = 0; v < p->graph.n_values; v++) {
        if (p->graph.values[v].wanted && t->first[root_of(p, v)] >= 0)
            t->last[root_of(p, v)] = t->n_steps - 1;
        if (p->graph.values[v].kind == TH_VALUE_DERIVED &&
            p->keeping == TH_KEPT_IN_ARENA) { /* from run to run */
            t->first[v] = 0;
            t->last[v] = t->n_steps;
        }
    }
}

/* In order of the steps: each chain of in-place steps becomes one storage. */
static void merge_in_place(struct th_plan *p, struct lifetimes *t, bool reuse)
{
    for (int i = 0; i < p->n_steps; i++) {
        if (!can_run_in_place(p, t, i, reuse))
            continue;
        int root = root_of(p, p->steps[i].in[0]), out = root_of(p, p->steps[i].out[0]);
        if (p->graph.values[out].wanted)
            continue;
        p->places[out].root = root;
        t->last[root] = t->last[out];
    }
}

static int larger_first(const void *a, const void *b)
{
    const struct interval *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? x->first - y->first : x->order - y->order;
}

/* The lowest gap between the already placed intervals that live at the same time. */
static size_t lowest_gap(const struct interval *placed, int n, const struct interval *x)
{
    size_t offset = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < n; i++) {
            const struct interval *o = &placed[i];
            bool together = o->first <= x->last && x->first <= o->last;
            if (together && offset < o->offset + o->bytes &&
                o->offset < offset + x->bytes) {
                offset = o->offset + o->bytes;
                moved = true;
            }
        }
    }
    return offset;
}

static void append(
    struct interval *list, int *n, int first, int last, size_t bytes, size_t *place)
{
    if (!bytes)
        return;
    list[*n] = (struct interval){.first = first,
        .last = last,
        .bytes = th_align_up(bytes),
        .place = place,
        .order = *n};
    (*n)++;
}

static int gather(
    struct th_plan *p, const struct lifetimes *t, struct interval *list, bool reuse)
{
    int n = 0;
    for (int v = 0; v < p->graph.n_values; v++)
        if (in_arena(p, v) && p->places[v].root == v && t->first[v] >= 0)
            append(list, &n, t->first[v], t->last[v], p->places[v].bytes,
                &p->places[v].offset);
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = &p->steps[i];
        int at = s->runs_at;
        append(list, &n, at, at, s->call.scratch_bytes, &s->scratch_offset);
        bool once = s->moves || p->keeping == TH_NOT_KEPT;
        if (!s->lasting)
            append(list, &n, once ? at : 0, once ? at : p->n_steps, s->call.kept_bytes,
                &s->kept_offset);
    }
    for (int i = 0; !reuse && i < n; i++) {
        list[i].first = 0;
        list[i].last = p->n_steps;
    }
    return n;
}

/* Largest sum of bytes alive at one step: the bound that the arena is measured by. */
static size_t live_peak(const struct interval *list, int n, int n_steps)
{
    size_t peak = 0;
    for (int s = 0; s < n_steps; s++) {
        size_t live = 0;
        for (int i = 0; i < n; i++)
            live += list[i].first <= s && s <= list[i].last ? list[i].bytes : 0;
        peak = live > peak ? live : peak;
    }
    return peak;
}

static void place_all(struct th_plan *p, struct interval *list, int n)
{
    qsort(list, (size_t)n, sizeof *list, larger_first);
    size_t end = 0;
    for (int i = 0; i < n; i++) {
        list[i].offset = lowest_gap(list, i, &list[i]);
        size_t top = list[i].offset + list[i].bytes;
        end = top > end ? top : end;
        *list[i].place = list[i].offset;
    }
    p->stats.arena_bytes = end;
    p->stats.live_bytes = live_peak(list, n, p->n_steps);
}

/* Bytes that forward steps (or the loader) make and backward or commit steps read. */
static size_t saved_bytes(const struct th_plan *p, bool *counted)
{
    size_t bytes = 0;
    int first_backward = 0;
    while (first_backward < p->n_steps && p->steps[first_backward].phase == TH_FORWARD)
        first_backward++;
    for (int i = 0; i < p->n_steps; i++)
        for (int k = 0; p->steps[i].phase == TH_FORWARD && k < TH_MAX_OUT; k++)
            if (p->steps[i].out[k] >= 0)
                counted[root_of(p, p->steps[i].out[k])] = true;
    for (int v = 0; v < p->graph.n_values; v++)
        counted[v] = counted[v] || p->graph.values[v].kind == TH_VALUE_INPUT;
    for (int i = first_backward; i < p->n_steps; i++)
        for (int k = 0; k < TH_MAX_IN; k++) {
            int v = p->steps[i].in[k] < 0 ? -1 : root_of(p, p->steps[i].in[k]);
            if (v >= 0 && in_arena(p, v) && counted[v]) {
                bytes += p->places[v].bytes;
                counted[v] = false;
            }
        }
    return bytes;
}

thaw_status th_pass_arena(struct th_plan *p, bool reuse)
{
    int n_values = p->graph.n_values;
    struct lifetimes t = {.n_steps = p->n_steps};
    t.first = th_alloc((size_t)n_values, sizeof *t.first);
    t.last = th_alloc((size_t)n_values, sizeof *t.last);
    bool *counted = th_alloc((size_t)n_values, sizeof *counted);
    struct interval *list = th_alloc((size_t)(n_values + 2 * p->n_steps), sizeof *list);
    thaw_status status = t.first && t.last && list && counted ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK) {
        for (int v = 0; v < n_values; v++)
            p->places[v].root =
                p->graph.values[v].view_of >= 0 ? p->graph.values[v].view_of : v;
        find_uses(p, &t);
        p->stats.saved_bytes = saved_bytes(p, counted);
        merge_in_place(p, &t, reuse);
        place_all(p, list, gather(p, &t, list, reuse));
    }
    th_free(t.first);
    th_free(t.last);
    th_free(counted);
    th_free(list);
    return status;
}
