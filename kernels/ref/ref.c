/* SPDX-License-Identifier: Apache-2.0
 * Owns the device "ref": the plain C kernels in host memory, the referee of every other
 * device. */
#include "ref.h"

#include "host.h"

const struct th_kernel *th_ref_kernel(enum th_op op)
{
    static const struct th_kernel kernels[TH_OP_COUNT] = {
#define REF(op_name, layout_, prepare_, in_place_)                                     \
    [TH_OP_##op_name] = {.layout = layout_,                                            \
        .prepare = prepare_,                                                           \
        .run = th_ref_##op_name,                                                       \
        .in_place = in_place_},
#include "ref.def"
#undef REF
    };
    return kernels[op].run != NULL ? &kernels[op] : NULL;
}

static thaw_status ref_open(struct th_device *device)
{
    device->block = 1;
    return THAW_OK;
}

static void ref_close(struct th_device *device)
{
    (void)device;
}

static const char *ref_describe(struct th_device *device)
{
    (void)device;
    return "ref: plain C, sums in double";
}

const struct th_backend th_backend_ref = {
    .name = "ref",
    .kernel = th_ref_kernel,
    .open = ref_open,
    .close = ref_close,
    .alloc = th_host_alloc,
    .free = th_host_free,
    .upload = th_host_copy,
    .download = th_host_copy,
    .protect = th_host_protect,
    .discard = th_host_discard,
    .describe = ref_describe,
};
