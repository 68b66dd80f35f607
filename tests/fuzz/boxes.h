/* SPDX-License-Identifier: Apache-2.0
 * What the targets for data with boxes share: a folder with images, into which the input's
 * files go, and what holds of everything that was read. */
#ifndef FUZZ_BOXES_H
#define FUZZ_BOXES_H

#include "dataset.h"
#include "fuzz.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static inline void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command))
        perror(folder);
}

static inline void write_file(const char *name, const void *bytes, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ALWAYS(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

/* FOLDER/images with two pictures of 40 x 20, and an empty FOLDER/labels. */
static inline void make_folder(void)
{
    static char picture[13 + 40 * 20 * 3] = "P6 40 20 255\n";
    char path[128];
    if (*folder)
        return;
    snprintf(folder, sizeof folder, "/tmp/thaw-fuzz-boxes-XXXXXX");
    ALWAYS(mkdtemp(folder) != NULL);
    atexit(remove_folder);
    snprintf(path, sizeof path, "%s/images", folder);
    ALWAYS(mkdir(path, 0700) == 0);
    snprintf(path, sizeof path, "%s/labels", folder);
    ALWAYS(mkdir(path, 0700) == 0);
    write_file("images/a.ppm", picture, sizeof picture);
    write_file("images/b.ppm", picture, sizeof picture);
}

static inline void check_object(const struct th_dataset *d, const struct th_object *o)
{
    for (int i = 0; i < 4; i++)
        ALWAYS(isfinite(o->box[i]));
    ALWAYS(o->box[0] < o->box[2] && o->box[1] < o->box[3]);
    ALWAYS(isfinite(o->area) && o->area >= 0);
    ALWAYS(o->class >= 0 && o->class < d->n_classes);
}

/* Every image lies in the folder. */
static inline void check_path(const char *path)
{
    char *real = realpath(path, NULL);
    ALWAYS(real && strncmp(real, folder, strlen(folder)) == 0);
    free(real);
}

static inline void read_boxes(const char *format, const char *below, bool paths)
{
    char where[128];
    struct th_dataset d;
    snprintf(where, sizeof where, "%s:%s/%s", format, folder, below);
    thaw_status status = th_dataset_open(
        where, &(struct th_dataset_options){.as_is = true, .objects = true}, &d);
    check_answer(status);
    if (status != THAW_OK)
        return;
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < d.split[split].n; i++) {
            const struct th_sample *s = &d.split[split].sample[i];
            ALWAYS(s->path && s->label < d.n_classes);
            if (paths)
                check_path(s->path);
            for (int32_t k = 0; k < s->n_objects; k++)
                check_object(&d, &s->objects[k]);
        }
    th_dataset_close(&d);
}

#endif
