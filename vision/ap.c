/* SPDX-License-Identifier: Apache-2.0
 * Owns the way from matched detections to figures (cocoeval.py, accumulate and summarize;
 * VOCap.m, and VOCevaldet.m of 2007). */
#include "ap_curve.h"

#include "error.h"

#include <math.h>
#include <string.h>

enum { VOC07_POINTS = 11 };

const char *th_ap_figure_name(enum th_ap_figure figure)
{
    static const char *const names[TH_N_AP_FIGURES] = {"AP", "AP50", "AP75", "AP_small",
        "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium",
        "AR_large"};
    return names[figure];
}

thaw_status th_ap_init(struct th_ap *ap, int32_t n_classes)
{
    size_t n = (size_t)n_classes;
    *ap = (struct th_ap){.n_classes = n_classes};
    ap->positives = th_alloc(n * TH_AP_AREAS, sizeof *ap->positives);
    ap->missed = th_alloc(n, sizeof *ap->missed);
    if (ap->positives && ap->missed)
        return THAW_OK;
    th_ap_release(ap);
    return THAW_E_MEMORY;
}

void th_ap_release(struct th_ap *ap)
{
    th_free(ap->record);
    th_free(ap->positives);
    th_free(ap->missed);
    th_block_release(&ap->scratch);
    *ap = (struct th_ap){0};
}

void th_ap_reset(struct th_ap *ap)
{
    size_t n = (size_t)ap->n_classes;
    memset(ap->positives, 0, n * TH_AP_AREAS * sizeof *ap->positives);
    memset(ap->missed, 0, n * sizeof *ap->missed);
    ap->n = ap->n_images = 0;
}

void th_ap_scores_release(struct th_ap_scores *s)
{
    th_free(s->classes);
    *s = (struct th_ap_scores){0};
}

/* Before closing: F1 is of a threshold, at which the curve may be below its later points. */
static void find_threshold(const struct th_ap_curve *c, struct th_ap_class *out)
{
    out->best_f1 = 0;
    out->best_threshold = 1;
    for (int64_t i = 0; i < c->n; i++) {
        double p = c->precision[i], r = c->recall[i], f1 = 2 * p * r / (p + r);
        bool last = i + 1 == c->n || c->score[i + 1] < c->score[i];
        if (last && f1 > out->best_f1) {
            out->best_f1 = f1;
            out->best_threshold = (double)c->score[i];
        }
    }
}

/* ---- All of a class ---- */

/* What is summed over classes for a figure. */
struct sums {
    double sum[TH_N_AP_FIGURES];
    int64_t n[TH_N_AP_FIGURES];
};

static void add_to(struct sums *s, enum th_ap_figure figure, double value)
{
    s->sum[figure] += value;
    s->n[figure]++;
}

/* The detections of one class, and what is made of them. */
struct work {
    const struct th_ap_record *record;
    const int32_t *index; /* [n], from the highest score */
    int64_t n;
    struct th_ap_curve *curve;
    struct sums *sums;
    struct th_ap_class *out;
};

static void draw(const struct work *w, int range, int t)
{
    for (int64_t i = 0; i < w->n; i++) {
        const struct th_ap_record *r = &w->record[w->index[i]];
        if (r->rank < TH_AP_MOST)
            th_ap_curve_add(
                w->curve, r->score, r->hit[range] >> t & 1, r->ignored[range] >> t & 1);
    }
}

/* The largest recall with the first `most` detections of each image. */
static double recall_of_first(const struct work *w, int most, int t)
{
    int64_t hits = 0;
    for (int64_t i = 0; i < w->n; i++) {
        const struct th_ap_record *r = &w->record[w->index[i]];
        hits += r->rank < most && (r->hit[0] >> t & 1) && !(r->ignored[0] >> t & 1);
    }
    return (double)hits / (double)w->out->objects;
}

/* Objects of any size, at threshold t: what there is beside AP and AR. */
static void score_all_sizes(const struct work *w, int t, double ap)
{
    struct th_ap_class *out = w->out;
    out->ap += ap / TH_AP_THRESHOLDS;
    add_to(w->sums, TH_AR1, recall_of_first(w, 1, t));
    add_to(w->sums, TH_AR10, recall_of_first(w, 10, t));
    if (t == 0) {
        out->ap50 = ap;
        add_to(w->sums, TH_AP50, ap);
    } else if (t == 5) {
        add_to(w->sums, TH_AP75, ap);
    }
}

static void score_range(const struct work *w, int64_t positives, int range)
{
    static const enum th_ap_figure ap_of[] = {TH_AP, TH_AP_SMALL, TH_AP_MEDIUM,
        TH_AP_LARGE},
                                   ar_of[] = {TH_AR100, TH_AR_SMALL, TH_AR_MEDIUM,
                                       TH_AR_LARGE};
    for (int t = 0; t < TH_AP_THRESHOLDS && positives; t++) {
        bool first = range == 0 && t == 0;
        th_ap_curve_start(w->curve, positives);
        draw(w, range, t);
        if (first)
            find_threshold(w->curve, w->out);
        th_ap_curve_close(w->curve);
        double ap = th_ap_curve_sample(
            w->curve, TH_AP_RECALLS, first ? w->out->precision : NULL);
        add_to(w->sums, ap_of[range], ap);
        add_to(w->sums, ar_of[range], th_ap_curve_recall(w->curve));
        if (range == 0)
            score_all_sizes(w, t, ap);
    }
}

static void score_voc(const struct work *w)
{
    th_ap_curve_start(w->curve, w->out->objects);
    for (int64_t i = 0; i < w->n; i++) {
        const struct th_ap_record *r = &w->record[w->index[i]];
        th_ap_curve_add(w->curve, r->score, r->voc == 1, r->voc == 2);
    }
    th_ap_curve_close(w->curve);
    w->out->voc07 = th_ap_curve_sample(w->curve, VOC07_POINTS, NULL);
    w->out->voc_area = th_ap_curve_area(w->curve);
}

static void score_class(const struct work *w, const int64_t positives[TH_AP_AREAS])
{
    struct th_ap_class *out = w->out;
    out->objects = positives[0];
    for (int range = 0; range < TH_AP_AREAS; range++)
        score_range(w, positives[range], range);
    if (out->objects)
        score_voc(w);
    else
        out->ap = out->ap50 = out->voc07 = out->voc_area = out->best_f1 =
            out->best_threshold = NAN;
}

/* VOC's means, over the classes that have objects. */
static void average_voc(struct th_ap_scores *out)
{
    int64_t n = 0;
    out->voc07 = out->voc_area = 0;
    for (int32_t c = 0; c < out->n_classes; c++) {
        const struct th_ap_class *class = &out->classes[c];
        if (!class->objects)
            continue;
        out->voc07 += class->voc07;
        out->voc_area += class->voc_area;
        n++;
    }
    out->voc07 = n ? out->voc07 / (double)n : NAN;
    out->voc_area = n ? out->voc_area / (double)n : NAN;
}

static void score_classes(const struct th_ap *ap, const struct th_ap_order *order,
    struct th_ap_curve *curve, struct th_ap_scores *out)
{
    struct sums sums = {0};
    for (int32_t c = 0; c < ap->n_classes; c++) {
        int64_t first = order->first[c];
        struct work w = {.record = ap->record,
            .index = order->index + first,
            .n = order->first[c + 1] - first,
            .curve = curve,
            .sums = &sums,
            .out = &out->classes[c]};
        score_class(&w, ap->positives + (int64_t)c * TH_AP_AREAS);
    }
    for (int i = 0; i < TH_N_AP_FIGURES; i++)
        out->figure[i] = sums.n[i] ? sums.sum[i] / (double)sums.n[i] : NAN;
    average_voc(out);
}

thaw_status th_ap_finish(const struct th_ap *ap, struct th_ap_scores *out)
{
    struct th_ap_order order = {0};
    struct th_ap_curve curve = {0};
    *out = (struct th_ap_scores){.n_classes = ap->n_classes};
    out->classes = th_alloc((size_t)ap->n_classes, sizeof *out->classes);
    thaw_status status = out->classes ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_ap_order_init(&order, ap->record, ap->n, ap->n_classes);
    if (status == THAW_OK)
        status = th_ap_curve_init(&curve, ap->n);
    if (status == THAW_OK) {
        score_classes(ap, &order, &curve, out);
        status = th_ap_errors(ap, out);
    }
    th_ap_order_release(&order);
    th_ap_curve_release(&curve);
    if (status != THAW_OK)
        th_ap_scores_release(out);
    return status;
}
