/* SPDX-License-Identifier: Apache-2.0
 * Owns how lines and numbers for people look, and what the system says about time and
 * memory. */
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
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

void th_line(const struct th_lines *l, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    l->write(l->context, line);
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

const char *th_text_seconds(double seconds, char *text, size_t size)
{
    double n = seconds < 300        ? seconds
               : seconds < 3 * 3600 ? seconds / 60
                                    : seconds / 3600;
    const char *unit = seconds < 300 ? "s" : seconds < 3 * 3600 ? "min" : "h";
    snprintf(text, size, "%.*f %s", n < 0.995 ? 2 : n < 9.95 ? 1 : 0, n, unit);
    return text;
}

/* The number behind `label` in a file of the kernel's; -1. */
static int64_t read_number(const char *path, const char *label)
{
    char line[128];
    size_t n = strlen(label);
    int64_t value = -1;
    FILE *file = fopen(path, "r");
    if (!file)
        return -1;
    while (value < 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, label, n) && sscanf(line + n, "%" SCNd64, &value) != 1)
            break;
    fclose(file);
    return value;
}

static int64_t status_bytes(const char *label)
{
    int64_t kilobytes = read_number("/proc/self/status", label);
    return kilobytes < 0 ? 0 : kilobytes * 1024;
}

/* getrusage's figure would include what the process was before exec. */
int64_t th_peak_bytes(void)
{
    return status_bytes("VmHWM:");
}

int64_t th_resident_bytes(void)
{
    return status_bytes("VmRSS:");
}

int64_t th_available_bytes(void)
{
    int64_t kilobytes = read_number("/proc/meminfo", "MemAvailable:");
    int64_t limit = read_number("/sys/fs/cgroup/memory.max", "");
    int64_t used = read_number("/sys/fs/cgroup/memory.current", "");
    int64_t available = kilobytes < 0 ? 0 : kilobytes * 1024;
    if (limit > 0 && used >= 0 && (!available || limit - used < available))
        available = limit > used ? limit - used : 1;
    return available;
}

double th_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
