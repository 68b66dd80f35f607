/* SPDX-License-Identifier: Apache-2.0
 * Owns running a launch: blocks one after the other, the warps of a block in turns up to
 * their barriers, and in a warp groups of lanes that are at the same instruction.
 *
 * The group with the lowest instruction goes first, which brings the sides of a branch
 * together again where the compiler laid them out; with a seed, now and then another. */
#include "inside.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

uint64_t ptx_mix(uint64_t a, uint64_t b)
{
    uint64_t z = a + 0x9E3779B97F4A7C15ULL * (b + 1); /* splitmix64 */
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

static uint64_t draw(struct warp *w)
{
    return w->draws = ptx_mix(w->draws, w->run->launch->seed);
}

/* ---- groups ---- */

static void merge_groups(struct warp *w)
{
    for (int i = 0; i < w->n_groups; i++)
        for (int j = w->n_groups - 1; j > i; j--)
            if (w->group[i].pc == w->group[j].pc) {
                w->group[i].lanes |= w->group[j].lanes;
                w->group[i].waits = PLAIN;
                w->group[j] = w->group[--w->n_groups];
            }
}

/* The group to run next, -1: each waits. */
static int choose(struct warp *w)
{
    int best = -1, n = 0;
    bool any = w->run->launch->seed && w->n_groups > 1 && draw(w) % 8 == 0;
    for (int i = 0; i < w->n_groups; i++) {
        if (w->group[i].waits != PLAIN)
            continue;
        n++;
        if (best < 0 ||
            (any ? draw(w) % (unsigned)n == 0 : w->group[i].pc < w->group[best].pc))
            best = i;
    }
    return best;
}

/* Where the group has to stop, for another one is there. */
static int limit_of(const struct warp *w, int g)
{
    int limit = INT_MAX;
    for (int i = 0; i < w->n_groups; i++)
        if (i != g && w->group[i].pc > w->group[g].pc && w->group[i].pc < limit)
            limit = w->group[i].pc;
    return limit;
}

/* ---- one instruction ---- */

static bool sources_written(struct warp *w, const struct insn *in, uint32_t active)
{
    for (int s = 0; s < in->n_sources; s++) {
        uint32_t missing = active & ~w->written[in->source[s]];
        if (missing) {
            ptx_found(w, lowest(missing),
                "source %d of %s is a register that was never written", s + 1,
                in->text);
            return false;
        }
    }
    return true;
}

/* Lanes for which the guard holds. */
static uint32_t guarded(struct warp *w, const struct insn *in, uint32_t lanes)
{
    if (in->guard < 0)
        return lanes;
    if (lanes & ~w->written[in->guard]) {
        ptx_found(w, lowest(lanes & ~w->written[in->guard]),
            "the guard of %s was never written", in->text);
        return 0;
    }
    uint32_t holds = w->units[in->guard][0];
    return lanes & (in->guard_negated ? ~holds : holds);
}

/* The member mask of a warp-wide instruction, 0 when something was found. */
static uint32_t members(struct warp *w, const struct insn *in, uint32_t active)
{
    const lane_unit *mask = &w->units[in->source[in->n_sources - 1]];
    uint32_t m = (*mask)[lowest(active)];
    for (uint32_t rest = active; rest; rest &= rest - 1)
        if ((*mask)[lowest(rest)] != m) {
            ptx_found(w, lowest(rest), "%s with another member mask than lane %d",
                in->text, lowest(active));
            return 0;
        }
    if (active & ~m) {
        ptx_found(w, lowest(active & ~m), "%s by a lane that its mask 0x%x leaves out",
            in->text, m);
        return 0;
    }
    return m;
}

/* false: the group has to wait for the others of the mask. */
static bool gathered(struct warp *w, const struct insn *in, uint32_t active, bool last)
{
    uint32_t m = members(w, in, active);
    if (w->run->failed || (m & ~active) == 0)
        return true;
    if (last)
        ptx_found(w, lowest(m & ~active),
            "%s waits for this inactive lane (mask 0x%x, of which 0x%x came%s)",
            in->text, m, active, m & ~w->live ? ", others have ended" : "");
    return false;
}

static void leave(struct warp *w, int g, uint32_t lanes)
{
    w->live &= ~lanes;
    w->group[g].lanes &= ~lanes;
    if (!w->group[g].lanes)
        w->group[g] = w->group[--w->n_groups];
}

static void branch(struct warp *w, int g, const struct insn *in, uint32_t active)
{
    struct group *from = &w->group[g];
    uint32_t stay = from->lanes & ~active;
    struct seen *seen = &w->run->kernel->seen[from->pc];
    seen->taken |= active != 0;
    seen->passed |= stay != 0;
    if (!active)
        from->pc++;
    else if (!stay)
        from->pc = in->target;
    else {
        w->group[w->n_groups++] =
            (struct group){.pc = in->target, .lanes = active, .waits = PLAIN};
        from->pc++;
        from->lanes = stay;
    }
}

/* Runs a group until it branches, waits or ends, or comes to where another one is. */
static void run_group(struct warp *w, int g, bool last)
{
    struct run *run = w->run;
    struct group *group = &w->group[g];
    int limit = limit_of(w, g);
    for (; group->pc < limit && !run->failed; group->pc++) {
        const struct insn *in = &run->kernel->code[group->pc];
        w->pc = group->pc;
        uint32_t active = guarded(w, in, group->lanes);
        if (active)
            run->kernel->seen[group->pc].reached = true;
        run->executed += active == ALL ? LANES : (unsigned)__builtin_popcount(active);
        if (in->kind == BRANCH) {
            branch(w, g, in, active);
            return;
        }
        if (!active || !sources_written(w, in, active))
            continue;
        if (in->kind == END) {
            if (active != group->lanes)
                group->pc++;
            leave(w, g, active);
            return;
        }
        if (in->kind == BARRIER) {
            group->waits = BARRIER;
            return;
        }
        if (in->kind != PLAIN && !gathered(w, in, active, last)) {
            group->waits = WARP_WIDE;
            return;
        }
        in->run(w, in, active);
        if (in->kind == WARP_SYNC)
            w->syncs++;
        for (int r = 0; r < in->n_results; r++)
            w->written[in->result[r]] |= active;
    }
}

/* ---- a warp ---- */

enum progress { ENDED, AT_BARRIER, GOES_ON, FOUND };

/* Each group waits: whether all lanes do so at the same barrier. */
static enum progress waits(struct warp *w)
{
    for (int g = 0; g < w->n_groups; g++)
        if (w->group[g].waits == WARP_WIDE) { /* nobody else can come */
            w->group[g].waits = PLAIN;
            run_group(w, g, true);
            return w->run->failed ? FOUND : GOES_ON;
        }
    w->pc = w->group[0].pc;
    if (w->n_groups > 1) {
        ptx_found(w, lowest(w->group[1].lanes),
            "a barrier in a branch: lanes 0x%x wait at it, others at line %d",
            w->group[0].lanes, w->run->kernel->code[w->group[1].pc].line);
        return FOUND;
    }
    if (w->live != w->lanes) {
        ptx_found(w, lowest(w->lanes & ~w->live),
            "a barrier that this thread never comes to, for it has ended");
        return FOUND;
    }
    return AT_BARRIER;
}

static enum progress run_warp(struct warp *w)
{
    while (!w->run->failed && w->n_groups > 0) {
        merge_groups(w);
        int g = choose(w);
        if (g < 0) {
            enum progress p = waits(w);
            if (p != GOES_ON)
                return p;
            continue;
        }
        run_group(w, g, false);
        if (w->run->launch->seed && draw(w) % 16 == 0)
            return w->run->failed ? FOUND : w->n_groups ? GOES_ON : ENDED;
    }
    return w->run->failed ? FOUND : ENDED;
}

/* ---- a block ---- */

static void fill(struct warp *w, int at, char type, uint64_t value)
{
    if (at < 0)
        return;
    for (int l = 0; l < LANES; l++)
        if (type == 'd')
            ((lane64 *)(void *)&w->units[at])[l] = value;
        else
            w->units[at][l] = (uint32_t)value;
    if (type == 'p')
        w->units[at][0] = value ? 0xffffffff : 0;
    w->written[at] = 0xffffffff;
}

/* What every block finds the same. */
static void fill_warp(struct warp *w)
{
    const struct ptx_kernel *k = w->run->kernel;
    const struct ptx_launch *launch = w->run->launch;
    const unsigned *block = launch->block;
    const int *at = k->special;
    for (int i = 0; i < k->n_constants; i++)
        fill(w, k->constants[i].unit, k->constants[i].type, k->constants[i].value);
    for (int i = 0; i < 3; i++) {
        fill(w, at[NTID_X + i], 'r', block[i]);
        fill(w, at[NCTAID_X + i], 'r', launch->grid[i]);
        fill(w, at[CTAID_X + i], 'r', 0);
        fill(w, at[TID_X + i], 'r', 0);
    }
    fill(w, at[LANEID], 'r', 0);
    for (unsigned l = 0; l < LANES; l++) {
        unsigned t = (unsigned)w->index * LANES + l;
        if (at[TID_X] >= 0)
            w->units[at[TID_X]][l] = t % block[0];
        if (at[TID_Y] >= 0)
            w->units[at[TID_Y]][l] = t / block[0] % block[1];
        if (at[TID_Z] >= 0)
            w->units[at[TID_Z]][l] = t / block[0] / block[1];
        if (at[LANEID] >= 0)
            w->units[at[LANEID]][l] = l;
    }
    memcpy(w->at_start, w->written, (size_t)k->n_units * sizeof *w->written);
}

static void start_warp(struct warp *w)
{
    const struct run *run = w->run;
    memcpy(w->written, w->at_start, (size_t)run->kernel->n_units * sizeof *w->written);
    for (int i = 0; i < 3; i++)
        fill(w, run->kernel->special[CTAID_X + i], 'r', run->block_at[i]);
    w->live = w->lanes;
    w->syncs = 0;
    w->n_groups = 1;
    w->group[0] = (struct group){.pc = 0, .lanes = w->lanes, .waits = PLAIN};
    w->draws = ptx_mix(run->block, (uint64_t)w->index);
}

/* All warps are at a barrier, or have ended: those that wait go on. false: found. */
static bool pass_barrier(struct run *run, const enum progress *is)
{
    struct warp *first = NULL, *ended = NULL;
    for (int i = 0; i < run->n_warps; i++) {
        struct warp *w = &run->warps[i];
        if (is[i] == ENDED)
            ended = w;
        else if (!first)
            first = w;
        else if (w->group[0].pc != first->group[0].pc) {
            ptx_found(w, 0, "a barrier, while warp %d waits at that of line %d",
                first->index, run->kernel->code[first->group[0].pc].line);
            return false;
        }
    }
    if (ended) {
        ptx_found(first, -1, "a barrier that warp %d never comes to, for it has ended",
            ended->index);
        return false;
    }
    run->barriers++;
    for (int i = 0; i < run->n_warps; i++) {
        run->warps[i].group[0].pc++;
        run->warps[i].group[0].waits = PLAIN;
        run->warps[i].syncs = 0;
    }
    return true;
}

static void run_block(struct run *run)
{
    enum progress is[1024 / LANES];
    unsigned first = 0;
    run->barriers = 0;
    for (int i = 0; i < run->n_warps; i++) {
        start_warp(&run->warps[i]);
        is[i] = GOES_ON;
    }
    for (uint64_t turn = 0; !run->failed; turn++) {
        int going = 0, waiting = 0;
        if (run->launch->seed)
            first = (unsigned)ptx_mix(run->launch->seed, turn + run->block);
        for (int i = 0; i < run->n_warps && !run->failed; i++) {
            int w = (int)(((unsigned)i + first) % (unsigned)run->n_warps);
            if (is[w] == GOES_ON)
                is[w] = run_warp(&run->warps[w]);
            going += is[w] == GOES_ON;
            waiting += is[w] == AT_BARRIER;
        }
        if (going || run->failed)
            continue;
        if (!waiting || !pass_barrier(run, is))
            return;
        for (int i = 0; i < run->n_warps; i++)
            is[i] = GOES_ON;
    }
}

/* ---- a launch ---- */

static bool check_launch(struct run *run)
{
    static const unsigned most_blocks[3] = {0x7fffffff, 65535, 65535},
                          most_threads[3] = {1024, 1024, 64};
    enum { MOST_SHARED = 48 * 1024 }; /* without asking for more */
    const struct ptx_kernel *k = run->kernel;
    const struct ptx_launch *launch = run->launch;
    uint64_t threads = 1;
    for (int i = 0; i < 3; i++) {
        const unsigned *g = launch->grid, *b = launch->block;
        if (g[i] < 1 || g[i] > most_blocks[i] || b[i] < 1 || b[i] > most_threads[i])
            ptx_refuse(run, "a grid of %u x %u x %u blocks of %u x %u x %u threads",
                g[0], g[1], g[2], b[0], b[1], b[2]);
        threads *= b[i];
    }
    if (threads > k->max_threads)
        ptx_refuse(run, "%llu threads a block, it is made for %u at most",
            (unsigned long long)threads, k->max_threads);
    if (run->shared_bytes > MOST_SHARED)
        ptx_refuse(run, "%zu bytes of shared memory a block, there are %d",
            run->shared_bytes, MOST_SHARED);
    for (int i = 0; i < k->n_params && launch->arg_bytes; i++)
        if (launch->arg_bytes[i] != k->params[i].bytes)
            ptx_refuse(run, "parameter %d has %zu bytes, the caller has %zu", i,
                k->params[i].bytes, launch->arg_bytes[i]);
    return !run->failed;
}

static void *zeroed(size_t n, size_t size)
{
    void *p = aligned_alloc(64, (n * size + 64) / 64 * 64);
    if (!p)
        abort();
    return memset(p, 0, n * size);
}

static void make_warps(struct run *run)
{
    const unsigned *b = run->launch->block;
    int threads = (int)(b[0] * b[1] * b[2]), n_units = run->kernel->n_units;
    run->n_warps = (threads + LANES - 1) / LANES;
    run->warps = zeroed((size_t)run->n_warps, sizeof *run->warps);
    for (int i = 0; i < run->n_warps; i++) {
        int left = threads - i * LANES;
        run->warps[i] = (struct warp){.run = run,
            .index = i,
            .lanes = left < LANES ? (1U << left) - 1 : 0xffffffff,
            .units = zeroed((size_t)n_units, sizeof(lane_unit)),
            .written = zeroed((size_t)n_units, sizeof(uint32_t)),
            .at_start = zeroed((size_t)n_units, sizeof(uint32_t))};
        fill_warp(&run->warps[i]);
    }
}

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Every block once; with a seed in another order. */
static void run_blocks(struct run *run)
{
    const unsigned *g = run->launch->grid;
    uint64_t n = (uint64_t)g[0] * g[1] * g[2], stride = 1, start = 0;
    if (run->launch->seed) {
        start = ptx_mix(run->launch->seed, 1) % n;
        for (stride = n / 3 * 2 + 1; common_divisor(stride, n) != 1;)
            stride++;
    }
    for (uint64_t i = 0; i < n && !run->failed; i++) {
        uint64_t at = (start + i * stride) % n;
        run->block = at + 1;
        run->block_at[0] = (unsigned)(at % g[0]);
        run->block_at[1] = (unsigned)(at / g[0] % g[1]);
        run->block_at[2] = (unsigned)(at / g[0] / g[1]);
        run_block(run);
    }
}

bool ptx_run(const struct ptx_kernel *k, const struct ptx_launch *launch,
    const struct ptx_host *host)
{
    struct run *run = zeroed(1, sizeof *run);
    *run = (struct run){.kernel = k, .launch = launch, .host = host};
    run->shared_bytes = k->shared_bytes;
    if (launch->shared)
        run->shared_bytes = (k->shared_bytes + 15) / 16 * 16 + launch->shared;
    if (check_launch(run)) {
        run->params = zeroed(k->param_bytes, 1);
        for (int i = 0; i < k->n_params; i++)
            memcpy(run->params + k->params[i].at, launch->args[i], k->params[i].bytes);
        run->shared = zeroed(run->shared_bytes, 1);
        run->shared_pages =
            zeroed(run->shared_bytes / PAGE + 1, sizeof *run->shared_pages);
        make_warps(run);
        run_blocks(run);
        for (int i = 0; i < run->n_warps; i++) {
            free(run->warps[i].units);
            free(run->warps[i].written);
            free(run->warps[i].at_start);
        }
        free(run->warps);
        ptx_memory_release(run);
        free(run->shared);
        free(run->params);
        *k->executed += run->executed;
    }
    bool clean = !run->failed;
    free(run);
    return clean;
}
