/* SPDX-License-Identifier: Apache-2.0
 * Owns how an evaluation is written as JSON: `thaw eval --json`, and RUN/test.json. */
#include "scores.h"

static void put_interval(
    struct th_json_out *o, const char *key, const thaw_interval *interval)
{
    th_json_key(o, key);
    th_json_open(o, '[');
    th_json_real(o, interval->low);
    th_json_real(o, interval->high);
    th_json_close(o, ']');
}

static void put_scores(struct th_json_out *o, const thaw_scores *s)
{
    th_json_put_real(o, "precision", s->precision);
    th_json_put_real(o, "recall", s->recall);
    th_json_put_real(o, "f1", s->f1);
}

static void put_average(struct th_json_out *o, const char *key, const thaw_scores *s)
{
    th_json_key(o, key);
    th_json_open(o, '{');
    put_scores(o, s);
    th_json_close(o, '}');
}

static void put_names(struct th_json_out *o, const thaw_evaluation *e)
{
    th_json_key(o, "classes");
    th_json_open(o, '[');
    for (int c = 0; c < e->n_classes; c++)
        th_json_string(o, e->classes[c].name);
    th_json_close(o, ']');
}

static void put_classes(struct th_json_out *o, const thaw_evaluation *e)
{
    th_json_key(o, "per_class");
    th_json_open(o, '[');
    for (int c = 0; c < e->n_classes; c++) {
        th_json_open(o, '{');
        th_json_key(o, "class");
        th_json_string(o, e->classes[c].name);
        th_json_put_whole(o, "images", e->classes[c].images);
        th_json_put_whole(o, "predicted", e->classes[c].predicted);
        put_scores(o, &e->classes[c].scores);
        if (e->boxes)
            th_json_put_real(o, "ap50", e->classes[c].ap50);
        if (e->many) {
            th_json_put_real(o, "ap", e->classes[c].ap);
            th_json_put_real(o, "threshold", e->classes[c].threshold);
            th_json_put_real(o, "best_f1", e->classes[c].best_f1);
        }
        th_json_close(o, '}');
    }
    th_json_close(o, ']');
}

static void put_confusion(struct th_json_out *o, const thaw_evaluation *e)
{
    th_json_key(o, "confusion");
    th_json_open(o, '[');
    for (int t = 0; t < e->n_classes; t++) {
        th_json_open(o, '[');
        for (int p = 0; p < e->n_classes; p++)
            th_json_whole(o, e->confusion[(int64_t)t * e->n_classes + p]);
        th_json_close(o, ']');
    }
    th_json_close(o, ']');
}

/* What there is where an image has one class. */
static void put_of_one(struct th_json_out *o, const thaw_evaluation *e)
{
    th_json_put_real(o, "top1", e->top1);
    th_json_put_real(o, "top5", e->top5);
    put_names(o, e);
    put_confusion(o, e);
    put_interval(o, "top1_interval", &e->top1_interval);
    th_json_put_real(o, "balanced_accuracy", e->balanced_accuracy);
    th_json_put_real(o, "ece", e->ece);
    put_average(o, "macro", &e->macro);
    put_interval(o, "macro_f1_interval", &e->macro_f1_interval);
}

/* A detector's. */
static void put_boxes(struct th_json_out *o, const thaw_evaluation *e)
{
    static const char *const key[] = {"ap", "ap50", "ap75", "ap_small", "ap_medium",
        "ap_large", "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"};
    for (size_t i = 0; i < sizeof key / sizeof *key; i++)
        th_json_put_real(o, key[i], e->coco[i]);
    th_json_put_real(o, "voc07", e->voc07);
    th_json_put_real(o, "voc_area", e->voc_area);
    th_json_key(o, "errors");
    th_json_open(o, '{');
    for (int i = 0; i < e->n_errors; i++) {
        th_json_key(o, e->error_name[i]);
        th_json_open(o, '{');
        th_json_put_whole(o, "count", e->error_count[i]);
        th_json_put_real(o, "cost", e->error_cost[i]);
        th_json_close(o, '}');
    }
    th_json_close(o, '}');
    put_names(o, e);
    put_classes(o, e);
}

void th_scores_json(const thaw_evaluation *e, struct th_json_out *o)
{
    th_json_put_whole(o, "images", e->images);
    th_json_put_whole(o, "unreadable", e->unreadable);
    if (e->boxes) {
        put_boxes(o, e);
        return;
    }
    th_json_put_real(o, "loss", e->loss);
    if (e->many) {
        th_json_put_real(o, "map", e->map);
        th_json_put_real(o, "micro_f1", e->micro_f1);
        th_json_put_real(o, "threshold", e->threshold);
        put_names(o, e);
        put_average(o, "macro", &e->macro);
    } else {
        put_of_one(o, e);
    }
    put_average(o, "weighted", &e->weighted);
    put_classes(o, e);
}

thaw_status thaw_evaluation_json(const thaw_evaluation *e,
    void (*write)(void *context, const char *text), void *context)
{
    struct th_json_out o = {0};
    th_json_open(&o, '{');
    th_scores_json(e, &o);
    th_json_close(&o, '}');
    thaw_status status = th_json_out_status(&o);
    if (status == THAW_OK)
        write(context, o.text);
    th_json_out_release(&o);
    return status;
}
