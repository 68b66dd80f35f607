/* SPDX-License-Identifier: Apache-2.0
 * The image tower of OpenAI's CLIP and of OpenCLIP (Radford et al. 2021). What leads to
 * the text's space, and the tower of the text, have no use here. */
#include "dialect.h"

static const char *const signs[] = {
    "class_embedding", "transformer.resblocks.#.attn.in_proj_weight", NULL};
static const char *const wrapped[] = {"visual.", NULL};

#define R "transformer.resblocks.#."

static const struct th_name_row row[] = {
    TH_FITTED("class_embedding", "cls_token", TOKENS),
    TH_FITTED("positional_embedding", "pos_embed", TOKENS),
    TH_NAME("conv1.weight", "patch_embed.proj.weight"),
    TH_NAME("ln_pre.*", "norm_pre.*"), TH_NAME("ln_post.*", "norm.*"),
    TH_NAME(R "ln_1.*", "blocks.#.norm1.*"),
    TH_NAME(R "attn.in_proj_weight", "blocks.#.attn.qkv.weight"),
    TH_NAME(R "attn.in_proj_bias", "blocks.#.attn.qkv.bias"),
    TH_NAME(R "attn.out_proj.*", "blocks.#.attn.proj.*"),
    TH_NAME(R "ln_2.*", "blocks.#.norm2.*"),
    TH_NAME(R "mlp.c_fc.*", "blocks.#.mlp.fc1.*"),
    TH_NAME(R "mlp.c_proj.*", "blocks.#.mlp.fc2.*"),
    TH_NAME(R "ls_1.gamma", "blocks.#.ls1.gamma"),
    TH_NAME(R "ls_2.gamma", "blocks.#.ls2.gamma"),
    TH_GONE("proj"), /* to the text's space */
};

static const struct th_dialect_input input = {{0.48145466, 0.4578275, 0.40821073},
    {0.26862954, 0.26130258, 0.27577711}, 1.0, "bicubic"};

/* The tower of the text has the same names without "visual.": it goes first. */
static thaw_status before(struct th_weights *w, const char *where)
{
    return th_dialect_keep(w, "visual.", where);
}

const struct th_dialect th_dialect_openclip = {
    .name = "CLIP's image tower",
    .signs = signs,
    .wrapped = wrapped,
    TH_ROWS(row),
    .input = &input,
    .before = before,
};
