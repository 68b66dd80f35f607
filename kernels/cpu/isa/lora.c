/* SPDX-License-Identifier: Apache-2.0
 * Owns lora_merge, lora_da, lora_db. Formulas: kernels/lora.c. Sums are in float, in an
 * order that neither threads nor the machine decide. */
#include "lanes.h"

TH_INLINE int lanes_at(int64_t k, int64_t from)
{
    return k - from < TH_GROUP ? (int)(k - from) : TH_GROUP;
}

/* Row o of y = w + (scale b) a. */
static void merge_row(const struct th_call *call, int64_t o)
{
    const struct th_args_lora_merge *p = (const void *)call->args;
    int64_t ranks = call->in[1].shape.dim[0];
    int64_t k = th_shape_count(&call->in[0].shape) / call->in[0].shape.dim[0];
    const float *w = (const float *)p->w + o * k, *a = p->a;
    const float *b = (const float *)p->b + o * ranks;
    float *y = (float *)p->y + o * k;
    for (int64_t i = 0; i < k; i += TH_GROUP) {
        int n = lanes_at(k, i);
        v16 sum = v_all(0);
        for (int64_t r = 0; r < ranks; r++)
            sum = v_add(sum, v_mul(v_all(b[r]), v_load_n(a + r * k + i, n, v_all(0))));
        sum = v_mul(sum, v_all(call->attr.lora.scale));
        v_store_n(y + i, n, v_add(v_load_n(w + i, n, v_all(0)), sum));
    }
}

TH_OWN(lora_merge)
{
    th_parallel(call, call->in[0].shape.dim[0], merge_row);
    return THAW_OK;
}

/* Sixteen columns of da = scale b^T dy: one cache line of each row of dy, which stays in
 * the first cache from rank to rank. */
static void da_columns(const struct th_call *call, int64_t part)
{
    const struct th_args_lora_da *p = (const void *)call->args;
    int64_t outputs = call->in[0].shape.dim[0], ranks = call->out[0].shape.dim[0];
    int64_t k = th_shape_count(&call->in[0].shape) / outputs, from = part * TH_GROUP;
    const float *dy = (const float *)p->dy + from, *b = p->b;
    float *da = (float *)p->da + from;
    int n = lanes_at(k, from);
    for (int64_t r = 0; r < ranks; r++) {
        v16 sum = v_all(0);
        for (int64_t o = 0; o < outputs; o++)
            sum = v_add(
                sum, v_mul(v_all(b[o * ranks + r]), v_load_n(dy + o * k, n, v_all(0))));
        v_store_n(da + r * k, n, v_mul(sum, v_all(call->attr.lora.scale)));
    }
}

TH_OWN(lora_da)
{
    int64_t k = th_shape_count(&call->in[0].shape) / call->in[0].shape.dim[0];
    th_parallel(call, th_parts(k, TH_GROUP), da_columns);
    return THAW_OK;
}

/* Row o of db = scale dy a^T. */
static void db_row(const struct th_call *call, int64_t o)
{
    const struct th_args_lora_db *p = (const void *)call->args;
    int64_t ranks = call->in[1].shape.dim[0];
    int64_t k = th_shape_count(&call->in[0].shape) / call->in[0].shape.dim[0];
    const float *dy = (const float *)p->dy + o * k;
    float *db = (float *)p->db + o * ranks, lanes[TH_GROUP];
    for (int64_t r = 0; r < ranks; r++) {
        const float *a = (const float *)p->a + r * k;
        v16 sum = v_all(0);
        for (int64_t i = 0; i < k; i += TH_GROUP) {
            int n = lanes_at(k, i);
            sum = v_add(sum,
                v_mul(v_load_n(dy + i, n, v_all(0)), v_load_n(a + i, n, v_all(0))));
        }
        double all = 0;
        v_store(lanes, sum);
        for (int l = 0; l < TH_GROUP; l++)
            all += (double)lanes[l];
        db[r] = (float)((double)call->attr.lora.scale * all);
    }
}

TH_OWN(lora_db)
{
    th_parallel(call, call->in[0].shape.dim[0], db_row);
    return THAW_OK;
}
