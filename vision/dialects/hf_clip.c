/* SPDX-License-Identifier: Apache-2.0
 * The image tower of a Hugging Face CLIP. */
#include "dialect.h"

static const char *const signs[] = {
    "embeddings.class_embedding", "encoder.layers.#.self_attn.q_proj.weight", NULL};
static const char *const wrapped[] = {"vision_model.", NULL};

#define L "encoder.layers.#."

static const struct th_name_row row[] = {
    TH_FITTED("embeddings.class_embedding", "cls_token", TOKENS),
    TH_FITTED("embeddings.position_embedding.weight", "pos_embed", TOKENS),
    TH_GONE("embeddings.position_ids"),
    TH_NAME("embeddings.patch_embedding.weight", "patch_embed.proj.weight"),
    TH_NAME("pre_layrnorm.*", "norm_pre.*"), /* their spelling */
    TH_NAME("post_layernorm.*", "norm.*"),
    TH_NAME(L "layer_norm1.*", "blocks.#.norm1.*"),
    TH_PART(L "self_attn.q_proj.*", "blocks.#.attn.qkv.*", SAME, 1),
    TH_PART(L "self_attn.k_proj.*", "blocks.#.attn.qkv.*", SAME, 2),
    TH_PART(L "self_attn.v_proj.*", "blocks.#.attn.qkv.*", SAME, 3),
    TH_NAME(L "self_attn.out_proj.*", "blocks.#.attn.proj.*"),
    TH_NAME(L "layer_norm2.*", "blocks.#.norm2.*"),
    TH_NAME(L "mlp.fc1.*", "blocks.#.mlp.fc1.*"),
    TH_NAME(L "mlp.fc2.*", "blocks.#.mlp.fc2.*"),
};

static const struct th_dialect_input input = {{0.48145466, 0.4578275, 0.40821073},
    {0.26862954, 0.26130258, 0.27577711}, 1.0, "bicubic"};

static thaw_status before(struct th_weights *w, const char *where)
{
    return th_dialect_keep(w, "vision_model.", where);
}

const struct th_dialect th_dialect_hf_clip = {
    .name = "Hugging Face CLIP's image tower",
    .signs = signs,
    .wrapped = wrapped,
    TH_ROWS(row),
    .input = &input,
    .before = before,
};
