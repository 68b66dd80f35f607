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

static const char *const precisions[] = {
    [TH_FP32] = "fp32", [TH_TF32] = "tf32", [TH_HALF] = "bf16"};

/* Takes a precision off the end of the name: "cuda:0:tf32" becomes "cuda:0". */
static enum th_precision take_precision(char *name)
{
    char *colon = strrchr(name, ':');
    for (int p = 0; colon && p < (int)(sizeof precisions / sizeof *precisions); p++)
        if (strcmp(colon + 1, precisions[p]) == 0) {
            *colon = '\0';
            return (enum th_precision)p;
        }
    return TH_FP32;
}

static thaw_status check_precision(
    const struct th_device *device, enum th_precision precision)
{
    if (precision == TH_FP32 || strcmp(device->backend->name, "cuda") == 0)
        return THAW_OK;
    return th_fail(THAW_E_USAGE,
        "--precision %s: the device %s computes in fp32 alone; it is for NVIDIA GPUs: "
        "--device cuda:0",
        precisions[precision], device->backend->name);
}

/* On the CPU there is one precision: who asks for another one asks for a GPU. */
static thaw_status open_auto(
    enum th_precision precision, int threads, struct th_device **out)
{
    char missed[sizeof(*out)->missed], name[32];
    snprintf(name, sizeof name, "cuda:0:%s", precisions[precision]);
    thaw_status status = th_device_open(name, threads, out);
    if (status != THAW_E_FAIL || precision != TH_FP32)
        return status;
    snprintf(missed, sizeof missed, "%s", thaw_error());
    TRY(th_device_open("cpu", threads, out));
    memcpy((*out)->missed, missed, sizeof missed);
    return THAW_OK;
}

thaw_status th_device_open(const char *asked, int threads, struct th_device **out)
{
    const char *part;
    char name[64];
    const struct th_backend *backend = NULL;
    struct th_device *device = NULL;
    if (strlen(asked) >= sizeof name)
        return unknown(asked);
    snprintf(name, sizeof name, "%s", asked);
    enum th_precision precision = take_precision(name);
    if (strcmp(name, "auto") == 0)
        return open_auto(precision, threads, out);
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
    device->precision = precision;
    snprintf(device->isa, sizeof device->isa, "%s", part);
    thaw_status status = check_precision(device, precision);
    if (status == THAW_OK)
        status = backend->open(device);
    if (status == THAW_OK)
        *out = device;
    else
        th_free(device);
    return status;
}

thaw_status th_device_wait(struct th_device *device)
{
    return device->backend->wait ? device->backend->wait(device) : THAW_OK;
}

void th_device_close(struct th_device *device)
{
    if (device == NULL)
        return;
    device->backend->close(device);
    th_free(device);
}
