/* SPDX-License-Identifier: Apache-2.0
 * What Faster R-CNN's versions share: a network proposes boxes, what a pyramid says within
 * each goes through the box head, and that says its class, or background, and for each class
 * where it is. */
#ifndef TH_RCNN_H
#define TH_RCNN_H

#include "layers.h"

struct th_rcnn {
    int rpn_depth;     /* 3x3 convolutions of the network that proposes */
    bool pyramid_norm; /* BatchNorm behind each of the pyramid's convolutions */
    /* 3x3 convolutions of the box head, without bias but with BatchNorm, as wide as the
     * pyramid, and then one layer of 1024; 0: two layers. */
    int box_convs;
};

/* th_head.build and .loss; th_head.config is a struct th_rcnn. */
int th_rcnn_build(struct th_builder *b, const struct th_taps *taps);
int th_rcnn_loss(struct th_builder *b, int logits);

/* torchvision's defaults. */
enum { TH_RCNN_WIDTH = 256 };
extern const struct th_detector th_rcnn_detector;

#endif
