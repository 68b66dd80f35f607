/* SPDX-License-Identifier: Apache-2.0
 * Dense detectors: what a head that finds boxes says of itself, and what is made of its
 * outputs.
 *
 * A detector predicts for every row of a pyramid: level by level from the finest, then row
 * by row and place by place, then anchor by anchor. Its outputs are the logits
 * [n][rows][classes] and those it names; one of two stages has them for the boxes that its
 * first stage proposes. Boxes are x0, y0, x1, y1 in pixels of the input. */
#ifndef TH_DETECTOR_H
#define TH_DETECTOR_H

#include "boxes.h"
#include "error.h"
#include "objects.h"
#include "op.h"

enum { TH_MAX_LEVELS = 8, TH_MAX_TARGETS = 5, TH_MAX_OUTPUTS = 3 };

struct th_level {
    int h, w;      /* places */
    int stride;    /* nominal: of the backbone, twice that of the level below */
    int64_t first; /* its first row */
};

static inline struct th_grid th_level_grid(const struct th_level *l)
{
    return (struct th_grid){l->h, l->w, l->stride};
}

struct th_pyramid {
    int n;
    struct th_level level[TH_MAX_LEVELS];
    int anchors; /* of a place */
    int64_t rows;
    int64_t boxes; /* of a detector of two stages: proposals of an image */
};

/* Values of 32 bits that are given or predicted for a row. */
struct th_row_values {
    const char *name; /* of the graph's input or wanted value */
    int n;            /* values a row */
    enum th_dtype dtype;
    int64_t rows; /* of an image; 0: those of the pyramid */
};

struct th_reader;

struct th_detector {
    /* Beside the logits: [0] the boxes, coded; [1] how good they are, if anything says so. */
    struct th_row_values output[TH_MAX_OUTPUTS];
    int n_outputs;
    enum th_box_code code; /* how an output is a box */
    /* Inputs of the loss; [0] is the class of a row, -1: none, -2: it counts nowhere. And
     * "weight" [n]: one over the rows that have a class, of the batch or of the image, in
     * the latter case over the number of images too. */
    struct th_row_values target[TH_MAX_TARGETS];
    int n_targets;
    bool by_batch;
    int anchors_a_place; /* rows of a place, each with all classes */
    /* The anchor of each row, [rows][4], for an input of that size. */
    void (*anchors)(const struct th_pyramid *p, struct th_size size, float *anchor);
    /* Targets of one image: target[k] [rows][n] is what the table says; what is drawn is a
     * function of the key. */
    void (*assign)(const struct th_pyramid *p, const float *anchor,
        const struct th_object *objects, int32_t n, uint64_t key, void *const *target);
    /* th_read_rows or th_read_rois. */
    void (*read)(struct th_reader *r, const float *logits, const float *const *output);
    bool
        background; /* logits and boxes have the background's before those of classes */
    /* What is kept of an image: scores from this on, the best `top` of a level, no two boxes
     * of a class with more than `overlap` in common, the best `most` of all. */
    float score, overlap;
    int top, most;
};

/* ---- From outputs to boxes ---- */

/* Memory and anchors for reading one image's outputs after the other. */
struct th_reader {
    const struct th_detector *detector;
    const struct th_pyramid *pyramid;
    struct th_size size;
    int n_classes;
    float score, overlap;       /* as the detector's, or as the user asked */
    float *anchor;              /* [rows][4] */
    struct th_detection *found; /* [most] after th_reader_read, best first */
    int n_found;
    struct th_candidate {
        float score;
        int64_t row;
        int32_t class;
    } * candidate;                      /* [rows or boxes, * classes] */
    struct th_detection *kept, *sorted; /* [levels * top], or [boxes * classes] */
};

thaw_status th_reader_init(struct th_reader *r, const struct th_detector *detector,
    const struct th_pyramid *pyramid, struct th_size size, int n_classes);
void th_reader_release(struct th_reader *r);

/* For a loader: what a detector is to predict of an image; `reader` is one. */
void th_reader_targets(void *reader, const struct th_object *objects, int32_t n,
    uint64_t key, void *const *target);
/* Bytes of such a target of one image. */
size_t th_target_bytes(const struct th_pyramid *p, const struct th_row_values *v);
/* The loss's input "weight" [n], of a batch's first target [n][rows]. */
void th_reader_weights(
    const struct th_reader *r, const int32_t *target, int64_t n, float *weight);

/* One image's outputs -> r->found; boxes are cut at the input's edges. torchvision's
 * postprocess_detections. */
void th_reader_read(
    struct th_reader *r, const float *logits, const float *const *output);
/* Of logits [rows][classes] and output[k] [rows][n]: scores are sigmoid(logit), with a quality
 * q sqrt(sigmoid(logit) sigmoid(q)). */
void th_read_rows(struct th_reader *r, const float *logits, const float *const *output);
/* Of logits [boxes][1 + classes], output[0] [boxes][1 + classes][4], a code relative to the
 * proposals, output[1] [boxes][4]: scores are softmax(logits). */
void th_read_rois(struct th_reader *r, const float *logits, const float *const *output);

#endif
