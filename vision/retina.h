/* SPDX-License-Identifier: Apache-2.0
 * What RetinaNet's versions share: anchors on each level of a pyramid, four convolutions
 * shared by the levels for classes and again for boxes. */
#ifndef TH_RETINA_H
#define TH_RETINA_H

#include "anchors.h"
#include "tower.h"

struct th_retina {
    struct th_tower tower;
    bool p6_of_tap;         /* else of the pyramid's last map */
    enum th_box_loss boxes; /* of deltas */
};

/* th_head.build and .loss; th_head.config is a struct th_retina. */
int th_retina_build(struct th_builder *b, const struct th_taps *taps);
int th_retina_loss(struct th_builder *b, int logits);

/* torchvision's defaults. */
enum { TH_RETINA_WIDTH = 256 };
extern const struct th_detector th_retina_detector;

#endif
