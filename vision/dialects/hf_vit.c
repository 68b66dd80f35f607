/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face's ViT and DeiT, as transformers 4 and before name them and, with layers
 * right below the network and q_proj, as transformers 5 does. */
#include "dialect.h"
#include "error.h"

static const char *const signs[] = {"embeddings.patch_embeddings.projection.weight",
    "encoder.layer.#.layernorm_before.weight|layers.#.layernorm_before.weight", NULL};
static const char *const wrapped[] = {"vit.", "deit.", NULL};

#define L "encoder.layer.#."
#define N "layers.#."
#define QKV "blocks.#.attn.qkv.*"

static const struct th_name_row row[] = {
    TH_NAME("embeddings.cls_token", "cls_token"),
    TH_NAME("embeddings.distillation_token", "dist_token"),
    TH_NAME("embeddings.position_embeddings", "pos_embed"),
    TH_GONE("embeddings.mask_token"),
    TH_NAME("embeddings.patch_embeddings.projection.*", "patch_embed.proj.*"),
    TH_NAME(L "layernorm_before.*", "blocks.#.norm1.*"),
    TH_PART(L "attention.attention.query.*", QKV, SAME, 1),
    TH_PART(L "attention.attention.key.*", QKV, SAME, 2),
    TH_PART(L "attention.attention.value.*", QKV, SAME, 3),
    TH_NAME(L "attention.output.dense.*", "blocks.#.attn.proj.*"),
    TH_NAME(L "layernorm_after.*", "blocks.#.norm2.*"),
    TH_NAME(L "intermediate.dense.*", "blocks.#.mlp.fc1.*"),
    TH_NAME(L "output.dense.*", "blocks.#.mlp.fc2.*"),
    TH_NAME(N "layernorm_before.*", "blocks.#.norm1.*"),
    TH_PART(N "attention.q_proj.*", QKV, SAME, 1),
    TH_PART(N "attention.k_proj.*", QKV, SAME, 2),
    TH_PART(N "attention.v_proj.*", QKV, SAME, 3),
    TH_NAME(N "attention.o_proj.*", "blocks.#.attn.proj.*"),
    TH_NAME(N "layernorm_after.*", "blocks.#.norm2.*"),
    TH_NAME(N "mlp.fc1.*", "blocks.#.mlp.fc1.*"),
    TH_NAME(N "mlp.fc2.*", "blocks.#.mlp.fc2.*"),
    TH_NAME("layernorm.*", "norm.*"),
    TH_NAME("classifier.*", "head.*"),
    TH_NAME("cls_classifier.*", "head.*"),
    TH_NAME("distillation_classifier.*", "head_dist.*"),
    TH_GONE("pooler.dense.*"),
};

/* Google's checkpoints, of which most files are made, want -1 .. 1; DeiT says otherwise. */
static const struct th_dialect_input input = {
    {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}, 1.0, "bilinear"};

/* Before the rows, while the names still tell. */
static thaw_status before(struct th_weights *w, const char *where)
{
    static const double mean[3] = {0.485, 0.456, 0.406}, std[3] = {0.229, 0.224, 0.225};
    static const double crop = 0.875;
    bool deit = false;
    (void)where;
    for (size_t i = 0; i < w->n; i++)
        deit |=
            th_dialect_meets("deit.embeddings.cls_token", w->weight[i].name) ||
            th_dialect_meets("deit.embeddings.distillation_token", w->weight[i].name) ||
            th_dialect_meets("embeddings.distillation_token", w->weight[i].name);
    if (!deit || th_weights_floats(w, "mean", NULL))
        return THAW_OK;
    TRY(th_weights_set_floats(w, "mean", mean, 3));
    TRY(th_weights_set_floats(w, "std", std, 3));
    TRY(th_weights_set_floats(w, "crop", &crop, 1));
    TRY(th_weights_set_string(w, "interpolation", "bicubic"));
    return th_weights_note(w,
        "preprocessing assumed: that of DeiT (ImageNet's mean and "
        "std, crop 0.875, bicubic)");
}

const struct th_dialect th_dialect_hf_vit = {
    .name = "Hugging Face ViT",
    .signs = signs,
    .wrapped = wrapped,
    TH_ROWS(row),
    .input = &input,
    .before = before,
};
