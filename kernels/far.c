/* SPDX-License-Identifier: Apache-2.0
 * Owns the device "far": the plain C kernels on memory that the host cannot touch, as on
 * a GPU, so that every program that runs on it is proven to go through upload, download
 * and kernels only.
 *
 * Memory is an anonymous file mapped twice. Device pointers are addresses in the view
 * without any access; kernels and copies use the other. Every pointer has to lie, for
 * its whole extent, in one live allocation. */
#include "host.h"
#include "mem.h"
#include "ref/ref.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct block {
    char *view;   /* what the host knows: no access */
    char *memory; /* what kernels use */
    size_t bytes; /* whole pages */
    struct block *next;
};

struct far {
    struct block *blocks; /* owned */
};

/* Both views of `block->bytes` fresh bytes. */
static thaw_status map_twice(struct block *block)
{
    int fd = memfd_create("thaw far device", MFD_CLOEXEC);
    if (fd < 0)
        return th_fail_errno(THAW_E_MEMORY, "far: cannot make a file in memory");
    void *view = MAP_FAILED, *memory = MAP_FAILED;
    if (ftruncate(fd, (off_t)block->bytes) == 0) {
        view = mmap(NULL, block->bytes, PROT_NONE, MAP_SHARED, fd, 0);
        memory = mmap(NULL, block->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    thaw_status status = THAW_OK;
    if (view == MAP_FAILED || memory == MAP_FAILED)
        status =
            th_fail_errno(THAW_E_MEMORY, "far: cannot map %zu bytes", block->bytes);
    close(fd); /* the mappings keep it */
    if (status != THAW_OK && view != MAP_FAILED)
        munmap(view, block->bytes);
    if (status != THAW_OK && memory != MAP_FAILED)
        munmap(memory, block->bytes);
    block->view = view;
    block->memory = memory;
    return status;
}

static void *far_alloc(struct th_device *device, size_t bytes)
{
    struct far *far = device->state;
    if (bytes > SIZE_MAX / 2) {
        th_fail(THAW_E_MEMORY, "far: %zu bytes of device memory: too large", bytes);
        return NULL;
    }
    struct block *block = th_alloc(1, sizeof *block);
    if (block == NULL)
        return NULL;
    block->bytes = th_host_pages(bytes);
    if (map_twice(block) != THAW_OK) {
        th_free(block);
        return NULL;
    }
    block->next = far->blocks;
    far->blocks = block;
    return block->view;
}

static void unmap(struct block *block)
{
    munmap(block->view, block->bytes);
    munmap(block->memory, block->bytes);
    th_free(block);
}

static void far_free(struct th_device *device, void *p, size_t bytes)
{
    (void)bytes;
    struct far *far = device->state;
    for (struct block **at = &far->blocks; p != NULL && *at != NULL; at = &(*at)->next)
        if ((*at)->view == p) {
            struct block *block = *at;
            *at = block->next;
            unmap(block);
            return;
        }
}

/* Where kernels find the bytes of a device pointer; NULL if they are not all in one
 * live allocation. */
static void *translate(const struct th_device *device, const void *p, size_t bytes)
{
    const struct far *far = device->state;
    uintptr_t at = (uintptr_t)p;
    for (const struct block *b = far->blocks; b != NULL; b = b->next) {
        uintptr_t start = (uintptr_t)b->view;
        if (at >= start && at - start <= b->bytes && bytes <= b->bytes - (at - start))
            return b->memory + (at - start);
    }
    return NULL;
}

static thaw_status outside(
    const char *what, const char *verb, const void *p, size_t bytes)
{
    return th_fail(THAW_E_FAIL,
        "far: %s %s %zu bytes at %p, which are not in one live device allocation", what,
        verb, bytes, p);
}

static thaw_status far_upload(
    struct th_device *device, void *dst, const void *host, size_t bytes)
{
    void *to = translate(device, dst, bytes);
    if (to == NULL)
        return outside("upload", "writes", dst, bytes);
    memcpy(to, host, bytes);
    return THAW_OK;
}

static thaw_status far_download(
    struct th_device *device, void *host, const void *src, size_t bytes)
{
    const void *from = translate(device, src, bytes);
    if (from == NULL)
        return outside("download", "reads", src, bytes);
    memcpy(host, from, bytes);
    return THAW_OK;
}

static thaw_status far_protect(
    struct th_device *device, void *p, size_t bytes, bool readonly)
{
    void *memory = translate(device, p, bytes);
    if (memory == NULL)
        return outside("protect", "covers", p, bytes);
    return th_host_protect(device, memory, bytes, readonly);
}

/* Run the plain C kernel with every pointer translated. */
static thaw_status far_run(const struct th_call *call)
{
    struct th_call local = *call;
    const struct th_op_rule *rule = th_op_rule(call->op);
    for (int i = 0; i < rule->n_in + rule->n_out; i++) {
        const struct th_operand *o =
            i < rule->n_in ? &call->in[i] : &call->out[i - rule->n_in];
        size_t bytes = th_operand_bytes(o);
        if (call->args[i] == NULL)
            continue;
        local.args[i] = translate(call->device, call->args[i], bytes);
        if (local.args[i] == NULL)
            return outside(rule->name, "is given", call->args[i], bytes);
    }
    if (call->scratch_bytes > 0) {
        local.scratch = translate(call->device, call->scratch, call->scratch_bytes);
        if (local.scratch == NULL)
            return outside(
                rule->name, "has as scratch", call->scratch, call->scratch_bytes);
    }
    return th_ref_kernel(call->op)->run(&local);
}

static const struct th_kernel *far_kernel(enum th_op op)
{
    static const struct th_kernel kernels[TH_OP_COUNT] = {
#define REF(op_name, layout_, prepare_, in_place_)                                     \
    [TH_OP_##op_name] = {.layout = layout_,                                            \
        .prepare = prepare_,                                                           \
        .run = far_run,                                                                \
        .in_place = in_place_},
#include "ref/ref.def"
#undef REF
    };
    return kernels[op].run != NULL ? &kernels[op] : NULL;
}

static thaw_status far_open(struct th_device *device)
{
    device->block = 1;
    device->state = th_alloc(1, sizeof(struct far));
    return device->state != NULL ? THAW_OK : THAW_E_MEMORY;
}

static void far_close(struct th_device *device)
{
    struct far *far = device->state;
    while (far->blocks != NULL) {
        struct block *block = far->blocks;
        far->blocks = block->next;
        unmap(block);
    }
    th_free(far);
}

static const char *far_describe(struct th_device *device)
{
    (void)device;
    return "far: plain C on memory that the host cannot touch";
}

const struct th_backend th_backend_far = {
    .name = "far",
    .kernel = far_kernel,
    .open = far_open,
    .close = far_close,
    .alloc = far_alloc,
    .free = far_free,
    .upload = far_upload,
    .download = far_download,
    .protect = far_protect,
    .describe = far_describe,
};
