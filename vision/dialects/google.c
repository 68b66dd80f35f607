/* SPDX-License-Identifier: Apache-2.0
 * Google's ViT and AugReg .npz (Flax; Dosovitskiy et al. 2020, Steiner et al. 2021), and
 * big_vision's newer numbering. Kernels are [in][out], [h][w][in][out], and in attention
 * [in][heads][d] and [heads][d][out]. BiT is recognised and refused. */
#include "dialect.h"
#include "error.h"

static const char *const signs[] = {"embedding.kernel", NULL};
static const char *const wrapped[] = {
    "opt.target.", "optimizer.target.", "params.", "target.", NULL};

#define B "Transformer.encoderblock_#."
/* Attention numbered A, and the second norm and the MLP numbered N and M. */
#define BLOCK(A, N, M)                                                                 \
    TH_PART(B A ".query.kernel", "blocks.#.attn.qkv.weight", TO_HEADS, 1),             \
        TH_PART(B A ".key.kernel", "blocks.#.attn.qkv.weight", TO_HEADS, 2),           \
        TH_PART(B A ".value.kernel", "blocks.#.attn.qkv.weight", TO_HEADS, 3),         \
        TH_PART(B A ".query.bias", "blocks.#.attn.qkv.bias", VECTOR, 1),               \
        TH_PART(B A ".key.bias", "blocks.#.attn.qkv.bias", VECTOR, 2),                 \
        TH_PART(B A ".value.bias", "blocks.#.attn.qkv.bias", VECTOR, 3),               \
        TH_FITTED(B A ".out.kernel", "blocks.#.attn.proj.weight", OF_HEADS),           \
        TH_NAME(B A ".out.bias", "blocks.#.attn.proj.bias"),                           \
        TH_NAME(B N ".scale", "blocks.#.norm2.weight"),                                \
        TH_NAME(B N ".bias", "blocks.#.norm2.bias"),                                   \
        TH_FITTED(B M ".Dense_0.kernel", "blocks.#.mlp.fc1.weight", KERNEL),           \
        TH_NAME(B M ".Dense_0.bias", "blocks.#.mlp.fc1.bias"),                         \
        TH_FITTED(B M ".Dense_1.kernel", "blocks.#.mlp.fc2.weight", KERNEL),           \
        TH_NAME(B M ".Dense_1.bias", "blocks.#.mlp.fc2.bias")

static const struct th_name_row row[] = {
    TH_FITTED("cls", "cls_token", TOKENS),
    TH_FITTED("embedding.kernel", "patch_embed.proj.weight", KERNEL),
    TH_NAME("embedding.bias", "patch_embed.proj.bias"),
    TH_FITTED("Transformer.posembed_input.pos_embedding", "pos_embed", TOKENS),
    TH_FITTED("pos_embedding", "pos_embed", TOKENS),
    TH_NAME(B "LayerNorm_0.scale", "blocks.#.norm1.weight"),
    TH_NAME(B "LayerNorm_0.bias", "blocks.#.norm1.bias"),
    BLOCK("MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3"),
    BLOCK("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0"),
    TH_NAME("Transformer.encoder_norm.scale", "norm.weight"),
    TH_NAME("Transformer.encoder_norm.bias", "norm.bias"),
    TH_FITTED("head.kernel", "head.weight", KERNEL), TH_NAME("head.bias", "head.bias"),
    TH_GONE("pre_logits.*"), /* of the 21,000 classes; a new head stands without it */
};

/* x / 127.5 - 1, the whole picture resized; timm's copies crop 0.9 of it. */
static const struct th_dialect_input input = {
    {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}, 0.9, "bicubic"};

const struct th_dialect th_dialect_google = {
    .name = "Google's ViT",
    .signs = signs,
    .wrapped = wrapped,
    TH_ROWS(row),
    .input = &input,
};
