/* SPDX-License-Identifier: Apache-2.0
 * Owns attention and its gradient: a head of a sample at a time, and of it TH_ATTENTION_ROWS
 * tokens' scores, so that no [t][t] is ever in memory (Dao et al. 2022, arXiv:2205.14135;
 * here whole rows of scores fit into a cache, so that a softmax is not taken in parts).
 * Formulas: kernels/attention.c.
 *
 * Products have a right factor in panels, [k][PANEL] contiguous, and their left one read
 * by broadcasts. A worker has memory for one head, struct head; what of it lies beyond
 * the t tokens and e values is zero. Heads do not share sums, so neither threads nor
 * their number change a bit. */
#include "exponent.h"
#include "product.h"

#include <math.h>

enum { BLOCK = TH_ATTENTION_ROWS };
_Static_assert(
    BLOCK % ROWS == 0 && (int)PANEL <= (int)TH_ATTENTION_PAD && ROWS <= PANEL,
    "a block is whole tiles, and padding covers a tile");

/* One head of one sample, and the worker's memory. tp and ep are t and e rounded up to
 * panels; ld is a row of scores. */
struct head {
    int64_t t, e, tp, ep, ld, d; /* d: a token's values, of all heads */
    const float *q, *k, *v;      /* tokens are 3d apart */
    float scale;
    float *k_across, *v_across;  /* panels of tokens [tp/PANEL][e][PANEL] */
    float *along;                /* panels of values [ep/PANEL][tp][PANEL]: v; dx: k */
    float *q_rows, *dy_rows;     /* [BLOCK][e] */
    float *q_panels, *dy_panels; /* [ep/PANEL][BLOCK][PANEL] */
    float *s, *ds;               /* [BLOCK][ld] */
    float *dk, *dv;              /* [tp + PANEL][ep] */
};

static struct head head_init(const struct th_call *call, const struct th_operand *qkv,
    float *memory, size_t *floats)
{
    int64_t d = qkv->shape.dim[2] / 3, e = d / call->attr.attention.heads;
    struct head h = {.t = qkv->shape.dim[1], .e = e, .d = d};
    h.tp = th_parts(h.t, PANEL) * PANEL;
    h.ep = th_parts(e, PANEL) * PANEL;
    h.ld = h.tp + PANEL;
    h.scale = (float)(1 / sqrt((double)e));
    float *at = memory;
    bool dx = call->op == TH_OP_attention_dx;
    h.k_across = at, at += h.tp * e;
    h.along = at, at += h.tp * h.ep;
    h.q_rows = at, at += BLOCK * e;
    h.s = at, at += BLOCK * h.ld;
    if (dx) {
        h.v_across = at, at += h.tp * e;
        h.dy_rows = at, at += BLOCK * e;
        h.q_panels = at, at += BLOCK * h.ep;
        h.dy_panels = at, at += BLOCK * h.ep;
        h.ds = at, at += BLOCK * h.ld;
        h.dk = at, at += h.ld * h.ep;
        h.dv = at, at += h.ld * h.ep;
    }
    *floats = (size_t)(at - memory);
    return h;
}

static void head_at(struct head *h, const float *qkv, int64_t heads, int64_t index)
{
    h->q = qkv + index / heads * h->t * 3 * h->d + index % heads * h->e;
    h->k = h->q + h->d;
    h->v = h->k + h->d;
}

/* ---- packing ---- */

/* x[token][value], tokens `apart`, to panels of tokens. */
static void pack_tokens(const struct head *h, const float *x, int64_t apart, float *to)
{
    int64_t j = 0;
    for (; j + PANEL <= h->t; j += PANEL)
        pack_across(x + j * apart, apart, PANEL, h->e, to + j * h->e);
    if (j < h->t)
        pack_across(x + j * apart, apart, h->t - j, h->e, to + j * h->e);
}

/* n rows x[row][value] to panels of values, of `rows` rows each. */
static void pack_along(const struct head *h, const float *x, int64_t apart, int64_t n,
    int64_t rows, float factor, float *to)
{
    for (int64_t first = 0; first < h->e; first += PANEL, to += rows * PANEL) {
        int64_t columns = h->e - first < PANEL ? h->e - first : PANEL;
        for (int64_t j = 0; j < n; j++) {
            const float *from = x + j * apart + first;
            if (columns == PANEL)
                for (int64_t c = 0; c < PANEL; c++)
                    to[j * PANEL + c] = factor * from[c];
            else
                for (int64_t c = 0; c < columns; c++)
                    to[j * PANEL + c] = factor * from[c];
        }
    }
}

/* n rows of a block, [BLOCK][e], the rest zero. */
static void pack_rows(const struct head *h, const float *x, int64_t apart, int64_t n,
    float factor, float *to)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < h->e; c++)
            to[i * h->e + c] = factor * x[i * apart + c];
    memset(to + n * h->e, 0, sizeof(float) * (size_t)((BLOCK - n) * h->e));
}

/* ---- products ---- */

/* s[BLOCK][ld] = rows[BLOCK][e] times panels of tokens, n rows of it. */
static void scores(
    const struct head *h, const float *rows, const float *across, int64_t n, float *s)
{
    for (int64_t j = 0; j < h->tp; j += PANEL)
        for (int64_t i = 0; i < n; i += ROWS) {
            registers acc;
            clear(ROWS, COLUMNS, acc);
            multiply(
                ROWS, COLUMNS, acc, rows + i * h->e, h->e, 1, across + j * h->e, h->e);
            put(ROWS, COLUMNS, acc, false, h->ld, s + i * h->ld + j);
        }
}

/* y[token][value] = factor[token] * (s times panels of values), n tokens, `apart`;
 * factor has whole tiles of values. */
static void weighted(const struct head *h, const float *s, const float *factor,
    int64_t n, int64_t apart, float *y)
{
    float out[ROWS * PANEL];
    for (int64_t c = 0; c < h->ep; c += PANEL)
        for (int64_t i = 0; i < n; i += ROWS) {
            registers acc;
            clear(ROWS, COLUMNS, acc);
            multiply(ROWS, COLUMNS, acc, s + i * h->ld, h->ld, 1, h->along + c * h->tp,
                h->t);
            int64_t rows = n - i < ROWS ? n - i : ROWS;
            int64_t columns = h->e - c < PANEL ? h->e - c : PANEL;
            for (int64_t r = 0; r < ROWS; r++)
                for (int v = 0; v < COLUMNS; v++)
                    acc[r][v] *= vf_all(factor[i + r]);
            if (rows == ROWS && columns == PANEL) {
                put(ROWS, COLUMNS, acc, false, apart, y + i * apart + c);
                continue;
            }
            put(ROWS, COLUMNS, acc, false, PANEL, out);
            for (int64_t r = 0; r < rows; r++)
                memcpy(y + (i + r) * apart + c, out + r * PANEL,
                    sizeof *y * (size_t)columns);
        }
}

/* to[token][value] = or += s^T times a block's panels of values, n rows of it. */
static void gather(const struct head *h, const float *s, const float *panels, int64_t n,
    bool more, float *to)
{
    for (int64_t c = 0; c < h->ep; c += PANEL)
        for (int64_t j = 0; j < h->t; j += ROWS) {
            registers acc;
            clear(ROWS, COLUMNS, acc);
            multiply(ROWS, COLUMNS, acc, s + j, 1, h->ld, panels + c * BLOCK, n);
            put(ROWS, COLUMNS, acc, more, h->ep, to + j * h->ep + c);
        }
}

/* ---- forward ---- */

/* The largest of a row's t scores; what is beyond t is overwritten. A score that is not a
 * number makes the exponents none. */
static float largest_of(float *s, int64_t t, int64_t tp)
{
    float lanes[TH_LANES];
    th_vf best = vf_all(-INFINITY);
    for (int64_t j = t; j < tp; j++)
        s[j] = s[0];
    for (int64_t j = 0; j < tp; j += TH_LANES)
        best = vf_max(best, vf_load(s + j));
    vf_store(lanes, best);
    for (int n = TH_LANES / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            lanes[l] = lanes[l] > lanes[l + n] ? lanes[l] : lanes[l + n];
    return lanes[0];
}

/* s[j] = exp(s[j] - largest), 0 beyond t; returns their sum. */
static double exponents(float *s, int64_t t, int64_t tp, float largest)
{
    th_vf total = vf_all(0);
    for (int64_t j = 0; j < tp; j += TH_LANES) {
        vf_store(s + j, vf_exp_negative(vf_load(s + j) - vf_all(largest)));
        for (int64_t l = t > j ? t : j; l < j + TH_LANES; l++)
            s[l] = 0;
        total += vf_load(s + j);
    }
    return vf_sum(total);
}

static void forward(const struct th_call *call, struct head *h, int64_t index)
{
    const struct th_args_attention *a = (const void *)call->args;
    int64_t heads = call->attr.attention.heads;
    float *lse = a->lse_, over[BLOCK] = {0};
    float *y = (float *)a->y + index / heads * h->t * h->d + index % heads * h->e;
    head_at(h, a->qkv, heads, index);
    pack_tokens(h, h->k, 3 * h->d, h->k_across);
    pack_along(h, h->v, 3 * h->d, h->t, h->tp, 1, h->along);
    for (int64_t i = 0; i < h->t; i += BLOCK) {
        int64_t n = h->t - i < BLOCK ? h->t - i : BLOCK;
        pack_rows(h, h->q + i * 3 * h->d, 3 * h->d, n, h->scale, h->q_rows);
        scores(h, h->q_rows, h->k_across, n, h->s);
        for (int64_t r = 0; r < n; r++) {
            float *row = h->s + r * h->ld, largest = largest_of(row, h->t, h->tp);
            double sum = exponents(row, h->t, h->tp, largest);
            over[r] = (float)(1 / sum);
            if (lse)
                lse[index * h->t + i + r] = (float)((double)largest + log(sum));
        }
        weighted(h, h->s, over, n, h->d, y + i * h->d);
    }
}

/* ---- gradient ---- */

/* y . dy of a token's e values. */
static float product_of(const float *y, const float *dy, int64_t e)
{
    th_vf sum = vf_all(0);
    double rest = 0;
    int64_t c = 0;
    for (; c + TH_LANES <= e; c += TH_LANES)
        sum = vf_fma(vf_load(y + c), vf_load(dy + c), sum);
    for (; c < e; c++)
        rest += (double)y[c] * (double)dy[c];
    return (float)(vf_sum(sum) + rest);
}

/* A row's p from its scores, and ds = p*(dp - sum) in place of dp. */
static void row_gradient(
    const struct head *h, float *s, float *ds, float lse, float sum)
{
    for (int64_t j = 0; j < h->tp; j += TH_LANES) {
        th_vf p = vf_exp_negative(vf_load(s + j) - vf_all(lse));
        vf_store(s + j, p);
        vf_store(ds + j, p * (vf_load(ds + j) - vf_all(sum)));
    }
    for (int64_t j = h->t; j < h->tp; j++)
        s[j] = ds[j] = 0;
}

/* dq of n tokens, and what they add to dk and dv where there is `more` than they. */
static void block_gradient(const struct head *h, const float *dy, const float *y,
    const float *lse, int64_t n, bool more, float *dq)
{
    float factor[BLOCK] = {0};
    pack_rows(h, dy, h->d, n, 1, h->dy_rows);
    pack_along(h, dy, h->d, n, BLOCK, 1, h->dy_panels);
    scores(h, h->q_rows, h->k_across, n, h->s);
    scores(h, h->dy_rows, h->v_across, n, h->ds);
    for (int64_t r = 0; r < n; r++) {
        float sum = product_of(y + r * h->d, dy + r * h->d, h->e);
        row_gradient(h, h->s + r * h->ld, h->ds + r * h->ld, lse[r], sum);
        factor[r] = h->scale;
    }
    weighted(h, h->ds, factor, n, 3 * h->d, dq);
    gather(h, h->ds, h->q_panels, n, more, h->dk);
    gather(h, h->s, h->dy_panels, n, more, h->dv);
}

static void backward(const struct th_call *call, struct head *h, int64_t index)
{
    const struct th_args_attention_dx *a = (const void *)call->args;
    int64_t heads = call->attr.attention.heads, apart = 3 * h->d;
    int64_t at = index / heads * h->t * h->d + index % heads * h->e;
    const float *dy = (const float *)a->dy + at, *y = (const float *)a->y + at;
    head_at(h, a->qkv, heads, index);
    float *dq = (float *)a->dqkv + (h->q - (const float *)a->qkv);
    pack_tokens(h, h->k, apart, h->k_across);
    pack_tokens(h, h->v, apart, h->v_across);
    pack_along(h, h->k, apart, h->t, h->tp, 1, h->along);
    for (int64_t i = 0; i < h->t; i += BLOCK) {
        int64_t n = h->t - i < BLOCK ? h->t - i : BLOCK;
        pack_rows(h, h->q + i * apart, apart, n, h->scale, h->q_rows);
        pack_along(h, h->q + i * apart, apart, n, BLOCK, h->scale, h->q_panels);
        block_gradient(h, dy + i * h->d, y + i * h->d,
            (const float *)a->lse + index * h->t + i, n, i > 0, dq + i * apart);
    }
    for (int64_t j = 0; j < h->t; j++) {
        memcpy(dq + h->d + j * apart, h->dk + j * h->ep, sizeof(float) * (size_t)h->e);
        memcpy(
            dq + 2 * h->d + j * apart, h->dv + j * h->ep, sizeof(float) * (size_t)h->e);
    }
}

/* ---- workers ---- */

static void worker(const struct th_call *call, int64_t i)
{
    const struct th_operand *qkv = &call->in[call->op == TH_OP_attention_dx];
    int64_t n = qkv->shape.dim[0] * call->attr.attention.heads;
    int64_t workers = th_attention_workers(call);
    size_t room = call->scratch_bytes / sizeof(float) / (size_t)workers, floats;
    float *memory = (float *)call->scratch + (size_t)i * room;
    struct head h = head_init(call, qkv, memory, &floats);
    memset(memory, 0, floats * sizeof(float));
    for (int64_t index = i * n / workers; index < (i + 1) * n / workers; index++)
        if (call->op == TH_OP_attention)
            forward(call, &h, index);
        else
            backward(call, &h, index);
}

TH_OWN(attention)
{
    th_parallel(call, th_attention_workers(call), worker);
    return THAW_OK;
}

TH_OWN(attention_dx)
{
    th_parallel(call, th_attention_workers(call), worker);
    return THAW_OK;
}
