/* SPDX-License-Identifier: Apache-2.0
 * Owns RetinaNet's graph, loss and table (Lin et al. 2017, arXiv:1708.02002). */
#include "retina.h"

enum { TAPS = 3 };

int th_retina_build(struct th_builder *b, const struct th_taps *taps)
{
    const struct th_retina *r = b->model->head->config;
    static const char *const classes = "head.classification_head";
    static const char *const places = "head.regression_head";
    int map[TH_MAX_LEVELS], logits[TH_MAX_LEVELS], deltas[TH_MAX_LEVELS];
    int k = b->model->n_classes, n = TH_ANCHORS_A_PLACE;
    const struct th_fpn_spec fpn = {.taps = TAPS,
        .width = b->model->head_width,
        .p6_p7 = true,
        .p6_of_tap = r->p6_of_tap};
    th_fpn(b, taps, fpn, map);
    for (int i = 0; i < b->model->pyramid.n; i++) {
        int x = th_tower(b, classes, map[i], r->tower);
        logits[i] =
            th_tower_end(b, classes, "cls_logits", x, n * k, th_prior_bias(0.01F));
        x = th_tower(b, places, map[i], r->tower);
        deltas[i] = th_tower_end(b, places, "bbox_reg", x, n * 4, 0);
    }
    th_pyramid_rows(b, deltas, n, 4, "boxes");
    return th_pyramid_rows(b, logits, n, k, "logits");
}

const struct th_detector th_retina_detector = {
    .output = {{"boxes", 4, TH_F32}},
    .n_outputs = 1,
    .code = TH_CODE_DELTAS,
    .target = {{"target", 1, TH_I32}, {"target_box", 4, TH_F32}},
    .n_targets = 2,
    .anchors_a_place = TH_ANCHORS_A_PLACE,
    .anchors = th_anchors,
    .assign = th_anchors_assign,
    .read = th_read_rows,
    .score = 0.05F,
    .overlap = 0.5F,
    .top = 1000,
    .most = 300,
};

/* Focal loss of classes and a loss of boxes, each summed, divided by the rows of the image
 * that have a class, and averaged over images. */
int th_retina_loss(struct th_builder *b, int logits)
{
    const struct th_retina *r = b->model->head->config;
    struct th_row_inputs in = th_row_inputs(b, &th_retina_detector, logits);
    union th_attr kind = {.box = {.kind = r->boxes}};
    int boxes = th_graph_find(b->graph, "boxes");
    int far = th_graph_node(b->graph, TH_OP_box_loss, &kind,
        (int[]){boxes, in.target[1], in.target[0], in.weight}, "boxes");
    return th_add(b, th_focal_loss(b, logits, &in), far);
}
