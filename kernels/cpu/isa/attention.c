/* SPDX-License-Identifier: Apache-2.0
 * Owns attention and its gradient: a head of a sample at a time, and of it the scores of a tile
 * of tokens, or of TH_ATTENTION_ROWS for the gradient, so that no [t][t] is ever in memory (Dao
 * et al. 2022, arXiv:2205.14135; here whole rows of scores fit into a cache, so that a softmax
 * is not taken in parts). Formulas: kernels/attention.c.
 *
 * Products are tiles (tile.h). A matrix of scores, or of a tile's q or dy, is in slabs of
 * SLAB_USED columns, one after the other. A worker has memory for one head, struct head.
 * What of it lies beyond the t tokens and e values may be anything, but for k's and v's panels
 * of tokens. Heads do not share sums, so neither threads nor their number change a bit. */
#include "exponent.h"
#include "tile.h"

#include <assert.h>
#include <math.h>

enum {
    BLOCK = TH_ATTENTION_ROWS,
    LINE = 16, /* floats in a line of the cache */
};
_Static_assert((int)PANEL <= (int)TH_ATTENTION_PAD &&
                   (int)TILE <= (int)TH_ATTENTION_PAD && (int)BLOCK <= (int)SLAB_USED &&
                   (int)SLAB == (int)TH_ATTENTION_SLAB &&
                   (int)SLAB_USED == (int)TH_ATTENTION_SLAB_USED,
    "what kernels/cpu/attention.c counts on");

/* One head of one sample, and the worker's memory. tp and ep are t and e rounded up to
 * panels. */
struct head {
    int64_t t, e, tp, ep, d; /* d: a token's values, of all heads */
    int64_t heads;
    int64_t block;          /* tokens whose scores are in memory */
    const float *q, *k, *v; /* tokens are 3d apart */
    float scale;
    float *k_across, *v_across; /* panels of tokens [tp/PANEL][e][PANEL] */
    float *along;            /* panels of values [ep/PANEL][t][PANEL]: v; dx: scale k */
    float *q_rows, *dy_rows; /* slabs of a tile */
    float *q_panels, *dy_panels; /* [ep/PANEL][block][PANEL] */
    float *s, *ds;               /* slabs, of `slab` floats */
    int64_t slab;
    const float *next, *next_y,
        *next_dy;          /* the next head's q, and for dx y and dy; or NULL */
    int64_t asked, asking; /* tokens of it: asked for, and at once */
};

static struct head head_init(const struct th_call *call, const struct th_operand *qkv,
    float *memory, size_t *floats)
{
    int64_t d = qkv->shape.dim[2] / 3, e = d / call->attr.attention.heads;
    bool dx = call->op == TH_OP_attention_dx;
    struct head h = {
        .t = qkv->shape.dim[1], .e = e, .d = d, .heads = call->attr.attention.heads};
    h.tp = th_parts(h.t, PANEL) * PANEL;
    h.ep = th_parts(e, PANEL) * PANEL;
    h.scale = (float)(1 / sqrt((double)e));
    h.block = dx ? th_parts(h.t, th_parts(h.t, BLOCK)) : TILE;
    h.slab = (dx ? h.block + TILE : TILE) * SLAB; /* a last tile's rows, and no more */
    int64_t rows = th_parts(e, SLAB_USED) * TILE * SLAB;
    int64_t scores = th_parts(h.t, SLAB_USED) * h.slab;
    float *at = memory;
    h.k_across = at, at += h.tp * e;
    h.along = at, at += h.t * h.ep;
    h.q_rows = at, at += rows;
    h.s = at, at += scores;
    if (dx) {
        h.v_across = at, at += h.tp * e;
        h.dy_rows = at, at += rows;
        h.q_panels = at, at += h.block * h.ep;
        h.dy_panels = at, at += h.block * h.ep;
        h.ds = at, at += scores;
    }
    *floats = (size_t)(at - memory);
    return h;
}

/* Where a head's values begin in x, whose tokens are `apart`. */
static int64_t place(const struct head *h, int64_t index, int64_t apart)
{
    return index / h->heads * h->t * apart + index % h->heads * h->e;
}

static void head_at(struct head *h, const float *qkv, int64_t index)
{
    h->q = qkv + place(h, index, 3 * h->d);
    h->k = h->q + h->d;
    h->v = h->k + h->d;
}

/* The head that is asked for while another is worked on; -1: none. */
static void next_at(
    struct head *h, const float *qkv, const float *y, const float *dy, int64_t index)
{
    h->asked = index < 0 ? h->t : 0;
    h->asking = th_parts(h->t, th_parts(h->t, TILE) * th_parts(h->t, PANEL));
    if (index < 0)
        return;
    h->next = qkv + place(h, index, 3 * h->d);
    h->next_y = y ? y + place(h, index, h->d) : NULL;
    h->next_dy = dy ? dy + place(h, index, h->d) : NULL;
}

/* ---- packing ---- */

/* x[token][value], tokens `apart`, to panels of tokens. */
static void pack_tokens(const struct head *h, const float *x, int64_t apart, float *to)
{
    for (int64_t j = 0; j < h->t; j += PANEL)
        pack_across(
            x + j * apart, apart, smaller(PANEL, h->t - j), h->e, to + j * h->e);
}

/* to[n] = factor * from */
TH_INLINE void copy_scaled(const float *from, int64_t n, float factor, float *to)
{
    int64_t c = 0;
    for (; c + TH_LANES <= n; c += TH_LANES)
        vf_store(to + c, factor * vf_load(from + c));
    for (; c < n; c++)
        to[c] = factor * from[c];
}

/* n rows x[row][value] to panels of values. */
static void pack_along(const struct head *h, const float *x, int64_t apart, int64_t n,
    float factor, float *to)
{
    for (int64_t first = 0; first < h->e; first += PANEL, to += n * PANEL)
        if (h->e - first >= PANEL)
            for (int64_t j = 0; j < n; j++)
                copy_scaled(x + j * apart + first, PANEL, factor, to + j * PANEL);
        else
            for (int64_t j = 0; j < n; j++)
                copy_scaled(
                    x + j * apart + first, h->e - first, factor, to + j * PANEL);
}

/* A tile's n rows x[row][value] to slabs. */
static void pack_rows(const struct head *h, const float *x, int64_t apart, int64_t n,
    float factor, float *to)
{
    for (int64_t first = 0; first < h->e; first += SLAB_USED, to += TILE * SLAB)
        for (int64_t i = 0; i < n; i++)
            copy_scaled(x + i * apart + first, smaller(SLAB_USED, h->e - first), factor,
                to + i * SLAB);
}

/* Asks for some of the next head's tokens: rows that are short and far apart, which no
 * processor foresees. A few at a time, so that they do not hold up what is read now. */
static void ask(struct head *h)
{
    for (int64_t end = smaller(h->t, h->asked + h->asking); h->asked < end; h->asked++)
        for (int64_t c = 0; c < h->e; c += LINE) {
            const float *q = h->next + h->asked * 3 * h->d + c;
            __builtin_prefetch(q, 0, 2);
            __builtin_prefetch(q + h->d, 0, 2);
            __builtin_prefetch(q + 2 * h->d, 0, 2);
            if (!h->next_y)
                continue;
            __builtin_prefetch(h->next_y + h->asked * h->d + c, 0, 2);
            __builtin_prefetch(h->next_dy + h->asked * h->d + c, 0, 2);
        }
}

/* ---- products ---- */

/* A tile of which a's k columns are in slabs, of so many floats; moves what t points to. */
TH_INLINE void product(struct tile *t, int64_t k, int64_t slab)
{
    for (int64_t from = 0; from < k; from += SLAB_USED) {
        t->n = smaller(SLAB_USED, k - from);
        TH_ISA_NAME(th_tile)(t);
        t->a += slab;
        t->b += t->n * PANEL;
        t->more = true;
    }
}

/* Slabs s = a tile's n rows times panels of tokens. */
static void scores(
    struct head *h, const float *rows, const float *across, int64_t n, float *s)
{
    for (int64_t j = 0; j < h->t; j += PANEL) {
        int64_t left = smaller(PANEL, h->t - j);
        struct tile t = {.left = TILE_ROWS,
            .a = rows,
            .b = across + j * h->e,
            .rows = n,
            .columns = th_parts(left, TH_LANES) * TH_LANES,
            .apart = SLAB,
            .c = s + j / SLAB_USED * h->slab + j % SLAB_USED};
        ask(h);
        product(&t, h->e, TILE * SLAB);
    }
}

/* y[token][value] = a tile's n rows of s times panels of values, tokens `apart`. */
static void weighted(
    const struct head *h, const float *s, int64_t n, int64_t apart, float *y)
{
    for (int64_t c = 0; c < h->e; c += PANEL) {
        struct tile t = {.left = TILE_ROWS,
            .a = s,
            .b = h->along + c * h->t,
            .rows = n,
            .columns = smaller(PANEL, h->e - c),
            .apart = apart,
            .c = y + c};
        product(&t, h->t, h->slab);
    }
}

/* to[token][value] = or += s^T times a block's panels of values, n rows of it, for a tile of
 * columns of s. */
static void gather(const struct head *h, const float *s, const float *panels, int64_t n,
    int64_t columns, bool more, float *to)
{
    for (int64_t c = 0; c < h->e; c += PANEL)
        TH_ISA_NAME(th_tile)
    (&(struct tile){.left = TILE_COLUMNS,
        .a = s,
        .b = panels + c * n,
        .n = n,
        .more = more,
        .rows = columns,
        .columns = smaller(PANEL, h->e - c),
        .apart = 3 * h->d,
        .c = to + c});
}

/* ---- rows ---- */

/* The sum, or the largest, of each vector's lanes in a lane of its own. */
TH_INLINE th_vf sums_of(th_vf v[TH_LANES])
{
    vf_transpose(v);
    for (int n = TH_LANES / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            v[l] += v[l + n];
    return v[0];
}

TH_INLINE th_vf largest_of(th_vf v[TH_LANES])
{
    vf_transpose(v);
    for (int n = TH_LANES / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            v[l] = vf_max(v[l], v[l + n]);
    return v[0];
}

/* A lane's largest of a row's t scores, which ends at a whole vector. */
static th_vf row_largest(const struct head *h, const float *row)
{
    th_vf best = vf_all(-INFINITY);
    for (int64_t first = 0; first < h->t; first += SLAB_USED, row += h->slab)
        for (int64_t j = 0; j < smaller(SLAB_USED, h->t - first); j += TH_LANES)
            best = vf_max(best, vf_load(row + j));
    return best;
}

/* s = exp(s - largest) in a row; returns their sum by lanes. */
static th_vf row_exponents(const struct head *h, float *row, float largest)
{
    th_vf total = vf_all(0);
    for (int64_t first = 0; first < h->t; first += SLAB_USED, row += h->slab)
        for (int64_t j = 0; j < smaller(SLAB_USED, h->t - first); j += TH_LANES) {
            th_vf p = vf_exp_negative(vf_load(row + j) - vf_all(largest));
            vf_store(row + j, p);
            total += p;
        }
    return total;
}

/* Of a group of n rows, at most TH_LANES: s = exp(s - largest), and by lanes of the results 1
 * over their sum, and lse. A score that is not a number makes them none. */
static void softmax(const struct head *h, float *s, int64_t n, float *over, float *lse)
{
    float largest[TH_LANES];
    th_vf v[TH_LANES];
    int64_t end = (h->t - 1) % SLAB_USED + 1;
    for (int64_t l = 0; l < n; l++) {
        float *last = s + (h->t - 1) / SLAB_USED * h->slab + l * SLAB;
        for (int64_t j = end; j % TH_LANES != 0; j++)
            last[j] = -INFINITY;
        v[l] = row_largest(h, s + l * SLAB);
    }
    for (int64_t l = n; l < TH_LANES; l++)
        v[l] = v[0];
    th_vf most = largest_of(v);
    vf_store(largest, most);
    for (int64_t l = 0; l < n; l++)
        v[l] = row_exponents(h, s + l * SLAB, largest[l]);
    for (int64_t l = n; l < TH_LANES; l++)
        v[l] = v[0];
    th_vf sum = sums_of(v);
    vf_store(over, 1.0F / sum);
    vf_store(lse, most + vf_log(sum));
}

/* Of a row's y and dy, products by lanes. */
TH_INLINE th_vf row_product(const float *y, const float *dy, int64_t e)
{
    th_vf sum = vf_all(0);
    int64_t c = 0;
    for (; c + TH_LANES <= e; c += TH_LANES)
        sum = vf_fma(vf_load(y + c), vf_load(dy + c), sum);
    if (c == e)
        return sum;
    float left[TH_LANES] = {0}, right[TH_LANES] = {0};
    memcpy(left, y + c, sizeof *y * (size_t)(e - c));
    memcpy(right, dy + c, sizeof *dy * (size_t)(e - c));
    return vf_fma(vf_load(left), vf_load(right), sum);
}

/* A row's p from its scores, and ds = p*(dp - sum) in place of dp. */
static void row_gradient(
    const struct head *h, float *s, float *ds, float lse, float sum)
{
    for (int64_t first = 0; first < h->t; first += SLAB_USED)
        for (int64_t j = 0; j < smaller(SLAB_USED, h->t - first); j += TH_LANES) {
            int64_t at = first / SLAB_USED * h->slab + j;
            th_vf p = vf_exp_negative(vf_load(s + at) - vf_all(lse));
            vf_store(s + at, p);
            vf_store(ds + at, p * (vf_load(ds + at) - vf_all(sum)));
        }
}

/* ---- forward ---- */

/* y of a tile's n tokens, and their lse where that is wanted. */
static void tile_forward(
    struct head *h, const float *q, int64_t n, float *y, float *lse)
{
    float over[TILE + TH_LANES], logs[TILE + TH_LANES];
    pack_rows(h, q, 3 * h->d, n, h->scale, h->q_rows);
    scores(h, h->q_rows, h->k_across, n, h->s);
    for (int64_t r = 0; r < n; r += TH_LANES)
        softmax(h, h->s + r * SLAB, smaller(TH_LANES, n - r), over + r, logs + r);
    weighted(h, h->s, n, h->d, y);
    for (int64_t r = 0; r < n; r++)
        copy_scaled(y + r * h->d, h->e, over[r], y + r * h->d);
    if (lse)
        memcpy(lse, logs, sizeof *lse * (size_t)n);
}

static void forward(
    const struct th_call *call, struct head *h, int64_t index, int64_t next)
{
    const struct th_args_attention *a = (const void *)call->args;
    float *lse = a->lse_, *y = (float *)a->y + place(h, index, h->d);
    head_at(h, a->qkv, index);
    next_at(h, a->qkv, NULL, NULL, next);
    pack_tokens(h, h->k, 3 * h->d, h->k_across);
    pack_along(h, h->v, 3 * h->d, h->t, 1, h->along);
    for (int64_t i = 0; i < h->t; i += TILE) {
        int64_t n = smaller(TILE, h->t - i);
        tile_forward(h, h->q + i * 3 * h->d, n, y + i * h->d,
            lse ? lse + index * h->t + i : NULL);
    }
}

/* ---- gradient ---- */

/* Of a tile's n tokens: p, ds and dq. */
static void tile_gradient(struct head *h, const float *q, const float *dy,
    const float *y, const float *lse, int64_t n, float *s, float *ds, float *dq)
{
    pack_rows(h, q, 3 * h->d, n, h->scale, h->q_rows);
    pack_rows(h, dy, h->d, n, 1, h->dy_rows);
    scores(h, h->q_rows, h->k_across, n, s);
    scores(h, h->dy_rows, h->v_across, n, ds);
    for (int64_t r = 0; r < n; r += TH_LANES) {
        float sum[TH_LANES];
        th_vf v[TH_LANES];
        int64_t rows = smaller(TH_LANES, n - r);
        for (int64_t l = 0; l < TH_LANES; l++) {
            int64_t at = (r + smaller(l, rows - 1)) * h->d;
            v[l] = row_product(y + at, dy + at, h->e);
        }
        vf_store(sum, sums_of(v));
        for (int64_t l = 0; l < rows; l++)
            row_gradient(
                h, s + (r + l) * SLAB, ds + (r + l) * SLAB, lse[r + l], sum[l]);
    }
    weighted(h, ds, n, 3 * h->d, dq);
}

/* What a block's n tokens add to dk and dv, where there is `more` than they. */
static void block_gradient(const struct head *h, int64_t n, bool more, float *dk)
{
    for (int64_t first = 0; first < h->t; first += SLAB_USED)
        for (int64_t j = 0; j < smaller(SLAB_USED, h->t - first); j += TILE) {
            int64_t columns = smaller(TILE, smaller(SLAB_USED, h->t - first) - j);
            int64_t at = first / SLAB_USED * h->slab + j;
            float *to = dk + (first + j) * 3 * h->d;
            gather(h, h->ds + at, h->q_panels, n, columns, more, to);
            gather(h, h->s + at, h->dy_panels, n, columns, more, to + h->d);
        }
}

static void backward(
    const struct th_call *call, struct head *h, int64_t index, int64_t next)
{
    const struct th_args_attention_dx *a = (const void *)call->args;
    int64_t at = place(h, index, h->d), apart = 3 * h->d;
    const float *dy = (const float *)a->dy + at, *y = (const float *)a->y + at;
    const float *lse = (const float *)a->lse + index * h->t;
    float *dq = (float *)a->dqkv + place(h, index, apart);
    head_at(h, a->qkv, index);
    next_at(h, a->qkv, a->y, a->dy, next);
    pack_tokens(h, h->k, apart, h->k_across);
    pack_tokens(h, h->v, apart, h->v_across);
    pack_along(h, h->k, apart, h->t, h->scale, h->along);
    for (int64_t i = 0; i < h->t; i += h->block) {
        int64_t n = smaller(h->block, h->t - i);
        pack_along(h, h->q + i * apart, apart, n, h->scale, h->q_panels);
        pack_along(h, dy + i * h->d, h->d, n, 1, h->dy_panels);
        for (int64_t r = 0; r < n; r += TILE) {
            int64_t token = i + r;
            tile_gradient(h, h->q + token * apart, dy + token * h->d, y + token * h->d,
                lse + token, smaller(TILE, n - r), h->s + r * SLAB, h->ds + r * SLAB,
                dq + token * apart);
        }
        block_gradient(h, n, i > 0, dq + h->d);
    }
}

/* ---- workers ---- */

static void head(const struct th_call *call, int64_t index, int worker)
{
    const struct th_operand *qkv = &call->in[call->op == TH_OP_attention_dx];
    size_t floats,
        room = call->scratch_bytes / sizeof(float) / (size_t)th_attention_workers(call);
    struct head h =
        head_init(call, qkv, (float *)call->scratch + (size_t)worker * room, &floats);
    assert(floats <= room);
    int64_t next = index + th_attention_workers(call); /* likely this worker's */
    if (next >= th_attention_heads(call))
        next = -1;
    if (call->op == TH_OP_attention)
        forward(call, &h, index, next);
    else
        backward(call, &h, index, next);
}

TH_OWN(attention)
{
    th_parallel_workers(call, th_attention_heads(call), head);
    return THAW_OK;
}

TH_OWN(attention_dx)
{
    th_parallel_workers(call, th_attention_heads(call), head);
    return THAW_OK;
}
