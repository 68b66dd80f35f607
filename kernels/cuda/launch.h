/* SPDX-License-Identifier: Apache-2.0
 * Our own kernels by name, and how one is enqueued. The engine implements th_cuda_launch;
 * tests/ptx has a double that runs a kernel's PTX on the host. */
#ifndef TH_CUDA_LAUNCH_H
#define TH_CUDA_LAUNCH_H

#include "backend.h"

enum th_cuda_kernel {
#define KERNEL(name, params, pointers) TH_K_##name,
#include "kernels.def"
#undef KERNEL
    TH_K_COUNT
};

/* The name of the device function. */
const char *th_cuda_kernel_name(enum th_cuda_kernel k);
/* Bytes of its only parameter. */
size_t th_cuda_kernel_params(enum th_cuda_kernel k);

/* "aa": its first two pointers are to values of the kernel's type. */
const char *th_cuda_kernel_pointers(enum th_cuda_kernel k);

struct th_cuda_grid {
    unsigned blocks[3], threads[3], shared; /* shared: dynamic bytes */
};

/* Enqueues on the device's compute stream; args[i]: address of parameter i. */
thaw_status th_cuda_launch(struct th_device *device, enum th_cuda_kernel kernel,
    const struct th_cuda_grid *grid, void *const *args);

#endif
