/* SPDX-License-Identifier: Apache-2.0
 * Lines for people: sent to the caller's callback, never printed. */
#ifndef TH_REPORT_H
#define TH_REPORT_H

#include "error.h"

/* One line under a topic of thaw_events; nothing without a callback. */
void th_say(const thaw_events *e, const char *topic, const char *fmt, ...)
    TH_PRINTF(3, 4);

/* Where a command's lines go. */
struct th_lines {
    void (*write)(void *context, const char *text);
    void *context;
};
void th_line(const struct th_lines *l, const char *fmt, ...) TH_PRINTF(2, 3);

/* "2,565" */
const char *th_text_count(int64_t n, char *text, size_t size);
/* "11.2 M", "850 k", "12" */
const char *th_text_short(double n, char *text, size_t size);
/* "310 MB" */
const char *th_text_bytes(double bytes, char *text, size_t size);
/* "0.79 s", "12 s", "8.5 min", "3.0 h" */
const char *th_text_seconds(double seconds, char *text, size_t size);

/* Peak resident size of this process in bytes; 0 where the system does not say. */
int64_t th_peak_bytes(void);
/* As now. */
int64_t th_resident_bytes(void);
/* What this process may still take: the system's, and its control group's limit; 0 where
 * neither says. */
int64_t th_available_bytes(void);

/* Seconds on a clock that only goes forward. */
double th_seconds(void);

#endif
