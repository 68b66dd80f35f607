/* SPDX-License-Identifier: Apache-2.0
 * Owns the sums that a classifier's metrics are made of. */
#include "metrics.h"

#include "mem.h"

#include <math.h>
#include <string.h>

thaw_status th_metrics_init(struct th_metrics *m, int n_classes, bool many)
{
    size_t n = (size_t)n_classes;
    *m = (struct th_metrics){.n_classes = n_classes, .many = many, .threshold = 0.5};
    if (many)
        return THAW_OK;
    m->confusion = th_alloc(n * n, sizeof(int64_t));
    return m->confusion ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_metrics_init_boxes(struct th_metrics *m, int n_classes)
{
    *m = (struct th_metrics){.n_classes = n_classes, .many = true, .boxes = true};
    return th_ap_init(&m->ap, n_classes);
}

void th_metrics_release(struct th_metrics *m)
{
    th_ap_release(&m->ap);
    th_ap_scores_release(&m->found);
    th_free(m->confusion);
    th_free(m->logits);
    th_free(m->is);
    *m = (struct th_metrics){0};
}

void th_metrics_reset(struct th_metrics *m)
{
    size_t n = (size_t)m->n_classes;
    struct th_metrics empty = {.n_classes = m->n_classes,
        .confusion = m->confusion,
        .many = m->many,
        .threshold = m->threshold,
        .capacity = m->capacity,
        .logits = m->logits,
        .is = m->is,
        .boxes = m->boxes,
        .ap = m->ap};
    th_ap_scores_release(&m->found);
    *m = empty;
    if (m->boxes)
        th_ap_reset(&m->ap);
    if (m->confusion)
        memset(m->confusion, 0, n * n * sizeof *m->confusion);
}

int th_argmax(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best] || (isnan(x[best]) && !isnan(x[i])))
            best = i;
    return best;
}

/* log(sum(exp(x))), shifted by the largest so that nothing overflows. */
static double log_sum_exp(const float *x, int n)
{
    double max = (double)x[th_argmax(x, n)], sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

void th_softmax(const float *x, int n, double *p)
{
    double log_sum = log_sum_exp(x, n);
    for (int i = 0; i < n; i++)
        p[i] = exp((double)x[i] - log_sum);
}

/* Classes that come before `label` when sorted by logit, equals in index order. */
static int rank_of(const float *logits, int n, int label)
{
    int rank = 0;
    for (int i = 0; i < n; i++)
        rank += logits[i] > logits[label] || (logits[i] == logits[label] && i < label);
    return isnan(logits[label]) ? n : rank;
}

/* A confidence that is not a number makes the first bin's sum none. */
static void add_confidence(struct th_metrics *m, double p, bool right)
{
    int bin = p > 0 ? (int)ceil(p * TH_ECE_BINS) - 1 : 0;
    bin = bin < 0 ? 0 : bin < TH_ECE_BINS ? bin : TH_ECE_BINS - 1;
    m->bin_right[bin] += right;
    m->bin_confidence[bin] += p;
}

void th_metrics_add(struct th_metrics *m, const float *logits, int label)
{
    int rank = rank_of(logits, m->n_classes, label);
    int predicted = th_argmax(logits, m->n_classes);
    double log_sum = log_sum_exp(logits, m->n_classes);
    m->images++;
    m->loss += log_sum - (double)logits[label];
    m->top1 += rank < 1;
    m->top5 += rank < 5;
    m->confusion[label * m->n_classes + predicted]++;
    add_confidence(m, exp((double)logits[predicted] - log_sum), predicted == label);
}

static double mean(double sum, int64_t n)
{
    return n ? sum / (double)n : (double)NAN;
}

thaw_status th_metrics_add_boxes(struct th_metrics *m, const struct th_object *objects,
    int32_t n_objects, const struct th_detection *found, int32_t n_found)
{
    m->images++;
    return th_ap_add(&m->ap, objects, n_objects, found, n_found);
}

void th_metrics_add_loss(struct th_metrics *m, double loss, int64_t n)
{
    m->loss += loss * (double)n;
    m->loss_images += n;
}

double th_metrics_loss(const struct th_metrics *m)
{
    return mean(m->loss, m->boxes ? m->loss_images : m->images);
}

double th_metrics_score(const struct th_metrics *m)
{
    return m->many ? m->map : th_metrics_top1(m);
}

double th_metrics_top1(const struct th_metrics *m)
{
    return mean((double)m->top1, m->images);
}

double th_metrics_top5(const struct th_metrics *m)
{
    return mean((double)m->top5, m->images);
}

void th_targets(
    const int32_t *labels, int n, int n_classes, float smoothing, float *target)
{
    float rest = smoothing / (float)n_classes;
    for (int i = 0; i < n; i++)
        for (int c = 0; c < n_classes; c++)
            target[i * n_classes + c] =
                rest + (c == labels[i] ? 1.0f - smoothing : 0.0f);
}
