/* SPDX-License-Identifier: Apache-2.0
 * Owns the scores' formulas and the bootstrap. */
#include "scores.h"

#include "mem.h"
#include "rng.h"

#include <math.h>
#include <stdlib.h>

/* Efron and Tibshirani 1993, section 13.3: 1,000 resamples for percentile intervals. */
enum { RESAMPLES = 1000 };
static const double TAIL = 0.025; /* left out on each side: 95 % remain */

/* ---- Per class ---- */

/* What F1 and its parts are made of: how many are right, of the class, called so. */
struct counts {
    int64_t right, images, predicted;
};

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0; /* scikit-learn's zero_division=0 */
}

/* Harmonic mean of precision and recall, 2 PR / (P + R), without dividing twice. */
static double f1_of(const struct counts *c)
{
    return ratio(2 * (double)c->right, (double)(c->images + c->predicted));
}

static struct counts count_class(const struct th_metrics *m, int c)
{
    int64_t n = m->n_classes;
    struct counts x = {.right = m->confusion[c * n + c]};
    for (int64_t i = 0; i < n; i++) {
        x.images += m->confusion[c * n + i];
        x.predicted += m->confusion[i * n + c];
    }
    return x;
}

static bool occurs(const struct counts *c)
{
    return c->images + c->predicted > 0;
}

double th_scores_macro_f1(const struct th_metrics *m)
{
    double sum = 0;
    int n = 0;
    for (int c = 0; c < m->n_classes; c++) {
        struct counts x = count_class(m, c);
        sum += f1_of(&x);
        n += occurs(&x);
    }
    return n ? sum / n : (double)NAN;
}

double th_scores_ece(const struct th_metrics *m)
{
    double sum = 0;
    for (int b = 0; b < TH_ECE_BINS; b++)
        sum += fabs((double)m->bin_right[b] - m->bin_confidence[b]);
    return m->images ? sum / (double)m->images : (double)NAN;
}

static void add_scores(thaw_scores *sum, const thaw_scores *x, double weight)
{
    sum->precision += weight * x->precision;
    sum->recall += weight * x->recall;
    sum->f1 += weight * x->f1;
}

static thaw_class_scores scores_of(const char *name, const struct counts *x)
{
    const double nan = (double)NAN;
    return (thaw_class_scores){.name = name,
        .images = x->images,
        .predicted = x->predicted,
        .scores = {.precision = ratio((double)x->right, (double)x->predicted),
            .recall = ratio((double)x->right, (double)x->images),
            .f1 = f1_of(x)},
        .ap = nan,
        .threshold = nan,
        .best_f1 = nan};
}

/* A class's share: one of n that occur; its images of all. */
static void add_averages(
    thaw_evaluation *e, const thaw_class_scores *s, double n, double all)
{
    add_scores(&e->macro, &s->scores, s->images + s->predicted > 0 ? 1 / n : 0);
    add_scores(&e->weighted, &s->scores, ratio((double)s->images, all));
}

/* The classes, and their averages: plain over those that occur (macro) or have images
 * (balanced), or weighted by their images. */
static void fill_classes(
    const struct th_metrics *m, char *const *names, thaw_evaluation *e)
{
    double all = (double)m->images, n = 0, n_true = 0;
    for (int c = 0; c < m->n_classes; c++) {
        struct counts x = count_class(m, c);
        n += occurs(&x);
        n_true += x.images > 0;
        e->classes[c] = scores_of(names[c], &x);
    }
    for (int c = 0; c < m->n_classes; c++) {
        const thaw_class_scores *s = &e->classes[c];
        add_averages(e, s, n, all);
        e->balanced_accuracy += s->images ? s->scores.recall / n_true : 0;
    }
}

/* Counts come from the rankings: each class is a yes or no of its own. */
static thaw_status fill_many(
    const struct th_metrics *m, char *const *names, thaw_evaluation *e)
{
    double n = 0;
    struct counts all = {0};
    for (int c = 0; c < m->n_classes; c++) {
        struct th_class_rank r;
        TRY(th_metrics_rank_class(m, c, &r));
        struct counts x = {r.right, r.images, r.predicted};
        n += occurs(&x);
        all.right += x.right;
        all.images += x.images;
        all.predicted += x.predicted;
        e->classes[c] = scores_of(names[c], &x);
        e->classes[c].ap = r.ap;
        e->classes[c].threshold = r.threshold;
        e->classes[c].best_f1 = r.best_f1;
    }
    for (int c = 0; c < m->n_classes; c++)
        add_averages(e, &e->classes[c], n, (double)all.images);
    e->micro_f1 = f1_of(&all);
    return THAW_OK;
}

/* ---- Bootstrap ---- */

/* Resampling images with replacement needs no more of an image than this. */
struct outcome {
    int32_t label, predicted;
};

struct bootstrap {
    int64_t n; /* images */
    int n_classes;
    struct outcome *outcome; /* [n] */
    struct counts *counts;   /* [n_classes], of a resample */
    double *top1, *macro_f1; /* [RESAMPLES] */
};

static void bootstrap_release(struct bootstrap *b)
{
    th_free(b->outcome);
    th_free(b->counts);
    th_free(b->top1);
    th_free(b->macro_f1);
}

static thaw_status bootstrap_init(struct bootstrap *b, const struct th_metrics *m)
{
    *b = (struct bootstrap){.n = m->images, .n_classes = m->n_classes};
    b->outcome = th_alloc((size_t)b->n, sizeof *b->outcome);
    b->counts = th_alloc((size_t)b->n_classes, sizeof *b->counts);
    b->top1 = th_alloc(RESAMPLES, sizeof *b->top1);
    b->macro_f1 = th_alloc(RESAMPLES, sizeof *b->macro_f1);
    if (!b->outcome || !b->counts || !b->top1 || !b->macro_f1)
        return THAW_E_MEMORY;
    struct outcome *at = b->outcome;
    for (int32_t t = 0; t < m->n_classes; t++)
        for (int32_t p = 0; p < m->n_classes; p++)
            for (int64_t i = m->confusion[(int64_t)t * m->n_classes + p]; i > 0; i--)
                *at++ = (struct outcome){t, p};
    return THAW_OK;
}

/* Resample number r: image i is the floor(n w / 2^32)-th, w word i of the stream. */
static void resample(struct bootstrap *b, int r)
{
    uint64_t key = th_rng_mix(th_rng_mix_name(0, "bootstrap"), (uint64_t)r);
    int64_t right = 0;
    double f1 = 0;
    int n = 0;
    for (int c = 0; c < b->n_classes; c++)
        b->counts[c] = (struct counts){0};
    for (int64_t i = 0; i < b->n; i += 4) {
        uint32_t word[4];
        th_rng_block(key, (uint64_t)i / 4, word);
        for (int k = 0; k < 4 && i + k < b->n; k++) {
            const struct outcome *o =
                &b->outcome[(uint64_t)word[k] * (uint64_t)b->n >> 32];
            b->counts[o->label].images++;
            b->counts[o->predicted].predicted++;
            b->counts[o->label].right += o->label == o->predicted;
        }
    }
    for (int c = 0; c < b->n_classes; c++) {
        right += b->counts[c].right;
        f1 += f1_of(&b->counts[c]);
        n += occurs(&b->counts[c]);
    }
    b->top1[r] = (double)right / (double)b->n;
    b->macro_f1[r] = f1 / n;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between the order statistics around (n - 1) q, as numpy.percentile. */
static double quantile(const double *sorted, double q)
{
    double at = q * (RESAMPLES - 1), below = floor(at);
    int i = (int)below;
    return sorted[i] + (at - below) * (sorted[i + 1] - sorted[i]);
}

static thaw_interval interval(double *values)
{
    qsort(values, RESAMPLES, sizeof *values, ascending);
    return (thaw_interval){quantile(values, TAIL), quantile(values, 1 - TAIL)};
}

static thaw_status fill_intervals(const struct th_metrics *m, thaw_evaluation *e)
{
    struct bootstrap b;
    e->top1_interval = e->macro_f1_interval = (thaw_interval){(double)NAN, (double)NAN};
    if (!m->images || m->many)
        return THAW_OK;
    thaw_status status = bootstrap_init(&b, m);
    if (status == THAW_OK) {
        for (int r = 0; r < RESAMPLES; r++)
            resample(&b, r);
        e->top1_interval = interval(b.top1);
        e->macro_f1_interval = interval(b.macro_f1);
    }
    bootstrap_release(&b);
    return status;
}

/* ---- All of it ---- */

/* A detector's: each class's AP and best threshold, COCO's and VOC's figures, errors. */
static void fill_boxes(
    const struct th_metrics *m, char *const *names, thaw_evaluation *e)
{
    const struct th_ap_scores *s = &m->found;
    for (int i = 0; i < TH_N_AP_FIGURES; i++)
        e->coco[i] = s->figure[i];
    e->voc07 = s->voc07;
    e->voc_area = s->voc_area;
    for (int i = TH_ERROR_NONE + 1; i < TH_N_ERRORS; i++) {
        e->error_name[e->n_errors] = th_ap_error_name((enum th_ap_error)i);
        e->error_count[e->n_errors] = s->errors[i];
        e->error_cost[e->n_errors++] = s->error_cost[i];
    }
    for (int c = 0; c < m->n_classes && s->classes; c++)
        e->classes[c] = (thaw_class_scores){.name = names[c],
            .images = s->classes[c].objects,
            .ap = s->classes[c].ap,
            .ap50 = s->classes[c].ap50,
            .threshold = s->classes[c].best_threshold,
            .best_f1 = s->classes[c].best_f1};
}

thaw_status th_scores_take(struct th_metrics *m, char *const *names, thaw_evaluation *e)
{
    const double nan = (double)NAN;
    e->images = m->images;
    e->loss = th_metrics_loss(m);
    e->many = m->many;
    e->boxes = m->boxes;
    e->threshold = m->threshold;
    e->map = m->many ? m->map : nan;
    e->micro_f1 = nan;
    e->top1 = m->many ? nan : th_metrics_top1(m);
    e->top5 = m->many ? nan : th_metrics_top5(m);
    e->ece = m->many ? nan : th_scores_ece(m);
    e->balanced_accuracy = m->many ? nan : 0;
    e->n_classes = m->n_classes;
    e->classes = th_alloc((size_t)m->n_classes, sizeof *e->classes);
    thaw_status status = e->classes ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK && m->boxes)
        fill_boxes(m, names, e);
    else if (status == THAW_OK && m->many)
        status = fill_many(m, names, e);
    else if (status == THAW_OK)
        fill_classes(m, names, e);
    if (status == THAW_OK)
        status = fill_intervals(m, e);
    e->confusion = m->confusion;
    m->confusion = NULL;
    return status;
}

void thaw_evaluation_release(thaw_evaluation *e)
{
    th_free(e->confusion);
    th_free(e->classes);
    *e = (thaw_evaluation){0};
}
