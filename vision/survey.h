/* SPDX-License-Identifier: Apache-2.0
 * What is in a data set, and what is wrong with it: behind thaw_check. */
#ifndef TH_SURVEY_H
#define TH_SURVEY_H

#include "dataset.h"
#include "json.h"

enum {
    TH_SURVEY_EXAMPLES = 5, /* of each finding named one by one */
    TH_SURVEY_FEW = 10,     /* training images, below which a class has few */
    TH_SURVEY_TINY = 16 /* pixels of a side (the root of the area) at the input size */
};

/* What was found in one image. */
struct th_survey_image {
    const struct th_sample *sample;
    enum th_split split;
    thaw_status status; /* of reading and decoding it */
    bool damaged;
    int w, h;
    uint64_t hash[2]; /* of its bytes */
    char why[512];    /* where it cannot be read */
};

struct th_survey_class {
    int64_t images[TH_N_SPLITS];
    int64_t objects, tiny,
        fits;            /* fits: some anchor of RetinaNet has IoU 0.5 or more */
    double side, aspect; /* medians, at the input size: root of the area; w / h */
};

/* Something about one image, or two. */
struct th_survey_example {
    const struct th_survey_image *a, *b;
};

struct th_finding {
    int64_t n;
    struct th_survey_example example[TH_SURVEY_EXAMPLES];
};

/* Of the pictures that can be read. */
struct th_shapes {
    int64_t wide, high, square;
    int side;              /* of the square that they are compared with */
    struct th_sizes sizes; /* of inputs in which all are as large as on it; n 0: none */
    double saved;          /* the share of its pixels that are then not computed */
};

struct th_survey {
    struct th_dataset data;
    struct th_sizes inputs;        /* n 0: images as they are */
    struct th_survey_image *image; /* [n], owned */
    int64_t n;
    struct th_survey_class *class; /* [data.n_classes], owned */
    struct th_finding unreadable, damaged, copies,
        leaks;                        /* leaks: copies across splits */
    struct th_finding twins, outside; /* objects drawn twice; beyond the image's edge */
    int64_t objects, tiny, fits, empty; /* empty: images without objects */
    struct th_shapes shapes;
};

/* Note one more, with its images where there is room. */
void th_finding_add(struct th_finding *f, const struct th_survey_image *a,
    const struct th_survey_image *b);

/* After all images were read: objects, and the shapes of pictures. */
thaw_status th_survey_boxes(struct th_survey *s);
void th_survey_shapes(struct th_survey *s);

/* survey_write.c */
void th_survey_json(const struct th_survey *s, struct th_json_out *j);
void th_survey_lines(const struct th_survey *s,
    void (*write)(void *context, const char *text), void *context);

#endif
