/* SPDX-License-Identifier: Apache-2.0
 * RetinaNet as torchvision's retinanet_resnet50_fpn: no norm in the head, L1. */
#include "retina.h"

static const struct th_retina config = {
    .tower = {.depth = 4, .bias = true, .nested = true}, .boxes = TH_BOX_SMOOTH_L1};

const struct th_head th_head_retinanet = {
    .name = "retinanet",
    .about = "boxes: RetinaNet on a feature pyramid (--head-width channels)",
    .build = th_retina_build,
    .loss = th_retina_loss,
    .answer = "head.classification_head.cls_logits",
    .hidden = true,
    .width = TH_RETINA_WIDTH,
    .many = true,
    .detector = &th_retina_detector,
    .config = &config,
};
