/* SPDX-License-Identifier: Apache-2.0
 * Owns the matching of one image's detections and objects. All in double, with
 * pycocotools' order of operations, so that no comparison falls otherwise than there
 * (cocoeval.py, evaluateImg; maskApi.c, bbIou). */
#include "ap.h"
#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* cocoeval.py, Params.setDetParams; both ends belong to a range. */
static const double area_from[TH_AP_AREAS] = {0, 0, 32 * 32, 96 * 96};
static const double area_to[TH_AP_AREAS] = {1e10, 32 * 32, 96 * 96, 1e10};

/* TIDE's thresholds of IoU: for the foreground, and for the background. */
static const double FOREGROUND = 0.5, BACKGROUND = 0.1;
static const double VOC_IOU = 0.5;

/* A detection that is one, for sorting. */
struct false_alarm {
    float score;
    int32_t place; /* in match.detection */
    const struct th_detection *given;
};

/* An image being matched. Its detections are in order of class and score, its objects in
 * order of class; both are taken class by class. */
struct match {
    struct th_ap *ap;
    const struct th_object **object;
    int64_t n_objects;
    const struct th_detection **detection;
    struct th_ap_record *record; /* [n_detections], in their order */
    int64_t n_detections;
    double
        *iou; /* [detections of the class, TH_AP_MOST at most][objects of the class] */
    int32_t *sorted; /* [objects of the class]: those that count first */
    bool *taken;     /* [objects of the class] */
    bool *found;     /* [n_objects], at IoU 0.5: of those that count */
    bool *meant;     /* [n_objects]: an error of confusion or localisation names it */
    struct false_alarm *alarm; /* [n_detections] */
};

/* ---- IoU ---- */

static double area_of(const float b[4])
{
    return ((double)b[2] - (double)b[0]) * ((double)b[3] - (double)b[1]);
}

/* With a crowd, the share of the detection that lies in it. */
static double iou_of(const float d[4], const float g[4], bool crowd)
{
    double w = fmin((double)d[2], (double)g[2]) - fmax((double)d[0], (double)g[0]);
    double h = fmin((double)d[3], (double)g[3]) - fmax((double)d[1], (double)g[1]);
    if (!(w > 0) || !(h > 0))
        return 0;
    double both = w * h, area = area_of(d);
    return both / (crowd ? area : area + area_of(g) - both);
}

/* cocoeval.py's linspace(.5, .95, 10), to the bit. */
static double threshold(int t)
{
    return t == TH_AP_THRESHOLDS - 1 ? 0.95 : t * ((0.95 - 0.5) / 9) + 0.5;
}

static bool is_out(double area, int range)
{
    return area < area_from[range] || area > area_to[range];
}

/* ---- COCO ---- */

/* The detections and objects of one class. */
struct part {
    const struct th_object *const *object;
    const struct th_detection *const *detection;
    struct th_ap_record *record;
    int64_t n_objects, n_detections; /* of these TH_AP_MOST at most */
    bool *found;
};

/* Those that count come first, each in its order; how many these are. */
static int64_t sort_objects(struct match *m, const struct part *p, int range)
{
    int64_t n = 0, n_counted = 0;
    for (int ignored = 0; ignored < 2; ignored++) {
        for (int64_t g = 0; g < p->n_objects; g++) {
            const struct th_object *o = p->object[g];
            if ((o->crowd || is_out((double)o->area, range)) == (ignored != 0))
                m->sorted[n++] = (int32_t)g;
        }
        n_counted = ignored ? n_counted : n;
    }
    return n_counted;
}

/* The object that detection d gets: the nearest that is free and counts, else the nearest
 * that does not; of equally near ones the last. -1: none. Places in m->sorted. */
static int64_t choose(
    const struct match *m, const struct part *p, int64_t d, int64_t n_counted, double t)
{
    const double *iou = m->iou + d * p->n_objects;
    double best = fmin(t, 1 - 1e-10);
    int64_t chosen = -1;
    for (int64_t i = 0; i < p->n_objects; i++) {
        int32_t g = m->sorted[i];
        if (m->taken[i] && !p->object[g]->crowd)
            continue;
        if (chosen >= 0 && chosen < n_counted && i >= n_counted)
            break;
        if (iou[g] < best)
            continue;
        best = iou[g];
        chosen = i;
    }
    return chosen;
}

static void match_threshold(
    struct match *m, const struct part *p, int range, int64_t n_counted, int t)
{
    memset(m->taken, 0, (size_t)p->n_objects * sizeof *m->taken);
    for (int64_t d = 0; d < p->n_detections; d++) {
        struct th_ap_record *r = &p->record[d];
        int64_t chosen = choose(m, p, d, n_counted, threshold(t));
        if (chosen >= 0) {
            m->taken[chosen] = true;
            r->hit[range] |= (uint16_t)(1 << t);
        }
        bool ignored = chosen >= 0 ? chosen >= n_counted
                                   : is_out(area_of(p->detection[d]->box), range);
        if (ignored)
            r->ignored[range] |= (uint16_t)(1 << t);
    }
    if (t == 0 && range == 0)
        for (int64_t i = 0; i < n_counted; i++)
            p->found[m->sorted[i]] = m->taken[i];
}

static void match_coco(struct match *m, const struct part *p, int64_t *positives)
{
    for (int64_t d = 0; d < p->n_detections; d++)
        for (int64_t g = 0; g < p->n_objects; g++)
            m->iou[d * p->n_objects + g] =
                iou_of(p->detection[d]->box, p->object[g]->box, p->object[g]->crowd);
    for (int range = 0; range < TH_AP_AREAS; range++) {
        int64_t n_counted = sort_objects(m, p, range);
        positives[range] += n_counted;
        for (int t = 0; t < TH_AP_THRESHOLDS; t++)
            match_threshold(m, p, range, n_counted, t);
    }
}

/* ---- VOC ---- */

/* VOCevaldet.m: the nearest object, taken or not, decides; `n` detections, all of them.
 * Boxes are continuous here: no pixel is added to their extents. */
static void match_voc(struct match *m, const struct part *p, int64_t n)
{
    memset(m->taken, 0, (size_t)p->n_objects * sizeof *m->taken);
    for (int64_t d = 0; d < n; d++) {
        double best = -1;
        int64_t nearest = -1;
        for (int64_t g = 0; g < p->n_objects; g++) {
            double iou = iou_of(p->detection[d]->box, p->object[g]->box, false);
            if (iou > best) {
                best = iou;
                nearest = g;
            }
        }
        if (best < VOC_IOU)
            continue;
        p->record[d].voc = p->object[nearest]->crowd ? 2 : !m->taken[nearest];
        m->taken[nearest] = true;
    }
}

/* ---- Kinds of errors ---- */

/* The object that counts, of the detection's class or of others, that is nearest. */
static double nearest(
    const struct match *m, const struct th_detection *d, bool same, int64_t *which)
{
    double best = 0;
    *which = -1;
    for (int64_t g = 0; g < m->n_objects; g++) {
        const struct th_object *o = m->object[g];
        if (o->crowd || (o->class == d->class) != same)
            continue;
        double iou = iou_of(d->box, o->box, false);
        if (iou > best) {
            best = iou;
            *which = g;
        }
    }
    return best;
}

/* Without this error the detection is object g's, if that has no other: of those that mean
 * it, as in TIDE's code, only the one of the highest score. */
static void mend(struct match *m, struct th_ap_record *r, int64_t g)
{
    r->mended = !m->found[g] && !m->meant[g];
    r->mended_class = m->object[g]->class;
    m->meant[g] = true;
}

static void name_error(struct match *m, int64_t i)
{
    struct th_ap_record *r = &m->record[i];
    int64_t same, other;
    double same_iou = nearest(m, m->detection[i], true, &same);
    double other_iou = nearest(m, m->detection[i], false, &other);
    if (same_iou >= BACKGROUND && same_iou <= FOREGROUND) {
        r->error = TH_ERROR_LOCALISATION;
        mend(m, r, same);
    } else if (other_iou >= FOREGROUND) {
        r->error = TH_ERROR_CONFUSION;
        mend(m, r, other);
    } else if (same_iou >= FOREGROUND) {
        r->error = TH_ERROR_DUPLICATE;
    } else if (other_iou <= BACKGROUND) {
        r->error = TH_ERROR_BACKGROUND;
    } else {
        r->error = TH_ERROR_BOTH;
    }
}

/* By score, whatever the class: the first that means an object gets it. */
static int by_score(const void *a, const void *b)
{
    const struct false_alarm *x = a, *y = b;
    int order = (x->score < y->score) - (x->score > y->score);
    return order ? order : (x->given > y->given) - (x->given < y->given);
}

static void name_errors(struct match *m)
{
    struct false_alarm *order = m->alarm;
    int64_t n = 0;
    for (int64_t i = 0; i < m->n_detections; i++) {
        const struct th_ap_record *r = &m->record[i];
        if (r->rank < TH_AP_MOST && !(r->hit[0] & 1) && !(r->ignored[0] & 1))
            order[n++] = (struct false_alarm){r->score, (int32_t)i, m->detection[i]};
    }
    if (n)
        qsort(order, (size_t)n, sizeof *order, by_score);
    for (int64_t i = 0; i < n; i++)
        name_error(m, order[i].place);
    for (int64_t g = 0; g < m->n_objects; g++)
        m->ap->missed[m->object[g]->class] +=
            !m->object[g]->crowd && !m->found[g] && !m->meant[g];
}

/* ---- An image ---- */

/* By class and score, else as they were given: they lie in one array. */
static int by_class_and_score(const void *a, const void *b)
{
    const struct th_detection *x = *(const struct th_detection *const *)a;
    const struct th_detection *y = *(const struct th_detection *const *)b;
    int order = (x->class > y->class) - (x->class < y->class);
    order = order ? order : (x->score < y->score) - (x->score > y->score);
    return order ? order : (x > y) - (x < y);
}

static int by_class(const void *a, const void *b)
{
    const struct th_object *x = *(const struct th_object *const *)a;
    const struct th_object *y = *(const struct th_object *const *)b;
    int order = (x->class > y->class) - (x->class < y->class);
    return order ? order : (x > y) - (x < y);
}

static void match_class(
    struct match *m, int64_t d, int64_t n_detections, int64_t g, int64_t n_objects)
{
    int32_t class = n_detections ? m->detection[d]->class : m->object[g]->class;
    int64_t most = n_detections < TH_AP_MOST ? n_detections : TH_AP_MOST;
    struct part p = {
        m->object + g, m->detection + d, m->record + d, n_objects, most, m->found + g};
    for (int64_t i = 0; i < n_detections; i++)
        p.record[i] = (struct th_ap_record){.class = class,
            .score = p.detection[i]->score,
            .rank = (uint8_t)(i < TH_AP_MOST ? i : TH_AP_MOST)};
    match_coco(m, &p, m->ap->positives + (int64_t) class * TH_AP_AREAS);
    match_voc(m, &p, n_detections);
}

static void match_classes(struct match *m)
{
    for (int64_t d = 0, g = 0; d < m->n_detections || g < m->n_objects;) {
        int32_t of_d = d < m->n_detections ? m->detection[d]->class : INT32_MAX;
        int32_t of_g = g < m->n_objects ? m->object[g]->class : INT32_MAX;
        int32_t class = of_d < of_g ? of_d : of_g;
        int64_t d_end = d, g_end = g;
        while (d_end < m->n_detections && m->detection[d_end]->class == class)
            d_end++;
        while (g_end < m->n_objects && m->object[g_end]->class == class)
            g_end++;
        match_class(m, d, d_end - d, g, g_end - g);
        d = d_end;
        g = g_end;
    }
}

/* A block being handed out; without one, counted. */
struct room {
    char *base;
    size_t used;
};

static void *take(struct room *room, int64_t n, size_t bytes)
{
    void *p = room->base ? room->base + room->used : NULL;
    room->used += th_align_up((size_t)n * bytes);
    return p;
}

static void lay_out(struct match *m, struct room *room)
{
    int64_t most = m->n_detections < TH_AP_MOST ? m->n_detections : TH_AP_MOST;
    m->object = take(room, m->n_objects, sizeof *m->object);
    m->detection = take(room, m->n_detections, sizeof *m->detection);
    m->iou = take(room, most * m->n_objects, sizeof *m->iou);
    m->sorted = take(room, m->n_objects, sizeof *m->sorted);
    m->taken = take(room, m->n_objects, sizeof *m->taken);
    m->found = take(room, m->n_objects, sizeof *m->found);
    m->meant = take(room, m->n_objects, sizeof *m->meant);
    m->alarm = take(room, m->n_detections, sizeof *m->alarm);
}

static thaw_status grow(struct th_ap *ap, int64_t n)
{
    int64_t more = ap->capacity ? ap->capacity : 1024;
    if (n > INT32_MAX)
        return th_fail(THAW_E_MEMORY, "more than two billion detections");
    while (more < n)
        more *= 2;
    if (more == ap->capacity)
        return THAW_OK;
    struct th_ap_record *grown =
        th_realloc(ap->record, (size_t)ap->n, (size_t)more, sizeof *grown);
    if (!grown)
        return THAW_E_MEMORY;
    ap->record = grown;
    ap->capacity = more;
    return THAW_OK;
}

thaw_status th_ap_add(struct th_ap *ap, const struct th_object *objects,
    int64_t n_objects, const struct th_detection *detections, int64_t n_detections)
{
    struct match m = {.ap = ap, .n_objects = n_objects, .n_detections = n_detections};
    struct room room = {0};
    lay_out(&m, &room);
    TRY(grow(ap, ap->n + n_detections));
    room.base = th_block_take(&ap->scratch, room.used + 1);
    if (!room.base)
        return THAW_E_MEMORY;
    memset(room.base, 0, room.used);
    room.used = 0;
    lay_out(&m, &room);
    m.record = ap->record + ap->n;
    for (int64_t i = 0; i < n_objects; i++)
        m.object[i] = &objects[i];
    for (int64_t i = 0; i < n_detections; i++)
        m.detection[i] = &detections[i];
    if (n_objects)
        qsort(m.object, (size_t)n_objects, sizeof *m.object, by_class);
    if (n_detections)
        qsort(
            m.detection, (size_t)n_detections, sizeof *m.detection, by_class_and_score);
    match_classes(&m);
    name_errors(&m);
    ap->n += n_detections;
    ap->n_images++;
    return THAW_OK;
}
