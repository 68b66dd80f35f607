/* SPDX-License-Identifier: Apache-2.0
 * A linear classifier on two ways of pooling. Of feature maps their maxima, then their
 * means (fastai's AdaptiveConcatPool2d); of tokens the class token, then the mean of the
 * patches (Oquab et al., "DINOv2", 2023, arXiv:2304.07193, appendix B.3). */
#include "layers.h"

static int features(struct th_builder *b, const struct th_taps *taps)
{
    if (b->graph->status != THAW_OK)
        return -1;
    if (taps->patches) {
        int first = (int)th_shape_at(b, taps->tokens)->dim[1] - taps->patches;
        return th_concat(b, th_token_mean(b, taps->tokens, 0, 1),
            th_token_mean(b, taps->tokens, first, taps->patches));
    }
    if (taps->n > 0) /* of the last maps, whose means are the pooled features */
        return th_concat(b, th_gmp(b, taps->value[taps->n - 1]), taps->pooled);
    b->graph->status = th_fail(THAW_E_USAGE,
        "--head concatpool: %s has neither feature maps nor a class token beside its "
        "patches: take another head",
        b->model->variant->name);
    return -1;
}

static int build(struct th_builder *b, const struct th_taps *taps)
{
    int x = th_dropout(b, "head.dropout", features(b, taps), b->model->dropout);
    return th_linear(b, th_head_layer(b, "").text, x, b->model->n_classes, true);
}

const struct th_head th_head_concatpool = {
    .name = "concatpool",
    .about = "linear on maxima and means, or class token and mean of the patches",
    .build = build,
    .loss = th_softmax_loss,
    .features = features,
    .patches = true,
};
