/* SPDX-License-Identifier: Apache-2.0
 * Owns how curves and points are drawn: axes, ticks, lines. Coordinates are pixels of a view box. */
#include "html.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 640, HEIGHT = 240, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 36 };
enum { MOST_TICKS = 6 };

/* From this ratio of the largest to the smallest y on, the axis is logarithmic. */
static const double log_ratio = 50;

struct axis {
    double from, to;
    bool is_log;
};

static double scaled(const struct axis *a, double value)
{
    return a->is_log ? log10(value) : value;
}

/* Where between the axis's ends, 0 to 1. */
static double place(const struct axis *a, double value)
{
    double from = scaled(a, a->from), to = scaled(a, a->to);
    return (scaled(a, value) - from) / (to - from);
}

static double at_x(const struct axis *a, double x)
{
    return LEFT + place(a, x) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct axis *a, double y)
{
    return HEIGHT - BOTTOM - place(a, y) * (HEIGHT - TOP - BOTTOM);
}

static void widen(struct axis *a, double value)
{
    if (!isfinite(value))
        return;
    a->from = fmin(a->from, value);
    a->to = fmax(a->to, value);
}

/* Both ranges over all finite points; false where there is nothing to draw a line of. */
static bool find_ranges(const struct th_chart *c, struct axis *x, struct axis *y)
{
    int most = 0;
    *x = *y = (struct axis){.from = INFINITY, .to = -INFINITY};
    for (int s = 0; s < c->n_series; s++) {
        int n = 0;
        for (int i = 0; i < c->series[s].n; i++) {
            n += isfinite(c->series[s].y[i]) != 0;
            widen(x, c->series[s].x[i]);
            widen(y, c->series[s].y[i]);
        }
        most = n > most ? n : most;
    }
    if (most < 2 || !(x->to > x->from))
        return false;
    if (c->percent)
        *y = (struct axis){.from = 0, .to = 1};
    y->is_log = !c->percent && !c->linear && y->from > 0 && y->to > log_ratio * y->from;
    if (!(y->to > y->from)) {
        double around = y->from != 0 ? 0.1 * fabs(y->from) : 1;
        y->from -= around;
        y->to += around;
    }
    return true;
}

/* 1, 2 or 5 times a power of ten, so that at most MOST_TICKS fit. */
static double tick_step(double range)
{
    static const double steps[] = {1, 2, 5, 10};
    double power = pow(10, floor(log10(range / MOST_TICKS)));
    for (int i = 0; i < 4; i++)
        if (range / (steps[i] * power) <= MOST_TICKS)
            return steps[i] * power;
    return 10 * power;
}

static void put_y_tick(
    struct th_html *h, const struct th_chart *c, const struct axis *a, double y)
{
    double at = at_y(a, y);
    th_html_put(h, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, at, WIDTH - RIGHT);
    th_html_put(h, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g%s</text>",
        LEFT - 6, at + 4, c->percent ? 100 * y : y, c->percent ? " %" : "");
}

static void put_y_axis(
    struct th_html *h, const struct th_chart *c, const struct axis *a)
{
    if (a->is_log) {
        for (double y = pow(10, ceil(log10(a->from))); y <= a->to; y *= 10)
            put_y_tick(h, c, a, y);
        return;
    }
    double step = tick_step(a->to - a->from);
    for (double i = ceil(a->from / step - 1e-9); i * step <= a->to + 1e-9 * step; i++)
        put_y_tick(h, c, a, i * step + 0.0); /* no -0 */
}

static void put_x_axis(
    struct th_html *h, const struct th_chart *c, const struct axis *a)
{
    double step = fmax(1, tick_step(a->to - a->from)); /* epochs and steps are whole */
    for (double i = ceil(a->from / step); i * step <= a->to; i++)
        th_html_put(h, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.7g</text>",
            at_x(a, i * step), HEIGHT - BOTTOM + 16, i * step);
    th_html_put(h, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>",
        (WIDTH + LEFT - RIGHT) / 2, HEIGHT - 4, c->x_name);
}

static void put_line(struct th_html *h, const struct th_series *s, const struct axis *x,
    const struct axis *y)
{
    bool pen_up = true;
    th_html_put(h, "<path class=\"line c%d\" d=\"", s->colour);
    for (int i = 0; i < s->n; i++) {
        bool drawn = isfinite(s->y[i]) && (!y->is_log || s->y[i] > 0);
        if (drawn)
            th_html_put(h, "%c%.1f %.1f", pen_up ? 'M' : 'L', at_x(x, s->x[i]),
                at_y(y, s->y[i]));
        pen_up = !drawn;
    }
    th_html_put(h, "\"/>");
}

/* The first and the last value that is drawn; false: none is. */
static bool find_ends(const struct th_series *s, double *first, double *last)
{
    int n = 0;
    *first = *last = (double)NAN;
    for (int i = 0; i < s->n; i++)
        if (isfinite(s->y[i])) {
            *first = n++ ? *first : s->y[i];
            *last = s->y[i];
        }
    return n > 0;
}

static void put_legend(struct th_html *h, const struct th_chart *c)
{
    double first, last;
    th_html_put(h, "<figcaption>%s:", c->title);
    for (int s = 0; s < c->n_series; s++)
        if (find_ends(&c->series[s], &first, &last))
            th_html_put(h, " <span class=\"key k%d\"></span>&nbsp;%s",
                c->series[s].colour, c->series[s].name);
    if (c->n_marks)
        th_html_put(h, " <span class=\"key km\"></span>&nbsp;what trains changes");
    th_html_put(h, "</figcaption>");
}

void th_html_chart(struct th_html *h, const struct th_chart *c)
{
    struct axis x, y;
    double first, last;
    if (!find_ranges(c, &x, &y))
        return;
    th_html_put(h, "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s",
        WIDTH, HEIGHT, c->title);
    for (int s = 0; s < c->n_series; s++) {
        const struct th_series *line = &c->series[s];
        if (find_ends(line, &first, &last))
            th_html_put(h, ", %s from %.4g to %.4g", line->name, first, last);
    }
    th_html_put(h, "\">");
    put_y_axis(h, c, &y);
    put_x_axis(h, c, &x);
    for (int i = 0; i < c->n_marks; i++)
        if (c->mark[i] > x.from && c->mark[i] <= x.to)
            th_html_put(h, "<path class=\"mark\" d=\"M%.1f %dV%d\"/>",
                at_x(&x, c->mark[i]), TOP, HEIGHT - BOTTOM);
    for (int s = 0; s < c->n_series; s++)
        put_line(h, &c->series[s], &x, &y);
    th_html_put(h, "</svg>");
    put_legend(h, c);
    th_html_put(h, "</figure>\n");
}

/* ---- Points ---- */

/* A share of the range that is left free around the points. */
static const double margin = 0.06;

static void pad(struct axis *a)
{
    double from = scaled(a, a->from), to = scaled(a, a->to);
    double around = to > from ? margin * (to - from) : fmax(margin * fabs(to), margin);
    a->from = a->is_log ? pow(10, from - around) : from - around;
    a->to = a->is_log ? pow(10, to + around) : to + around;
}

static void find_scatter_ranges(
    const struct th_scatter *s, struct axis *x, struct axis *y)
{
    *x = *y = (struct axis){.from = INFINITY, .to = -INFINITY};
    for (int i = 0; i < s->n; i++) {
        widen(x, s->points[i].x);
        widen(y, s->points[i].low);
        widen(y, s->points[i].high);
    }
    x->is_log = x->from > 0 && x->to > 4 * x->from;
    pad(x);
    pad(y);
    y->from = fmax(y->from, 0);
    y->to = fmin(y->to, 1);
}

static void put_tick(struct th_html *h, const struct axis *a, double x)
{
    th_html_put(h, "<path class=\"grid\" d=\"M%.1f %dV%d\"/>", at_x(a, x), TOP,
        HEIGHT - BOTTOM);
    th_html_put(h, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>",
        at_x(a, x), HEIGHT - BOTTOM + 16, x);
}

/* 1, 2 and 5 times the powers of ten, or even steps. */
static void put_cost_axis(struct th_html *h, const struct axis *a, const char *name)
{
    static const double steps[] = {1, 2, 5};
    double step = tick_step(a->to - a->from);
    double first = a->is_log ? floor(log10(a->from)) : ceil(a->from / step);
    for (double i = first; !a->is_log && i * step <= a->to; i++)
        put_tick(h, a, i * step);
    for (double power = pow(10, first); a->is_log && power <= a->to; power *= 10)
        for (int k = 0; k < 3; k++)
            if (steps[k] * power >= a->from && steps[k] * power <= a->to)
                put_tick(h, a, steps[k] * power);
    th_html_put(h, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>",
        (WIDTH + LEFT - RIGHT) / 2, HEIGHT - 4, name);
}

static void put_point(struct th_html *h, const struct th_point *p, const struct axis *x,
    const struct axis *y)
{
    double at = at_x(x, p->x);
    const char *class = p->marked ? "c2" : p->front ? "c0" : "c3";
    th_html_put(h, "<path class=\"line %s\" d=\"M%.1f %.1fV%.1f\"/>", class, at,
        at_y(y, p->low), at_y(y, p->high));
    th_html_put(h, "<circle class=\"line %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>",
        class, at, at_y(y, p->y), p->marked ? 5 : 3);
}

/* Pixels of a name. */
enum { NAME_WIDTH = 56, NAME_HEIGHT = 12 };

/* Beside its point, or as far below as names of points before it leave free. Whole
 * pixels: each turn goes down by one at least, so that it ends. */
static int place_name(const struct th_scatter *s, int i, const struct axis *x,
    const struct axis *y, const int *placed)
{
    double at = at_x(x, s->points[i].x);
    int down = (int)at_y(y, s->points[i].y) - 5;
    for (int k = 0; k < i;) {
        bool near = fabs(at_x(x, s->points[k].x) - at) < NAME_WIDTH;
        bool meets = near && abs(placed[k] - down) < NAME_HEIGHT;
        down = meets ? placed[k] + NAME_HEIGHT : down;
        k = meets ? 0 : k + 1;
    }
    return down;
}

static void put_names(struct th_html *h, const struct th_scatter *s,
    const struct axis *x, const struct axis *y)
{
    enum { MOST_NAMES = 64 };
    int placed[MOST_NAMES];
    for (int i = 0; i < s->n && i < MOST_NAMES; i++) {
        double at = at_x(x, s->points[i].x);
        bool left = at > WIDTH - NAME_WIDTH - RIGHT;
        placed[i] = place_name(s, i, x, y, placed);
        th_html_put(h, "<text x=\"%.1f\" y=\"%d\"%s>%s</text>", at + (left ? -8 : 8),
            placed[i], left ? " text-anchor=\"end\"" : "", s->points[i].name);
    }
}

/* From the cheapest of the front to the dearest; its points stand in no order. */
static void put_front(struct th_html *h, const struct th_scatter *s,
    const struct axis *x, const struct axis *y)
{
    double done = -INFINITY;
    bool begun = false;
    th_html_put(h, "<path class=\"mark\" d=\"");
    for (;;) {
        const struct th_point *next = NULL;
        for (int i = 0; i < s->n; i++) {
            const struct th_point *p = &s->points[i];
            if (p->front && p->x > done && (!next || p->x < next->x))
                next = p;
        }
        if (!next)
            break;
        th_html_put(
            h, "%c%.1f %.1f", begun ? 'L' : 'M', at_x(x, next->x), at_y(y, next->y));
        begun = true;
        done = next->x;
    }
    th_html_put(h, "\"/>");
}

void th_html_scatter(struct th_html *h, const struct th_scatter *s)
{
    const struct th_chart as_percent = {.percent = true};
    struct axis x, y;
    if (!s->n)
        return;
    find_scatter_ranges(s, &x, &y);
    th_html_put(h, "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s",
        WIDTH, HEIGHT, s->title);
    for (int i = 0; i < s->n; i++)
        th_html_put(
            h, ", %s %.4g at %.4g", s->points[i].name, s->points[i].y, s->points[i].x);
    th_html_put(h, "\">");
    put_y_axis(h, &as_percent, &y);
    put_cost_axis(h, &x, s->x_name);
    put_front(h, s, &x, &y);
    for (int i = 0; i < s->n; i++)
        put_point(h, &s->points[i], &x, &y);
    put_names(h, s, &x, &y);
    th_html_put(h, "</svg><figcaption>%s</figcaption></figure>\n", s->title);
}
