/* SPDX-License-Identifier: Apache-2.0
 * FCOS, a detector without anchors (Tian et al. 2019, arXiv:1904.01355; 2020,
 * arXiv:2006.09214), with torchvision's names, defaults and centre sampling: four
 * convolutions with GroupNorm on each level of a pyramid, shared by the levels, for classes
 * and again for boxes and centerness. */
#include "detector.h"
#include "tower.h"

#include <math.h>

enum { WIDTH = 256, TAPS = 3 };
static const double RADIUS = 1.5; /* of centre sampling, in strides */
static const struct th_tower TOWER = {.depth = 4, .groups = 32, .bias = true};

static int build(struct th_builder *b, const struct th_taps *taps)
{
    static const char *const classes = "head.classification_head";
    static const char *const places = "head.regression_head";
    int map[TH_MAX_LEVELS], logits[TH_MAX_LEVELS], sides[TH_MAX_LEVELS];
    int centre[TH_MAX_LEVELS], k = b->model->n_classes;
    th_fpn(b, taps,
        (struct th_fpn_spec){
            .taps = TAPS, .width = b->model->head_width, .p6_p7 = true},
        map);
    for (int i = 0; i < b->model->pyramid.n; i++) {
        int x = th_tower(b, classes, map[i], TOWER);
        int y = th_tower(b, places, map[i], TOWER);
        logits[i] = th_tower_end(b, classes, "cls_logits", x, k, th_prior_bias(0.01F));
        sides[i] = th_relu(b, th_tower_end(b, places, "bbox_reg", y, 4, 0));
        centre[i] = th_tower_end(b, places, "bbox_ctrness", y, 1, 0);
    }
    th_pyramid_rows(b, sides, 1, 4, "boxes");
    th_pyramid_rows(b, centre, 1, 1, "centerness");
    return th_pyramid_rows(b, logits, 1, k, "logits");
}

/* A square as large as the stride around each place, which is the corner of its pixels, as
 * torchvision's is. */
static void anchors(const struct th_pyramid *p, struct th_size size, float *anchor)
{
    for (int i = 0; i < p->n; i++) {
        const struct th_level *l = &p->level[i];
        float half = (float)l->stride / 2;
        for (int j = 0; j < l->h * l->w; j++, anchor += 4) {
            float x = (float)(j % l->w * (size.w / l->w));
            float y = (float)(j / l->w * (size.h / l->h));
            anchor[0] = x - half;
            anchor[1] = y - half;
            anchor[2] = x + half;
            anchor[3] = y + half;
        }
    }
}

/* The greatest distance from a place to a box's sides; below 0 where the place is not in the
 * box or not within RADIUS strides of its centre. */
static double reach(const float place[2], const float box[4], double stride)
{
    double least = INFINITY, most = 0;
    for (int i = 0; i < 2; i++) {
        double at = (double)place[i], low = (double)box[i], high = (double)box[2 + i];
        least = fmin(least, fmin(at - low, high - at));
        most = fmax(most, fmax(at - low, high - at));
        if (!(fabs(at - (low + high) / 2) < RADIUS * stride))
            return -1;
    }
    return least > 0 ? most : -1;
}

static double area_of(const float box[4])
{
    return ((double)box[2] - (double)box[0]) * ((double)box[3] - (double)box[1]);
}

/* Of the objects that a place of a level may find, the smallest; -1: none. A level finds
 * what reaches from 4 to 8 strides, the first one less, too, the last more. Objects of one
 * size are common: no rounding chooses among them. */
static int32_t responsible(const struct th_pyramid *p, int level, const float place[2],
    const struct th_object *objects, int32_t n)
{
    double stride = p->level[level].stride, smallest = INFINITY;
    double from = level == 0 ? 0 : 4 * stride;
    double to = level == p->n - 1 ? INFINITY : 8 * stride;
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        double r = reach(place, objects[i].box, stride);
        double area = area_of(objects[i].box);
        if (r > from && r < to && area < smallest) {
            smallest = area;
            best = i;
        }
    }
    return best;
}

/* sqrt(min(l, r)/max(l, r) min(t, b)/max(t, b)): equation 3. */
static float centerness(const float sides[4])
{
    float x = fminf(sides[0], sides[2]) / fmaxf(sides[0], sides[2]);
    float y = fminf(sides[1], sides[3]) / fmaxf(sides[1], sides[3]);
    return sqrtf(x * y);
}

static void assign(const struct th_pyramid *p, const float *anchor,
    const struct th_object *objects, int32_t n, uint64_t key, void *const *target)
{
    (void)key; /* nothing is drawn */
    int32_t *class = target[0];
    float *box = target[1], *centre = target[2];
    int level = 0;
    for (int64_t row = 0; row < p->rows; row++, anchor += 4, box += 4) {
        while (level + 1 < p->n && row >= p->level[level + 1].first)
            level++;
        const float place[2] = {
            (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2};
        int32_t i = responsible(p, level, place, objects, n);
        class[row] = i < 0 ? -1 : objects[i].class;
        centre[row] = -1;
        for (int k = 0; k < 4; k++)
            box[k] = 0;
        if (i < 0)
            continue;
        th_box_encode(TH_CODE_SIDES, anchor, objects[i].box, box);
        centre[row] = centerness(box);
    }
}

static const struct th_detector detector = {
    .output = {{"boxes", 4, TH_F32}, {"centerness", 1, TH_F32}},
    .n_outputs = 2,
    .code = TH_CODE_SIDES,
    .target = {{"target", 1, TH_I32}, {"target_box", 4, TH_F32},
        {"target_centerness", 1, TH_F32}},
    .n_targets = 3,
    .by_batch = true,
    .anchors_a_place = 1,
    .anchors = anchors,
    .assign = assign,
    .read = th_read_rows,
    .score = 0.2F,
    .overlap = 0.6F,
    .top = 1000,
    .most = 100,
};

/* Focal loss of classes, GIoU of boxes, binary cross-entropy of centerness, each summed and
 * divided by the number of rows with a class in the batch. */
static int loss(struct th_builder *b, int logits)
{
    struct th_graph *g = b->graph;
    struct th_row_inputs in = th_row_inputs(b, &detector, logits);
    union th_attr giou = {.box = {.kind = TH_BOX_GIOU_SIDES}};
    int boxes = th_graph_find(g, "boxes"), centre = th_graph_find(g, "centerness");
    int near = th_graph_node(g, TH_OP_box_loss, &giou,
        (int[]){boxes, in.target[1], in.target[0], in.weight}, "boxes");
    int middle = th_graph_node(g, TH_OP_masked_ce, NULL,
        (int[]){centre, in.target[2], in.weight}, "centerness");
    return th_add(b, th_add(b, th_focal_loss(b, logits, &in), near), middle);
}

const struct th_head th_head_fcos = {
    .name = "fcos",
    .about = "boxes: FCOS on a feature pyramid (--head-width channels)",
    .build = build,
    .loss = loss,
    .answer = "head.classification_head.cls_logits",
    .hidden = true,
    .width = WIDTH,
    .many = true,
    .detector = &detector,
};
