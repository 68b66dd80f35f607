/* SPDX-License-Identifier: Apache-2.0
 * Owns the order of detections by score and the curve that they draw. */
#include "ap_curve.h"

#include <math.h>
#include <stdlib.h>

static const double EPS = 0x1p-52; /* numpy.spacing(1), as in cocoeval.py */

/* ---- Order ---- */

struct key {
    float score;
    int32_t index;
};

static int by_score(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int order = (x->score < y->score) - (x->score > y->score);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

thaw_status th_ap_order_init(struct th_ap_order *order,
    const struct th_ap_record *record, int64_t n, int32_t n_classes)
{
    struct key *key = th_alloc((size_t)n, sizeof *key);
    order->index = th_alloc((size_t)n, sizeof *order->index);
    order->first = th_alloc((size_t)n_classes + 2, sizeof *order->first);
    if (!key || !order->index || !order->first) {
        th_free(key);
        th_ap_order_release(order);
        return THAW_E_MEMORY;
    }
    int64_t *first = order->first + 1; /* where the next of a class goes */
    for (int64_t i = 0; i < n; i++)
        first[record[i].class + 1]++;
    for (int32_t c = 0; c < n_classes; c++)
        first[c + 1] += first[c];
    for (int64_t i = 0; i < n; i++)
        key[first[record[i].class]++] = (struct key){record[i].score, (int32_t)i};
    for (int32_t c = 0; c < n_classes; c++) {
        int64_t from = order->first[c], count = order->first[c + 1] - from;
        if (count)
            qsort(key + from, (size_t)count, sizeof *key, by_score);
    }
    for (int64_t i = 0; i < n; i++)
        order->index[i] = key[i].index;
    th_free(key);
    return THAW_OK;
}

void th_ap_order_release(struct th_ap_order *order)
{
    th_free(order->index);
    th_free(order->first);
    *order = (struct th_ap_order){0};
}

/* ---- One curve ---- */

thaw_status th_ap_curve_init(struct th_ap_curve *c, int64_t most)
{
    size_t n = (size_t)most;
    *c = (struct th_ap_curve){.recall = th_alloc(n, sizeof *c->recall),
        .precision = th_alloc(n, sizeof *c->precision),
        .score = th_alloc(n, sizeof *c->score)};
    if (c->recall && c->precision && c->score)
        return THAW_OK;
    th_ap_curve_release(c);
    return THAW_E_MEMORY;
}

void th_ap_curve_release(struct th_ap_curve *c)
{
    th_free(c->recall);
    th_free(c->precision);
    th_free(c->score);
    *c = (struct th_ap_curve){0};
}

void th_ap_curve_start(struct th_ap_curve *c, int64_t positives)
{
    c->n = 0;
    c->hits = c->alarms = 0;
    c->positives = positives;
}

void th_ap_curve_add(struct th_ap_curve *c, float score, bool hit, bool ignored)
{
    c->hits += hit && !ignored;
    c->alarms += !hit && !ignored;
    c->recall[c->n] = c->hits / (double)c->positives;
    c->precision[c->n] = c->hits / (c->alarms + c->hits + EPS);
    c->score[c->n++] = score;
}

void th_ap_curve_close(struct th_ap_curve *c)
{
    for (int64_t i = c->n - 1; i > 0; i--)
        c->precision[i - 1] = fmax(c->precision[i - 1], c->precision[i]);
}

double th_ap_curve_recall(const struct th_ap_curve *c)
{
    return c->n ? c->recall[c->n - 1] : 0;
}

double th_ap_curve_sample(const struct th_ap_curve *c, int n, float *at)
{
    double sum = 0;
    for (int64_t r = 0, i = 0; r < n; r++) {
        double recall = r == n - 1 ? 1 : (double)r * (1.0 / (n - 1));
        while (i < c->n && c->recall[i] < recall)
            i++;
        double value = i < c->n ? c->precision[i] : 0;
        sum += value;
        if (at)
            at[r] = (float)value;
    }
    return sum / n;
}

double th_ap_curve_area(const struct th_ap_curve *c)
{
    double area = 0, recall = 0;
    for (int64_t i = 0; i < c->n; i++) {
        area += (c->recall[i] - recall) * c->precision[i];
        recall = c->recall[i];
    }
    return area;
}
