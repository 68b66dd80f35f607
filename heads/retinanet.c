/* SPDX-License-Identifier: Apache-2.0
 * RetinaNet as torchvision's retinanet_resnet50_fpn: no norm in the head, L1. */
#include "retina.h"

enum { WIDTH = 256 };
static const struct th_retina RETINA = {
    .tower = {.depth = 4, .bias = true, .nested = true}, .boxes = TH_BOX_SMOOTH_L1};

static int build(struct th_builder *b, const struct th_taps *taps)
{
    return th_retina_build(b, taps, &RETINA);
}

static int loss(struct th_builder *b, int logits)
{
    return th_retina_loss(b, logits, &RETINA);
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
    .detector = &th_retina_detector,
};
