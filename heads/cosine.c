/* SPDX-License-Identifier: Apache-2.0
 * A classifier by angle, for few images a class: the cosine between features and a vector
 * a class, times a scale that trains and begins at 10 as in Gidaris and Komodakis 2018
 * (arXiv:1804.09458), section 3. */
#include "layers.h"

static const float SCALE = 10;

static int build(struct th_builder *b, const struct th_taps *taps)
{
    int x = th_dropout(b, "head.dropout", th_pooled(b, taps), b->model->dropout);
    return th_cosine(b, th_head_layer(b, "").text, x, b->model->n_classes, SCALE);
}

const struct th_head th_head_cosine = {
    .name = "cosine",
    .about = "cosine of features and a vector a class, times a learnt scale",
    .build = build,
    .loss = th_softmax_loss,
};
