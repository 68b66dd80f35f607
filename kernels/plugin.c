/* SPDX-License-Identifier: Apache-2.0
 * Owns finding and opening plugins. An open one stays until the process ends: what it loaded
 * has threads and exit handlers of its own. */
#include "plugin.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct th_plugin_host th_plugin_host(void)
{
    return (struct th_plugin_host){.version = THAW_VERSION,
        .n_ops = TH_OP_COUNT,
        .call_bytes = sizeof(struct th_call),
        .device_bytes = sizeof(struct th_device),
        .backend_bytes = sizeof(struct th_backend),
        .kernel_bytes = sizeof(struct th_kernel),
        .sentence = th_error_sentence};
}

bool th_plugin_fits(const struct th_plugin_host *a, const struct th_plugin_host *b)
{
    return strcmp(a->version, b->version) == 0 && a->n_ops == b->n_ops &&
           a->call_bytes == b->call_bytes && a->device_bytes == b->device_bytes &&
           a->backend_bytes == b->backend_bytes && a->kernel_bytes == b->kernel_bytes;
}

/* "/usr/lib/libthaw_cuda.so" of where this code lies; or what the environment says. */
static void path_of(const char *name, char *path, size_t size)
{
    char variable[64];
    Dl_info here;
    snprintf(variable, sizeof variable, "THAW_%s_ENGINE", name);
    for (char *c = variable; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    const char *said = getenv(variable);
    if (said && *said) {
        snprintf(path, size, "%s", said);
        return;
    }
    const char *file = "";
    static const char anchor; /* lies where this code does */
    if (dladdr(&anchor, &here) && here.dli_fname)
        file = here.dli_fname;
    const char *slash = strrchr(file, '/');
    snprintf(path, size, "%.*slibthaw_%s.so", slash ? (int)(slash + 1 - file) : 0, file,
        name);
}

thaw_status th_plugin_find(const char *name, const struct th_backend **out)
{
    char path[4096];
    th_plugin_entry_fn *entry = NULL;
    const struct th_plugin_host host = th_plugin_host();
    path_of(name, path, sizeof path);
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!plugin)
        return th_fail(THAW_E_FAIL,
            "device %s: its engine cannot be loaded (%s); thaw has one where it was "
            "built "
            "with the CUDA toolkit and cuDNN, and needs their libraries to run",
            name, dlerror());
    *(void **)&entry = dlsym(plugin, TH_PLUGIN_ENTRY); /* POSIX: dlsym's rationale */
    const struct th_backend *backend = entry ? entry(&host) : NULL;
    if (!backend)
        return th_fail(THAW_E_FAIL,
            "device %s: %s is not of this thaw %s: install both from one build", name,
            path, host.version);
    *out = backend;
    return THAW_OK;
}
