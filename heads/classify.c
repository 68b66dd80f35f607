/* SPDX-License-Identifier: Apache-2.0
 * The classifier: one linear layer on the pooled features, softmax cross-entropy. While
 * training, the features go through inverted dropout first: kept values are scaled by
 * 1/(1-p), as torch.nn.Dropout does (Srivastava et al., JMLR 15, 2014, section 10). */
#include "layers.h"

#include <stdio.h>

static int build(struct th_builder *b, const struct th_taps *taps)
{
    const char *name = b->model->backbone->head_name(b->model->variant);
    int n = b->model->n_classes;
    int x = th_dropout(b, "head.dropout", taps->pooled, b->model->dropout);
    int y = th_linear(b, name, x, n, true);
    if (!taps->distilled)
        return y;
    /* Touvron et al. 2020 (arXiv:2012.12877), section 4: both classifiers answer. */
    char second[64];
    snprintf(second, sizeof second, "%s_dist", name);
    x = th_dropout(b, "head_dist.dropout", taps->pooled_dist, b->model->dropout);
    return th_scale(b, th_add(b, y, th_linear(b, second, x, n, true)), 0.5F);
}

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
    .build = build,
    .loss = loss,
};
