/* SPDX-License-Identifier: Apache-2.0
 * Owns the order: vector clocks (Lamport, "Time, Clocks", CACM 1978; Mattern 1988). The host
 * and each stream are actors. Work that is enqueued has behind it what its stream has, what
 * the host has seen by then, and the records that its stream has waited for. Two pieces of
 * work on the same bytes, one writing, neither behind the other, are a race, in whatever
 * order they happened to run. */
#include "emu.h"

#include <stdio.h>

void emu_merge(struct emu_clock *to, const struct emu_clock *from)
{
    for (int a = 0; a < EMU_ACTORS; a++)
        if (from->tick[a] > to->tick[a])
            to->tick[a] = from->tick[a];
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

/* What the host has behind it, everything that comes has behind it. */
static void prune(void)
{
    const struct emu_clock *host = &emu.streams[0].clock;
    int kept = 0;
    for (int i = 0; i < emu.n_accesses; i++)
        if (emu.accesses[i].tick > host->tick[emu.accesses[i].actor])
            emu.accesses[kept++] = emu.accesses[i];
    emu.n_accesses = kept;
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
    for (int r = 0; actor > 0 && r < n; r++) { /* the host's own are over at once */
        emu.accesses = emu_grow(emu.accesses, emu.n_accesses, sizeof *emu.accesses);
        emu.accesses[emu.n_accesses++] = (struct emu_access){.range = ranges[r],
            .actor = actor,
            .tick = now->tick[actor],
            .seq = seq,
            .name = name};
    }
}

void emu_host_touches(const void *p, size_t bytes, bool writes)
{
    const struct emu_range range = {p, bytes, writes};
    const struct emu_block *b = emu_block_of(p, bytes);
    if (b && !b->pinned)
        emu_find("misuse: the host touches device block %d", b->id);
    emu_race_check(0, &emu.streams[0].clock, "an access", ++emu.seq, &range, 1);
}
