/* SPDX-License-Identifier: Apache-2.0
 * Faster R-CNN as torchvision's fasterrcnn_resnet50_fpn: no norm in the head. */
#include "rcnn.h"

static const struct th_rcnn config = {.rpn_depth = 1};

const struct th_head th_head_faster_rcnn = {
    .name = "faster_rcnn",
    .about = "boxes: Faster R-CNN on a feature pyramid (--head-width channels)",
    .build = th_rcnn_build,
    .loss = th_rcnn_loss,
    .answer = "roi_heads.box_predictor.cls_score",
    .hidden = true,
    .width = TH_RCNN_WIDTH,
    .many = true,
    .detector = &th_rcnn_detector,
    .config = &config,
};
