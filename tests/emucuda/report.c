/* SPDX-License-Identifier: Apache-2.0
 * Owns the device's life, findings and counters. */
#include "emu.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct emu_device emu;

void *emu_grow(void *array, int n, size_t size)
{
    void *p = realloc(array, ((size_t)n + 1) * size);
    if (!p)
        abort(); /* a test's own memory */
    return p;
}

void emu_find(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    for (int i = 0; i < emu.n_findings; i++)
        if (strcmp(emu.findings[i], text) == 0)
            return;
    emu.findings = emu_grow(emu.findings, emu.n_findings, sizeof *emu.findings);
    emu.findings[emu.n_findings++] = strdup(text);
}

int emu_findings(void)
{
    return emu.n_findings;
}

const char *emu_finding(int i)
{
    return emu.findings[i];
}

int emu_found(const char *part)
{
    int n = 0;
    for (int i = 0; i < emu.n_findings; i++)
        n += strstr(emu.findings[i], part) != NULL;
    return n;
}

struct emu_counters emu_counters(void)
{
    return emu.counters;
}

void emu_reset_counters(void)
{
    emu.counters = (struct emu_counters){.peak_bytes = emu.used};
}

static void forget(void)
{
    for (int i = 0; i < emu.n_findings; i++)
        free(emu.findings[i]);
    free(emu.findings);
    emu = (struct emu_device){0};
}

void emu_open(const struct emu_options *options)
{
    if (emu.open)
        emu_close();
    forget();
    emu.options = *options;
    if (emu.options.capacity == 0)
        emu.options.capacity = (size_t)64 << 30;
    emu.random = options->seed * 2 + 1;
    emu.thread = pthread_self();
    emu.n_streams = 1; /* the host */
    emu.open = true;
}

static int pending(const struct emu_stream *s)
{
    int n = 0;
    for (const struct emu_op *op = s->head; op; op = op->next)
        n++;
    return n;
}

int emu_close(void)
{
    for (int i = 1; i < emu.n_streams; i++)
        if (emu.streams[i].live)
            emu_find(
                "leak: stream %d was not destroyed, with %d pieces of work pending", i,
                pending(&emu.streams[i]));
    for (int i = 0; i < emu.n_events; i++) {
        if (emu.events[i]->live)
            emu_find("leak: event %d was not destroyed", i);
        free(emu.events[i]);
    }
    emu_ops_close();
    emu_graphs_close();
    emu_kernels_close();
    emu_race_close();
    emu_dnn_close();
    emu_blas_close();
    emu_memory_close();
    free(emu.events);
    emu.events = NULL;
    emu.n_events = 0;
    emu.open = false;
    return emu.n_findings;
}
