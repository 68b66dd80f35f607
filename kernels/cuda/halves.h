/* SPDX-License-Identifier: Apache-2.0
 * The engine's precision of 16 bits: which arguments of an op have it. */
#ifndef TH_CUDA_HALVES_H
#define TH_CUDA_HALVES_H

#include "backend.h"

/* th_backend.halves */
const char *th_cuda_halves(enum th_op op);

#endif
