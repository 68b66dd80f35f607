/* SPDX-License-Identifier: Apache-2.0
 * Owns orders and draws among rows: a heap whose first is the last of what it keeps. */
#include "balance.h"

#include "rng.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

uint64_t th_rank_of(float value)
{
    float v = value + 0.0F; /* -0 becomes 0 */
    uint32_t bits;
    if (isnan(v))
        return UINT64_MAX;
    memcpy(&bits, &v, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 0x80000000u) & 0xffffffffu;
}

static bool before(struct th_rank a, struct th_rank b)
{
    return a.order != b.order ? a.order < b.order : a.row < b.row;
}

/* Entry i sinks below what comes after it. */
static void sink(struct th_rank *heap, int64_t n, int64_t i)
{
    struct th_rank r = heap[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && before(heap[child], heap[child + 1]);
        if (!before(r, heap[child]))
            break;
        heap[i] = heap[child];
    }
    heap[i] = r;
}

static void make_heap(struct th_rank *r, int64_t n)
{
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sink(r, n, i);
}

void th_rank_offer(struct th_rank *kept, int64_t *n, int64_t most, struct th_rank r)
{
    if (*n < most) {
        kept[(*n)++] = r;
        if (*n == most)
            make_heap(kept, most);
    } else if (most > 0 && before(r, kept[0])) {
        kept[0] = r;
        sink(kept, most, 0);
    }
}

void th_rank_sort(struct th_rank *r, int64_t n)
{
    make_heap(r, n);
    while (n > 1) {
        struct th_rank last = r[0];
        r[0] = r[--n];
        r[n] = last;
        sink(r, n, 0);
    }
}

/* ---- Draws ---- */

/* Rows of one kind, and the order that they are drawn by. */
struct draw {
    uint64_t (*order)(uint64_t key, int64_t row);
    uint64_t key;
    int64_t n;
    int32_t *target;
};

static struct th_rank drawn(const struct draw *d, int64_t row)
{
    return (struct th_rank){d->order(d->key, row), row};
}

static bool is_kind(int32_t target, bool positive)
{
    return positive ? target >= 0 : target == -1;
}

/* Leaves up to `most` rows of one kind; returns how many. */
static int64_t draw_kind(const struct draw *d, bool positive, int64_t most)
{
    struct th_rank kept[TH_MAX_DRAWN];
    int64_t n_kept = 0;
    assert(most <= TH_MAX_DRAWN);
    for (int64_t row = 0; row < d->n; row++)
        if (is_kind(d->target[row], positive))
            th_rank_offer(kept, &n_kept, most, drawn(d, row));
    for (int64_t row = 0; row < d->n && n_kept == most; row++)
        if (is_kind(d->target[row], positive) &&
            (most == 0 || before(kept[0], drawn(d, row))))
            d->target[row] = -2;
    return n_kept;
}

void th_draw_ordered(uint64_t (*order)(uint64_t key, int64_t row), uint64_t key,
    int64_t n, int32_t *target, int64_t count, int64_t positive)
{
    const struct draw d = {order, key, n, target};
    int64_t with_class = draw_kind(&d, true, positive);
    draw_kind(&d, false, count - with_class);
}

static uint64_t by_chance(uint64_t key, int64_t row)
{
    return key ? th_rng_u64(key, (uint64_t)row) : (uint64_t)row;
}

void th_draw_balanced(
    uint64_t key, int64_t n, int32_t *target, int64_t count, int64_t positive)
{
    th_draw_ordered(by_chance, key, n, target, count, positive);
}
