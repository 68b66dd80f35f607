/* SPDX-License-Identifier: Apache-2.0
 * Listing folders: names below a folder, in byte order. */
#ifndef TH_FILES_H
#define TH_FILES_H

#include "thaw.h"

#include <stdbool.h>
#include <stdint.h>

struct th_names {
    int64_t n, capacity;
    char **name; /* each owned */
};

thaw_status th_names_add(struct th_names *names, const char *name);
void th_names_sort(struct th_names *names); /* byte order */
void th_names_release(struct th_names *names);

bool th_is_folder(const char *path);

/* Whether some decoder reads files that end like this; "x.JPG" is the same as "x.jpg". */
bool th_is_image_name(const char *path);

/* Folders directly in `path`, in byte order; hidden ones and __MACOSX are left out. */
thaw_status th_list_folders(const char *path, struct th_names *out);

/* Files anywhere below `path` whose name ends with `.ending`, in any case of letters;
 * otherwise as th_list_images. */
thaw_status th_list_ending(const char *path, const char *ending, struct th_names *out);

/* Image files anywhere below `path`, relative to it, in byte order. Links to folders are
 * followed, but never into a folder that is being listed. Files that no decoder reads are
 * left out: *n_others of them (may be NULL). */
thaw_status th_list_images(const char *path, struct th_names *out, int64_t *n_others);

#endif
