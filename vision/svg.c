/* SPDX-License-Identifier: Apache-2.0
 * Owns how curves are drawn: axes, ticks, lines. Coordinates are pixels of a view box. */
#include "html.h"

#include <math.h>
#include <stdio.h>

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
