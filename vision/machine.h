/* SPDX-License-Identifier: Apache-2.0
 * The machine as the library sees it: processor, libraries, engines, and how fast they are. */
#ifndef TH_MACHINE_H
#define TH_MACHINE_H

#include "thaw.h"

struct th_machine {
    char cpu[200], system[200];
    char features[256];   /* instruction sets that kernels of somebody's ask for */
    char libraries[256];  /* "HDF5 1.10.8, libpng 1.6.39, ..." */
    char device[160];     /* engine, version, instruction set */
    char cpu_engine[160]; /* the device cpu, where `device` is another; else "" */
    char cuda
        [400]; /* the device cuda:0, or why there is none; "" where it is `device` */
    bool has_cuda;
    long cores;
    double memory; /* bytes */
    /* In a second, of all threads and of one: multiply-adds of a large matrix product, bytes
     * of a sum of tensors. */
    double macs, bytes, macs_one, bytes_one;
};

/* Some half a second. THAW_E_USAGE and THAW_E_FAIL where the device cannot be opened. */
thaw_status th_machine_find(const char *device, int threads, struct th_machine *m);

#endif
