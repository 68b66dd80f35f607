/* SPDX-License-Identifier: Apache-2.0
 * RetinaNet (Lin et al. 2017, arXiv:1708.02002) with torchvision's names and defaults:
 * anchors on each level of a pyramid, four convolutions shared by the levels for classes and
 * again for boxes, focal loss and L1. */
#include "anchors.h"
#include "tower.h"

enum { WIDTH = 256, TAPS = 3 };
static const struct th_tower TOWER = {.depth = 4, .bias = true, .nested = true};

static int build(struct th_builder *b, const struct th_taps *taps)
{
    static const char *const classes = "head.classification_head";
    static const char *const places = "head.regression_head";
    int map[TH_MAX_LEVELS], logits[TH_MAX_LEVELS], deltas[TH_MAX_LEVELS];
    int k = b->model->n_classes, n = TH_ANCHORS_A_PLACE;
    const struct th_fpn_spec fpn = {
        .taps = TAPS, .width = b->model->head_width, .p6_p7 = true};
    th_fpn(b, taps, fpn, map);
    for (int i = 0; i < b->model->pyramid.n; i++) {
        int x = th_tower(b, classes, map[i], TOWER);
        logits[i] =
            th_tower_end(b, classes, "cls_logits", x, n * k, th_prior_bias(0.01F));
        x = th_tower(b, places, map[i], TOWER);
        deltas[i] = th_tower_end(b, places, "bbox_reg", x, n * 4, 0);
    }
    th_pyramid_rows(b, deltas, n, 4, "boxes");
    return th_pyramid_rows(b, logits, n, k, "logits");
}

static const struct th_detector detector = {
    .output = {{"boxes", 4, TH_F32}},
    .n_outputs = 1,
    .code = TH_CODE_DELTAS,
    .target = {{"target", 1, TH_I32}, {"target_box", 4, TH_F32}},
    .n_targets = 2,
    .anchors_a_place = TH_ANCHORS_A_PLACE,
    .anchors = th_anchors,
    .assign = th_anchors_assign,
    .score = 0.05F,
    .overlap = 0.5F,
    .top = 1000,
    .most = 300,
};

/* Focal loss of classes and L1 of boxes, each summed, divided by the rows of the image that
 * have a class, and averaged over images. */
static int loss(struct th_builder *b, int logits)
{
    struct th_row_inputs in = th_row_inputs(b, &detector, logits);
    union th_attr l1 = {.box = {.kind = TH_BOX_SMOOTH_L1}};
    int boxes = th_graph_find(b->graph, "boxes");
    int far = th_graph_node(b->graph, TH_OP_box_loss, &l1,
        (int[]){boxes, in.target[1], in.target[0], in.weight}, "boxes");
    return th_add(b, th_focal_loss(b, logits, &in), far);
}

const struct th_head th_head_retinanet = {
    .name = "retinanet",
    .about = "boxes: RetinaNet on a feature pyramid (--head-width channels)",
    .build = build,
    .loss = loss,
    .answer = "head.classification_head.cls_logits",
    .hidden = true,
    .width = WIDTH,
    .many = true,
    .detector = &detector,
};
