/* SPDX-License-Identifier: Apache-2.0
 * Owns memory. Device memory is a file in memory mapped twice: what the program is given has
 * no access, kernels and copies use the other view. Each block begins on a page of its own
 * and is followed by a zone of known bytes and a page that is never mapped; a freed block's
 * addresses are never given again. Fresh bytes are 0xFF: NaN in fp32, fp16 and bf16. */
#include "emu.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, FRESH = 0xFF, ZONE = 0xA5, FRESH_BYTES = 1 << 20 };

static int file_of(size_t bytes)
{
    int fd = memfd_create("emulated device", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Fresh bytes that are there once for the whole process, so that memory of which little is
 * used costs little. -1: cannot. */
static int fresh_file(void)
{
    static int file = -1;
    if (file >= 0 || (file = file_of(FRESH_BYTES)) < 0)
        return file;
    char *p = mmap(NULL, FRESH_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (p == MAP_FAILED)
        abort();
    memset(p, FRESH, FRESH_BYTES);
    munmap(p, FRESH_BYTES);
    return file;
}

/* Copies of the fresh bytes, page by page as they are written. */
static bool map_pinned(struct emu_block *b)
{
    int fd = fresh_file();
    for (size_t at = 0, n; at < b->mapped; at += n) {
        n = b->mapped - at < FRESH_BYTES ? b->mapped - at : FRESH_BYTES;
        if (mmap(b->view + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                0) == MAP_FAILED)
            return false;
    }
    b->memory = b->view;
    return true;
}

static bool map_device(struct emu_block *b)
{
    int fd = file_of(b->mapped);
    bool good = fd >= 0 && mmap(b->view, b->mapped, PROT_NONE, MAP_SHARED | MAP_FIXED,
                               fd, 0) != MAP_FAILED;
    b->memory = MAP_FAILED;
    if (good)
        b->memory = mmap(NULL, b->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (b->memory == MAP_FAILED)
        return false;
    memset(b->memory, FRESH, b->bytes);
    return true;
}

static bool map(struct emu_block *b)
{
    size_t whole = b->mapped + PAGE;
    b->view = mmap(
        NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->view == MAP_FAILED)
        return false;
    if (b->pinned ? map_pinned(b) : map_device(b))
        return true;
    munmap(b->view, whole);
    return false;
}

static struct emu_block *block_new(size_t bytes, bool pinned)
{
    struct emu_block *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->bytes = bytes;
    b->mapped = (bytes + PAGE) / PAGE * PAGE; /* at least one byte of zone */
    b->pinned = pinned;
    b->live = true;
    b->id = emu.n_blocks;
    if (!map(b)) {
        free(b);
        return NULL;
    }
    memset(b->memory + bytes, ZONE, b->mapped - bytes);
    emu.blocks = emu_grow(emu.blocks, emu.n_blocks, sizeof *emu.blocks);
    emu.blocks[emu.n_blocks++] = b;
    if (!pinned)
        emu.used += bytes;
    if (emu.used > emu.counters.peak_bytes)
        emu.counters.peak_bytes = emu.used;
    return b;
}

/* The live block that holds all the bytes. */
struct emu_block *emu_block_of(const void *p, size_t bytes)
{
    uintptr_t at = (uintptr_t)p;
    for (int i = 0; i < emu.n_blocks; i++) {
        const struct emu_block *b = emu.blocks[i];
        uintptr_t start = (uintptr_t)b->view;
        if (b->live && at >= start && at - start <= b->bytes &&
            bytes <= b->bytes - (at - start))
            return emu.blocks[i];
    }
    return NULL;
}

void *emu_translate(const void *p, size_t bytes)
{
    struct emu_block *b = emu_block_of(p, bytes);
    return b ? b->memory + ((const char *)p - b->view) : NULL;
}

static void check_zone(const struct emu_block *b, const char *when)
{
    const char *zone = b->memory + b->bytes;
    size_t n = b->mapped - b->bytes; /* each byte like the one before it */
    if (n > 0 && (unsigned char)zone[0] == ZONE && memcmp(zone, zone + 1, n - 1) == 0)
        return;
    for (size_t i = b->bytes; i < b->mapped; i++)
        if ((unsigned char)b->memory[i] != ZONE) {
            emu_find(
                "overrun: block %d of %zu bytes was written %zu bytes behind its end, "
                "seen at %s",
                b->id, b->bytes, i - b->bytes, when);
            return;
        }
}

void emu_check_zones(void)
{
    for (int i = 0; i < emu.n_blocks; i++)
        if (emu.blocks[i]->live)
            check_zone(emu.blocks[i], "a synchronisation");
}

/* Its addresses stay reserved, without access. */
static void unmap(struct emu_block *b)
{
    if (!b->pinned)
        munmap(b->memory, b->mapped);
    mmap(b->view, b->mapped, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    b->memory = NULL;
}

void emu_block_die(struct emu_block *b, const char *name)
{
    check_zone(b, name);
    unmap(b);
    b->live = false;
    if (!b->pinned)
        emu.used -= b->bytes;
}

void emu_memory_close(void)
{
    for (int i = 0; i < emu.n_blocks; i++) {
        struct emu_block *b = emu.blocks[i];
        if (b->live) {
            emu_find("leak: %s block %d of %zu bytes", b->pinned ? "pinned" : "device",
                b->id, b->bytes);
            check_zone(b, "the end");
            unmap(b);
        }
        munmap(b->view, b->mapped + PAGE);
        free(b);
    }
    free(emu.blocks);
    emu.blocks = NULL;
    emu.n_blocks = 0;
    emu.used = 0;
}

/* ---- a host that touches device memory ---- */

static void trapped(int signal, siginfo_t *info, void *context)
{
    char text[160];
    const char *at = info->si_addr;
    (void)context;
    for (int i = 0; i < emu.n_blocks; i++) {
        const struct emu_block *b = emu.blocks[i];
        if (at < b->view || at >= b->view + b->mapped + PAGE)
            continue;
        int n = snprintf(text, sizeof text,
            "the host touches device block %d of %zu bytes%s at %td\n", b->id, b->bytes,
            b->live ? "" : ", which is freed,", at - b->view);
        if (write(STDERR_FILENO, text, (size_t)n) == n)
            _exit(EMU_TRAPPED);
    }
    _exit(128 + signal);
}

void emu_trap(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO};
    action.sa_sigaction = trapped;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

/* ---- entry points ---- */

static cudaError_t allocate(void **p, size_t bytes, bool pinned, const char *name)
{
    cudaError_t error = emu_enter(EMU_ALLOC, name);
    if (error == cudaSuccess)
        error = emu_not_captured(name);
    if (error != cudaSuccess)
        return error;
    if (!p || bytes == 0)
        return emu_return(cudaErrorInvalidValue);
    struct emu_block *b = NULL;
    if (pinned || bytes <= emu.options.capacity - emu.used)
        b = block_new(bytes, pinned);
    if (!b)
        return emu_return(cudaErrorMemoryAllocation);
    emu.counters.allocations++;
    *p = b->view;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    return allocate(p, bytes, false, "cudaMalloc");
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return allocate(p, bytes, true, "cudaMallocHost");
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    if (flags != cudaHostAllocDefault)
        emu_find("unknown: cudaHostAlloc with flags %u", flags);
    return allocate(p, bytes, true, "cudaHostAlloc");
}

/* As on a device: all work is waited for. */
static cudaError_t release(void *p, bool pinned, const char *name)
{
    if (!p)
        return cudaSuccess;
    struct emu_block *b = emu_block_of(p, 0);
    if (!b || b->view != p || b->pinned != pinned || b->dying) {
        emu_find("misuse: %s of %p, which is no live %s block", name, p,
            pinned ? "pinned" : "device");
        return emu_return(cudaErrorInvalidValue);
    }
    emu_run_all();
    emu_block_die(b, name);
    emu.counters.frees++;
    return emu_return(emu_synchronised());
}

cudaError_t cudaFree(void *p)
{
    return release(p, false, "cudaFree");
}

cudaError_t cudaFreeHost(void *p)
{
    return release(p, true, "cudaFreeHost");
}

/* The block exists at once, and is ordered in the stream: work elsewhere has to wait. */
cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t stream)
{
    if (emu_actor(stream) < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    cudaError_t error = allocate(p, bytes, false, "cudaMallocAsync");
    if (error != cudaSuccess)
        return error;
    struct emu_op *op = emu_op_new(EMU_OP_BORN, "cudaMallocAsync", stream);
    op->ranges[op->n_ranges++] = (struct emu_range){*p, bytes, true};
    emu_enqueue(op);
    return cudaSuccess;
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    struct emu_block *b = p ? emu_block_of(p, 0) : NULL;
    if (!p)
        return cudaSuccess;
    if (emu_actor(stream) < 0)
        return emu_return(cudaErrorInvalidResourceHandle);
    if (!b || b->view != p || b->pinned || b->dying) {
        emu_find("misuse: cudaFreeAsync of %p, which is no live device block", p);
        return emu_return(cudaErrorInvalidValue);
    }
    struct emu_op *op = emu_op_new(EMU_OP_FREE, "cudaFreeAsync", stream);
    op->ranges[op->n_ranges++] = (struct emu_range){p, b->bytes, true};
    op->block = b;
    emu.counters.frees++;
    emu_enqueue(op); /* while the block is not dying yet */
    b->dying = true;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    cudaError_t error = emu_enter(EMU_STREAM, "cudaMemGetInfo");
    if (error != cudaSuccess)
        return error;
    *free_bytes = emu.options.capacity - emu.used;
    *total = emu.options.capacity;
    return cudaSuccess;
}
