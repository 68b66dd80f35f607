/* SPDX-License-Identifier: Apache-2.0
 * Owns opening and closing devices. */
#include "backend.h"

#include "cores.h"
#include "mem.h"
#include "plugin.h"

#include <stdio.h>
#include <string.h>

/* Devices with something after the colon: an instruction set, a number. */
static const char *after(const char *name, const char *kind)
{
    size_t n = strlen(kind);
    return strncmp(name, kind, n) == 0 && name[n] == ':' ? name + n + 1 : NULL;
}

static thaw_status unknown(const char *name)
{
    return th_fail(THAW_E_USAGE,
        "device %s: not known; there are cpu, cpu:base, cpu:avx2, cpu:avx512, cuda:0, "
        "ref, "
        "far",
        name);
}

/* The backend named before the colon, and what follows it. */
static thaw_status backend_of(
    const char *name, const struct th_backend **out, const char **part)
{
    static const struct th_backend *const backends[] = {
        &th_backend_ref, &th_backend_far, &th_backend_cpu};
    *part = "";
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(name, backends[i]->name) == 0) {
            *out = backends[i];
            return THAW_OK;
        }
    const char *isa = after(name, "cpu"), *number = after(name, "cuda");
    if (isa && *isa) {
        *out = &th_backend_cpu;
        *part = isa;
        return THAW_OK;
    }
    if (strcmp(name, "cuda") == 0)
        number = "0";
    if (!number || !*number || strspn(number, "0123456789") != strlen(number))
        return unknown(name);
    *part = number;
    return th_plugin_find("cuda", out);
}

static thaw_status open_auto(int threads, struct th_device **out)
{
    char missed[sizeof(*out)->missed];
    thaw_status status = th_device_open("cuda:0", threads, out);
    if (status != THAW_E_FAIL)
        return status;
    snprintf(missed, sizeof missed, "%s", thaw_error());
    TRY(th_device_open("cpu", threads, out));
    memcpy((*out)->missed, missed, sizeof missed);
    return THAW_OK;
}

thaw_status th_device_open(const char *name, int threads, struct th_device **out)
{
    const char *part;
    const struct th_backend *backend = NULL;
    struct th_device *device = NULL;
    if (strcmp(name, "auto") == 0)
        return open_auto(threads, out);
    TRY(backend_of(name, &backend, &part));
    if (strlen(part) >= sizeof device->isa)
        return unknown(name);
    if (threads < 0)
        return th_fail(THAW_E_USAGE,
            "device %s: %d threads: give 1 or more, or 0 for all", name, threads);
    device = th_alloc(1, sizeof *device);
    if (device == NULL)
        return THAW_E_MEMORY;
    device->backend = backend;
    device->threads = threads > 0 ? threads : th_cores();
    snprintf(device->isa, sizeof device->isa, "%s", part);
    thaw_status status = backend->open(device);
    if (status == THAW_OK)
        *out = device;
    else
        th_free(device);
    return status;
}

void th_device_close(struct th_device *device)
{
    if (device == NULL)
        return;
    device->backend->close(device);
    th_free(device);
}
