/* SPDX-License-Identifier: Apache-2.0
 * torchvision's detectors on a ResNet with a pyramid. */
#include "dialect.h"

static const char *const signs[] = {"backbone.body.conv1.weight",
    "backbone.fpn.inner_blocks.#.0.weight|"
    "backbone.fpn.inner_blocks.#.weight",
    NULL};

#define L "backbone.body.layer#.#."

static const struct th_name_row row[] = {
    TH_NAME("backbone.body.conv1.*", "conv1.*"),
    TH_NAME("backbone.body.bn1.*", "bn1.*"),
    TH_NAME(L "conv#.*", "layer#.#.conv#.*"),
    TH_NAME(L "bn#.*", "layer#.#.bn#.*"),
    TH_NAME(L "downsample.#.*", "layer#.#.downsample.#.*"),
    TH_NAME("backbone.fpn.inner_blocks.#.0.*", "fpn.inner_blocks.#.0.*"),
    TH_NAME("backbone.fpn.layer_blocks.#.0.*", "fpn.layer_blocks.#.0.*"),
    TH_NAME("backbone.fpn.inner_blocks.#.1.*", "fpn.inner_blocks.#.1.*"), /* its norm */
    TH_NAME("backbone.fpn.layer_blocks.#.1.*", "fpn.layer_blocks.#.1.*"),
    TH_NAME(
        "backbone.fpn.inner_blocks.#.*", "fpn.inner_blocks.#.0.*"), /* before 0.13 */
    TH_NAME("backbone.fpn.layer_blocks.#.*", "fpn.layer_blocks.#.0.*"),
    TH_NAME("backbone.fpn.extra_blocks.p6.*", "fpn.extra_blocks.p6.*"),
    TH_NAME("backbone.fpn.extra_blocks.p7.*", "fpn.extra_blocks.p7.*"),
    TH_NAME("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"), /* before 0.13 */
    TH_NAME("rpn.head.conv.bias", "rpn.head.conv.0.0.bias"),
};

static const struct th_dialect_input input = {
    {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 1, "bilinear"};

/* Which of them it is. */
static thaw_status after(struct th_weights *w, const char *where)
{
    (void)where;
    bool fcos = th_weights_find(w, "head.regression_head.bbox_ctrness.weight");
    bool retinanet = th_weights_find(w, "head.classification_head.conv.0.0.weight");
    bool normed = th_weights_find(w, "head.classification_head.conv.0.1.weight");
    bool convs = th_weights_find(w, "roi_heads.box_head.5.weight");
    bool rcnn = th_weights_find(w, "roi_heads.box_head.fc6.weight");
    const char *head = fcos        ? "fcos"
                       : normed    ? "retinanet_v2"
                       : retinanet ? "retinanet"
                       : convs     ? "faster_rcnn_v2"
                                   : "faster_rcnn";
    if (th_weights_string(w, "head") || !(fcos || retinanet || convs || rcnn))
        return THAW_OK;
    return th_weights_set_string(w, "head", head);
}

const struct th_dialect th_dialect_torchvision_detection = {
    .name = "torchvision's detectors",
    .signs = signs,
    TH_ROWS(row),
    .input = &input,
    .after = after,
};
