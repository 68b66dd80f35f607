/* SPDX-License-Identifier: Apache-2.0
 * Owns the two orders of a folder's images. */
#include "image_index.h"

#include "mem.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of an image's name before its ending. */
static size_t stem_length(const char *image)
{
    return (size_t)(strrchr(image, '.') - image);
}

static int compare_stem(const char *stem, size_t n, const char *image)
{
    size_t m = stem_length(image);
    int order = memcmp(stem, image, n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

static int by_stem(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    int order = compare_stem(x, stem_length(x), y);
    return order ? order : strcmp(x, y);
}

static int name_and_stem(const void *key, const void *image)
{
    return compare_stem(key, strlen(key), *(char *const *)image);
}

static int name_and_name(const void *key, const void *image)
{
    return strcmp(key, *(char *const *)image);
}

thaw_status th_image_index_init(struct th_image_index *index, const char *folder)
{
    *index = (struct th_image_index){0};
    thaw_status status = th_list_images(folder, &index->images, NULL);
    size_t n = (size_t)index->images.n;
    if (status == THAW_OK) {
        index->by_stem = th_alloc(n, sizeof *index->by_stem);
        status = index->by_stem ? THAW_OK : THAW_E_MEMORY;
    }
    if (status == THAW_OK && n) {
        memcpy(index->by_stem, index->images.name, n * sizeof *index->by_stem);
        qsort(index->by_stem, n, sizeof *index->by_stem, by_stem);
    }
    return status;
}

void th_image_index_release(struct th_image_index *index)
{
    th_free(index->by_stem);
    th_names_release(&index->images);
    index->by_stem = NULL;
}

static const char *find(char *const *names, int64_t n, const char *key,
    int (*compare)(const void *, const void *))
{
    char *const *found =
        n ? bsearch(key, names, (size_t)n, sizeof *names, compare) : NULL;
    return found ? *found : NULL;
}

const char *th_image_index_find(const struct th_image_index *index, const char *name)
{
    return find(index->images.name, index->images.n, name, name_and_name);
}

const char *th_image_index_find_stem(
    const struct th_image_index *index, const char *stem)
{
    return find(index->by_stem, index->images.n, stem, name_and_stem);
}
