/* SPDX-License-Identifier: Apache-2.0
 * Owns the classes of images that may have several, and their objects. Memory for classes
 * is taken only for an image that has two or more: label says the rest. */
#include "dataset.h"
#include "error.h"
#include "mem.h"

#include <stdlib.h>
#include <string.h>

static thaw_status add_class(struct th_sample *s, int32_t label)
{
    const int32_t *have;
    int32_t n = th_sample_classes(s, &have);
    for (int32_t i = 0; i < n; i++)
        if (have[i] == label)
            return THAW_OK;
    if (n == 0) {
        s->label = label;
        return THAW_OK;
    }
    int32_t *grown =
        th_realloc(s->classes, (size_t)s->n_classes, (size_t)n + 1, sizeof *grown);
    if (!grown)
        return THAW_E_MEMORY;
    grown[0] = n == 1 ? s->label : grown[0];
    grown[n] = label;
    s->classes = grown;
    s->n_classes = n + 1;
    return THAW_OK;
}

thaw_status th_dataset_add_class(
    struct th_dataset *d, enum th_split split, int32_t label)
{
    struct th_samples *s = &d->split[split];
    return add_class(&s->sample[s->n - 1], label);
}

/* Room is that of the next power of two, from 4 on. */
thaw_status th_sample_put_object(struct th_sample *s, const struct th_object *object)
{
    size_t n = (size_t)s->n_objects;
    if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) {
        struct th_object *grown =
            th_realloc(s->objects, n, n ? n * 2 : 4, sizeof *grown);
        if (!grown)
            return THAW_E_MEMORY;
        s->objects = grown;
    }
    s->objects[s->n_objects++] = *object;
    return THAW_OK;
}

thaw_status th_sample_take_classes(struct th_sample *s, const int32_t *map)
{
    for (int32_t i = 0; i < s->n_objects; i++) {
        s->objects[i].class = map[s->objects[i].class];
        TRY(add_class(s, s->objects[i].class));
    }
    return THAW_OK;
}

static thaw_status add_object(struct th_sample *s, const struct th_object *object)
{
    TRY(th_sample_put_object(s, object));
    return add_class(s, object->class);
}

thaw_status th_dataset_add_object(
    struct th_dataset *d, enum th_split split, const struct th_object *object)
{
    struct th_samples *s = &d->split[split];
    return add_object(&s->sample[s->n - 1], object);
}

void th_samples_relabel(struct th_samples *s, const int32_t *map)
{
    for (int64_t i = 0; i < s->n; i++) {
        struct th_sample *x = &s->sample[i];
        x->label = x->label < 0 ? x->label : map[x->label];
        for (int32_t k = 0; k < x->n_classes; k++)
            x->classes[k] = map[x->classes[k]];
        for (int32_t k = 0; k < x->n_objects; k++)
            x->objects[k].class = map[x->objects[k].class];
    }
}

/* ---- Files that are listed again ---- */

/* By path; of equal ones the first that was listed comes first. */
static int by_path(const void *a, const void *b)
{
    const struct th_sample *x = *(struct th_sample *const *)a;
    const struct th_sample *y = *(struct th_sample *const *)b;
    int order = strcmp(x->path, y->path);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* Give `to` what `from` has, whose path goes: it is an image no more. */
static thaw_status join(struct th_sample *to, struct th_sample *from)
{
    const int32_t *class;
    int32_t n = th_sample_classes(from, &class);
    for (int32_t i = 0; i < n; i++)
        TRY(add_class(to, class[i]));
    for (int32_t i = 0; i < from->n_objects; i++)
        TRY(add_object(to, &from->objects[i]));
    th_free(from->path);
    th_free(from->classes);
    th_free(from->objects);
    from->path = NULL;
    from->classes = NULL;
    from->objects = NULL;
    return THAW_OK;
}

static thaw_status join_split(struct th_samples *s, struct th_sample **order)
{
    int64_t n = 0, kept = 0;
    thaw_status status = THAW_OK;
    for (int64_t i = 0; i < s->n; i++)
        if (s->sample[i].path)
            order[n++] = &s->sample[i];
    qsort(order, (size_t)n, sizeof(void *), by_path);
    for (int64_t first = 0, i = 1; i < n && status == THAW_OK; i++)
        if (strcmp(order[first]->path, order[i]->path) == 0)
            status = join(order[first], order[i]);
        else
            first = i;
    for (int64_t i = 0; i < s->n; i++)
        if (s->sample[i].path || s->sample[i].pixels)
            s->sample[kept++] = s->sample[i];
    s->n = kept;
    return status;
}

thaw_status th_dataset_join_repeats(struct th_dataset *d)
{
    thaw_status status = THAW_OK;
    for (int split = 0; split < TH_N_SPLITS && status == THAW_OK; split++) {
        struct th_samples *s = &d->split[split];
        struct th_sample **order = th_alloc((size_t)s->n, sizeof *order);
        status = order ? join_split(s, order) : THAW_E_MEMORY;
        th_free(order);
    }
    return status;
}

/* ---- Counts ---- */

static void count(const struct th_samples *s, int64_t *images)
{
    const int32_t *class;
    for (int64_t i = 0; i < s->n; i++)
        for (int32_t k = th_sample_classes(&s->sample[i], &class); k > 0; k--)
            images[class[k - 1]]++;
}

int64_t *th_dataset_count(const struct th_dataset *d, const struct th_samples *s)
{
    int64_t *images = th_alloc((size_t)d->n_classes, sizeof *images);
    if (images)
        count(s, images);
    return images;
}

thaw_status th_dataset_label_by_rarest(struct th_dataset *d)
{
    int64_t *images = th_alloc((size_t)d->n_classes, sizeof *images);
    if (!images)
        return THAW_E_MEMORY;
    for (int split = 0; split < TH_N_SPLITS; split++)
        count(&d->split[split], images);
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < d->split[split].n; i++) {
            struct th_sample *s = &d->split[split].sample[i];
            for (int32_t k = 0; k < s->n_classes; k++) {
                int32_t c = s->classes[k];
                int64_t less = images[c] - images[s->label];
                s->label = less < 0 || (less == 0 && c < s->label) ? c : s->label;
            }
        }
    th_free(images);
    return THAW_OK;
}
