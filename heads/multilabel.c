/* SPDX-License-Identifier: Apache-2.0
 * Any number of classes an image: the linear layer of a classifier, each logit with a
 * sigmoid and a binary cross-entropy of its own (torch.nn.BCEWithLogitsLoss). */
#include "layers.h"

/* "target" [n][classes] in [0,1]; "pos_weight" [classes]: what a yes weighs. */
static int loss(struct th_builder *b, int logits)
{
    if (b->graph->status != THAW_OK)
        return -1;
    struct th_shape s = *th_shape_at(b, logits);
    int target = th_graph_input(b->graph, "target", TH_F32, s);
    int weight = th_graph_input(b->graph, "pos_weight", TH_F32, TH_SHAPE(s.dim[1]));
    return th_graph_node(
        b->graph, TH_OP_sigmoid_ce, NULL, (int[]){logits, target, weight}, "loss");
}

const struct th_head th_head_multilabel = {
    .name = "multilabel",
    .about = "any number of classes an image: linear, a sigmoid a class",
    .build = th_classifier,
    .loss = loss,
    .many = true,
};
