/* SPDX-License-Identifier: Apache-2.0
 * Owns Faster R-CNN's graph, loss and table (Ren et al. 2015, arXiv:1506.01497), on a feature
 * pyramid (Lin et al. 2017, arXiv:1612.03144, section 5.2), with torchvision's names and
 * defaults. Proposals have no gradient. */
#include "rcnn.h"

#include "anchors.h"
#include "balance.h"
#include "rng.h"
#include "tower.h"

#include <math.h>
#include <stdio.h>

enum {
    TAPS = 4,
    HIDDEN = 1024,
    POOLED = 7,
    SAMPLING = 2,
    OBJECTS = 100 /* of an image, that are learnt from: the first */
};
enum { EVAL_BOXES = 1000, TRAIN_BOXES = 2000 }; /* before and after suppression */
enum { ANCHORS_DRAWN = 256, ANCHORS_POSITIVE = 128, DRAWN = 512, POSITIVE = 128 };
static const float RPN_LOW = 0.3F, RPN_HIGH = 0.7F, RPN_OVERLAP = 0.7F;
static const float ROI_OVERLAP = 0.5F, BETA = 1.0F / 9;

/* ---- What the loader makes ---- */

static void anchors(const struct th_pyramid *p, struct th_size size, float *anchor)
{
    for (int i = 0; i < p->n; i++) {
        const struct th_grid g = th_level_grid(&p->level[i]);
        for (int64_t row = 0; row < (int64_t)g.h * g.w * TH_RPN_ANCHORS; row++)
            th_rpn_anchor(&g, size, row, anchor + row * 4);
        anchor += (int64_t)g.h * g.w * TH_RPN_ANCHORS * 4;
    }
}

/* Places of the table of targets. */
enum { RPN_TARGET, RPN_BOX, RPN_OBJECTNESS, OBJECT_BOX, OBJECT_CLASS, N_TARGETS };

static void assign_objects(
    const struct th_object *objects, int32_t n, float *box, int32_t *class)
{
    for (int32_t i = 0; i < OBJECTS; i++) {
        class[i] = i < n ? objects[i].class : -1;
        for (int k = 0; k < 4; k++)
            box[i * 4 + k] = i < n ? objects[i].box[k] : 0;
    }
}

static void assign(const struct th_pyramid *p, const float *anchor,
    const struct th_object *objects, int32_t n, uint64_t key, void *const *target)
{
    int32_t *class = target[RPN_TARGET];
    float *box = target[RPN_BOX], *is = target[RPN_OBJECTNESS];
    th_anchors_match(anchor, p->rows, objects, n, RPN_LOW, RPN_HIGH, class);
    th_draw_balanced(key ? th_rng_mix_name(key, "anchors") : 0, p->rows, class,
        ANCHORS_DRAWN, ANCHORS_POSITIVE);
    for (int64_t row = 0; row < p->rows; row++) {
        int32_t object = class[row];
        is[row] = object >= 0 ? 1 : object == -1 ? 0 : -1;
        for (int k = 0; k < 4; k++)
            box[row * 4 + k] = 0;
        if (object < 0)
            continue;
        class[row] = 0; /* an object of any class */
        th_box_encode(
            TH_CODE_DELTAS, anchor + row * 4, objects[object].box, box + row * 4);
    }
    assign_objects(objects, n, target[OBJECT_BOX], target[OBJECT_CLASS]);
}

const struct th_detector th_rcnn_detector = {
    .output = {{"boxes", 4, TH_F32}, {"rois", 4, TH_F32}},
    .n_outputs = 2,
    .code = TH_CODE_DELTAS,
    .target = {[RPN_TARGET] = {"target", 1, TH_I32},
        [RPN_BOX] = {"target_box", 4, TH_F32},
        [RPN_OBJECTNESS] = {"target_objectness", 1, TH_F32},
        [OBJECT_BOX] = {"object_box", 4, TH_F32, OBJECTS},
        [OBJECT_CLASS] = {"object_class", 1, TH_I32, OBJECTS}},
    .n_targets = N_TARGETS,
    .anchors_a_place = 1,
    .anchors = anchors,
    .assign = assign,
    .read = th_read_rois,
    .background = true,
    .score = 0.05F,
    .overlap = 0.5F,
    .most = 100,
};

/* ---- The network ---- */

/* The last layers of the proposals' network: convolutions of 1x1. */
static int rpn_end(struct th_builder *b, const char *name, int x, int out)
{
    return th_conv(b, name, x,
        (struct th_conv_spec){.out = out, .kernel = 1, .bias = true, .init = 0.01F});
}

/* Rows "objectness" and "deltas" of all levels. */
static void propose(struct th_builder *b, const int *map, int *objectness, int *deltas)
{
    const struct th_rcnn *r = b->model->head->config;
    const struct th_tower tower = {.depth = r->rpn_depth, .bias = true, .nested = true};
    int is[TH_MAX_LEVELS], where[TH_MAX_LEVELS];
    for (int i = 0; i < b->model->pyramid.n; i++) {
        int x = th_tower(b, "rpn.head", map[i], tower);
        is[i] = rpn_end(b, "rpn.head.cls_logits", x, TH_RPN_ANCHORS);
        where[i] = rpn_end(b, "rpn.head.bbox_pred", x, TH_RPN_ANCHORS * 4);
    }
    *objectness = th_pyramid_rows(b, is, TH_RPN_ANCHORS, 1, "objectness");
    *deltas = th_pyramid_rows(b, where, TH_RPN_ANCHORS, 4, "deltas");
}

/* `most` boxes at most, of each level and of all. */
static union th_attr proposals_of(const struct th_builder *b, int most)
{
    const struct th_pyramid *p = &b->model->pyramid;
    union th_attr attr = {.proposals = {.n_grids = p->n,
                              .size = b->model->input.size,
                              .level_most = most,
                              .most = most,
                              .overlap = RPN_OVERLAP}};
    for (int i = 0; i < p->n; i++)
        attr.proposals.grid[i] = th_level_grid(&p->level[i]);
    return attr;
}

/* Those that are learnt from; the loss looks for the node. */
static int sample(struct th_builder *b, int rois)
{
    if (b->graph->status != THAW_OK)
        return -1;
    int64_t n = th_shape_at(b, rois)->dim[0];
    const struct th_row_values *const v = th_rcnn_detector.target;
    union th_attr attr = {
        .sample = {.count = DRAWN, .positive = POSITIVE, .overlap = ROI_OVERLAP}};
    int in[] = {rois, th_row_input(b, &v[OBJECT_BOX], n),
        th_row_input(b, &v[OBJECT_CLASS], n),
        th_graph_input(b->graph, "keys", TH_I32, TH_SHAPE(n, 2))};
    return th_graph_node(b->graph, TH_OP_sample_rois, &attr, in, "rois");
}

/* The box head's convolutions of n * boxes windows, each with a BatchNorm whose statistics are
 * those of all windows. torch's kaiming_normal_ by fan_out has this deviation. */
static int box_convs(struct th_builder *b, int x, int depth)
{
    enum { KERNEL = 3 };
    char conv[48], norm[48];
    int out = b->model->head_width;
    struct th_conv_spec spec = {.out = out,
        .kernel = KERNEL,
        .pad = 1,
        .init = sqrtf(2.0F / (float)(out * KERNEL * KERNEL))};
    for (int i = 0; i < depth; i++) {
        snprintf(conv, sizeof conv, "roi_heads.box_head.%d.0", i);
        snprintf(norm, sizeof norm, "roi_heads.box_head.%d.1", i);
        x = th_conv(b, conv, x, spec);
        x = th_relu(b, th_batchnorm(b, norm, x, TH_BN_EPS, conv));
    }
    return x;
}

/* Windows [n * boxes][c][POOLED][POOLED] -> [n][boxes][HIDDEN]. */
static int box_head(struct th_builder *b, int x, int64_t n, int64_t boxes)
{
    const struct th_rcnn *r = b->model->head->config;
    char name[48] = "roi_heads.box_head.fc6";
    x = box_convs(b, x, r->box_convs);
    if (b->graph->status != THAW_OK)
        return -1;
    int64_t values = th_shape_at(b, x)->dim[1] * POOLED * POOLED;
    x = th_graph_view(b->graph, x, TH_SHAPE(n, boxes, values));
    if (r->box_convs) /* a Sequential: behind the convolutions and what flattens */
        snprintf(name, sizeof name, "roi_heads.box_head.%d", r->box_convs + 1);
    x = th_relu(b, th_linear(b, name, x, HIDDEN, true));
    if (r->box_convs)
        return x;
    return th_relu(b, th_linear(b, "roi_heads.box_head.fc7", x, HIDDEN, true));
}

/* What is in the boxes: [n][boxes][HIDDEN]. */
static int read_boxes(struct th_builder *b, const int *map, int taps, int rois)
{
    if (b->graph->status != THAW_OK)
        return -1;
    struct th_shape s = *th_shape_at(b, rois);
    int in[TAPS + 1] = {-1, -1, -1, -1, rois};
    union th_attr attr = {.roi = {.stride = b->model->pyramid.level[0].stride,
                              .n_maps = taps,
                              .pooled = POOLED,
                              .sampling = SAMPLING}};
    for (int i = 0; i < taps; i++)
        in[i] = map[i];
    int x = th_graph_node(b->graph, TH_OP_roi_align, &attr, in, "roi_align");
    return box_head(b, x, s.dim[0], s.dim[1]);
}

int th_rcnn_build(struct th_builder *b, const struct th_taps *taps)
{
    const struct th_rcnn *r = b->model->head->config;
    int map[TH_MAX_LEVELS], objectness, deltas, k = 1 + b->model->n_classes;
    struct th_pyramid *p = &b->model->pyramid;
    const struct th_fpn_spec fpn = {
        .taps = taps->n > 1 && taps->n < TAPS ? taps->n : TAPS,
        .width = b->model->head_width,
        .norm = r->pyramid_norm,
        .pooled = true};
    th_fpn(b, taps, fpn, map);
    propose(b, map, &objectness, &deltas);
    if (b->graph->status != THAW_OK)
        return -1;
    union th_attr attr = proposals_of(b, EVAL_BOXES);
    p->boxes = th_proposals_most(&attr.proposals);
    if (b->training)
        attr = proposals_of(b, TRAIN_BOXES);
    int rois = th_graph_node(
        b->graph, TH_OP_proposals, &attr, (int[]){objectness, deltas}, "proposals");
    if (b->training)
        rois = sample(b, rois);
    int x = read_boxes(b, map, fpn.taps, rois);
    int boxes = th_linear(b, "roi_heads.box_predictor.bbox_pred", x, 4 * k, true);
    th_want(b, boxes, "boxes");
    th_want(b, rois, "rois");
    return th_linear(b, "roi_heads.box_predictor.cls_score", x, k, true);
}

/* ---- The loss ---- */

static int smooth_l1(struct th_builder *b, int x, int box, int target, int weight)
{
    union th_attr attr = {.box = {.kind = TH_BOX_SMOOTH_L1, .beta = BETA}};
    return th_graph_node(
        b->graph, TH_OP_box_loss, &attr, (int[]){x, box, target, weight}, "boxes");
}

static int weight_of(struct th_builder *b, int target)
{
    return th_graph_node(b->graph, TH_OP_row_weight, NULL, &target, "weight");
}

/* Of the anchors that were drawn: whether there is an object, and where. */
static int rpn_loss(struct th_builder *b, int64_t n)
{
    const struct th_row_values *const v = th_rcnn_detector.target;
    int objectness = th_graph_find(b->graph, "objectness");
    int deltas = th_graph_find(b->graph, "deltas");
    int target = th_row_input(b, &v[RPN_TARGET], n), weight = weight_of(b, target);
    int is = th_graph_node(b->graph, TH_OP_masked_ce, NULL,
        (int[]){objectness, th_row_input(b, &v[RPN_OBJECTNESS], n), weight},
        "objectness");
    int box = th_row_input(b, &v[RPN_BOX], n);
    return th_add(b, is, smooth_l1(b, deltas, box, target, weight));
}

/* Of the boxes that were drawn: which class, and of those with one, where. */
static int roi_loss(struct th_builder *b, int logits)
{
    struct th_graph *g = b->graph;
    const struct th_node *drawn = th_graph_maker(g, th_graph_find(g, "rois"));
    int target = drawn->out[1], box = drawn->out[2], weight = weight_of(b, target);
    union th_attr four = {.rows = {.width = 4}};
    int which = th_graph_node(
        g, TH_OP_row_ce, NULL, (int[]){logits, target, weight}, "classes");
    int own = th_graph_node(g, TH_OP_class_rows, &four,
        (int[]){th_graph_find(g, "boxes"), target}, "boxes");
    return th_add(b, which, smooth_l1(b, own, box, target, weight));
}

/* Each a mean over what was drawn in the batch. */
int th_rcnn_loss(struct th_builder *b, int logits)
{
    if (b->graph->status != THAW_OK)
        return -1;
    int64_t n = th_shape_at(b, logits)->dim[0];
    return th_add(b, rpn_loss(b, n), roi_loss(b, logits));
}
