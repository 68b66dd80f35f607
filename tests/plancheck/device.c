/* SPDX-License-Identifier: Apache-2.0
 * Owns the device that plans are made for: the CUDA engine's layouts and pairs, memory that nobody
 * touches, and no kernel that runs. */
#include "calls.h"

#include <sys/mman.h>

static thaw_status refuse(void)
{
    return th_fail(THAW_E_FAIL, "plancheck: nothing runs on this device");
}

static thaw_status run(const struct th_call *call)
{
    (void)call;
    return refuse();
}

static thaw_status prepare_pair(struct th_call *call)
{
    (void)call;
    return THAW_OK;
}

static const struct th_kernel pair_kernel = {.prepare = prepare_pair, .run = run};

static const struct th_kernel *kernel(enum th_op op)
{
    static const struct th_kernel whole = {.layout = th_cuda_layout, .run = run},
                                  copy = {.layout = th_layout_reorder, .run = run};
    return op == TH_OP_reorder ? &copy : &whole;
}

static thaw_status open(struct th_device *device)
{
    (void)device;
    return THAW_OK;
}

static void close(struct th_device *device)
{
    (void)device;
}

static void *alloc(struct th_device *device, size_t bytes)
{
    (void)device;
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED)
        return p;
    th_fail(THAW_E_MEMORY, "plancheck: no address space for %zu bytes", bytes);
    return NULL;
}

static void release(struct th_device *device, void *p, size_t bytes)
{
    (void)device;
    if (p)
        munmap(p, bytes ? bytes : 1);
}

static thaw_status upload(
    struct th_device *device, void *dst, const void *host, size_t bytes)
{
    (void)device, (void)dst, (void)host, (void)bytes;
    return refuse();
}

static thaw_status download(
    struct th_device *device, void *host, const void *src, size_t bytes)
{
    (void)device, (void)host, (void)src, (void)bytes;
    return refuse();
}

static const char *describe(struct th_device *device)
{
    (void)device;
    return "plancheck: plans only";
}

static const struct th_backend backend = {.name = "plancheck",
    .kernel = kernel,
    .pair = th_cuda_pair_steps,
    .pair_kernel = &pair_kernel,
    .open = open,
    .close = close,
    .alloc = alloc,
    .free = release,
    .upload = upload,
    .download = download,
    .describe = describe};

struct th_device plancheck_device = {.backend = &backend, .threads = 1, .block = 16};
