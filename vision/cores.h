/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TH_CORES_H
#define TH_CORES_H

/* Cores that this process may use: fewer than the machine has in a container or under
 * taskset. At least 1. */
int th_cores(void);

#endif
