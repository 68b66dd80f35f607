/* SPDX-License-Identifier: Apache-2.0
 * Owns what the library says about itself and the machine: thaw_list, thaw_doctor. */
#include "backend.h"
#include "dataset.h"
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

static double memory_gigabytes(void)
{
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1e9;
}

thaw_status thaw_doctor(const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    struct th_device *device = NULL;
    const struct th_device_name name = th_option_device(o);
    int threads = th_option_threads(o, "threads");
    char line[512], cpu[200];
    cpu_name(cpu, sizeof cpu);
    snprintf(line, sizeof line, "thaw     %s", thaw_version());
    write(context, line);
    snprintf(line, sizeof line, "machine  %s, %ld cores, %.1f GB", cpu,
        sysconf(_SC_NPROCESSORS_ONLN), memory_gigabytes());
    write(context, line);
    TRY(th_device_open(name.text, threads, &device));
    snprintf(line, sizeof line, "device   %s", device->backend->describe(device));
    write(context, line);
    th_device_close(device);
    return THAW_OK;
}
