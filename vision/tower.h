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

/* The bias of logits with which every class has this probability (arXiv:1708.02002, 4.1). */
float th_prior_bias(float probability);

#endif
