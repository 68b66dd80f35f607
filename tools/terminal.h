/* SPDX-License-Identifier: Apache-2.0
 * What people and programs see: report lines, one redrawn progress line, JSON values.
 * Results go to stdout, all else to stderr. */
#ifndef TH_TERMINAL_H
#define TH_TERMINAL_H

#include "thaw.h"

#include <stdio.h>

struct th_terminal {
    bool quiet;   /* no lines but results and warnings */
    bool json;    /* stdout belongs to JSON: no line goes there */
    bool redraws; /* stderr is a terminal: the progress line is redrawn */
    bool colours;
    bool drawn;      /* a progress line stands there now */
    double drawn_at; /* seconds, monotonic clock */
};

/* From "quiet" and "json" of the options (those the command takes), the terminal and
 * NO_COLOR. */
void th_terminal_init(struct th_terminal *t, const thaw_options *o);

/* Callbacks that write here. */
thaw_events th_terminal_events(struct th_terminal *t);

/* Wipe the progress line, so that something else can be printed. */
void th_terminal_clear(struct th_terminal *t);

/* `text` for eyes: what could steer a terminal, in a class or file name of somebody else's
 * making, becomes '?' (ASCII and C1 control characters but newline). */
void th_print_text(FILE *f, const char *text);

/* `text` as a JSON string; bytes that are not UTF-8 become U+FFFD. */
void th_json_string(FILE *f, const char *text);

/* %.9g, null when not finite. */
void th_json_real(FILE *f, double x);

/* 1234567 as "1,234,567" into text. */
const char *th_thousands(int64_t n, char text[32]);

#endif
