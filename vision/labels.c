/* SPDX-License-Identifier: Apache-2.0
 * Owns the matching of classes by name, and the fingerprint of a data set. */
#include "labels.h"

#include "mem.h"
#include "tensor.h"

#include <string.h>

int th_labels_map(
    const struct th_dataset *d, const char *const *classes, int n_classes, int32_t *map)
{
    int found = 0;
    for (int32_t i = 0; i < d->n_classes; i++) {
        map[i] = -1;
        for (int c = 0; c < n_classes && map[i] < 0; c++)
            if (!strcmp(d->classes[i], classes[c]))
                map[i] = c;
        found += map[i] >= 0;
    }
    return found;
}

thaw_status th_labels_reorder(struct th_dataset *d, const int32_t *map)
{
    char **names = th_alloc((size_t)d->n_classes, sizeof *names);
    if (!names)
        return THAW_E_MEMORY;
    for (int32_t i = 0; i < d->n_classes; i++)
        names[map[i]] = d->classes[i];
    memcpy(d->classes, names, (size_t)d->n_classes * sizeof *names);
    th_free(names);
    for (int split = 0; split < TH_N_SPLITS; split++)
        th_samples_relabel(&d->split[split], map);
    return THAW_OK;
}

static uint64_t hash_text(const char *text, uint64_t seed)
{
    return th_hash(text, strlen(text) + 1, seed);
}

int64_t th_dataset_hash(const struct th_dataset *d)
{
    uint64_t hash = 0;
    for (int32_t i = 0; i < d->n_classes; i++)
        hash = hash_text(d->classes[i], hash);
    for (int split = 0; split < TH_N_SPLITS; split++) {
        hash = th_hash(&d->split[split].n, sizeof d->split[split].n, hash);
        for (int64_t i = 0; i < d->split[split].n; i++) {
            const struct th_sample *s = &d->split[split].sample[i];
            const char *slash = s->path ? strrchr(s->path, '/') : NULL;
            hash = th_hash(&s->label, sizeof s->label, hash);
            if (s->classes)
                hash = th_hash(
                    s->classes, (size_t)s->n_classes * sizeof *s->classes, hash);
            for (int32_t k = 0; k < s->n_objects; k++)
                hash = th_object_hash(
                    &s->objects[k], hash + (uint64_t)s->objects[k].class);
            hash = hash_text(slash ? slash + 1 : s->path ? s->path : "", hash);
        }
    }
    return (int64_t)hash;
}
