/* SPDX-License-Identifier: Apache-2.0
 * Owns the order: vector clocks (Lamport, "Time, Clocks", CACM 1978; Mattern 1988). The host
 * and each stream are actors. Work that is enqueued has behind it what its stream has, what
 * the host has seen by then, and the records that its stream has waited for. Two pieces of
 * work on the same bytes, one writing, neither behind the other, are a race, in whatever
 * order they happened to run. */
#include "emu.h"

#include <stdio.h>
#include <stdlib.h>

void emu_merge(struct emu_clock *to, const struct emu_clock *from)
{
    for (int a = 0; a < EMU_ACTORS; a++)
        if (from->tick[a] > to->tick[a]) {
            to->tick[a] = from->tick[a];
            emu.host_moved = emu.host_moved || to == &emu.streams[0].clock;
        }
}

static bool overlap(const struct emu_range *a, const struct emu_range *b)
{
    uintptr_t x = (uintptr_t)a->at, y = (uintptr_t)b->at;
    return x < y + b->bytes && y < x + a->bytes;
}

static void name_actor(int actor, char *text, size_t size)
{
    if (actor == 0)
        snprintf(text, size, "the host");
    else
        snprintf(text, size, "stream %d", actor);
}

static void report(const struct emu_access *earlier, int actor, const char *name,
    uint64_t seq, const struct emu_range *range)
{
    char here[32], there[32];
    const struct emu_block *b = emu_block_of(range->at, 0);
    name_actor(actor, here, sizeof here);
    name_actor(earlier->actor, there, sizeof there);
    emu_find("race: %s #%llu on %s %s block %d, and %s #%llu on %s %s it: nothing "
             "orders them",
        name, (unsigned long long)seq, here, range->writes ? "writes" : "reads",
        b ? b->id : -1, earlier->name, (unsigned long long)earlier->seq, there,
        earlier->range.writes ? "writes" : "reads");
}

static struct emu_stamp *stamp_new(const struct emu_clock *clock)
{
    struct emu_stamp *stamp = calloc(1, sizeof *stamp);
    if (!stamp)
        abort();
    stamp->clock = *clock;
    stamp->references = 1;
    return stamp;
}

static void let_go(struct emu_stamp *stamp)
{
    if (stamp && --stamp->references == 0)
        free(stamp);
}

/* What the host and all kernels that have not run have behind them, everything that comes
 * has behind it. */
static void prune(void)
{
    struct emu_clock seen = emu.streams[0].clock;
    int kept = 0;
    if (!emu.host_moved)
        return;
    for (int s = 1; emu.n_kernels > 0 && s < emu.n_streams; s++)
        for (const struct emu_op *op = emu.streams[s].head; op; op = op->next)
            for (int a = 0; op->stamp && a < EMU_ACTORS; a++)
                if (op->stamp->clock.tick[a] < seen.tick[a])
                    seen.tick[a] = op->stamp->clock.tick[a];
    for (int i = 0; i < emu.n_accesses; i++)
        if (emu.accesses[i].tick > seen.tick[emu.accesses[i].actor])
            emu.accesses[kept++] = emu.accesses[i];
        else
            let_go(emu.accesses[i].stamp);
    emu.n_accesses = kept;
    emu.host_moved = false;
}

static void keep(const struct emu_range *range, struct emu_stamp *stamp, int actor,
    const char *name, uint64_t seq)
{
    stamp->references++;
    emu.accesses = emu_grow(emu.accesses, emu.n_accesses, sizeof *emu.accesses);
    emu.accesses[emu.n_accesses++] = (struct emu_access){.range = *range,
        .stamp = stamp,
        .actor = actor,
        .tick = stamp->clock.tick[actor],
        .seq = seq,
        .name = name};
}

void emu_race_check(int actor, const struct emu_clock *now, const char *name,
    uint64_t seq, const struct emu_range *ranges, int n)
{
    prune();
    for (int r = 0; r < n; r++)
        for (int i = 0; i < emu.n_accesses; i++) {
            const struct emu_access *a = &emu.accesses[i];
            if (a->tick > now->tick[a->actor] &&
                (a->range.writes || ranges[r].writes) && overlap(&a->range, &ranges[r]))
                report(a, actor, name, seq, &ranges[r]);
        }
    if (n == 0 || (actor == 0 && emu.n_kernels == 0))
        return; /* the host's own are over at once, but for kernels that are to come */
    struct emu_stamp *stamp = stamp_new(now);
    for (int r = 0; r < n; r++)
        keep(&ranges[r], stamp, actor, name, seq);
    let_go(stamp);
}

/* ---- kernels ---- */

void emu_race_later(struct emu_op *op, const struct emu_clock *now)
{
    op->stamp = stamp_new(now);
    emu.n_kernels++;
}

/* What was enqueued or done since the kernel was may have been unordered with it, too. */
void emu_race_found(const struct emu_op *op, const struct emu_range *range)
{
    const struct emu_clock *now = &op->stamp->clock;
    for (int i = 0; i < emu.n_accesses; i++) {
        const struct emu_access *a = &emu.accesses[i];
        bool before = a->tick <= now->tick[a->actor];
        bool after = now->tick[op->stream] <= a->stamp->clock.tick[op->stream];
        if (a->actor != op->stream && !before && !after &&
            (a->range.writes || range->writes) && overlap(&a->range, range))
            report(a, op->stream, op->name, op->seq, range);
    }
    keep(range, op->stamp, op->stream, op->name, op->seq);
}

void emu_race_over(struct emu_op *op)
{
    if (!op->stamp)
        return;
    let_go(op->stamp);
    op->stamp = NULL;
    emu.n_kernels--;
    emu.host_moved = true;
}

void emu_race_close(void)
{
    for (int i = 0; i < emu.n_accesses; i++)
        let_go(emu.accesses[i].stamp);
    free(emu.accesses);
    emu.accesses = NULL;
    emu.n_accesses = 0;
}

/* ---- the host ---- */

void emu_host_touches(const void *p, size_t bytes, bool writes)
{
    const struct emu_range range = {p, bytes, writes};
    const struct emu_block *b = emu_block_of(p, bytes);
    if (b && !b->pinned)
        emu_find("misuse: the host touches device block %d", b->id);
    emu.streams[0].clock.tick[0]++;
    emu_race_check(0, &emu.streams[0].clock, "an access", ++emu.seq, &range, 1);
}
