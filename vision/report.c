/* SPDX-License-Identifier: Apache-2.0
 * Owns how lines and numbers for people look, and what the system says about time and
 * memory. */
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void th_say(const thaw_events *e, const char *topic, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    if (!e || !e->line)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    e->line(e->context, topic, text);
}

const char *th_text_count(int64_t n, char *text, size_t size)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRId64, n);
    size_t at = 0;
    for (int i = 0; i < length && at + 2 < size; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = 0;
    return text;
}

/* Three digits and a unit. */
static const char *scaled(
    double n, const char *const *units, int n_units, char *text, size_t size)
{
    int u = 0;
    while (u + 1 < n_units && n >= 999.5) {
        n /= 1000;
        u++;
    }
    int decimals = u == 0 || n >= 99.95 ? 0 : 1;
    snprintf(text, size, "%.*f%s", decimals, n, units[u]);
    return text;
}

const char *th_text_short(double n, char *text, size_t size)
{
    return scaled(n, (const char *const[]){"", " k", " M", " G"}, 4, text, size);
}

const char *th_text_bytes(double bytes, char *text, size_t size)
{
    return scaled(
        bytes, (const char *const[]){" B", " kB", " MB", " GB", " TB"}, 5, text, size);
}

/* getrusage's figure would include what the process was before exec. */
int64_t th_peak_bytes(void)
{
    char line[128];
    long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %lld kB", &kilobytes) == 1)
            break;
    fclose(file);
    return (int64_t)kilobytes * 1024;
}

double th_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
