/* SPDX-License-Identifier: Apache-2.0
 * What dense heads have in common: convolutions shared by the levels of a pyramid. */
#ifndef TH_TOWER_H
#define TH_TOWER_H

#include "fpn.h"

struct th_tower {
    int depth;
    int groups; /* of the GroupNorm after each convolution; 0: none */
    bool bias;  /* of the convolutions */
    bool
        nested; /* NAME.conv.I.0 and NAME.conv.I.1, else NAME.conv.3I and NAME.conv.3I+1 */
};

/* depth times 3x3 convolution, GroupNorm, ReLU, with as many channels as x has. */
int th_tower(struct th_builder *b, const char *name, int x, struct th_tower spec);

/* The last 3x3 convolution, NAME.LAYER; random weights of deviation 0.01, and this bias. */
int th_tower_end(struct th_builder *b, const char *name, const char *layer, int x,
    int out, float bias);

/* The loss's inputs, of the detector's table and of `weight`, for these logits. */
struct th_row_inputs {
    int target[TH_MAX_TARGETS], weight;
};
struct th_row_inputs th_row_inputs(
    struct th_builder *b, const struct th_detector *detector, int logits);

/* One of them, for so many images. */
int th_row_input(struct th_builder *b, const struct th_row_values *v, int64_t images);

/* Focal loss with alpha 0.25 and gamma 2, RetinaNet's and FCOS's. */
int th_focal_loss(struct th_builder *b, int logits, const struct th_row_inputs *in);

/* The bias of logits with which every class has this probability (arXiv:1708.02002, 4.1). */
float th_prior_bias(float probability);

#endif
