/* SPDX-License-Identifier: Apache-2.0
 * Owns the loop over parts. The only file of kernels/cpu with OpenMP directives: built
 * without OpenMP it runs the parts one after the other, with the same results. */
#include "cpu.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void)
{
    return 0;
}
#endif

/* Parts are taken one by one: where a neighbour on the machine, or a thread that decodes
 * images, slows one core, the others do more of them. */

void th_parallel(const struct th_call *call, int64_t n,
    void (*part)(const struct th_call *call, int64_t i))
{
#pragma omp parallel for if (n > 1) num_threads(call->device->threads) schedule(dynamic)
    for (int64_t i = 0; i < n; i++)
        part(call, i);
}

void th_parallel_workers(const struct th_call *call, int64_t n,
    void (*part)(const struct th_call *call, int64_t i, int worker))
{
#pragma omp parallel for if (n > 1) num_threads(call->device->threads) schedule(dynamic)
    for (int64_t i = 0; i < n; i++)
        part(call, i, omp_get_thread_num());
}

/* oneDNN's own loops use the same team: OpenMP's for as many threads and this caller. */
void th_parallel_denormals(const struct th_device *device, unsigned mode)
{
    (void)device; /* without OpenMP */
#pragma omp parallel num_threads(device->threads)
    th_set_denormals(mode);
}
