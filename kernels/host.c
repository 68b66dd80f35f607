/* SPDX-License-Identifier: Apache-2.0
 * Owns host memory that serves as device memory: whole pages of their own, so that
 * frozen parameters can be made read-only. That is why it maps pages instead of calling
 * vision/mem.h, and why it is for a device's few large slabs only. */
#include "host.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

size_t th_host_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return bytes == 0 ? page : (bytes + page - 1) / page * page;
}

/* From here on a slab is asked to be in pages of 2 MiB: a step walks through all of it, and
 * with small pages every 4096th byte is a miss in the translation buffer. */
enum { LARGE = 2 << 20 };

void *th_host_alloc(struct th_device *device, size_t bytes)
{
    (void)device;
    if (bytes > SIZE_MAX / 2) {
        th_fail(THAW_E_MEMORY, "%zu bytes of device memory: too large", bytes);
        return NULL;
    }
    void *p = mmap(NULL, th_host_pages(bytes), PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED && bytes >= LARGE)
        madvise(p, th_host_pages(bytes), MADV_HUGEPAGE); /* a wish: it may fail */
    if (p != MAP_FAILED)
        return p;
    th_fail_errno(THAW_E_MEMORY, "%zu bytes of device memory: cannot map them", bytes);
    return NULL;
}

void th_host_free(struct th_device *device, void *p, size_t bytes)
{
    (void)device;
    if (p != NULL)
        munmap(p, th_host_pages(bytes));
}

thaw_status th_host_copy(
    struct th_device *device, void *dst, const void *src, size_t bytes)
{
    (void)device;
    if (bytes != 0)
        memcpy(dst, src, bytes);
    return THAW_OK;
}

void th_host_discard(struct th_device *device, void *p, size_t bytes)
{
    (void)device;
    madvise(
        p, th_host_pages(bytes), MADV_DONTNEED); /* where it fails, nothing is lost */
}

thaw_status th_host_protect(
    struct th_device *device, void *p, size_t bytes, bool readonly)
{
    (void)device;
    int access = readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    if (mprotect(p, th_host_pages(bytes), access) == 0)
        return THAW_OK;
    return th_fail_errno(THAW_E_FAIL, "%zu bytes at %p: cannot make them %s", bytes, p,
        readonly ? "read-only" : "writable");
}
