/* SPDX-License-Identifier: Apache-2.0
 * Owns libraries of device code and launches: PTX text, run by tests/ptx. What a launch reads
 * and writes is known when it has run; its order is that of the call. */
#include "emu.h"

#include "ptx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A text that was parsed: for all devices after it, too. */
struct parsed {
    char *text;
    struct ptx_module *module;
    struct parsed *next;
};

/* What a cudaLibrary_t is. */
struct library {
    struct ptx_module *module; /* borrowed */
    bool live;
    int pending; /* launches that have not run */
};

/* What a cudaKernel_t is. */
struct kernel {
    const struct ptx_kernel *code;
    struct library *library;
    size_t shared; /* dynamic bytes that it may have */
};

static struct {
    struct library **libraries;
    struct kernel **kernels;
    int n_libraries, n_kernels;
} loaded;
static struct parsed *parsed; /* the process's */

void emu_kernels_close(void)
{
    for (int i = 0; i < loaded.n_libraries; i++) {
        if (loaded.libraries[i]->live)
            emu_find("leak: a library of device code was not unloaded");
        free(loaded.libraries[i]);
    }
    for (int i = 0; i < loaded.n_kernels; i++)
        free(loaded.kernels[i]);
    free(loaded.libraries);
    free(loaded.kernels);
    memset(&loaded, 0, sizeof loaded);
}

/* ---- libraries ---- */

/* Parsing takes longer than most devices live. */
static struct ptx_module *parse(const char *text, char *why, size_t size)
{
    for (const struct parsed *p = parsed; p; p = p->next)
        if (strcmp(p->text, text) == 0)
            return p->module;
    struct ptx_module *module = ptx_parse(text, strlen(text), why, size);
    struct parsed *p = module ? calloc(1, sizeof *p) : NULL;
    if (!module)
        return NULL;
    if (!p || !(p->text = strdup(text)))
        abort();
    p->module = module;
    p->next = parsed;
    return (parsed = p)->module;
}

cudaError_t cudaLibraryLoadData(cudaLibrary_t *out, const void *code,
    enum cudaJitOption *jit_options, void **jit_values, unsigned n_jit,
    enum cudaLibraryOption *options, void **values, unsigned n_options)
{
    (void)jit_options, (void)jit_values, (void)options, (void)values;
    cudaError_t error = emu_enter(EMU_ALLOC, "cudaLibraryLoadData");
    char why[256] = "";
    if (error != cudaSuccess)
        return error;
    if (!out || !code)
        return emu_return(cudaErrorInvalidValue);
    if (n_jit > 0 || n_options > 0)
        emu_find("unknown: cudaLibraryLoadData with options");
    struct library *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->module = parse(code, why, sizeof why);
    if (!l->module) {
        free(l);
        emu_find("ptx: %s", why);
        return emu_return(cudaErrorInvalidPtx);
    }
    l->live = true;
    loaded.libraries = emu_grow(loaded.libraries, loaded.n_libraries, sizeof l);
    loaded.libraries[loaded.n_libraries++] = l;
    *out = (cudaLibrary_t)(void *)l;
    return cudaSuccess;
}

static struct library *library_of(cudaLibrary_t handle)
{
    for (int i = 0; i < loaded.n_libraries; i++)
        if ((void *)loaded.libraries[i] == (void *)handle && loaded.libraries[i]->live)
            return loaded.libraries[i];
    return NULL;
}

cudaError_t cudaLibraryUnload(cudaLibrary_t handle)
{
    struct library *l = library_of(handle);
    if (!l)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (l->pending > 0)
        emu_find("misuse: a library is unloaded with %d of its launches pending",
            l->pending);
    l->live = false; /* its code stays for what is pending */
    return cudaSuccess;
}

cudaError_t cudaLibraryGetKernel(
    cudaKernel_t *out, cudaLibrary_t handle, const char *name)
{
    enum { SHARED = 49152 }; /* bytes, unless more is asked for */
    cudaError_t error = emu_visit("cudaLibraryGetKernel");
    struct library *l = library_of(handle);
    if (error != cudaSuccess)
        return error;
    if (!l || !out || !name)
        return emu_return(cudaErrorInvalidResourceHandle);
    const struct ptx_kernel *code = ptx_find(l->module, name);
    if (!code)
        return emu_return(cudaErrorSymbolNotFound);
    struct kernel *k = calloc(1, sizeof *k);
    if (!k)
        abort();
    *k = (struct kernel){.code = code, .library = l, .shared = SHARED};
    loaded.kernels = emu_grow(loaded.kernels, loaded.n_kernels, sizeof k);
    loaded.kernels[loaded.n_kernels++] = k;
    *out = (cudaKernel_t)(void *)k;
    return cudaSuccess;
}

static struct kernel *kernel_of(const void *handle)
{
    for (int i = 0; i < loaded.n_kernels; i++)
        if ((const void *)loaded.kernels[i] == handle &&
            loaded.kernels[i]->library->live)
            return loaded.kernels[i];
    return NULL;
}

cudaError_t cudaFuncSetAttribute(
    const void *handle, enum cudaFuncAttribute attribute, int value)
{
    enum { MOST = 232448 };
    cudaError_t error = emu_visit("cudaFuncSetAttribute");
    struct kernel *k = kernel_of(handle);
    if (error != cudaSuccess)
        return error;
    if (!k)
        return emu_return(cudaErrorInvalidDeviceFunction);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        emu_find("unknown: kernel attribute %d", (int)attribute);
    if (value < 0 || value > MOST)
        return emu_return(cudaErrorInvalidValue);
    k->shared = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaKernelSetAttributeForDevice(
    cudaKernel_t kernel, enum cudaFuncAttribute attribute, int value, int device)
{
    if (device != 0)
        return emu_return(cudaErrorInvalidDevice);
    return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}

/* ---- launches ---- */

struct launch {
    struct kernel *kernel;
    unsigned grid[3], block[3], shared;
    int n_params;
    void **params; /* into values */
    char *values;
};

static void launch_free(void *argument)
{
    struct launch *l = argument;
    l->kernel->library->pending--;
    free(l->params);
    free(l->values);
    free(l);
}

/* Parameters are copied: the caller's may be gone when it runs. */
static struct launch *launch_new(struct kernel *k, void *const *args)
{
    enum { ALIGNMENT = 16 };
    size_t bytes = 0, at = 0;
    struct launch *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->kernel = k;
    l->n_params = ptx_n_params(k->code);
    for (int i = 0; i < l->n_params; i++)
        bytes += (ptx_param_bytes(k->code, i) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    l->values = malloc(bytes + 1);
    l->params = calloc((size_t)l->n_params + 1, sizeof *l->params);
    if (!l->values || !l->params)
        abort();
    for (int i = 0; i < l->n_params; i++) {
        size_t size = ptx_param_bytes(k->code, i);
        l->params[i] = l->values + at;
        memcpy(l->params[i], args[i], size);
        at += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    k->library->pending++;
    return l;
}

/* A parameter that is an address in a block whose free is enqueued or done. */
static void check_params(const struct launch *l)
{
    for (int p = 0; p < l->n_params; p++) {
        uintptr_t address;
        if (ptx_param_bytes(l->kernel->code, p) != sizeof address)
            continue;
        memcpy(&address, l->params[p], sizeof address);
        for (int i = 0; i < emu.n_blocks; i++) {
            const struct emu_block *b = emu.blocks[i];
            uintptr_t start = (uintptr_t)b->view;
            if ((b->dying || !b->live) && address >= start &&
                address - start < b->bytes)
                emu_find("freed: %s is launched with block %d, whose free was enqueued "
                         "before",
                    ptx_name(l->kernel->code), b->id);
        }
    }
}

static cudaError_t check_shape(
    const struct kernel *k, const dim3 *grid, const dim3 *block, size_t shared)
{
    enum { THREADS = 1024, DEEP = 64, HIGH = 65535 };
    uint64_t threads = (uint64_t)block->x * block->y * block->z;
    if (grid->x == 0 || grid->y == 0 || grid->z == 0 || threads == 0 ||
        grid->x > INT32_MAX || grid->y > HIGH || grid->z > HIGH || threads > THREADS ||
        block->z > DEEP)
        return cudaErrorInvalidConfiguration;
    return shared > k->shared ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **args,
    size_t shared, cudaStream_t stream)
{
    cudaError_t error = emu_enter(EMU_WORK, "cudaLaunchKernel");
    struct kernel *k = kernel_of(function);
    if (error != cudaSuccess)
        return error;
    if (!k)
        return emu_return(cudaErrorInvalidDeviceFunction);
    if (emu_actor(stream) < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    error = check_shape(k, &grid, &block, shared);
    if (error == cudaSuccess && !args && ptx_n_params(k->code) > 0)
        error = cudaErrorInvalidValue;
    if (error != cudaSuccess)
        return emu_return(error);
    struct launch *l = launch_new(k, args);
    memcpy(l->grid, (unsigned[]){grid.x, grid.y, grid.z}, sizeof l->grid);
    memcpy(l->block, (unsigned[]){block.x, block.y, block.z}, sizeof l->block);
    l->shared = (unsigned)shared;
    check_params(l);
    struct emu_op *op = emu_op_new(EMU_OP_KERNEL, ptx_name(k->code), stream);
    op->owned = l;
    op->release = launch_free;
    emu.counters.launches++;
    emu.counters.kernels++;
    emu_enqueue(op);
    return cudaSuccess;
}

/* ---- running ---- */

static bool block_at(
    void *context, uint64_t address, uint64_t *start, size_t *bytes, char **memory)
{
    (void)context;
    const struct emu_block *b = emu_block_of((const void *)(uintptr_t)address, 1);
    if (!b)
        return false;
    *start = (uint64_t)(uintptr_t)b->view;
    *bytes = b->bytes;
    *memory = b->memory;
    return true;
}

static void touched(void *context, uint64_t address, size_t bytes, bool writes)
{
    const struct emu_range range = {(const void *)(uintptr_t)address, bytes, writes};
    emu_race_found(context, &range);
}

static void find(void *context, const char *finding)
{
    const struct emu_op *op = context;
    emu_find("kernel: %s #%llu on stream %d: %s", op->name, (unsigned long long)op->seq,
        op->stream, finding);
}

void emu_kernel_run(struct emu_op *op)
{
    const struct launch *l = op->owned;
    const struct ptx_host host = {
        .context = op, .block = block_at, .touched = touched, .find = find};
    struct ptx_launch launch = {.shared = l->shared,
        .seed = emu.options.order == EMU_RANDOM ? emu.options.seed + op->seq : 0,
        .args = l->params,
        .approximate = emu.options.approximate};
    memcpy(launch.grid, l->grid, sizeof launch.grid);
    memcpy(launch.block, l->block, sizeof launch.block);
    if (!ptx_run(l->kernel->code, &launch, &host))
        emu.pending = cudaErrorIllegalAddress;
}
