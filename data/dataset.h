/* SPDX-License-Identifier: Apache-2.0
 * A dataset: classes, and the samples of three splits. Images stay in their files until
 * they are read, or in memory where the format holds many in one file.
 *
 *     struct th_dataset data;
 *     TRY(th_dataset_open("photos", &(struct th_dataset_options){.seed = 1}, &data));
 *     ... data.split[TH_SPLIT_TRAIN].sample[0].path ...
 *     th_dataset_close(&data);
 *
 * Adding a format is adding one file to formats/. */
#ifndef TH_DATASET_H
#define TH_DATASET_H

#include "files.h"
#include "image.h"
#include "objects.h"

enum th_split { TH_SPLIT_TRAIN, TH_SPLIT_VAL, TH_SPLIT_TEST, TH_N_SPLITS };

struct th_sample {
    char *path;            /* owned; NULL: the image is in memory */
    const uint8_t *pixels; /* gray [h][w], owned by the dataset */
    /* Of pixels; of a file 0 until th_dataset_measure, or where it cannot be read. */
    int w, h;
    int32_t label; /* index of its class, of several the rarest; -1: none */
    /* Of several classes all, in no order; owned. NULL: label says it. */
    int32_t *classes, n_classes;
    struct th_object *objects; /* owned; their classes are the image's */
    int32_t n_objects;
    int64_t id;     /* its place in the listing, unique in the dataset */
    int64_t number; /* what annotations call it, where has_number */
    bool has_number;
    int64_t bytes, time; /* of the file when the dataset was opened: size, and ns of its
                              last change; bytes -1: was not looked at */
};

struct th_samples {
    int64_t n, capacity;
    struct th_sample *sample;
};

struct th_dataset {
    int32_t n_classes;
    char **classes; /* [n_classes], byte order; 0 for unlabelled images */
    struct th_samples split[TH_N_SPLITS];
    bool many;                /* images may have any number of classes, or none */
    bool has_objects;         /* an image's classes are those of its objects; many, too.
                                 A format that can do without boxes reads them then */
    struct th_names warnings; /* sentences for the user */
    /* While a format reads: */
    struct th_names names; /* classes in order of appearance; labels index it */
    int32_t *order;        /* [names.n], indices of names in byte order */
    int32_t order_capacity;
    int64_t n_samples;
    void *memory[TH_N_SPLITS]; /* what th_sample.pixels point into */
    /* What annotations call classes, those without objects, too; nothing most often. */
    struct th_category {
        enum th_split split;
        char *name; /* owned */
        int64_t number;
    } * category;
    int64_t n_categories;
};

/* All zero is the default. */
struct th_dataset_options {
    const char *val; /* "0.1": hold back that fraction of each class of train; "0": no
                        validation; else DATA with the validation images. NULL: DATA's own
                        val, or a fifth held back */
    uint64_t seed;   /* draws what is held back */
    bool as_is;      /* for evaluation: hold nothing back, one class will do */
    bool many;       /* images may have any number of classes */
    bool objects;    /* images have objects with boxes: for a detector */
};

/* DATA is "FORMAT:WHERE", or a folder. THAW_E_DATA for data that cannot be trained on,
 * THAW_E_IO, THAW_E_USAGE, THAW_E_MEMORY. After a failure nothing has to be closed. */
thaw_status th_dataset_open(
    const char *data, const struct th_dataset_options *options, struct th_dataset *out);

/* Whether `data` reads "FORMAT:..." with a format that there is. */
bool th_dataset_is_named(const char *data);

/* Images without labels, all in TH_SPLIT_TRAIN: one image file, or all below a folder. */
thaw_status th_dataset_open_unlabelled(const char *path, struct th_dataset *out);
void th_dataset_close(struct th_dataset *d);

/* The sample's pixels, as th_image_read gives them. THAW_E_DATA for a file that is no
 * longer the one that was listed. */
thaw_status th_sample_read(
    const struct th_sample *sample, struct th_image *image, bool *damaged);

/* As th_image_read_part does; an image in memory is given whole. */
thaw_status th_sample_read_part(const struct th_sample *sample,
    struct th_image_reader *reader, const struct th_wanted *wanted, bool *damaged);

/* Look at the headers of files, once: how large their pictures are. THAW_E_MEMORY. */
thaw_status th_dataset_measure(struct th_dataset *d);

/* Write OUT/train/CLASS/00000.png ..., and val and test where there are any; the first
 * per_class images of each class, 0: all. OUT must not exist yet. */
thaw_status th_dataset_export_folder(
    const struct th_dataset *d, const char *out, int64_t per_class);

/* How many classes an image has, and their indices. */
static inline int32_t th_sample_classes(
    const struct th_sample *s, const int32_t **class)
{
    *class = s->classes ? s->classes : &s->label;
    return s->classes ? s->n_classes : s->label >= 0;
}

/* Class c is called map[c] from now on. */
void th_samples_relabel(struct th_samples *s, const int32_t *map);

/* For formats: */
enum th_boxes { TH_BOXES_NEVER, TH_BOXES_ALWAYS, TH_BOXES_WHERE_WANTED };

struct th_format {
    const char *name;    /* the word before the colon */
    const char *help;    /* one line for `thaw list formats` */
    enum th_boxes boxes; /* whether its images have objects */
    thaw_status (*read)(const char *where, struct th_dataset *d);
};
extern const struct th_format *const th_format_list[]; /* NULL-terminated */

/* Whether images of DATA have objects, by its format. */
enum th_boxes th_dataset_boxes(const char *data);

/* The index of a class, added when new, until labels are put in byte order after read. */
thaw_status th_dataset_class(struct th_dataset *d, const char *name, int32_t *label);

/* Append an image file; path is copied. */
thaw_status th_dataset_add_file(
    struct th_dataset *d, enum th_split split, int32_t label, const char *path);

/* The split's last image is of this class, too (d->many). Twice is as once. */
thaw_status th_dataset_add_class(
    struct th_dataset *d, enum th_split split, int32_t label);

/* There is this object in the split's last image (d->has_objects). */
thaw_status th_dataset_add_object(
    struct th_dataset *d, enum th_split split, const struct th_object *object);
/* Likewise in any image, whose classes do not know of it yet: where classes get their
 * numbers last, they are then map[class] of its objects. */
thaw_status th_sample_put_object(struct th_sample *s, const struct th_object *object);
thaw_status th_sample_take_classes(struct th_sample *s, const int32_t *map);

/* The split's last image, and a class by name, have a number in its annotations. */
void th_dataset_number_last(struct th_dataset *d, enum th_split split, int64_t number);
thaw_status th_dataset_add_category(
    struct th_dataset *d, enum th_split split, const char *name, int64_t number);
/* A class's; NULL: it has none. */
const struct th_category *th_dataset_category(
    const struct th_dataset *d, enum th_split split, const char *name);

/* Append an image in memory: its pixels, w, h and label; pixels lie in
 * d->memory[split]. */
thaw_status th_dataset_add_pixels(
    struct th_dataset *d, enum th_split split, const struct th_sample *sample);

thaw_status th_dataset_warn(struct th_dataset *d, const char *fmt, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

const char *th_split_name(enum th_split split); /* "train", "val", "test" */

/* ---- sample_classes.c, for dataset.c ---- */

/* A file that is listed more than once becomes one image with all its classes. */
thaw_status th_dataset_join_repeats(struct th_dataset *d);
/* Of several classes, label is the one that fewest images have. THAW_E_MEMORY. */
thaw_status th_dataset_label_by_rarest(struct th_dataset *d);
/* Images of a split that are of each class; [n_classes], fresh. */
int64_t *th_dataset_count(const struct th_dataset *d, const struct th_samples *s);

#endif
