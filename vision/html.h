/* SPDX-License-Identifier: Apache-2.0
 * HTML under construction. What a person or a file system named goes in through
 * th_html_text only, which leaves nothing of it that means anything to a browser. */
#ifndef TH_HTML_H
#define TH_HTML_H

#include "error.h"

#include <locale.h>
#include <stdint.h>

/* All zero is empty. Failures (memory) are kept to the end. */
struct th_html {
    char *text; /* terminated; owned */
    size_t n, capacity;
    bool failed;
};

/* Markup of our own: fmt and its strings are trusted. */
void th_html_put(struct th_html *h, const char *fmt, ...) TH_PRINTF(2, 3);

/* Any bytes, as text within an element or a quoted attribute: bad UTF-8 and control
 * characters become U+FFFD. */
void th_html_text(struct th_html *h, const char *text);

void th_html_base64(struct th_html *h, const uint8_t *bytes, size_t n);

/* ---- A page ---- */

/* Head, style sheet, and the beginning of the body; and its end. */
void th_html_begin(struct th_html *h, const char *title);
void th_html_end(struct th_html *h);

/* A name from outside, kept from turning the direction of what stands around it. */
void th_html_name(struct th_html *h, const char *name);

/* This thread's locale is "C" until the one of before is given back. */
locale_t th_html_plain(struct th_html *h);
void th_html_restore(locale_t before);

thaw_status th_html_status(const struct th_html *h);
void th_html_release(struct th_html *h);

/* ---- Charts: SVG within HTML ---- */

struct th_series {
    const char *name;
    const double *x, *y; /* [n]; a y that is not finite is a gap */
    int n;
    int colour; /* 0..3, classes of the style sheet */
};

struct th_chart {
    const char *title, *x_name;
    const struct th_series *series; /* [n_series] */
    int n_series;
    const double *mark; /* [n_marks]: x of vertical lines */
    int n_marks;
    bool percent; /* y is a fraction */
    bool linear;  /* never a logarithmic axis */
};

/* A figure with title, axes and legend; large ranges of positive y get a logarithmic axis.
 * Nothing where no series has two points. */
void th_html_chart(struct th_html *h, const struct th_chart *c);

/* Points of cost and worth; those of the front, on which none is both cheaper and better,
 * are joined. */
struct th_point {
    const char *name;       /* from the caller's own table */
    double x, y, low, high; /* low, high: an interval of y */
    bool front, marked;
};

struct th_scatter {
    const char *title, *x_name;
    const struct th_point *points; /* [n] */
    int n;
};

/* y is a fraction; a large range of x gets a logarithmic axis. Nothing without points. */
void th_html_scatter(struct th_html *h, const struct th_scatter *s);

#endif
