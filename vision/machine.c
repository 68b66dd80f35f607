/* SPDX-License-Identifier: Apache-2.0
 * Owns finding out what the machine is. */
#include "machine.h"

#include "backend.h"
#include "forecast.h"
#include "image.h"
#include "weights.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- Processor ---- */

/* What stands behind the colon in the first line of /proc/cpuinfo that begins so; "". */
static void cpu_line(const char *begin, char *text, size_t size)
{
    char line[8192]; /* of flags there are some two thousand letters */
    FILE *file = fopen("/proc/cpuinfo", "r");
    *text = 0;
    while (file && !*text && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, begin, strlen(begin)) || !colon)
            continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(text, size, "%s", colon + 1 + (colon[1] == ' '));
    }
    if (file)
        fclose(file);
}

static void append(char *text, size_t size, const char *between, const char *word)
{
    size_t n = strlen(text);
    snprintf(text + n, size - n, "%s%s", n ? between : "", word);
}

/* Of the processor's flags those that matter to products: others would fill a page. */
static void cpu_features(char *text, size_t size)
{
    static const char *const known[] = {"sse4_2", "avx", "fma", "f16c", "avx2",
        "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni",
        "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd",
        "asimdhp", "asimddp", "sve", "sve2", "bf16", "i8mm"};
    char flags[8192];
    cpu_line("flags", flags, sizeof flags);
    if (!*flags)
        cpu_line("Features", flags, sizeof flags); /* ARM */
    *text = 0;
    for (char *rest = flags, *word; (word = strtok_r(rest, " ", &rest));)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (strcmp(word, known[i]) == 0)
                append(text, size, " ", word);
}

static void find_processor(struct th_machine *m)
{
    struct utsname u;
    cpu_line("model name", m->cpu, sizeof m->cpu);
    if (!*m->cpu)
        snprintf(m->cpu, sizeof m->cpu, "unknown");
    cpu_features(m->features, sizeof m->features);
    if (uname(&u) == 0)
        snprintf(m->system, sizeof m->system, "%.60s %.60s %.60s", u.sysname, u.release,
            u.machine);
    m->cores = sysconf(_SC_NPROCESSORS_ONLN);
    m->memory = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
}

/* ---- Libraries ---- */

static void add_library(struct th_machine *m, void (*library)(char *text, size_t size))
{
    char text[64];
    if (!library)
        return;
    library(text, sizeof text);
    if (!strstr(m->libraries, text))
        append(m->libraries, sizeof m->libraries, ", ", text);
}

static void find_libraries(struct th_machine *m)
{
    for (const struct th_decoder *const *d = th_decoder_list; *d; d++)
        add_library(m, (*d)->library);
    for (const struct th_weight_format *const *f = th_weight_format_list; *f; f++)
        add_library(m, (*f)->library);
}

/* ---- Engines ---- */

static thaw_status measure(
    const char *name, int threads, char text[160], double *macs, double *bytes)
{
    struct th_device *device = NULL;
    TRY(th_device_open(name, threads, &device));
    snprintf(text, 160, "%s", device->backend->describe(device));
    thaw_status status = th_rates_best(device, macs, bytes);
    th_device_close(device);
    return status;
}

/* What the device says of itself, or why it is not there. */
static thaw_status ask(const char *name, char *text, size_t size, bool *here)
{
    struct th_device *device = NULL;
    thaw_status status = th_device_open(name, 0, &device);
    *here = status == THAW_OK;
    snprintf(
        text, size, "%s", *here ? device->backend->describe(device) : thaw_error());
    th_device_close(device);
    return status == THAW_E_MEMORY ? status : THAW_OK;
}

thaw_status th_machine_find(const char *device, int threads, struct th_machine *m)
{
    char one[160];
    bool here;
    *m = (struct th_machine){0};
    TRY(measure(device, 1, one, &m->macs_one, &m->bytes_one));
    TRY(measure(device, threads, m->device, &m->macs, &m->bytes));
    if (strncmp(m->device, "cpu", 3) != 0)
        TRY(ask("cpu", m->cpu_engine, sizeof m->cpu_engine, &here));
    if (strncmp(m->device, "cuda", 4) != 0)
        TRY(ask("cuda:0", m->cuda, sizeof m->cuda, &m->has_cuda));
    find_processor(m);
    find_libraries(m);
    return THAW_OK;
}
