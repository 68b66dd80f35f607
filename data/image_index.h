/* SPDX-License-Identifier: Apache-2.0
 * The images below a folder, found by name or by name without its ending. */
#ifndef TH_IMAGE_INDEX_H
#define TH_IMAGE_INDEX_H

#include "files.h"

struct th_image_index {
    struct th_names images; /* relative to the folder */
    char **by_stem;         /* [images.n], those of images in order of what is left
                               without the ending */
};

thaw_status th_image_index_init(struct th_image_index *index, const char *folder);
void th_image_index_release(struct th_image_index *index);

/* The image of that very name, or NULL. */
const char *th_image_index_find(const struct th_image_index *index, const char *name);

/* An image whose name without its ending is `stem`, or NULL. */
const char *th_image_index_find_stem(
    const struct th_image_index *index, const char *stem);

#endif
