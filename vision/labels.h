/* SPDX-License-Identifier: Apache-2.0
 * Classes by name: a data set's classes against a model's. */
#ifndef TH_LABELS_H
#define TH_LABELS_H

#include "dataset.h"

/* map[data class] = the model's class of the same name, -1 where it has none; how many
 * have one is returned. */
int th_labels_map(const struct th_dataset *d, const char *const *classes, int n_classes,
    int32_t *map);

/* Put the data set's classes in the model's order: map is a permutation. */
thaw_status th_labels_reorder(struct th_dataset *d, const int32_t *map);

/* A hash of what the samples are: split, class, objects and file name of
 * each, in order. */
int64_t th_dataset_hash(const struct th_dataset *d);

#endif
