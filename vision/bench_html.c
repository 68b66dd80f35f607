/* SPDX-License-Identifier: Apache-2.0
 * Owns DIR/bench.html: the winner, the fronts, the table, what was dropped and why, and how to
 * do it again. Everything is in b->result; nothing is computed here. */
#include "bench.h"

#include "options.h"
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const char none[] = "<td>–</td>";

static void put_percent(struct th_html *h, double x)
{
    if (isfinite(x))
        th_html_put(h, "<td>%.2f&nbsp;%%</td>", 100 * x);
    else
        th_html_put(h, "%s", none);
}

static void put_interval(struct th_html *h, thaw_interval i)
{
    if (isfinite(i.low))
        th_html_put(h, "<td>%.1f&nbsp;to&nbsp;%.1f</td>", 100 * i.low, 100 * i.high);
    else
        th_html_put(h, "%s", none);
}

static void put_code(struct th_html *h, const char *text)
{
    th_html_put(h, "<code>");
    th_html_text(h, text);
    th_html_put(h, "</code>");
}

/* ---- The winner ---- */

static void put_cheapest(struct th_html *h, const thaw_bench_result *r)
{
    const thaw_bench_row *w = &r->rows[r->winner], *c = &r->rows[r->cheapest];
    if (c == w)
        return;
    th_html_put(h,
        "<p><strong>%s</strong> is not clearly worse (%.1f points, 95&nbsp;%% interval "
        "%.1f to %.1f) and takes %.2f of the time:<br>",
        c->strategy, 100 * c->difference, 100 * c->difference_interval.low,
        100 * c->difference_interval.high, c->seconds / w->seconds);
    put_code(h, c->command);
    th_html_put(h, "</p>\n");
}

static void put_test(struct th_html *h, const thaw_bench_result *r)
{
    if (!r->test_images)
        return;
    th_html_put(h,
        "<p>Test, once, with that model: <strong>%s%.2f&nbsp;%%</strong> %s %" PRId64
        " images",
        r->boxes ? "AP " : "", 100 * r->test_top1, r->boxes ? "on" : "of",
        r->test_images);
    if (!r->boxes)
        th_html_put(h, " (95&nbsp;%% interval %.1f to %.1f)",
            100 * r->test_interval.low, 100 * r->test_interval.high);
    th_html_put(h, ".</p>\n");
}

static void put_winner(struct th_html *h, const thaw_bench_result *r)
{
    if (r->winner < 0) {
        th_html_put(h, "<p class=\"big\">No training ended well.</p>\n");
        return;
    }
    const thaw_bench_row *w = &r->rows[r->winner];
    th_html_put(h,
        "<p class=\"big\">Winner: %s, %s%.2f&nbsp;%% %s the validation "
        "images</p>\n<p>%s, "
        "trained again by (RUN: a new folder):<br>",
        w->strategy, r->boxes ? "AP " : "", 100 * w->top1, r->boxes ? "on" : "of",
        w->about);
    put_code(h, w->command);
    th_html_put(h, "</p>\n<p>Its best model: ");
    put_code(h, r->model);
    th_html_put(h, "</p>\n");
    put_test(h, r);
    put_cheapest(h, r);
}

/* ---- The fronts ---- */

static int take_points(
    const thaw_bench_result *r, bool memory, struct th_point points[TH_MOST_STRATEGIES])
{
    int n = 0;
    for (int i = 0; i < r->n_rows; i++) {
        const thaw_bench_row *row = &r->rows[i];
        if (!row->seeds)
            continue;
        points[n++] = (struct th_point){.name = row->strategy,
            .x = memory ? (double)row->peak_bytes * 1e-6 : row->seconds,
            .y = row->top1,
            .low = r->boxes ? row->top1 : row->images.low,
            .high = r->boxes ? row->top1 : row->images.high,
            .front = memory ? row->small : row->fast,
            .marked = i == r->winner};
    }
    return n;
}

static void put_fronts(struct th_html *h, const thaw_bench_result *r)
{
    struct th_point points[TH_MOST_STRATEGIES];
    struct th_scatter time = {
        .title = r->boxes ? "AP against seconds of a training; dashed: "
                            "nothing is as good in less time"
                          : "Accuracy against seconds of a training; "
                            "dashed: nothing is as good in less time",
        .x_name = "seconds",
        .points = points};
    time.n = take_points(r, false, points);
    if (!time.n)
        return;
    th_html_put(h, "<h2>What it costs</h2>\n");
    th_html_scatter(h, &time);
    struct th_scatter memory = {
        .title =
            r->boxes
                ? "AP against peak memory; dashed: nothing is as good in less"
                : "Accuracy against peak memory; dashed: nothing is as good in less",
        .x_name = "MB",
        .points = points};
    memory.n = take_points(r, true, points);
    th_html_scatter(h, &memory);
    if (r->boxes)
        return;
    th_html_put(h,
        "<p class=\"dim\">Bars: Wilson's 95&nbsp;%% intervals for %" PRId64
        " validation images.</p>\n",
        r->val_images);
}

/* ---- The table ---- */

static void put_row(struct th_html *h, const thaw_bench_row *r)
{
    char peak[32], trained[32];
    th_html_put(h, "<tr><td>%s</td>", r->strategy);
    put_percent(h, r->top1);
    put_interval(h, r->images);
    put_percent(h, r->spread);
    put_percent(h, r->difference);
    put_interval(h, r->difference_interval);
    if (r->seeds)
        th_html_put(h, "<td>%.1f</td><td>%s</td>", r->seconds,
            th_text_bytes((double)r->peak_bytes, peak, sizeof peak));
    else
        th_html_put(h, "%s%s", none, none);
    th_html_put(h, "<td>%s</td><td>%d</td><td>%s</td></tr>\n",
        r->thaw ? th_text_count(r->trained, trained, sizeof trained) : "–", r->seeds,
        r->state);
}

/* What the columns are. */
static void put_legend(struct th_html *h, const thaw_bench_result *r)
{
    static const char *const accuracy =
        "(images): Wilson's interval. ± (seeds): half of Student's interval over "
        "seeds. "
        "To the winner: paired by image and seed, over the seeds that both have.";
    static const char *const boxes =
        "± (seeds): half of Student's interval over seeds. To the winner: paired by "
        "seed, "
        "over the seeds that both have; images vary, too, which no interval here says.";
    th_html_put(h,
        "<p class=\"dim\">%s: best.h5 on %" PRId64
        " validation images, the same for all, mean over seeds; the best epoch was "
        "chosen by them. %s Seconds: of training and validation, mean over seeds. Peak "
        "memory: of the process, most over seeds. Trained: values, in the phase that "
        "trains most.</p>\n",
        r->boxes ? "AP" : "Right", r->val_images, r->boxes ? boxes : accuracy);
}

static void put_table(struct th_html *h, const thaw_bench_result *r)
{
    th_html_put(h,
        "<h2>Strategies</h2>\n<div class=\"wide\"><table><thead><tr><th>Strategy</th>"
        "<th>%s</th><th>95&nbsp;%% (images)</th><th>± (seeds)</th>"
        "<th>To the winner</th><th>95&nbsp;%% (paired)</th><th>Seconds</th>"
        "<th>Peak memory</th><th>Trained</th><th>Seeds</th><th></th></tr></thead>\n",
        r->boxes ? "AP" : "Right");
    for (int i = 0; i < r->n_rows; i++)
        put_row(h, &r->rows[i]);
    th_html_put(h, "</table></div>\n");
    put_legend(h, r);
}

static void put_notes(struct th_html *h, const thaw_bench_result *r)
{
    bool any = false;
    for (int i = 0; i < r->n_rows; i++) {
        const thaw_bench_row *row = &r->rows[i];
        if (!*row->note)
            continue;
        th_html_put(
            h, "%s<li>%s: %s: ", any ? "" : "<ul>\n", row->strategy, row->state);
        th_html_name(h, row->note);
        if (!strcmp(row->state, "dropped"))
            th_html_put(h, " (%.1f points, %.1f to %.1f)", 100 * row->difference,
                100 * row->difference_interval.low,
                100 * row->difference_interval.high);
        th_html_put(h, "</li>\n");
        any = true;
    }
    th_html_put(h, "%s", any ? "</ul>\n" : "");
}

/* ---- How to do it again ---- */

static void put_commands(struct th_html *h, const thaw_bench_result *r)
{
    th_html_put(h, "<h2>How to do it again</h2>\n<table>\n");
    for (int i = 0; i < r->n_rows; i++) {
        if (!*r->rows[i].command)
            continue;
        th_html_put(h,
            "<tr><td>%s<br><span class=\"dim\">%s</span></td>"
            "<td style=\"text-align:left\">",
            r->rows[i].strategy, r->rows[i].about);
        put_code(h, r->rows[i].command);
        th_html_put(h, "</td></tr>\n");
    }
    th_html_put(h, "</table>\n");
}

static void put_fact(struct th_html *h, const char *name, const char *value)
{
    th_html_put(h, "<tr><td>%s</td><td>", name);
    th_html_name(h, value);
    th_html_put(h, "</td></tr>\n");
}

static void put_facts(struct th_html *h, const struct thaw_bench *b)
{
    th_html_put(h, "<h2>Made with</h2>\n<table>\n");
    put_fact(h, "Version", thaw_version());
    put_fact(h, "Device", b->device);
    put_fact(h, "Threads", th_option_text(b->options, "threads"));
    put_fact(h, "Network", b->backbone);
    put_fact(h, "Data", th_option_text(b->options, "data"));
    put_fact(h, "Images (fingerprint)", b->fingerprint);
    put_fact(h, "Epochs", th_option_text(b->options, "epochs"));
    th_html_put(h, "</table>\n");
}

static void put_document(struct th_html *h, const struct thaw_bench *b)
{
    const char *data = th_option_text(b->options, "data");
    th_html_begin(h, data);
    th_html_put(h, "<h1>What to freeze for ");
    th_html_name(h, data);
    th_html_put(h, "</h1>\n");
    if (b->result.stopped)
        th_html_put(h, "<p>Stopped: the same command goes on.</p>\n");
    put_winner(h, &b->result);
    put_fronts(h, &b->result);
    put_table(h, &b->result);
    put_notes(h, &b->result);
    put_commands(h, &b->result);
    put_facts(h, b);
    th_html_end(h);
}

void th_bench_html(struct th_html *h, const struct thaw_bench *b)
{
    locale_t before = th_html_plain(h);
    if (h->failed)
        return;
    put_document(h, b);
    th_html_restore(before);
}
