/* SPDX-License-Identifier: Apache-2.0
 * Owns what heads that classify are made of. */
#include "layers.h"

#include <stdio.h>

struct th_layer_name th_head_layer(const struct th_builder *b, const char *layer)
{
    struct th_layer_name name;
    snprintf(name.text, sizeof name.text, "%s%s%s",
        b->model->backbone->head_name(b->model->variant), *layer ? "." : "", layer);
    return name;
}

int th_pooled(struct th_builder *b, const struct th_taps *taps)
{
    if (!taps->distilled)
        return taps->pooled;
    return th_scale(b, th_add(b, taps->pooled, taps->pooled_dist), 0.5F);
}

int th_softmax_loss(struct th_builder *b, int logits)
{
    if (b->graph->status != THAW_OK)
        return -1;
    int target = th_graph_input(b->graph, "target", TH_F32, *th_shape_at(b, logits));
    return th_graph_node(
        b->graph, TH_OP_softmax_ce, NULL, (int[]){logits, target}, "loss");
}

/* While training, the features go through inverted dropout first: kept values are scaled
 * by 1/(1-p), as torch.nn.Dropout does (Srivastava et al., JMLR 15, 2014, section 10). */
int th_classifier(struct th_builder *b, const struct th_taps *taps)
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
