/* SPDX-License-Identifier: Apache-2.0
 * Runs plans: binds pointers when the arena moved, runs the steps in order, keeps
 * versions, so that what is derived from lasting values is made again only when one of
 * them changed. Allocates nothing while running (P1), but for what a device keeps of a
 * recording: a run that is like the one before it is recorded where the device can, and
 * enqueued as a whole from then on. */
#include "pass.h"

#include "mem.h"

#include <assert.h>
#include <string.h>

static void *address(const struct th_plan *p, int value)
{
    if (value < 0)
        return NULL;
    while (p->places[value].root != value)
        value = p->places[value].root;
    const struct th_place *place = &p->places[value];
    if (place->nowhere)
        return NULL;
    if (place->state >= 0)
        return p->store->states[place->state].data;
    return place->derived ? place->derived : (char *)p->arena->base + place->offset;
}

static void bind(struct th_plan *p)
{
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = &p->steps[i];
        int n_in = th_op_rule(s->call.op)->n_in, n_out = th_op_rule(s->call.op)->n_out;
        for (int k = 0; k < n_in; k++)
            s->call.args[k] = address(p, s->in[k]);
        for (int k = 0; k < n_out; k++)
            s->call.args[n_in + k] = address(p, s->out[k]);
        s->call.scratch = (char *)p->arena->base + s->scratch_offset;
        if (s->call.kept_bytes)
            s->call.kept =
                s->lasting ? s->lasting : (char *)p->arena->base + s->kept_offset;
    }
    p->base = p->arena->base;
}

static uint64_t version(const struct th_plan *p, int value)
{
    const struct th_place *place = &p->places[value];
    return place->state >= 0 ? p->store->states[place->state].version : place->version;
}

/* Versions only grow, so the sum changes exactly when one of them does. */
static uint64_t versions(const struct th_plan *p, const struct th_step *s)
{
    uint64_t sum = 1;
    for (int k = 0; k < TH_MAX_IN; k++)
        if (s->in[k] >= 0)
            sum += version(p, s->in[k]);
    return sum;
}

static void bump_written(struct th_plan *p, const struct th_step *s)
{
    unsigned writes = th_op_rule(s->call.op)->writes;
    for (int k = 0; k < TH_MAX_IN; k++)
        if (s->in[k] >= 0 && (writes >> k & 1) && p->places[s->in[k]].state >= 0)
            p->store->states[p->places[s->in[k]].state].version++;
    for (int k = 0; s->derived && k < TH_MAX_OUT; k++)
        if (s->out[k] >= 0)
            p->places[s->out[k]].version++;
}

/* Before the arena is written to. */
static void take_arena(struct th_plan *p)
{
    if (p->turn == p->arena->turn)
        return;
    p->turn = ++p->arena->turn;
    p->lost = true;
}

/* Whether what the step made from lasting tensors is gone. */
static bool has_lost(const struct th_plan *p, const struct th_step *s)
{
    bool in_arena =
        s->derived ? p->keeping != TH_KEPT_APART : s->call.kept_bytes && !s->lasting;
    return in_arena && (p->lost || s->moves || p->keeping == TH_NOT_KEPT);
}

/* The step that runs in place i: with a partner, the first of the two. */
static struct th_step *at(struct th_plan *p, int i)
{
    int other = p->steps[i].partner;
    return &p->steps[other >= 0 && other < i ? other : i];
}

/* Says of each place whether something runs there, and what is stale, as if all of it ran.
 * What it says, as a number: two runs with the same one are the same calls. */
static uint64_t look_ahead(struct th_plan *p)
{
    uint64_t said = 0;
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = at(p, i);
        p->steps[i].due = false;
        if (p->steps[i].runs_at != i)
            continue; /* its partner runs it */
        uint64_t now = versions(p, s);
        const struct th_step *packer = s->feeds >= 0 ? &p->steps[s->feeds] : NULL;
        s->call.stale = now != s->seen || has_lost(p, s) ||
                        (packer && versions(p, packer) != packer->seen);
        p->steps[i].due = !s->derived || s->call.stale;
        const uint8_t bits = (uint8_t)(p->steps[i].due | s->call.stale << 1);
        said = th_hash(&bits, sizeof bits, said);
        if (!p->steps[i].due)
            continue;
        s->seen = now;
        bump_written(p, s);
        if (s->partner >= 0)
            bump_written(p, &p->steps[s->partner]);
    }
    return said;
}

/* How many steps from i on are calls of one op that the device runs together. */
static int row_of(const struct th_plan *p, int i)
{
    const struct th_step *first = &p->steps[i];
    int n = 1;
    if (!first->kernel->run_all || first->derived || first->partner >= 0)
        return 1;
    while (i + n < p->n_steps && p->steps[i + n].call.op == first->call.op &&
           p->steps[i + n].kernel == first->kernel && !p->steps[i + n].derived)
        n++;
    return n;
}

static void begin(struct th_device *device)
{
    if (device->backend->begin)
        device->backend->begin(device);
}

static void end(struct th_device *device)
{
    if (device->backend->end)
        device->backend->end(device);
}

static thaw_status enqueue(
    struct th_plan *p, void (*after)(void *context, int step), void *context)
{
    for (int i = 0, n = 1; i < p->n_steps; i += n) {
        n = after ? 1 : row_of(p, i);
        if (n > 1)
            TRY(p->steps[i].kernel->run_all(&p->calls[i], n));
        if (n > 1 || !p->steps[i].due)
            continue;
        const struct th_step *s = at(p, i);
        TRY(s->kernel->run(&s->call));
        if (after)
            after(context, i);
    }
    return THAW_OK;
}

/* ---- recordings ---- */

void th_plan_forget(struct th_plan *p)
{
    struct th_device *device = p->store->device;
    if (p->recording)
        device->backend->forget(device, p->recording);
    p->recording = NULL;
}

static bool can_record(const struct th_plan *p)
{
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].kernel->on_host)
            return false;
    return p->store->device->backend->record && !p->unrecordable;
}

/* What fails here may go well one call after the other: that is tried once, and then it is
 * left at that. */
static void record(struct th_plan *p)
{
    struct th_device *device = p->store->device;
    th_plan_forget(p);
    thaw_status status = device->backend->record(device);
    if (status == THAW_OK) {
        status = enqueue(p, NULL, NULL);
        thaw_status ended =
            device->backend->recorded(device, status == THAW_OK ? &p->recording : NULL);
        status = status == THAW_OK ? ended : status;
    }
    p->unrecordable = status != THAW_OK;
}

/* Two runs alike are taken for what goes on: the second is recorded, later ones are that. */
static thaw_status enqueue_or_replay(struct th_plan *p, uint64_t calls)
{
    struct th_device *device = p->store->device;
    if (!(p->recording && calls == p->recorded) && calls == p->last && can_record(p)) {
        record(p);
        p->recorded = calls;
    }
    p->last = calls;
    if (p->recording && calls == p->recorded)
        return device->backend->replay(device, p->recording);
    return enqueue(p, NULL, NULL);
}

thaw_status th_plan_run_watched(
    struct th_plan *p, void (*after)(void *context, int step), void *context)
{
    if (p->base != p->arena->base) {
        bind(p);
        th_plan_forget(p);
    }
    take_arena(p);
    uint64_t calls = look_ahead(p);
    begin(p->store->device);
    thaw_status status =
        after ? enqueue(p, after, context) : enqueue_or_replay(p, calls);
    end(p->store->device);
    if (status == THAW_OK)
        p->lost = false;
    for (int i = 0; status != THAW_OK && i < p->n_steps; i++)
        p->steps[i].seen = 0; /* who knows what ran */
    return status;
}

thaw_status th_plan_run(struct th_plan *p)
{
    return th_plan_run_watched(p, NULL, NULL);
}

/* A named input or the scalars, or a wanted value; -1. */
static int port(const struct th_plan *p, const char *name, bool input)
{
    int v = th_graph_find(&p->graph, name);
    if (v < 0)
        return -1;
    const struct th_value *value = &p->graph.values[v];
    bool scalars = value->kind == TH_VALUE_STATE && strcmp(name, "scalars") == 0;
    bool fits =
        input ? value->kind == TH_VALUE_INPUT || scalars : value->wanted || scalars;
    return fits ? v : -1;
}

bool th_plan_has(const struct th_plan *p, const char *name)
{
    return port(p, name, true) >= 0 || port(p, name, false) >= 0;
}

static thaw_status find_port(
    const struct th_plan *p, const char *name, bool input, int *value)
{
    *value = port(p, name, input);
    return *value >= 0 ? THAW_OK
                       : th_fail(THAW_E_USAGE, "this plan has no %s '%s'",
                             input ? "input" : "output", name);
}

thaw_status th_plan_set(struct th_plan *p, const char *name, const void *host)
{
    struct th_device *device = p->store->device;
    int v;
    TRY(find_port(p, name, true, &v));
    take_arena(p);
    if (p->places[v].state >= 0)
        return th_store_put(p->store, p->places[v].state, host);
    return device->backend->upload(device, address(p, v), host, p->places[v].bytes);
}

thaw_status th_plan_set_all(struct th_plan *p, const struct th_feed *feeds, int n)
{
    for (int i = 0; i < n; i++)
        TRY(th_plan_set(p, feeds[i].name, feeds[i].host));
    return THAW_OK;
}

bool th_plan_can_send(const struct th_plan *p)
{
    return p->store->device->backend->send;
}

thaw_status th_plan_send(
    struct th_plan *p, const struct th_feed *feeds, int n, uint64_t *lot)
{
    struct th_device *device = p->store->device;
    struct th_copy copies[TH_MAX_FEEDS];
    int v;
    *lot = 0;
    if (!th_plan_can_send(p))
        return THAW_OK;
    assert(n <= TH_MAX_FEEDS);
    for (int i = 0; i < n; i++) {
        TRY(find_port(p, feeds[i].name, true, &v));
        copies[i] = (struct th_copy){.src = feeds[i].host, .bytes = p->places[v].bytes};
    }
    return device->backend->send(device, copies, n, lot);
}

thaw_status th_plan_take(
    struct th_plan *p, const struct th_feed *feeds, int n, uint64_t lot)
{
    struct th_device *device = p->store->device;
    struct th_copy copies[TH_MAX_FEEDS];
    int v;
    assert(n <= TH_MAX_FEEDS);
    take_arena(p);
    for (int i = 0; i < n; i++) {
        TRY(find_port(p, feeds[i].name, true, &v));
        copies[i] = (struct th_copy){.dst = address(p, v), .bytes = p->places[v].bytes};
        if (p->places[v].state >= 0)
            p->store->states[p->places[v].state].version++;
    }
    return device->backend->take(device, copies, n, lot);
}

thaw_status th_plan_get(struct th_plan *p, const char *name, void *host)
{
    return th_plan_get_all(p, &(struct th_fetch){name, host}, 1);
}

thaw_status th_plan_get_all(struct th_plan *p, const struct th_fetch *fetches, int n)
{
    struct th_device *device = p->store->device;
    const struct th_backend *b = device->backend;
    struct th_copy c[TH_MAX_FEEDS];
    int v;
    assert(n <= TH_MAX_FEEDS);
    for (int i = 0; i < n; i++) {
        TRY(find_port(p, fetches[i].name, false, &v));
        c[i] = (struct th_copy){address(p, v), fetches[i].host, p->places[v].bytes};
    }
    if (b->download_all)
        return b->download_all(device, c, n);
    for (int i = 0; i < n; i++)
        TRY(b->download(device, c[i].dst, c[i].src, c[i].bytes));
    return THAW_OK;
}

static thaw_status copy_value(const struct th_plan *p, int value, char **copy)
{
    struct th_device *device = p->store->device;
    size_t bytes = p->places[value].bytes;
    *copy = th_alloc(bytes, 1);
    if (!*copy)
        return THAW_E_MEMORY;
    return device->backend->download(device, *copy, address(p, value), bytes);
}

static thaw_status compare_value(
    const struct th_plan *p, int value, const char *used, const char *name)
{
    char *again = NULL;
    thaw_status status = copy_value(p, value, &again);
    if (status == THAW_OK && memcmp(used, again, p->places[value].bytes) != 0)
        status = th_fail(THAW_E_FAIL,
            "%s: the folded weights in use are not what its frozen parameters give; "
            "memory "
            "was overwritten",
            name);
    th_free(again);
    return status;
}

/* Run a derived step again and compare what it makes with what was in use: all of it is
 * set aside before, since the run makes every output anew. What is only packed is not
 * there any more; it is made for the packer's own verification, which is next. */
static thaw_status verify_derived(struct th_plan *p, struct th_step *s)
{
    char *used[TH_MAX_OUT] = {NULL};
    thaw_status status = THAW_OK;
    for (int k = 0; k < TH_MAX_OUT && status == THAW_OK; k++)
        if (s->out[k] >= 0 && (s->feeds < 0 || p->places[s->out[k]].derived))
            status = copy_value(p, s->out[k], &used[k]);
    if (s->feeds >= 0)
        take_arena(p);
    if (status == THAW_OK) {
        begin(p->store->device);
        status = s->kernel->run(&s->call);
        end(p->store->device);
    }
    for (int k = 0; k < TH_MAX_OUT && status == THAW_OK; k++)
        if (used[k])
            status = compare_value(p, s->out[k], used[k], s->name);
    for (int k = 0; k < TH_MAX_OUT; k++)
        th_free(used[k]);
    return status;
}

thaw_status th_plan_verify(struct th_plan *p)
{
    if (p->base != p->arena->base)
        bind(p); /* the arena has moved since; what is derived has not */
    bool gone = p->lost || p->turn != p->arena->turn || p->keeping == TH_NOT_KEPT;
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = &p->steps[i];
        const struct th_step *feeder = s->fed_by >= 0 ? &p->steps[s->fed_by] : s;
        if (s->seen == 0 || s->seen != versions(p, s) ||
            feeder->seen != versions(p, feeder))
            continue; /* would be derived again before its next use */
        if ((gone || s->moves) &&
            (s->derived ? p->keeping != TH_KEPT_APART : !s->lasting))
            continue; /* as well: its memory is the arena's */
        if (s->derived)
            TRY(verify_derived(p, s));
        if (s->kernel->verify)
            TRY(s->kernel->verify(&s->call));
    }
    return THAW_OK;
}
