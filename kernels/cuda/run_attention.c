/* SPDX-License-Identifier: Apache-2.0
 * Owns attention in strict fp32, for which cuDNN has no engine: cuBLASLt's products around a
 * softmax of ours, with the [t][t] scores of all heads in scratch. Formulas:
 * kernels/attention.c.
 *
 * A product runs over the heads of one sample: q, k and v are read where they lie, `heads`
 * columns of e values in rows of 3d. As cuBLASLt counts columns first, a row-major [t][e] is
 * its [e][t], and s = q k^T is s' = k'^T q'. */
#include "own_ops.h"
#include "params.h"
#include "products.h"

#include "mem.h"

#include <math.h>

enum { MAX_PRODUCTS = 5 };

struct attention {
    int64_t n, t, d, e, heads;
    struct th_product *product[MAX_PRODUCTS];
    size_t scores_at[2], workspace_at; /* in scratch */
};

static struct attention sizes_of(
    const struct th_call *call, const struct th_operand *qkv)
{
    const int64_t *dim = qkv->shape.dim;
    struct attention s = {
        .n = dim[0], .t = dim[1], .d = dim[2] / 3, .heads = call->attr.attention.heads};
    s.e = s.d / s.heads;
    return s;
}

static void attention_release(struct th_call *call)
{
    struct attention *s = call->state;
    for (int i = 0; s && i < MAX_PRODUCTS; i++)
        th_product_free(s->product[i]);
    th_free(s);
    call->state = NULL;
}

/* Which of the products: rows of 3d (q, k, v), rows of d (y) or the scores' rows of t. */
struct side {
    bool turned;
    int64_t ld, step; /* of rows; from one head to the next */
};

static struct side packed(const struct attention *s, bool turned)
{
    return (struct side){turned, 3 * s->d, s->e};
}

static struct side joined(const struct attention *s, bool turned)
{
    return (struct side){turned, s->d, s->e};
}

static struct side scores(const struct attention *s, bool turned)
{
    return (struct side){turned, s->t, s->t * s->t};
}

/* Of what is one sample's, and of q, k and v in a row. */
static uint32_t alignment(const struct attention *s)
{
    return s->d % 4 == 0 && s->heads * s->t * s->t % 4 == 0 ? 16 : 4;
}

static thaw_status add(struct th_call *call, int i, int64_t m, int64_t k, struct side a,
    struct side b, struct side c, float alpha)
{
    struct attention *s = call->state;
    return th_product_new(call->device,
        &(struct th_product_spec){.m = m,
            .n = s->t,
            .k = k,
            .turn_a = a.turned,
            .turn_b = b.turned,
            .lda = a.ld,
            .ldb = b.ld,
            .ldc = c.ld,
            .batch = s->heads,
            .step_a = a.step,
            .step_b = b.step,
            .step_c = c.step,
            .align = alignment(s),
            .alpha = alpha},
        &s->product[i]);
}

static void place(struct th_call *call, int n_scores)
{
    struct attention *s = call->state;
    size_t bytes = th_align_up((size_t)(s->n * s->heads * s->t * s->t) * sizeof(float));
    size_t workspace = 0;
    for (int i = 0; i < n_scores; i++)
        s->scores_at[i] = (size_t)i * bytes;
    s->workspace_at = (size_t)n_scores * bytes;
    for (int i = 0; i < MAX_PRODUCTS; i++)
        if (s->product[i] && th_product_workspace(s->product[i]) > workspace)
            workspace = th_product_workspace(s->product[i]);
    call->scratch_bytes = s->workspace_at + workspace;
}

static thaw_status prepare(struct th_call *call, const struct th_operand *qkv,
    thaw_status (*products)(struct th_call *call), int n_scores)
{
    struct attention *s = th_alloc(1, sizeof *s);
    if (!s)
        return THAW_E_MEMORY;
    *s = sizes_of(call, qkv);
    call->state = s;
    thaw_status status = products(call);
    if (status == THAW_OK)
        place(call, n_scores);
    else
        attention_release(call);
    return status;
}

/* ---- forward ---- */

enum { SCORES, VALUES };

/* s' [j][i] = scale k'^T q'; y' [e][i] = v' [e][j] p' [j][i] */
static thaw_status forward_products(struct th_call *call)
{
    const struct attention *s = call->state;
    float scale = 1.0F / sqrtf((float)s->e);
    TRY(add(call, SCORES, s->t, s->e, packed(s, true), packed(s, false),
        scores(s, false), scale));
    return add(call, VALUES, s->e, s->t, packed(s, false), scores(s, false),
        joined(s, false), 1.0F);
}

static thaw_status attention_prepare(struct th_call *call)
{
    return prepare(call, &call->in[0], forward_products, 1);
}

/* One product for every sample; a step is from one sample to the next, in floats. */
struct operand {
    const void *p;
    int64_t step;
};

static thaw_status each_sample(const struct th_call *call, int product,
    struct operand a, struct operand b, struct operand c)
{
    const struct attention *s = call->state;
    for (int64_t i = 0; i < s->n; i++)
        TRY(th_product_run(call->device, s->product[product],
            (const float *)a.p + i * a.step, (const float *)b.p + i * b.step, NULL,
            (float *)(uintptr_t)c.p + i * c.step,
            (char *)call->scratch + s->workspace_at));
    return THAW_OK;
}

/* q (part 0), k, v of the packed rows */
static struct operand part(const struct attention *s, const void *qkv, int part)
{
    return (struct operand){(const float *)qkv + part * s->d, s->t * 3 * s->d};
}

static struct operand rows(const struct attention *s, const void *y)
{
    return (struct operand){y, s->t * s->d};
}

static float *scores_of(const struct th_call *call, int i)
{
    const struct attention *s = call->state;
    return (float *)((char *)call->scratch + s->scores_at[i]);
}

static struct operand table(const struct th_call *call, int i)
{
    const struct attention *s = call->state;
    return (struct operand){scores_of(call, i), s->heads * s->t * s->t};
}

/* Rows of scores: all heads' tokens. */
static int64_t rows_of_all(const struct attention *s)
{
    return s->n * s->heads * s->t;
}

static thaw_status attention_run(const struct th_call *call)
{
    const struct th_args_attention *a = (const void *)call->args;
    const struct attention *s = call->state;
    struct operand p = table(call, 0);
    TRY(each_sample(call, SCORES, part(s, a->qkv, 1), part(s, a->qkv, 0), p));
    TRY(th_own_launch(call, TH_K_softmax_rows, th_own_rows(rows_of_all(s)),
        &(struct th_k_softmax_rows){
            scores_of(call, 0), a->lse_, rows_of_all(s), s->t}));
    return each_sample(call, VALUES, part(s, a->qkv, 2), p, rows(s, a->y));
}

/* ---- backward ---- */

enum { AGAIN, DP, DV, DQ, DK };

/* s' = scale k'^T q'; dp' [j][i] = v'^T dy'; dv' [e][j] = dy' p'^T; dq' [e][i] = k' ds';
 * dk' [e][j] = q' ds'^T */
static thaw_status backward_products(struct th_call *call)
{
    const struct attention *s = call->state;
    float scale = 1.0F / sqrtf((float)s->e);
    TRY(add(call, AGAIN, s->t, s->e, packed(s, true), packed(s, false),
        scores(s, false), scale));
    TRY(add(call, DP, s->t, s->e, packed(s, true), joined(s, false), scores(s, false),
        1.0F));
    TRY(add(call, DV, s->e, s->t, joined(s, false), scores(s, true), packed(s, false),
        1.0F));
    TRY(add(call, DQ, s->e, s->t, packed(s, false), scores(s, false), packed(s, false),
        1.0F));
    return add(call, DK, s->e, s->t, packed(s, false), scores(s, true),
        packed(s, false), 1.0F);
}

static thaw_status attention_dx_prepare(struct th_call *call)
{
    return prepare(call, &call->in[1], backward_products, 2);
}

static thaw_status attention_dx_run(const struct th_call *call)
{
    const struct th_args_attention_dx *a = (const void *)call->args;
    const struct attention *s = call->state;
    struct operand p = table(call, 0), ds = table(call, 1);
    struct operand q = part(s, a->qkv, 0), k = part(s, a->qkv, 1),
                   v = part(s, a->qkv, 2);
    TRY(each_sample(call, AGAIN, k, q, p));
    TRY(each_sample(call, DP, v, rows(s, a->dy), ds));
    TRY(th_own_launch(call, TH_K_softmax_rows_dx, th_own_rows(rows_of_all(s)),
        &(struct th_k_softmax_rows_dx){.scores = scores_of(call, 0),
            .ds = scores_of(call, 1),
            .dy = a->dy,
            .y = a->y,
            .lse = a->lse,
            .samples = s->n,
            .heads = s->heads,
            .tokens = s->t,
            .features = s->e,
            .scale = 1.0F / sqrtf((float)s->e)}));
    TRY(each_sample(call, DV, rows(s, a->dy), p, part(s, a->dqkv, 2)));
    TRY(each_sample(call, DQ, k, ds, part(s, a->dqkv, 0)));
    return each_sample(call, DK, q, ds, part(s, a->dqkv, 1));
}

const struct th_kernel th_cuda_attention_kernel = {.layout = th_layout_plain,
    .prepare = attention_prepare,
    .run = attention_run,
    .release = attention_release};
const struct th_kernel th_cuda_attention_dx_kernel = {.layout = th_layout_plain,
    .prepare = attention_dx_prepare,
    .run = attention_dx_run,
    .release = attention_release};
