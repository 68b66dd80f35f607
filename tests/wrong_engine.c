/* SPDX-License-Identifier: Apache-2.0
 * A plugin for the device cuda:0 that is plain C but for one mistake, in gelu: what
 * test_doctor_cli.sh wants found. */
#include "plugin.h"

static thaw_status wrong_gelu(const struct th_call *call)
{
    const struct th_args_gelu *a = (const void *)call->args;
    TRY(th_backend_ref.kernel(TH_OP_gelu)->run(call));
    ((float *)a->y)[0] += 0.5f;
    return THAW_OK;
}

static const struct th_kernel *kernel_of(enum th_op op)
{
    static const struct th_kernel gelu = {.run = wrong_gelu};
    return op == TH_OP_gelu ? &gelu : th_backend_ref.kernel(op);
}

static const char *describe(struct th_device *device)
{
    (void)device;
    return "cuda:0: no GPU, but plain C with a mistake";
}

__attribute__((visibility("default"))) const struct th_backend *th_plugin_entry(
    const struct th_plugin_host *host);

const struct th_backend *th_plugin_entry(const struct th_plugin_host *host)
{
    static struct th_backend backend;
    const struct th_plugin_host own = th_plugin_host();
    if (!th_plugin_fits(host, &own))
        return NULL;
    th_error_borrow(host->sentence);
    backend = th_backend_ref;
    backend.name = "cuda";
    backend.kernel = kernel_of;
    backend.describe = describe;
    return &backend;
}
