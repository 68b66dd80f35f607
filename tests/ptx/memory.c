/* SPDX-License-Identifier: Apache-2.0
 * Owns loads and stores, and what is known of each byte: who touched it last, and when.
 *
 * Two accesses of which one writes are a race unless they are ordered: the same thread; in
 * one block a barrier between them; in one warp a bar.warp.sync. Blocks of a launch have no
 * order. Found in whatever order they run, for the last write and the reads since are kept. */
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *zeroed(size_t n, size_t size)
{
    void *p = calloc(n, size);
    if (!p)
        abort();
    return p;
}

/* ---- shadows ---- */

static struct page *page_of(struct page **at, int granule)
{
    struct page *page = *at;
    if (!page) {
        *at = page = zeroed(1, sizeof *page);
        page->granule = granule;
        page->cells = zeroed((size_t)(PAGE / granule), sizeof *page->cells);
    } else if (granule < page->granule) { /* a cell a byte from now on */
        struct cell *bytes = zeroed(PAGE, sizeof *bytes);
        for (int i = 0; i < PAGE; i++)
            bytes[i] = page->cells[i / page->granule];
        free(page->cells);
        page->cells = bytes;
        page->granule = 1;
    }
    return page;
}

/* Whether thread `a` at epoch `was` and thread `b` now may run at the same time. */
static bool together(uint32_t was, unsigned a, uint32_t now, unsigned b)
{
    if (a == b || was >> 16 != now >> 16)
        return false;
    return a / LANES != b / LANES || (was & 0xffff) == (now & 0xffff);
}

/* Whether reader `a`, which may stand for several, and a write of thread b may. */
static bool read_together(uint32_t was, unsigned a, uint32_t now, unsigned b)
{
    if (a == MANY_WARPS)
        return was >> 16 == now >> 16;
    if (a & OF_WARP) /* a lane of it that is not b */
        return together(was, (a & 0x7fff) * LANES + (b % LANES ? 0 : 1), now, b);
    return together(was, a, now, b);
}

/* The other party of a race, as text. */
static void race(const struct warp *w, int lane, const char *this, const char *that,
    uint32_t block, unsigned thread, uint64_t address)
{
    char who[64];
    if (block == MANY_BLOCKS)
        snprintf(who, sizeof who, "several blocks");
    else if (block != w->run->block)
        snprintf(who, sizeof who, "block number %u", block - 1);
    else if (thread == MANY_WARPS)
        snprintf(who, sizeof who, "several warps");
    else if (thread & OF_WARP)
        snprintf(who, sizeof who, "lanes of warp %u", thread & 0x7fff);
    else
        snprintf(who, sizeof who, "thread %u", thread);
    ptx_found((struct warp *)(uintptr_t)w, lane,
        "race: %s 0x%llx, which %s %s without an order between them", this,
        (unsigned long long)address, who, that);
}

static void note_read(struct warp *w, int lane, struct cell *c, uint64_t address)
{
    uint32_t block = (uint32_t)w->run->block, now = epoch_of(w);
    uint16_t thread = (uint16_t)(w->index * LANES + lane);
    if (c->w_block &&
        (c->w_block != block || together(c->w_epoch, c->w_thread, now, thread)))
        race(w, lane, "reads", "wrote", c->w_block, c->w_thread, address);
    if (c->r_block != block) {
        c->r_block = c->r_block ? MANY_BLOCKS : block;
        c->r_thread = thread;
    } else if (c->r_epoch >> 16 != now >> 16)
        c->r_thread = thread;
    else if (c->r_thread != thread) {
        uint16_t warp = (uint16_t)(OF_WARP | w->index);
        bool same = c->r_thread == warp ||
                    (c->r_thread < OF_WARP && c->r_thread / LANES == w->index);
        if (same && (c->r_epoch & 0xffff) < (now & 0xffff))
            c->r_thread = thread;
        else
            c->r_thread = same ? warp : MANY_WARPS;
    }
    c->r_epoch = now;
}

static void note_write(struct warp *w, int lane, struct cell *c, uint64_t address)
{
    uint32_t block = (uint32_t)w->run->block, now = epoch_of(w);
    uint16_t thread = (uint16_t)(w->index * LANES + lane);
    if (c->w_block &&
        (c->w_block != block || together(c->w_epoch, c->w_thread, now, thread)))
        race(w, lane, "writes", "wrote", c->w_block, c->w_thread, address);
    else if (c->r_block && (c->r_block != block ||
                               read_together(c->r_epoch, c->r_thread, now, thread)))
        race(w, lane, "writes", "read", c->r_block, c->r_thread, address);
    c->w_block = block;
    c->w_epoch = now;
    c->w_thread = thread;
}

/* bytes: a power of two up to 16, aligned. */
static void note(struct warp *w, int lane, struct page *page, uint64_t address,
    size_t offset, int bytes, bool writes)
{
    uint64_t bits = ((1ULL << bytes) - 1) << (offset % 64);
    if (writes)
        page->wrote[offset / 64] |= bits;
    else
        page->read[offset / 64] |= bits;
    struct cell *c = &page->cells[offset / (size_t)page->granule];
    for (int i = 0; i < bytes; i += page->granule, c++)
        if (writes)
            note_write(w, lane, c, address + (uint64_t)i);
        else
            note_read(w, lane, c, address + (uint64_t)i);
}

/* ---- global memory ---- */

static struct region *new_region(struct warp *w, int lane, uint64_t address, int bytes)
{
    struct run *run = w->run;
    struct region r = {0};
    if (!run->host->block(run->host->context, address, &r.start, &r.bytes, &r.memory)) {
        ptx_found(w, lane, "%d bytes at 0x%llx, which is no memory", bytes,
            (unsigned long long)address);
        return NULL;
    }
    if (run->n_regions == MAX_REGIONS) {
        ptx_found(w, lane, "more than %d blocks of memory", MAX_REGIONS);
        return NULL;
    }
    r.pages = zeroed(r.bytes / PAGE + 1, sizeof(struct page *));
    if (run->host->written)
        r.written = run->host->written(run->host->context, r.start);
    run->region[run->n_regions] = r;
    return &run->region[run->n_regions++];
}

static bool holds(const struct region *r, uint64_t address)
{
    return address - r->start < r->bytes;
}

static struct region *region_of(struct warp *w, int lane, uint64_t address, int bytes)
{
    struct run *run = w->run;
    int *recent = &run->recent[w->pc & 3];
    struct region *r = &run->region[*recent];
    if (*recent >= run->n_regions || !holds(r, address)) {
        r = NULL;
        for (int i = 0; i < run->n_regions && !r; i++)
            if (holds(&run->region[i], address))
                r = &run->region[i];
        if (!r)
            r = new_region(w, lane, address, bytes);
        if (!r)
            return NULL;
        *recent = (int)(r - run->region);
    }
    if ((uint64_t)bytes > r->bytes - (address - r->start)) {
        ptx_found(w, lane,
            "%d bytes at 0x%llx reach past a block of %zu bytes at 0x%llx", bytes,
            (unsigned long long)address, r->bytes, (unsigned long long)r->start);
        return NULL;
    }
    return r;
}

static char *global_at(
    struct warp *w, int lane, uint64_t address, int bytes, int width, bool writes)
{
    struct region *r = region_of(w, lane, address, bytes);
    if (!r)
        return NULL;
    size_t offset = (size_t)(address - r->start);
    if (r->written)
        for (int i = 0; i < bytes; i++) {
            if (writes)
                r->written[offset + (size_t)i] = 1;
            else if (!r->written[offset + (size_t)i]) {
                ptx_found(w, lane, "reads 0x%llx, which nobody wrote",
                    (unsigned long long)address + (unsigned)i);
                return NULL;
            }
        }
    /* blocks start at whole vectors, so that no access lies in two pages */
    size_t place = offset % PAGE;
    if (r->start % 16 != 0) {
        ptx_found(w, lane, "a block of memory at 0x%llx, no multiple of 16",
            (unsigned long long)r->start);
        return NULL;
    }
    struct page *page = page_of(&r->pages[offset / PAGE], width < 4 ? 1 : 4);
    note(w, lane, page, address, place, bytes, writes);
    return r->memory + offset;
}

/* ---- shared memory ---- */

static char *shared_at(
    struct warp *w, int lane, uint64_t address, int bytes, int width, bool writes)
{
    struct run *run = w->run;
    if (address >= run->shared_bytes || (size_t)bytes > run->shared_bytes - address) {
        ptx_found(w, lane, "%d bytes at %llu of shared memory of %zu bytes", bytes,
            (unsigned long long)address, run->shared_bytes);
        return NULL;
    }
    struct page *page = page_of(&run->shared_pages[address / PAGE], width < 4 ? 1 : 4);
    size_t place = address % PAGE;
    for (int i = 0; i < bytes && !writes; i += page->granule)
        if (page->cells[(place + (size_t)i) / (size_t)page->granule].w_block !=
            run->block) {
            ptx_found(w, lane, "reads %llu of shared memory, which no thread wrote",
                (unsigned long long)address + (unsigned)i);
            return NULL;
        }
    /* what an earlier block left is none of this one's */
    for (int i = 0; i < bytes; i += page->granule) {
        struct cell *c = &page->cells[(place + (size_t)i) / (size_t)page->granule];
        if (c->w_block && c->w_block != run->block)
            c->w_block = 0;
        if (c->r_block && c->r_block != run->block)
            c->r_block = 0;
    }
    note(w, lane, page, address, place, bytes, writes);
    return run->shared + address;
}

/* ---- instructions ---- */

/* The bytes of one lane's access; NULL: something was found. */
static char *access(struct warp *w, const struct insn *in, int lane, bool writes)
{
    const lane_unit *base = &w->units[in->source[0]];
    uint64_t address =
        in->narrow ? (*base)[lane] : ((const lane64 *)(const void *)base)[lane];
    int bytes = in->width * in->vector;
    address += (uint64_t)in->offset;
    if (in->narrow)
        address = (uint32_t)address;
    if (address % (unsigned)bytes != 0) {
        ptx_found(w, lane, "misaligned: %d bytes at 0x%llx", bytes,
            (unsigned long long)address);
        return NULL;
    }
    return in->space == SHARED ? shared_at(w, lane, address, bytes, in->width, writes)
                               : global_at(w, lane, address, bytes, in->width, writes);
}

/* A copy of so many bytes would go through memory, and be waited for. */
static uint64_t read_value(const char *p, int width)
{
    uint64_t d;
    uint32_t r;
    uint16_t h;
    switch (width) {
    case 8:
        memcpy(&d, p, sizeof d);
        return d;
    case 4:
        memcpy(&r, p, sizeof r);
        return r;
    case 2:
        memcpy(&h, p, sizeof h);
        return h;
    default:
        return *(const unsigned char *)p;
    }
}

static void write_value(char *p, int width, uint64_t value)
{
    const uint32_t r = (uint32_t)value;
    const uint16_t h = (uint16_t)value;
    switch (width) {
    case 8:
        memcpy(p, &value, sizeof value);
        return;
    case 4:
        memcpy(p, &r, sizeof r);
        return;
    case 2:
        memcpy(p, &h, sizeof h);
        return;
    default:
        *p = (char)value;
    }
}

static void put(struct warp *w, const struct insn *in, int v, int lane, const char *p)
{
    lane_unit *to = &w->units[in->result[v]];
    uint64_t value = read_value(p + v * in->width, in->width);
    if (in->sign && in->width < 8) {
        int shift = 64 - 8 * in->width;
        value = (uint64_t)((int64_t)(value << shift) >> shift);
    }
    if (in->wide)
        ((lane64 *)(void *)to)[lane] = value;
    else
        (*to)[lane] = (uint32_t)value;
}

void ptx_load(struct warp *w, const struct insn *in, uint32_t active)
{
    for (; active; active &= active - 1) {
        int lane = lowest(active);
        const char *p = access(w, in, lane, false);
        if (!p)
            return;
        for (int v = 0; v < in->vector; v++)
            put(w, in, v, lane, p);
    }
}

void ptx_store(struct warp *w, const struct insn *in, uint32_t active)
{
    for (; active; active &= active - 1) {
        int lane = lowest(active);
        char *p = access(w, in, lane, true);
        if (!p)
            return;
        for (int v = 0; v < in->vector; v++) {
            const lane_unit *from = &w->units[in->source[1 + v]];
            uint64_t value =
                in->wide ? ((const lane64 *)(const void *)from)[lane] : (*from)[lane];
            write_value(p + v * in->width, in->width, value);
        }
    }
}

/* Parameters at an address that a register has. */
static void load_param_at(struct warp *w, const struct insn *in, uint32_t active)
{
    const lane64 *base = (const void *)&w->units[in->source[0]];
    uint64_t bytes = in->width * in->vector, all = w->run->kernel->param_bytes;
    for (; active; active &= active - 1) {
        int lane = lowest(active);
        uint64_t at = base[lane] + (uint64_t)in->offset;
        if (at % bytes != 0 || at > all || bytes > all - at) {
            ptx_found(w, lane, "reads %d bytes at %lld of %zu bytes of parameters",
                (int)bytes, (long long)at, (size_t)all);
            return;
        }
        for (int v = 0; v < in->vector; v++)
            put(w, in, v, lane, w->run->params + at);
    }
}

void ptx_load_param(struct warp *w, const struct insn *in, uint32_t active)
{
    if (in->n_sources > 0) {
        load_param_at(w, in, active);
        return;
    }
    for (int v = 0; v < in->vector; v++) {
        lane_unit *to = &w->units[in->result[v]];
        lane64 *wide = (void *)to;
        int first = lowest(active);
        put(w, in, v, first, w->run->params + in->offset);
        uint64_t value = in->wide ? wide[first] : (*to)[first];
        if (in->wide)
            EACH(active, wide[l] = value);
        else
            EACH(active, (*to)[l] = (uint32_t)value);
    }
}

/* ---- the end of a launch ---- */

/* The interval that is being told of, and what there is to say of its end. */
struct interval {
    uint64_t begin, end;
};

static void tell_one(const struct run *run, const struct interval *i, bool writes)
{
    if (i->end > i->begin)
        run->host->touched(run->host->context, i->begin, i->end - i->begin, writes);
}

/* n bytes more. */
static void extend(
    const struct run *run, struct interval *i, uint64_t at, unsigned n, bool writes)
{
    if (at != i->end) {
        tell_one(run, i, writes);
        i->begin = at;
    }
    i->end = at + n;
}

/* Of 64 bytes, those whose bit is set. */
static void tell_bits(
    const struct run *run, struct interval *i, uint64_t at, uint64_t bits, bool writes)
{
    while (bits) {
        unsigned first = (unsigned)__builtin_ctzll(bits);
        uint64_t rest = ~(bits >> first);
        unsigned n = rest ? (unsigned)__builtin_ctzll(rest) : 64;
        extend(run, i, at + first, n, writes);
        if (first + n >= 64)
            return;
        bits &= ~0ULL << (first + n);
    }
}

/* Merged intervals of the bits, told as they end. */
static void tell(const struct run *run, const struct region *r, bool writes)
{
    struct interval i = {0};
    for (size_t p = 0; p <= r->bytes / PAGE; p++) {
        const uint64_t *bits = !r->pages[p] ? NULL
                               : writes     ? r->pages[p]->wrote
                                            : r->pages[p]->read;
        for (size_t k = 0; bits && k < PAGE / 64; k++)
            tell_bits(run, &i, r->start + p * PAGE + k * 64, bits[k], writes);
    }
    tell_one(run, &i, writes);
}

static void release_pages(struct page **pages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (pages[i]) {
            free(pages[i]->cells);
            free(pages[i]);
        }
    free(pages);
}

void ptx_memory_release(struct run *run)
{
    for (int i = 0; i < run->n_regions; i++) {
        struct region *r = &run->region[i];
        for (int writes = 0; writes < 2 && run->host->touched; writes++)
            tell(run, r, writes);
        release_pages(r->pages, r->bytes / PAGE + 1);
    }
    release_pages(run->shared_pages, run->shared_bytes / PAGE + 1);
}
