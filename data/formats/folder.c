/* SPDX-License-Identifier: Apache-2.0
 * Folders: DIR/train/CLASS/..., with DIR/val and DIR/test beside it, or DIR/CLASS/...
 * Images lie anywhere below their class's folder; a class is a folder's name. */
#include "dataset.h"
#include "error.h"
#include "file.h"
#include "mem.h"

#include <string.h>

/* All images of one class; `folder` is the class's. */
static thaw_status add_images(
    struct th_dataset *d, enum th_split split, int32_t label, const char *folder)
{
    struct th_names images = {0};
    int64_t n_others = 0;
    thaw_status status = th_list_images(folder, &images, &n_others);
    for (int64_t i = 0; status == THAW_OK && i < images.n; i++) {
        char *path = th_format("%s/%s", folder, images.name[i]);
        status = path ? th_dataset_add_file(d, split, label, path) : THAW_E_MEMORY;
        th_free(path);
    }
    if (status == THAW_OK && n_others)
        status = th_dataset_warn(d, "%s: %lld files are no images Thaw reads; left out",
            folder, (long long)n_others);
    th_names_release(&images);
    return status;
}

static thaw_status add_class(
    struct th_dataset *d, enum th_split split, const char *dir, const char *class)
{
    int32_t label;
    TRY(th_dataset_class(d, class, &label));
    char *folder = th_format("%s/%s", dir, class);
    thaw_status status = folder ? add_images(d, split, label, folder) : THAW_E_MEMORY;
    th_free(folder);
    return status;
}

/* Classes outside train must be known there, if there is a train. */
static thaw_status check_class(
    struct th_dataset *d, int64_t n_known, const char *dir, const char *class)
{
    int32_t label;
    TRY(th_dataset_class(d, class, &label));
    if (n_known && label >= n_known)
        return th_fail(THAW_E_DATA,
            "%s/%s: this class has no folder in train; rename it or add training "
            "images",
            dir, class);
    return THAW_OK;
}

static thaw_status add_split(struct th_dataset *d, enum th_split split, const char *dir)
{
    struct th_names classes = {0};
    int64_t n_known = split == TH_SPLIT_TRAIN ? 0 : d->names.n;
    thaw_status status = th_list_folders(dir, &classes);
    if (status == THAW_OK && classes.n == 0)
        status = th_fail(THAW_E_DATA,
            "%s: no class folders in it; images belong in %s/CLASS/", dir, dir);
    for (int64_t i = 0; status == THAW_OK && i < classes.n; i++) {
        status = check_class(d, n_known, dir, classes.name[i]);
        if (status == THAW_OK)
            status = add_class(d, split, dir, classes.name[i]);
    }
    th_names_release(&classes);
    return status;
}

/* DIR/train, DIR/val and DIR/test, as far as they exist. */
static thaw_status add_splits(struct th_dataset *d, const char *dir)
{
    thaw_status status = THAW_OK;
    for (int split = 0; status == THAW_OK && split < TH_N_SPLITS; split++) {
        char *sub = th_format("%s/%s", dir, th_split_name((enum th_split)split));
        if (!sub)
            return THAW_E_MEMORY;
        if (th_is_folder(sub))
            status = add_split(d, (enum th_split)split, sub);
        th_free(sub);
    }
    return status;
}

static bool is_split_name(const char *name)
{
    for (int split = 0; split < TH_N_SPLITS; split++)
        if (strcmp(name, th_split_name((enum th_split)split)) == 0)
            return true;
    return false;
}

/* Whether DIR is divided into splits: it has train/, or nothing but val/ and test/. In a
 * divided one, a folder with another name ("valid") is worth a line. */
static thaw_status is_divided(struct th_dataset *d, const char *dir, bool *divided)
{
    struct th_names folders = {0};
    int64_t n_splits = 0;
    bool train = false;
    thaw_status status = th_list_folders(dir, &folders);
    for (int64_t i = 0; i < folders.n; i++) {
        n_splits += is_split_name(folders.name[i]);
        train = train || strcmp(folders.name[i], th_split_name(TH_SPLIT_TRAIN)) == 0;
    }
    *divided = train || (n_splits && n_splits == folders.n);
    for (int64_t i = 0; status == THAW_OK && *divided && i < folders.n; i++)
        if (!is_split_name(folders.name[i]))
            status = th_dataset_warn(d,
                "%s/%s is not used: only train, val and test are read", dir,
                folders.name[i]);
    th_names_release(&folders);
    return status;
}

static thaw_status read_folder(const char *where, struct th_dataset *d)
{
    bool divided;
    if (th_file_check_folder(where) != THAW_OK)
        return th_fail(THAW_E_IO,
            "%s; DATA is DIR/train/CLASS/..., DIR/CLASS/..., csv:FILE or another of "
            "`thaw list formats`",
            thaw_error());
    TRY(is_divided(d, where, &divided));
    return divided ? add_splits(d, where) : add_split(d, TH_SPLIT_TRAIN, where);
}

const struct th_format th_format_folder = {
    .name = "folder",
    .help = "DIR/train/CLASS/*.jpg with val and test beside train, or DIR/CLASS/*.jpg",
    .read = read_folder,
};
