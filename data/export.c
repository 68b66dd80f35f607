/* SPDX-License-Identifier: Apache-2.0
 * Writes a dataset as a folder of PNGs: OUT/SPLIT/CLASS/00000.png. Never overwrites. */
#include "dataset.h"
#include "error.h"
#include "mem.h"

#include <string.h>
#include <sys/stat.h>

static thaw_status make_folder(const char *path)
{
    return mkdir(path, 0777) == 0
               ? THAW_OK
               : th_fail_errno(THAW_E_IO, "%s: cannot create the folder", path);
}

static thaw_status write_sample(
    const struct th_sample *sample, const char *folder, int64_t number)
{
    struct th_image image;
    TRY(th_sample_read(sample, &image, NULL));
    char *path = th_format("%s/%05lld.png", folder, (long long)number);
    thaw_status status = path ? th_image_write_png(path, &image) : THAW_E_MEMORY;
    th_free(path);
    th_image_release(&image);
    return status;
}

/* The first per_class images of one class; `folder` is created. */
static thaw_status export_class(const struct th_samples *samples, int32_t label,
    int64_t per_class, const char *folder)
{
    int64_t n = 0;
    TRY(make_folder(folder));
    for (int64_t i = 0; i < samples->n && (per_class <= 0 || n < per_class); i++)
        if (samples->sample[i].label == label)
            TRY(write_sample(&samples->sample[i], folder, n++));
    return THAW_OK;
}

static thaw_status export_split(const struct th_dataset *d, enum th_split split,
    int64_t per_class, const char *folder)
{
    TRY(make_folder(folder));
    for (int32_t c = 0; c < d->n_classes; c++) {
        char *sub = th_format("%s/%s", folder, d->classes[c]);
        if (!sub)
            return THAW_E_MEMORY;
        for (char *p = sub + strlen(folder) + 1; *p; p++) /* a name is one folder */
            *p = *p == '/' ? '_' : *p;
        thaw_status status = export_class(&d->split[split], c, per_class, sub);
        th_free(sub);
        TRY(status);
    }
    return THAW_OK;
}

thaw_status th_dataset_export_folder(
    const struct th_dataset *d, const char *out, int64_t per_class)
{
    TRY(make_folder(out));
    for (int split = 0; split < TH_N_SPLITS; split++) {
        if (!d->split[split].n)
            continue;
        char *folder = th_format("%s/%s", out, th_split_name((enum th_split)split));
        if (!folder)
            return THAW_E_MEMORY;
        thaw_status status = export_split(d, (enum th_split)split, per_class, folder);
        th_free(folder);
        TRY(status);
    }
    return THAW_OK;
}
