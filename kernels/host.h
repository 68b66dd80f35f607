/* SPDX-License-Identifier: Apache-2.0
 * Host memory as device memory: for the backends whose kernels run on the CPU. */
#ifndef TH_HOST_H
#define TH_HOST_H

#include "backend.h"

/* Members of struct th_backend; the device is not looked at. */
void *th_host_alloc(struct th_device *device, size_t bytes);
void th_host_free(struct th_device *device, void *p, size_t bytes);
thaw_status th_host_copy(
    struct th_device *device, void *dst, const void *src, size_t bytes);
thaw_status th_host_protect(
    struct th_device *device, void *p, size_t bytes, bool readonly);

void th_host_discard(struct th_device *device, void *p, size_t bytes);

/* Bytes rounded up to whole pages, at least one. */
size_t th_host_pages(size_t bytes);

#endif
