/* SPDX-License-Identifier: Apache-2.0
 * torchvision's ViT, whose names are its own; query, key and value are stacked already. */
#include "dialect.h"

static const char *const signs[] = {"conv_proj.weight", "encoder.pos_embedding", NULL};

#define L "encoder.layers.encoder_layer_#."

static const struct th_name_row row[] = {
    TH_NAME("class_token", "cls_token"),
    TH_NAME("conv_proj.*", "patch_embed.proj.*"),
    TH_NAME("encoder.pos_embedding", "pos_embed"),
    TH_NAME(L "ln_1.*", "blocks.#.norm1.*"),
    TH_NAME(L "self_attention.in_proj_weight", "blocks.#.attn.qkv.weight"),
    TH_NAME(L "self_attention.in_proj_bias", "blocks.#.attn.qkv.bias"),
    TH_NAME(L "self_attention.out_proj.*", "blocks.#.attn.proj.*"),
    TH_NAME(L "ln_2.*", "blocks.#.norm2.*"),
    TH_NAME(L "mlp.linear_1.*", "blocks.#.mlp.fc1.*"), /* before 0.14 */
    TH_NAME(L "mlp.linear_2.*", "blocks.#.mlp.fc2.*"),
    TH_NAME(L "mlp.0.*", "blocks.#.mlp.fc1.*"),
    TH_NAME(L "mlp.3.*", "blocks.#.mlp.fc2.*"),
    TH_NAME("encoder.ln.*", "norm.*"),
    TH_NAME("heads.head.*", "head.*"),
    TH_GONE("heads.pre_logits.*"),
};

static const struct th_dialect_input input = {
    {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 0.875, "bilinear"};

const struct th_dialect th_dialect_torchvision_vit = {
    .name = "torchvision's ViT",
    .signs = signs,
    TH_ROWS(row),
    .input = &input,
};
