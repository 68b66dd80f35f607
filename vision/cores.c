/* SPDX-License-Identifier: Apache-2.0
 * Owns the number of cores: the default of every "threads" and "workers". */
#include "cores.h"

#include <sched.h>

int th_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}
