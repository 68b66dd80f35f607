/* SPDX-License-Identifier: Apache-2.0
 * Owns what the library says about itself and the machine: thaw_list, thaw_doctor. */
#include "backend.h"
#include "dataset.h"
#include "forecast.h"
#include "json.h"
#include "model.h"
#include "options.h"
#include "recipe.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool nth_backbone(size_t i, const char **name, const char **about)
{
    for (const struct th_backbone *const *b = th_backbone_list; *b; b++) {
        if (i < (size_t)(*b)->n_variants) {
            *name = (*b)->variants[i].name;
            *about = (*b)->variants[i].about;
            return true;
        }
        i -= (size_t)(*b)->n_variants;
    }
    return false;
}

static bool nth_head(size_t i, const char **name, const char **about)
{
    for (const struct th_head *const *h = th_head_list; *h; h++)
        if (i-- == 0) {
            *name = (*h)->name;
            *about = (*h)->about;
            return true;
        }
    return false;
}

static bool nth_format(size_t i, const char **name, const char **about)
{
    for (const struct th_format *const *f = th_format_list; *f; f++)
        if (i-- == 0) {
            *name = (*f)->name;
            *about = (*f)->help;
            return true;
        }
    for (const struct th_weight_format *const *f = th_weight_format_list; *f; f++)
        if (i-- == 0) {
            *name = (*f)->name;
            *about = (*f)->image ? "weights, read and written" : "weights, read";
            return true;
        }
    return false;
}

bool thaw_list(const char *kind, size_t i, const char **name, const char **about)
{
    if (!strcmp(kind, "backbones"))
        return nth_backbone(i, name, about);
    if (!strcmp(kind, "heads"))
        return nth_head(i, name, about);
    return !strcmp(kind, "formats") && nth_format(i, name, about);
}

/* "model name : ..." of the first core. */
static void cpu_name(char *text, size_t size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    snprintf(text, size, "unknown");
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon)
            continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(text, size, "%s", colon + 2);
        break;
    }
    if (file)
        fclose(file);
}

/* What the doctor finds. Rates: of all threads, and of one. */
struct findings {
    char cpu[200], device[128];
    long cores;
    double memory; /* bytes */
    double macs, bytes, macs_one, bytes_one;
};

static thaw_status measure(const char *name, int threads, struct findings *f)
{
    struct th_device *device = NULL;
    TRY(th_device_open(name, threads, &device));
    snprintf(f->device, sizeof f->device, "%s", device->backend->describe(device));
    thaw_status status = th_rates_best(device, &f->macs, &f->bytes);
    th_device_close(device);
    return status;
}

static thaw_status find(const char *name, int threads, struct findings *f)
{
    struct findings one;
    TRY(measure(name, 1, &one));
    TRY(measure(name, threads, f));
    cpu_name(f->cpu, sizeof f->cpu);
    f->cores = sysconf(_SC_NPROCESSORS_ONLN);
    f->memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    f->macs_one = one.macs;
    f->bytes_one = one.bytes;
    return THAW_OK;
}

static void write_lines(const struct findings *f,
    void (*write)(void *context, const char *text), void *context)
{
    char line[512];
    snprintf(line, sizeof line, "thaw     %s", thaw_version());
    write(context, line);
    snprintf(line, sizeof line, "machine  %s, %ld cores, %.1f GB", f->cpu, f->cores,
        f->memory / 1e9);
    write(context, line);
    snprintf(line, sizeof line, "device   %s", f->device);
    write(context, line);
    snprintf(line, sizeof line,
        "speed    matrix product %.0f GF/s (one thread %.0f), memory %.1f GB/s "
        "(one thread %.1f)",
        2 * f->macs / 1e9, 2 * f->macs_one / 1e9, f->bytes / 1e9, f->bytes_one / 1e9);
    write(context, line);
}

static thaw_status write_json(const struct findings *f, int threads,
    void (*write)(void *context, const char *text), void *context)
{
    struct th_json_out j = {0};
    th_json_open(&j, '{');
    th_json_put_string(&j, "thaw", thaw_version());
    th_json_put_string(&j, "cpu", f->cpu);
    th_json_put_whole(&j, "cores", f->cores);
    th_json_put_whole(&j, "memory_bytes", (int64_t)f->memory);
    th_json_put_string(&j, "device", f->device);
    th_json_put_whole(&j, "threads", threads);
    th_json_put_real(&j, "flops_per_s", 2 * f->macs);
    th_json_put_real(&j, "flops_per_s_one_thread", 2 * f->macs_one);
    th_json_put_real(&j, "bytes_per_s", f->bytes);
    th_json_put_real(&j, "bytes_per_s_one_thread", f->bytes_one);
    th_json_close(&j, '}');
    thaw_status status = th_json_out_status(&j);
    if (status == THAW_OK)
        write(context, j.text);
    th_json_out_release(&j);
    return status;
}

thaw_status thaw_doctor(const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    struct findings f;
    const struct th_device_name name = th_option_device(o);
    int threads = th_option_threads(o, "threads");
    TRY(find(name.text, threads, &f));
    if (th_option_flag(o, "json"))
        return write_json(&f, threads, write, context);
    write_lines(&f, write, context);
    return THAW_OK;
}
