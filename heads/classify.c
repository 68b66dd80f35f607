/* SPDX-License-Identifier: Apache-2.0
 * The classifier: one linear layer on the pooled features, softmax cross-entropy. */
#include "layers.h"

/* "target" [n][classes]: a distribution a row (one-hot, smoothed or mixed). */
static int loss(struct th_builder *b, int logits)
{
    if (b->graph->status != THAW_OK)
        return -1;
    int target = th_graph_input(b->graph, "target", TH_F32, *th_shape_at(b, logits));
    return th_graph_node(
        b->graph, TH_OP_softmax_ce, NULL, (int[]){logits, target}, "loss");
}

const struct th_head th_head_classify = {
    .name = "classify",
    .about = "linear classifier on pooled features, softmax cross-entropy",
    .build = th_classifier,
    .loss = loss,
};
