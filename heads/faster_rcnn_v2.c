/* SPDX-License-Identifier: Apache-2.0
 * Faster R-CNN as torchvision's fasterrcnn_resnet50_fpn_v2 (Li et al. 2021, arXiv:2111.11429,
 * section 3): BatchNorm in pyramid and box head, more convolutions. */
#include "rcnn.h"

static const struct th_rcnn config = {
    .rpn_depth = 2, .pyramid_norm = true, .box_convs = 4};

const struct th_head th_head_faster_rcnn_v2 = {
    .name = "faster_rcnn_v2",
    .about =
        "boxes: Faster R-CNN with convolutions and BatchNorm (--head-width channels)",
    .build = th_rcnn_build,
    .loss = th_rcnn_loss,
    .answer = "roi_heads.box_predictor.cls_score",
    .hidden = true,
    .width = TH_RCNN_WIDTH,
    .many = true,
    .detector = &th_rcnn_detector,
    .config = &config,
};
