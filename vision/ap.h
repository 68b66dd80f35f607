/* SPDX-License-Identifier: Apache-2.0
 * Average precision of detections: COCO's twelve figures as pycocotools computes them
 * (cocoeval.py), VOC's, curves, and what kinds of errors cost how much. Images are added
 * one by one; of equal scores the one that was added first comes first.
 *
 *     struct th_ap ap;
 *     struct th_ap_scores scores;
 *     th_ap_init(&ap, n_classes);
 *     for each image: TRY(th_ap_add(&ap, objects, n_objects, detections, n));
 *     TRY(th_ap_finish(&ap, &scores));            scores.figure[TH_AP50]
 *     th_ap_scores_release(&scores);
 *     th_ap_release(&ap); */
#ifndef TH_AP_H
#define TH_AP_H

#include "mem.h"
#include "objects.h"
#include "thaw.h"

enum {
    TH_AP_AREAS = 4,       /* all, small, medium, large */
    TH_AP_THRESHOLDS = 10, /* of IoU: 0.50, 0.55 ... 0.95 */
    TH_AP_RECALLS = 101,   /* 0, 0.01 ... 1 */
    TH_AP_MOST = 100       /* detections of an image and class that count for COCO */
};

/* COCO's figures, in pycocotools' order. AP is over all IoU thresholds; AR is the largest
 * recall with at most 1, 10 or 100 detections an image and class. */
enum th_ap_figure {
    TH_AP,
    TH_AP50,
    TH_AP75,
    TH_AP_SMALL,
    TH_AP_MEDIUM,
    TH_AP_LARGE,
    TH_AR1,
    TH_AR10,
    TH_AR100,
    TH_AR_SMALL,
    TH_AR_MEDIUM,
    TH_AR_LARGE,
    TH_N_AP_FIGURES
};

/* Why a detection is a false alarm, or an object is not found, at IoU 0.5 (TIDE, Bolya et
 * al., arXiv:2008.08115, section 2): wrong class; right class, but IoU from 0.1 to 0.5;
 * both; found again; nothing there (IoU below 0.1); and objects that no detection of the
 * first two kinds meant. */
enum th_ap_error {
    TH_ERROR_NONE,
    TH_ERROR_CONFUSION,
    TH_ERROR_LOCALISATION,
    TH_ERROR_BOTH,
    TH_ERROR_DUPLICATE,
    TH_ERROR_BACKGROUND,
    TH_ERROR_MISSED,
    TH_N_ERRORS
};

/* What one detection was: bits by IoU threshold, for each range of areas. */
struct th_ap_record {
    float score;
    int32_t class;
    uint16_t hit[TH_AP_AREAS];     /* matched an object */
    uint16_t ignored[TH_AP_AREAS]; /* neither hit nor false alarm */
    uint8_t rank;  /* among those of its image and class; TH_AP_MOST: that or later */
    uint8_t voc;   /* 0 false alarm, 1 hit, 2 ignored */
    uint8_t error; /* enum th_ap_error */
    bool mended;   /* without the error it would be a hit, of mended_class */
    int32_t mended_class;
};

/* Under way. */
struct th_ap {
    int32_t n_classes;
    int64_t n_images;
    struct th_ap_record *record;
    int64_t n, capacity;
    int64_t *positives; /* [n_classes][TH_AP_AREAS], objects that count */
    int64_t *missed;    /* [n_classes] */
    struct th_block scratch;
};

/* NAN where a class has no object that counts. */
struct th_ap_class {
    int64_t objects; /* that count */
    double ap, ap50;
    double voc07, voc_area; /* 11 points; area under the curve; IoU 0.5 */
    double best_f1,
        best_threshold; /* at IoU 0.5: the score above which F1 is largest */
    float precision[TH_AP_RECALLS]; /* at IoU 0.5, at recall i / 100: the best at that
                                       recall or more */
};

struct th_ap_scores {
    double figure[TH_N_AP_FIGURES]; /* means over classes; NAN: no class has objects */
    double voc07, voc_area;
    int64_t errors[TH_N_ERRORS];    /* how many */
    double error_cost[TH_N_ERRORS]; /* by how much AP50 were better without that kind */
    int32_t n_classes;
    struct th_ap_class *classes; /* [n_classes], owned */
};

thaw_status th_ap_init(struct th_ap *ap, int32_t n_classes);
void th_ap_release(struct th_ap *ap);
void th_ap_reset(struct th_ap *ap); /* as after init; takes no memory */

/* An image's objects and what was detected in it; classes are below n_classes. */
thaw_status th_ap_add(struct th_ap *ap, const struct th_object *objects,
    int64_t n_objects, const struct th_detection *detections, int64_t n_detections);

/* What was added so far; more may be added afterwards. */
thaw_status th_ap_finish(const struct th_ap *ap, struct th_ap_scores *out);
void th_ap_scores_release(struct th_ap_scores *s);

/* "AP", "AP50", ...; "confusion", ... */
const char *th_ap_figure_name(enum th_ap_figure figure);
const char *th_ap_error_name(enum th_ap_error error);

/* errors and error_cost, for th_ap_finish: in ap_errors.c. */
thaw_status th_ap_errors(const struct th_ap *ap, struct th_ap_scores *out);

#endif
