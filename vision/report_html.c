/* SPDX-License-Identifier: Apache-2.0
 * Owns the document: its sections and their order. Computes nothing but orders of rows. */
#include "report_html.h"

#include "json.h"
#include "report.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <string.h>

/* More classes than this have no legible matrix. */
enum { MATRIX_CLASSES = 30, MOST_PAIRS = 20, MOST_UNREADABLE = 50 };

/* Pixels to which smaller images are enlarged, by whole factors. */
enum { SMALL = 96 };

static void put_percent(struct th_html *h, const char *cell, double fraction)
{
    if (isfinite(fraction))
        th_html_put(h, "<%s>%.2f&nbsp;%%</%s>", cell, 100 * fraction, cell);
    else
        th_html_put(h, "<%s>–</%s>", cell, cell);
}

static void put_number(struct th_html *h, const char *cell, double value)
{
    if (isfinite(value))
        th_html_put(h, "<%s>%.4g</%s>", cell, value, cell);
    else
        th_html_put(h, "<%s>–</%s>", cell, cell);
}

static void put_row(struct th_html *h, const char *name, const char *value)
{
    th_html_put(h, "<tr><td>%s</td><td>", name);
    th_html_name(h, value);
    th_html_put(h, "</td></tr>\n");
}

/* ---- Summary ---- */

/* What the score is, before its number. */
static const char *score_words(const struct th_report_facts *f)
{
    return f->boxes ? "AP of boxes " : f->many ? "mean average precision " : "";
}

static void put_scores(struct th_html *h, const char *of, const thaw_evaluation *e)
{
    if (e->boxes) {
        th_html_put(h,
            "<p>%s: AP of boxes <strong>%.2f&nbsp;%%</strong>, AP50 %.2f&nbsp;%%, AP75 "
            "%.2f&nbsp;%% on %" PRId64 " images.</p>\n",
            of, 100 * e->coco[0], 100 * e->coco[1], 100 * e->coco[2], e->images);
        return;
    }
    if (e->many) {
        th_html_put(h,
            "<p>%s: mean average precision <strong>%.2f&nbsp;%%</strong> on %" PRId64
            " images, loss %.4f; from probability %g on: macro F1 %.2f&nbsp;%%, micro "
            "F1 "
            "%.2f&nbsp;%%.</p>\n",
            of, 100 * e->map, e->images, e->loss, e->threshold, 100 * e->macro.f1,
            100 * e->micro_f1);
        return;
    }
    th_html_put(h, "<p>%s: <strong>%.2f&nbsp;%%</strong> of %" PRId64 " images right",
        of, 100 * e->top1, e->images);
    if (isfinite(e->top1_interval.low))
        th_html_put(h, " (95&nbsp;%% interval %.2f to %.2f&nbsp;%%)",
            100 * e->top1_interval.low, 100 * e->top1_interval.high);
    th_html_put(h,
        ", loss %.4f, macro F1 %.2f&nbsp;%%, calibration error %.2f&nbsp;%%.</p>\n",
        e->loss, 100 * e->macro.f1, 100 * e->ece);
}

static void put_summary(struct th_html *h, const struct th_report_facts *f)
{
    th_html_put(h, "<h1>Run ");
    th_html_name(h, f->run);
    th_html_put(h, "</h1>\n<p>%s, %d classes, %d of %d epochs%s.</p>\n", f->backbone,
        f->n_classes, f->epochs_done, f->epochs, f->finished ? "" : "; not at its end");
    if (f->best_epoch >= 0)
        th_html_put(h, "<p class=\"big\">Best: %s%.2f&nbsp;%%%s, in epoch %d</p>\n",
            score_words(f), 100 * f->best_top1,
            f->many ? "" : " of the validation images", f->best_epoch + 1);
    if (f->val && f->val->images)
        put_scores(h, "Validation after the last epoch", f->val);
    if (isfinite(f->history->test_top1))
        th_html_put(h,
            "<p>Test, once, with the best model: %s<strong>%.2f&nbsp;%%</strong>%s",
            score_words(f), 100 * f->history->test_top1, f->many ? "" : " right");
    if (isfinite(f->history->test_top1) && isfinite(f->history->test_loss))
        th_html_put(h, ", loss %.4f", f->history->test_loss);
    if (isfinite(f->history->test_top1))
        th_html_put(h, ".</p>\n");
}

/* ---- Curves ---- */

/* x of the places where another set of layers begins to train, in epochs or steps. */
static int find_marks(
    const struct th_run_history *r, bool in_steps, double *mark, int most)
{
    int n = 0;
    for (int i = 1; i < r->epochs.n && n < most; i++) {
        if (!strcmp(r->epochs.thawed[i], r->epochs.thawed[i - 1]))
            continue;
        double epoch = r->epochs.epoch[i];
        if (!in_steps)
            mark[n++] = epoch - 0.5;
        for (int k = 0; in_steps && k < r->steps.n; k++)
            if (r->steps.epoch[k] >= epoch) {
                mark[n++] = r->steps.step[k];
                break;
            }
    }
    return n;
}

static const char *score_name(const struct th_report_facts *f)
{
    return f->boxes  ? "AP of boxes"
           : f->many ? "Mean average precision"
                     : "Right predictions";
}

static void put_epoch_curves(
    struct th_html *h, const struct th_report_facts *f, const double *mark, int n_marks)
{
    const struct th_run_history *r = f->history;
    const struct th_epoch_history *e = &r->epochs;
    const struct th_series loss[] = {{"training", e->epoch, e->train_loss, e->n, 0},
        {"validation", e->epoch, e->val_loss, e->n, 1}};
    const struct th_series top1[] = {{"validation", e->epoch, e->val_top1, e->n, 2}};
    const struct th_chart charts[] = {
        {"Loss", "epoch", loss, 2, mark, n_marks, false, false},
        {score_name(f), "epoch", top1, 1, mark, n_marks, true, true}};
    for (int i = 0; i < 2; i++)
        th_html_chart(h, &charts[i]);
}

static void put_step_curves(
    struct th_html *h, const struct th_run_history *r, const double *mark, int n_marks)
{
    const struct th_step_history *s = &r->steps;
    const struct th_series loss[] = {{"training", s->step, s->loss, s->n, 0}};
    const struct th_series lr[] = {{"learning rate", s->step, s->lr, s->n, 3}};
    const struct th_chart charts[] = {
        {"Loss of single steps", "step", loss, 1, mark, n_marks, false, false},
        {"Learning rate", "step", lr, 1, mark, n_marks, false, true}};
    for (int i = 0; i < 2; i++)
        th_html_chart(h, &charts[i]);
}

static void put_epoch_table(struct th_html *h, const struct th_report_facts *f)
{
    const struct th_epoch_history *e = &f->history->epochs;
    th_html_put(h,
        "<details><summary>The numbers, by epoch</summary><div class=\"wide\">"
        "<table><thead><tr><th>Epoch</th><th>Trains</th><th>Training loss</th>"
        "<th>Validation loss</th><th>%s</th><th>Images/s</th><th>Seconds</th>"
        "</tr></thead>\n",
        f->boxes  ? "AP"
        : f->many ? "mAP"
                  : "Right");
    for (int i = 0; i < e->n; i++) {
        th_html_put(h, "<tr><td>%.0f</td><td>", e->epoch[i]);
        th_html_name(h, e->thawed[i]);
        th_html_put(h, "</td>");
        put_number(h, "td", e->train_loss[i]);
        put_number(h, "td", e->val_loss[i]);
        put_percent(h, "td", e->val_top1[i]);
        put_number(h, "td", e->images_per_s[i]);
        put_number(h, "td", e->seconds[i]);
        th_html_put(h, "</tr>\n");
    }
    th_html_put(h, "</table></div></details>\n");
}

static void put_curves(struct th_html *h, const struct th_report_facts *f)
{
    double mark[32];
    const struct th_run_history *r = f->history;
    if (r->epochs.n == 0 && r->steps.n == 0)
        return;
    th_html_put(h, "<h2>Training</h2>\n");
    put_epoch_curves(h, f, mark, find_marks(r, false, mark, 32));
    put_step_curves(h, r, mark, find_marks(r, true, mark, 32));
    put_epoch_table(h, f);
}

/* ---- Certificate ---- */

static void put_certificate(struct th_html *h, const struct th_report_facts *f)
{
    const struct th_epoch_history *e = &f->history->epochs;
    th_html_put(h, "<h2>What trained, and what did not</h2>\n");
    if (f->finished)
        th_html_put(h,
            "<p><strong>Frozen: %d tensors, verified unchanged.</strong> Each was "
            "hashed "
            "when the run began and when it ended.</p>\n",
            f->frozen_tensors);
    else
        th_html_put(h, "<p>What is frozen is verified when the run ends.</p>\n");
    if (!e->n)
        return;
    th_html_put(h, "<table><thead><tr><th>Epochs</th><th>Trained (<code>--thaw</code>)"
                   "</th></tr></thead>\n");
    for (int from = 0, to; from < e->n; from = to) {
        for (to = from + 1; to < e->n && !strcmp(e->thawed[to], e->thawed[from]);)
            to++;
        th_html_put(h, "<tr><td>%.0f–%.0f</td><td>", e->epoch[from], e->epoch[to - 1]);
        th_html_name(h, e->thawed[from]);
        th_html_put(h, "</td></tr>\n");
    }
    th_html_put(h, "</table>\n");
}

/* ---- Classes ---- */

static void put_box_table(struct th_html *h, const thaw_evaluation *e)
{
    th_html_put(h,
        "<h2>Validation by class</h2>\n<div class=\"wide\"><table><thead><tr>"
        "<th>Class</th><th>AP</th><th>AP50</th><th>Best threshold</th><th>F1 there</th>"
        "<th>Objects</th></tr></thead>\n");
    for (int c = 0; c < e->n_classes; c++) {
        const thaw_class_scores *s = &e->classes[c];
        th_html_put(h, "<tr><td>");
        th_html_name(h, s->name);
        th_html_put(h, "</td>");
        put_percent(h, "td", s->ap);
        put_percent(h, "td", s->ap50);
        put_number(h, "td", s->threshold);
        put_percent(h, "td", s->best_f1);
        th_html_put(h, "<td>%" PRId64 "</td></tr>\n", s->images);
    }
    th_html_put(h, "</table></div>\n");
}

static void put_class_table(struct th_html *h, const thaw_evaluation *e)
{
    if (e->boxes) {
        put_box_table(h, e);
        return;
    }
    th_html_put(h,
        "<h2>Validation by class</h2>\n<div class=\"wide\"><table><thead><tr>"
        "<th>Class</th>%s<th>Precision</th><th>Recall</th><th>F1</th>%s<th>Images</th>"
        "</tr></thead>\n",
        e->many ? "<th>Average precision</th>" : "",
        e->many ? "<th>Best threshold</th><th>F1 there</th>" : "");
    for (int c = 0; c < e->n_classes; c++) {
        const thaw_class_scores *s = &e->classes[c];
        th_html_put(h, "<tr><td>");
        th_html_name(h, s->name);
        th_html_put(h, "</td>");
        if (e->many)
            put_percent(h, "td", s->ap);
        put_percent(h, "td", s->scores.precision);
        put_percent(h, "td", s->scores.recall);
        put_percent(h, "td", s->scores.f1);
        if (e->many) {
            put_number(h, "td", s->threshold);
            put_percent(h, "td", s->best_f1);
        }
        th_html_put(h, "<td>%" PRId64 "</td></tr>\n", s->images);
    }
    th_html_put(h, "<tr><td>Mean over classes</td>");
    if (e->many)
        put_percent(h, "td", e->map);
    put_percent(h, "td", e->macro.precision);
    put_percent(h, "td", e->macro.recall);
    put_percent(h, "td", e->macro.f1);
    if (e->many)
        th_html_put(h, "<td></td><td></td>");
    th_html_put(h, "<td>%" PRId64 "</td></tr></table></div>\n", e->images);
}

/* A cell's colour tells its share of the row; half opaque at most, so that it stays legible. */
static void put_matrix_row(struct th_html *h, const thaw_evaluation *e, int row)
{
    const int64_t *count = e->confusion + (size_t)row * (size_t)e->n_classes;
    double images = (double)(e->classes[row].images ? e->classes[row].images : 1);
    th_html_put(h, "<tr><th scope=\"row\">");
    th_html_name(h, e->classes[row].name);
    th_html_put(h, "</th>");
    for (int c = 0; c < e->n_classes; c++) {
        if (count[c])
            th_html_put(h,
                "<td style=\"background:rgba(var(--%s),%.2f)\">%" PRId64 "</td>",
                c == row ? "hit" : "miss", 0.05 + 0.45 * (double)count[c] / images,
                count[c]);
        else
            th_html_put(h, "<td class=\"dim\">·</td>");
    }
    th_html_put(h, "</tr>\n");
}

static void put_matrix(struct th_html *h, const thaw_evaluation *e)
{
    th_html_put(h, "<h2>Confusion</h2>\n<div class=\"wide\"><table class=\"matrix\">"
                   "<caption>Rows: what an image is; columns: what it was taken for"
                   "</caption><thead><tr><td></td>");
    for (int c = 0; c < e->n_classes; c++) {
        th_html_put(h, "<th scope=\"col\">");
        th_html_name(h, e->classes[c].name);
        th_html_put(h, "</th>");
    }
    th_html_put(h, "</tr></thead>\n");
    for (int row = 0; row < e->n_classes; row++)
        put_matrix_row(h, e, row);
    th_html_put(h, "</table></div>\n");
}

struct pair {
    int is, taken_for;
    int64_t n;
};

/* The most frequent confusions, first the most frequent; *n of them. */
static void find_pairs(const thaw_evaluation *e, struct pair *pairs, int *n)
{
    *n = 0;
    for (int i = 0; i < e->n_classes; i++)
        for (int k = 0; k < e->n_classes; k++) {
            int64_t count = e->confusion[(int64_t)i * e->n_classes + k];
            int at = *n;
            if (i == k || !count || (*n == MOST_PAIRS && pairs[*n - 1].n >= count))
                continue;
            at = *n < MOST_PAIRS ? (*n)++ : *n - 1;
            for (; at > 0 && pairs[at - 1].n < count; at--)
                pairs[at] = pairs[at - 1];
            pairs[at] = (struct pair){i, k, count};
        }
}

static void put_pairs(struct th_html *h, const thaw_evaluation *e)
{
    struct pair pairs[MOST_PAIRS];
    int n = 0;
    find_pairs(e, pairs, &n);
    th_html_put(h,
        "<h2>Confusion</h2>\n<table><caption>What is confused most often"
        "</caption><thead><tr><th>Is</th><th>Taken for</th><th>Images</th></tr>"
        "</thead>\n");
    for (int i = 0; i < n; i++) {
        th_html_put(h, "<tr><td>");
        th_html_name(h, e->classes[pairs[i].is].name);
        th_html_put(h, "</td><td>");
        th_html_name(h, e->classes[pairs[i].taken_for].name);
        th_html_put(h, "</td><td>%" PRId64 "</td></tr>\n", pairs[i].n);
    }
    th_html_put(h, "</table>\n");
}

/* ---- Mistakes ---- */

static void put_mistake(struct th_html *h, const struct th_report_facts *f,
    const struct th_report_mistake *m)
{
    th_html_put(h, "<div class=\"card\">");
    if (m->png) {
        int longer = m->w > m->h ? m->w : m->h;
        int times = longer > SMALL ? 1 : SMALL / (longer > 0 ? longer : 1);
        th_html_put(
            h, "<img width=\"%d\" height=\"%d\" alt=\"", times * m->w, times * m->h);
        th_html_text(h, f->classes[m->label]);
        th_html_put(h, ", taken for ");
        th_html_text(h, f->classes[m->predicted]);
        th_html_put(h, "\" src=\"data:image/png;base64,");
        th_html_base64(h, m->png, m->n_png);
        th_html_put(h, "\">");
    }
    th_html_put(h, "is <strong>");
    th_html_name(h, f->classes[m->label]);
    th_html_put(h, "</strong>, taken for <strong>");
    th_html_name(h, f->classes[m->predicted]);
    th_html_put(h, "</strong>, loss %.3g<br><span class=\"dim\">", m->loss);
    th_html_name(h, m->path);
    th_html_put(h, "</span></div>\n");
}

static void put_mistakes(struct th_html *h, const struct th_report_facts *f)
{
    if (!f->n_mistakes)
        return;
    th_html_put(h,
        "<h2>Worst mistakes</h2>\n<p class=\"dim\">Validation images with the "
        "least probability on their class. Wrong labels are often among them."
        "</p>\n<div class=\"cards\">\n");
    for (int i = 0; i < f->n_mistakes; i++)
        put_mistake(h, f, &f->mistakes[i]);
    th_html_put(h, "</div>\n");
}

/* ---- Data ---- */

static void put_unreadable(struct th_html *h, const char *lines)
{
    char path[4096], reason[1024];
    int n = 0;
    th_html_put(h, "<h3>Unreadable or damaged files</h3>\n<ul>\n");
    for (; *lines && n < MOST_UNREADABLE; n++) {
        size_t length = strcspn(lines, "\n"), tab = strcspn(lines, "\t\n");
        size_t rest = tab < length ? length - tab - 1 : 0;
        size_t n_path = tab < sizeof path - 1 ? tab : sizeof path - 1;
        size_t n_reason = rest < sizeof reason - 1 ? rest : sizeof reason - 1;
        memcpy(path, lines, n_path);
        memcpy(reason, lines + length - rest, n_reason);
        path[n_path] = reason[n_reason] = 0;
        th_html_put(h, "<li>");
        th_html_name(h, path);
        th_html_put(h, ": <span class=\"dim\">");
        th_html_name(h, reason);
        th_html_put(h, "</span></li>\n");
        lines += length + (lines[length] == '\n');
    }
    th_html_put(h, "</ul>\n%s", *lines ? "<p>and more: unreadable.txt</p>\n" : "");
}

static void put_data(struct th_html *h, const struct th_report_facts *f)
{
    int64_t sum[3] = {0, 0, 0};
    th_html_put(h, "<h2>Data</h2>\n<div class=\"wide\"><table><thead><tr><th>Class</th>"
                   "<th>Training</th><th>Validation</th><th>Test</th></tr></thead>\n");
    for (int c = 0; c < f->n_classes; c++) {
        th_html_put(h, "<tr><td>");
        th_html_name(h, f->classes[c]);
        th_html_put(h, "</td>");
        for (int s = 0; s < 3; s++) {
            int64_t count = f->counts[(int64_t)s * f->n_classes + c];
            sum[s] += count;
            th_html_put(h, "<td>%" PRId64 "</td>", count);
        }
        th_html_put(h, "</tr>\n");
    }
    th_html_put(h,
        "<tr><td>%s</td><td>%" PRId64 "</td><td>%" PRId64 "</td><td>%" PRId64
        "</td></tr></table></div>\n",
        f->many ? "All labels" : "All", sum[0], sum[1], sum[2]);
    if (f->unreadable && *f->unreadable)
        put_unreadable(h, f->unreadable);
}

/* ---- How to do it again ---- */

static void put_config(struct th_html *h, const char *config)
{
    struct th_json *root = NULL;
    if (!config || th_json_parse(config, strlen(config), "config", &root) != THAW_OK)
        return;
    th_html_put(h, "<details><summary>Every option</summary><table>\n");
    for (const struct th_json *i = root->first; i; i = i->next)
        if (i->key && i->kind == TH_JSON_STRING) {
            th_html_put(h, "<tr><td><code>--");
            th_html_text(h, i->key);
            th_html_put(h, "</code></td><td>");
            th_html_name(h, i->text);
            th_html_put(h, "</td></tr>\n");
        }
    th_html_put(h, "</table></details>\n");
    th_json_free(root);
}

static void put_forecast(struct th_html *h, const struct th_report_facts *f)
{
    char said[32], took[32], bytes_said[32], bytes_took[32];
    if (!(f->forecast_seconds > 0))
        return;
    th_html_put(h,
        "<tr><td>Forecast</td><td>%s, %s</td></tr>\n<tr><td>It took</td><td>%s, "
        "%s</td></tr>\n",
        th_text_seconds(f->forecast_seconds, said, sizeof said),
        th_text_bytes((double)f->forecast_peak_bytes, bytes_said, sizeof bytes_said),
        th_text_seconds(f->seconds, took, sizeof took),
        th_text_bytes((double)f->peak_bytes, bytes_took, sizeof bytes_took));
}

static void put_reproduction(struct th_html *h, const struct th_report_facts *f)
{
    th_html_put(h, "<h2>How to do it again</h2>\n<p><code>thaw train --config ");
    th_html_name(h, f->run);
    th_html_put(h,
        "/config.json -o OTHER</code>: with the same build, instruction set, "
        "number of threads and images, every bit is the same.</p>\n<table>\n");
    put_row(h, "Version", thaw_version());
    put_row(h, "Device", f->device);
    th_html_put(h, "<tr><td>Threads, workers</td><td>%d, %d</td></tr>\n", f->threads,
        f->workers);
    th_html_put(h, "<tr><td>Seed</td><td>%" PRIu64 "</td></tr>\n", f->seed);
    put_row(h, "Images (fingerprint)", f->data);
    put_forecast(h, f);
    th_html_put(h, "</table>\n");
    put_config(h, f->config);
}

static void put_document(struct th_html *h, const struct th_report_facts *f)
{
    th_html_begin(h, f->run);
    put_summary(h, f);
    put_curves(h, f);
    put_certificate(h, f);
    if (f->val && f->val->images) {
        put_class_table(h, f->val);
        if (!f->many && f->n_classes <= MATRIX_CLASSES)
            put_matrix(h, f->val);
        else if (!f->many)
            put_pairs(h, f->val);
    }
    put_mistakes(h, f);
    put_data(h, f);
    put_reproduction(h, f);
    th_html_end(h);
}

void th_report_html(struct th_html *h, const struct th_report_facts *facts)
{
    locale_t before = th_html_plain(h);
    if (h->failed)
        return;
    put_document(h, facts);
    th_html_restore(before);
}
