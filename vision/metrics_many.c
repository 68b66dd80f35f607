/* SPDX-License-Identifier: Apache-2.0
 * Owns the metrics of images of any number of classes: rankings need every image's
 * logits, so they are kept. */
#include "metrics.h"

#include "mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double th_sigmoid(double x)
{
    double e = exp(-fabs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

static thaw_status grow(struct th_metrics *m)
{
    size_t k = (size_t)m->n_classes, now = (size_t)m->capacity,
           more = now ? 2 * now : 64;
    float *logits = th_realloc(m->logits, now, more, k * sizeof *logits);
    if (!logits)
        return THAW_E_MEMORY;
    m->logits = logits;
    bool *is = th_realloc(m->is, now, more, k * sizeof *is);
    if (!is)
        return THAW_E_MEMORY;
    m->is = is;
    m->capacity = (int64_t)more;
    return THAW_OK;
}

/* Loss: as sigmoid_ce has it (kernels/loss.c), without weights or smoothing. */
thaw_status th_metrics_add_many(
    struct th_metrics *m, const float *logits, const int32_t *classes, int32_t n)
{
    if (m->images == m->capacity)
        TRY(grow(m));
    float *row = m->logits + m->images * m->n_classes;
    bool *is = m->is + m->images * m->n_classes;
    double loss = 0;
    memcpy(row, logits, (size_t)m->n_classes * sizeof *row);
    memset(is, 0, (size_t)m->n_classes * sizeof *is);
    for (int32_t i = 0; i < n; i++)
        is[classes[i]] = true;
    for (int c = 0; c < m->n_classes; c++) {
        double x = is[c] ? -(double)row[c] : (double)row[c];
        loss += log1p(exp(-fabs(x))) + (x > 0 ? x : 0);
    }
    m->loss += loss / m->n_classes;
    m->images++;
    return THAW_OK;
}

/* ---- Rankings ---- */

struct scored {
    double logit;
    bool is;
};

static int descending(const void *a, const void *b)
{
    double x = ((const struct scored *)a)->logit, y = ((const struct scored *)b)->logit;
    return (x < y) - (x > y);
}

/* The class's images, highest logit first; one that is not a number is the lowest. */
static void sort_class(const struct th_metrics *m, int c, struct scored *s)
{
    for (int64_t i = 0; i < m->images; i++) {
        double x = (double)m->logits[i * m->n_classes + c];
        s[i] = (struct scored){isnan(x) ? -INFINITY : x, m->is[i * m->n_classes + c]};
    }
    qsort(s, (size_t)m->images, sizeof *s, descending);
}

/* Between the last score that is taken and the next lower one, as probabilities. */
static double threshold_at(const struct scored *s, int64_t taken, int64_t n)
{
    double last = th_sigmoid(s[taken - 1].logit);
    return taken < n ? (last + th_sigmoid(s[taken].logit)) / 2 : last;
}

/* Images of one score are taken or left together: ties cannot flatter. */
static void rank(
    const struct th_metrics *m, const struct scored *s, struct th_class_rank *out)
{
    int64_t n = m->images, right = 0;
    *out = (struct th_class_rank){.threshold = (double)NAN};
    for (int64_t i = 0; i < n; i++) {
        bool predicted = th_sigmoid(s[i].logit) >= m->threshold;
        out->images += s[i].is;
        out->predicted += predicted;
        out->right += predicted && s[i].is;
    }
    for (int64_t taken = 0; taken < n && out->images;) {
        int64_t before = right;
        double score = s[taken].logit;
        for (; taken < n && s[taken].logit >= score; taken++)
            right += s[taken].is;
        double f1 = 2 * (double)right / (double)(taken + out->images);
        out->ap += (double)(right - before) / (double)out->images * (double)right /
                   (double)taken;
        if (f1 > out->best_f1) {
            out->best_f1 = f1;
            out->threshold = threshold_at(s, taken, n);
        }
    }
    if (!out->images)
        out->ap = out->best_f1 = (double)NAN;
}

thaw_status th_metrics_rank_class(
    const struct th_metrics *m, int c, struct th_class_rank *out)
{
    struct scored *s = th_alloc((size_t)m->images, sizeof *s);
    if (!s)
        return THAW_E_MEMORY;
    sort_class(m, c, s);
    rank(m, s, out);
    th_free(s);
    return THAW_OK;
}

static thaw_status rank_boxes(struct th_metrics *m)
{
    th_ap_scores_release(&m->found);
    TRY(th_ap_finish(&m->ap, &m->found));
    m->map = m->found.figure[TH_AP];
    return THAW_OK;
}

thaw_status th_metrics_rank(struct th_metrics *m)
{
    if (m->boxes)
        return rank_boxes(m);
    double sum = 0;
    int n = 0;
    for (int c = 0; m->many && c < m->n_classes; c++) {
        struct th_class_rank r;
        TRY(th_metrics_rank_class(m, c, &r));
        n += r.images > 0;
        sum += r.images > 0 ? r.ap : 0;
    }
    m->map = n ? sum / n : (double)NAN;
    return THAW_OK;
}
