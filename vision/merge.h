/* SPDX-License-Identifier: Apache-2.0
 * Weights with their adapters merged into them, as a plan's lora_merge makes them. */
#ifndef TH_MERGE_H
#define TH_MERGE_H

#include "model.h"
#include "store.h"

/* Whether parameter i has an adapter; then its A and B, parameters too. */
bool th_merge_find(const struct th_model *m, int i, int *a, int *b);

/* w + scale B A of parameter i into out: by the kernel of the store's device, so that a
 * file has the bits that were run. */
thaw_status th_merge_weight(
    const struct th_model *m, const struct th_store *s, int i, float *out);

#endif
