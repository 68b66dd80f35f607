/* SPDX-License-Identifier: Apache-2.0
 * Devices that come as plugins: libthaw_NAME.so beside the library (or the program that it is
 * linked into), or the file that the environment variable THAW_NAME_ENGINE names, opened when
 * such a device is first asked for. What the program was built without costs it nothing.
 *
 * A plugin is built from the same tree: both sides compare what they were built from. It has
 * its own copy of the ground floor and of the plain C kernels; errors are the library's. */
#ifndef TH_PLUGIN_H
#define TH_PLUGIN_H

#include "backend.h"

/* What the library tells of itself. */
struct th_plugin_host {
    const char *version;
    int n_ops;
    size_t call_bytes, device_bytes, backend_bytes, kernel_bytes;
    char *(*sentence)(void); /* th_error_sentence */
};
struct th_plugin_host th_plugin_host(void);

/* The one symbol of a plugin. NULL: built from another tree than this host. */
#define TH_PLUGIN_ENTRY "th_plugin_entry"
typedef const struct th_backend *th_plugin_entry_fn(const struct th_plugin_host *host);

/* Whether two sides fit. */
bool th_plugin_fits(const struct th_plugin_host *a, const struct th_plugin_host *b);

/* The backend of plugin `name` ("cuda"). THAW_E_FAIL: there is no such file, a library that
 * it needs is missing, or it is of another version. */
thaw_status th_plugin_find(const char *name, const struct th_backend **out);

#endif
