/* SPDX-License-Identifier: Apache-2.0
 * Owns what of an image is hashed. */
#include "fingerprint.h"

#include "tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t hash_text(const char *text, uint64_t seed)
{
    return th_hash(text, strlen(text) + 1, seed);
}

static uint64_t hash_sample(const struct th_dataset *d, const struct th_sample *s)
{
    uint64_t hash = hash_text(s->label >= 0 ? d->classes[s->label] : "", 0);
    for (int32_t k = 0; k < s->n_classes; k++) /* a sum: in any order */
        hash += hash_text(d->classes[s->classes[k]], 1);
    for (int32_t k = 0; k < s->n_objects; k++) {
        const struct th_object *o = &s->objects[k];
        hash += th_object_hash(o, hash_text(d->classes[o->class], 2));
    }
    if (!s->path)
        return th_hash(s->pixels, (size_t)s->w * (size_t)s->h, hash);
    const char *slash = strrchr(s->path, '/');
    hash = hash_text(slash ? slash + 1 : s->path, hash);
    return th_hash(&s->bytes, sizeof s->bytes, hash);
}

struct th_fingerprint th_fingerprint_of(const struct th_dataset *d)
{
    struct th_fingerprint f = {0};
    for (int split = 0; split < TH_N_SPLITS; split++) {
        f.images[split] = d->split[split].n;
        for (int64_t i = 0; i < d->split[split].n; i++)
            f.split[split] += hash_sample(d, &d->split[split].sample[i]);
    }
    return f;
}

const char *th_fingerprint_text(
    const struct th_fingerprint *f, char text[TH_FINGERPRINT_TEXT])
{
    uint64_t hash = th_hash(f->split, sizeof f->split, 0);
    hash = th_hash(f->images, sizeof f->images, hash);
    snprintf(text, TH_FINGERPRINT_TEXT, "%016" PRIx64, hash);
    return text;
}

/* The splits in the set, added up. */
static void add_up(
    const struct th_fingerprint *f, unsigned set, uint64_t *sum, int64_t *images)
{
    *sum = 0;
    *images = 0;
    for (int split = 0; split < TH_N_SPLITS; split++)
        if (set >> split & 1) {
            *sum += f->split[split];
            *images += f->images[split];
        }
}

bool th_fingerprint_same(const struct th_fingerprint *f, unsigned a,
    const struct th_fingerprint *g, unsigned b)
{
    uint64_t sum[2];
    int64_t images[2];
    add_up(f, a, &sum[0], &images[0]);
    add_up(g, b, &sum[1], &images[1]);
    return images[0] > 0 && images[0] == images[1] && sum[0] == sum[1];
}
