/* SPDX-License-Identifier: Apache-2.0
 * Owns the numbers that annotations give images and classes: what results are told by. */
#include "dataset.h"

#include "mem.h"

#include <string.h>

void th_dataset_number_last(struct th_dataset *d, enum th_split split, int64_t number)
{
    struct th_samples *s = &d->split[split];
    s->sample[s->n - 1].number = number;
    s->sample[s->n - 1].has_number = true;
}

thaw_status th_dataset_add_category(
    struct th_dataset *d, enum th_split split, const char *name, int64_t number)
{
    size_t n = (size_t)d->n_categories;
    if ((n & (n - 1)) == 0) { /* room is a power of two */
        struct th_category *grown =
            th_realloc(d->category, n, n ? n * 2 : 1, sizeof *grown);
        if (!grown)
            return THAW_E_MEMORY;
        d->category = grown;
    }
    d->category[n] =
        (struct th_category){.split = split, .name = th_strdup(name), .number = number};
    if (!d->category[n].name)
        return THAW_E_MEMORY;
    d->n_categories++;
    return THAW_OK;
}

const struct th_category *th_dataset_category(
    const struct th_dataset *d, enum th_split split, const char *name)
{
    for (int64_t i = 0; i < d->n_categories; i++)
        if (d->category[i].split == split && strcmp(d->category[i].name, name) == 0)
            return &d->category[i];
    return NULL;
}
