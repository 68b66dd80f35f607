/* SPDX-License-Identifier: Apache-2.0
 * RetinaNet as torchvision's retinanet_resnet50_fpn_v2: GroupNorm in the towers, GIoU
 * (Rezatofighi et al. 2019, arXiv:1902.09630), P6 of the backbone's last map. */
#include "retina.h"

static const struct th_retina config = {
    .tower = {.depth = 4, .groups = 32, .nested = true},
    .p6_of_tap = true,
    .boxes = TH_BOX_GIOU_DELTAS};

const struct th_head th_head_retinanet_v2 = {
    .name = "retinanet_v2",
    .about = "boxes: RetinaNet with GroupNorm and GIoU (--head-width channels)",
    .build = th_retina_build,
    .loss = th_retina_loss,
    .answer = "head.classification_head.cls_logits",
    .hidden = true,
    .width = TH_RETINA_WIDTH,
    .many = true,
    .detector = &th_retina_detector,
    .config = &config,
};
