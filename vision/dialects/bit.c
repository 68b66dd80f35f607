/* SPDX-License-Identifier: Apache-2.0
 * Google's BiT (Kolesnikov et al. 2019) is recognised, to be refused in words: it is a
 * ResNetV2 with GroupNorm and weight standardisation, which is no network of ours, and
 * its tensors mean nothing in a ResNet with BatchNorm. */
#include "dialect.h"
#include "error.h"

static const char *const signs[] = {
    "resnet.block#.unit#.a.standardized_conv#d.kernel", NULL};

static thaw_status before(struct th_weights *w, const char *where)
{
    (void)w;
    return th_fail(THAW_E_DATA,
        "%s: a BiT (ResNetV2 with GroupNorm and standardised weights): Thaw has no "
        "such "
        "network; take a ResNet or a ViT",
        where);
}

const struct th_dialect th_dialect_bit = {
    .name = "BiT",
    .signs = signs,
    .before = before,
};
