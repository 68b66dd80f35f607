/* SPDX-License-Identifier: Apache-2.0
 * A classifier with a hidden layer: linear, ReLU, dropout, linear, softmax cross-entropy.
 * Parameters are called as in torch.nn.Sequential(Linear, ReLU, Dropout, Linear), so that
 * a torchvision model with that as its classifier loads what is written. */
#include "layers.h"

static int build(struct th_builder *b, const struct th_taps *taps)
{
    int x = th_pooled(b, taps);
    x = th_linear(b, th_head_layer(b, "0").text, x, b->model->head_width, true);
    x = th_dropout(b, "head.dropout", th_relu(b, x), b->model->dropout);
    return th_linear(b, th_head_layer(b, "3").text, x, b->model->n_classes, true);
}

const struct th_head th_head_mlp = {
    .name = "mlp",
    .about = "classifier with a hidden layer (--head-width): linear, ReLU, linear",
    .build = build,
    .loss = th_softmax_loss,
    .answer = "3",
    .hidden = true,
};
