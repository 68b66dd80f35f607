/* SPDX-License-Identifier: Apache-2.0
 * The classifier: one linear layer on the pooled features, softmax cross-entropy. */
#include "layers.h"

const struct th_head th_head_classify = {
    .name = "classify",
    .about = "linear classifier on pooled features, softmax cross-entropy",
    .build = th_classifier,
    .loss = th_softmax_loss,
};
