/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face's DINOv2, with registers or without. Its classifier reads the class token
 * beside the mean of the patches and fits no head of ours: it goes. */
#include "dialect.h"

static const char *const signs[] = {
    "embeddings.cls_token", "encoder.layer.#.layer_scale1.lambda1", NULL};
static const char *const wrapped[] = {"dinov2_with_registers.", "dinov2.", NULL};

#define L "encoder.layer.#."
#define QKV "blocks.#.attn.qkv.*"

static const struct th_name_row row[] = {
    TH_NAME("embeddings.cls_token", "cls_token"),
    TH_NAME("embeddings.register_tokens", "register_tokens"), /* dinov2.c goes on */
    TH_NAME("embeddings.position_embeddings", "pos_embed"),
    TH_GONE("embeddings.mask_token"),
    TH_NAME("embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
    TH_NAME(L "norm1.*", "blocks.#.norm1.*"),
    TH_PART(L "attention.attention.query.*", QKV, SAME, 1),
    TH_PART(L "attention.attention.key.*", QKV, SAME, 2),
    TH_PART(L "attention.attention.value.*", QKV, SAME, 3),
    TH_NAME(L "attention.output.dense.*", "blocks.#.attn.proj.*"),
    TH_PART(L "attention.q_proj.*", QKV, SAME, 1),
    TH_PART(L "attention.k_proj.*", QKV, SAME, 2),
    TH_PART(L "attention.v_proj.*", QKV, SAME, 3),
    TH_NAME(L "attention.o_proj.*", "blocks.#.attn.proj.*"),
    TH_NAME(L "layer_scale1.lambda1", "blocks.#.ls1.gamma"),
    TH_NAME(L "norm2.*", "blocks.#.norm2.*"),
    TH_NAME(L "mlp.fc1.*", "blocks.#.mlp.fc1.*"),
    TH_NAME(L "mlp.fc2.*", "blocks.#.mlp.fc2.*"),
    TH_NAME(L "layer_scale2.lambda1", "blocks.#.ls2.gamma"),
    TH_NAME("layernorm.*", "norm.*"),
    TH_GONE("classifier.*"),
};

static const struct th_dialect_input input = {
    {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, 0.875, "bicubic"};

const struct th_dialect th_dialect_hf_dinov2 = {
    .name = "Hugging Face DINOv2",
    .signs = signs,
    .wrapped = wrapped,
    TH_ROWS(row),
    .input = &input,
};
