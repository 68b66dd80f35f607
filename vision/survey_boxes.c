/* SPDX-License-Identifier: Apache-2.0
 * Owns what is asked of boxes: drawn twice, over the edge, tiny, and whether anchors fit. */
#include "survey.h"

#include "error.h"
#include "mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* RetinaNet's anchors (Lin et al., arXiv:1708.02002, section 4): at each place of five
 * levels three sizes in three shapes. */
enum { N_LEVELS = 5, N_SCALES = 3, N_SHAPES = 3 };
static const double FIRST_STRIDE = 8, SIDE_IN_STRIDES = 4, FIT = 0.5;
static const double TWIN =
    0.9; /* IoU from which on two boxes of a class are one object */

/* The IoU of the box and the anchor of these sides at the nearest place of the level. */
static double anchor_iou(const double box[4], double w, double h, double stride)
{
    double over[2], sides[2] = {w, h}, area = w * h;
    for (int axis = 0; axis < 2; axis++) {
        double middle = (box[axis] + box[axis + 2]) / 2;
        double place = round(middle / stride) * stride;
        over[axis] = fmin(box[axis + 2], place + sides[axis] / 2) -
                     fmax(box[axis], place - sides[axis] / 2);
    }
    if (over[0] <= 0 || over[1] <= 0)
        return 0;
    double both = over[0] * over[1];
    return both / ((box[2] - box[0]) * (box[3] - box[1]) + area - both);
}

static bool some_anchor_fits(const double box[4])
{
    double stride = FIRST_STRIDE;
    for (int level = 0; level < N_LEVELS; level++, stride *= 2)
        for (int scale = 0; scale < N_SCALES; scale++)
            for (int shape = 0; shape < N_SHAPES; shape++) {
                double side = stride * SIDE_IN_STRIDES * exp2(scale / 3.0);
                double stretch =
                    sqrt(exp2(shape - 1)); /* heights over widths 1/2, 1, 2 */
                if (anchor_iou(box, side / stretch, side * stretch, stride) >= FIT)
                    return true;
            }
    return false;
}

/* Objects of which an earlier one of the image is the twin. */
static void find_twins(struct th_survey *s, const struct th_survey_image *x)
{
    const struct th_sample *sample = x->sample;
    for (int32_t i = 1; i < sample->n_objects; i++) {
        const struct th_object *o = &sample->objects[i];
        bool twin = false;
        for (int32_t k = 0; k < i && !twin; k++)
            twin = sample->objects[k].class == o->class && !o->crowd &&
                   th_box_iou(sample->objects[k].box, o->box) >= TWIN;
        if (twin)
            th_finding_add(&s->twins, x, NULL);
    }
}

/* The sides and aspects of each class's objects, for medians. */
struct sizes {
    double *side, *aspect; /* [objects], class by class */
    int64_t *next;         /* [n_classes + 1]: where a class's next goes */
};

static void measure(struct th_survey *s, const struct th_survey_image *x,
    const struct th_object *o, struct sizes *sizes)
{
    double scale = 1;
    if (s->inputs.n && x->w > 0 && x->h > 0) {
        struct th_size in = s->inputs.at[th_sizes_choose(&s->inputs, x->w, x->h)];
        scale = fmin((double)in.w / x->w, (double)in.h / x->h);
    }
    double box[4];
    for (int i = 0; i < 4; i++)
        box[i] = (double)o->box[i] * scale;
    double w = box[2] - box[0], h = box[3] - box[1], side = sqrt(w * h);
    struct th_survey_class *class = &s->class[o->class];
    bool tiny = side < TH_SURVEY_TINY, fits = some_anchor_fits(box);
    int64_t at = sizes->next[o->class]++;
    sizes->side[at] = side;
    sizes->aspect[at] = w / h;
    class->objects++;
    class->tiny += tiny;
    class->fits += fits;
    s->objects++;
    s->tiny += tiny;
    s->fits += fits;
    if (x->status == THAW_OK && (o->box[0] < 0 || o->box[1] < 0 ||
                                    o->box[2] > (float)x->w || o->box[3] > (float)x->h))
        th_finding_add(&s->outside, x, NULL);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *value, int64_t n)
{
    if (n == 0)
        return NAN;
    qsort(value, (size_t)n, sizeof *value, by_value);
    return (value[n / 2] + value[(n - 1) / 2]) / 2;
}

static void measure_all(struct th_survey *s, struct sizes *sizes)
{
    for (int64_t i = 0; i < s->n; i++)
        for (int32_t k = 0; k < s->image[i].sample->n_objects; k++)
            sizes->next[s->image[i].sample->objects[k].class + 1]++;
    for (int32_t c = 0; c < s->data.n_classes; c++)
        sizes->next[c + 1] += sizes->next[c];
    for (int64_t i = 0; i < s->n; i++) {
        const struct th_survey_image *x = &s->image[i];
        s->empty += x->sample->n_objects == 0;
        find_twins(s, x);
        for (int32_t k = 0; k < x->sample->n_objects; k++)
            measure(s, x, &x->sample->objects[k], sizes);
    }
    for (int32_t c = 0; c < s->data.n_classes; c++) {
        struct th_survey_class *class = &s->class[c];
        int64_t first = sizes->next[c] - class->objects;
        class->side = median(sizes->side + first, class->objects);
        class->aspect = median(sizes->aspect + first, class->objects);
    }
}

thaw_status th_survey_boxes(struct th_survey *s)
{
    size_t n = 0;
    for (int64_t i = 0; i < s->n; i++)
        n += (size_t)s->image[i].sample->n_objects;
    struct sizes sizes = {.side = th_alloc(n, sizeof(double)),
        .aspect = th_alloc(n, sizeof(double)),
        .next = th_alloc((size_t)s->data.n_classes + 1, sizeof(int64_t))};
    bool room = sizes.side && sizes.aspect && sizes.next;
    if (room)
        measure_all(s, &sizes);
    th_free(sizes.side);
    th_free(sizes.aspect);
    th_free(sizes.next);
    return room ? THAW_OK : THAW_E_MEMORY;
}
