/* SPDX-License-Identifier: Apache-2.0
 * Owns the device "cpu" where oneDNN is missing: the plain C kernels under that name.
 * Built instead of kernels/cpu/. */
#include "host.h"
#include "ref/ref.h"

#include <string.h>

static thaw_status absent_open(struct th_device *device)
{
    if (device->isa[0] != '\0' && strcmp(device->isa, "base") != 0)
        return th_fail(THAW_E_USAGE,
            "cpu:%s: this build has no oneDNN and knows no instruction set but base: "
            "install libdnnl-dev and build again",
            device->isa);
    device->block = 1;
    return THAW_OK;
}

static void absent_close(struct th_device *device)
{
    (void)device;
}

static const char *absent_describe(struct th_device *device)
{
    (void)device;
    return "cpu: plain C (built without oneDNN)";
}

const struct th_backend th_backend_cpu = {
    .name = "cpu",
    .kernel = th_ref_kernel,
    .open = absent_open,
    .close = absent_close,
    .alloc = th_host_alloc,
    .free = th_host_free,
    .upload = th_host_copy,
    .download = th_host_copy,
    .protect = th_host_protect,
    .describe = absent_describe,
};
