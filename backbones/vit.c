/* SPDX-License-Identifier: Apache-2.0
 * Vision Transformers with timm's names. Dosovitskiy et al., "An Image is Worth 16x16
 * Words", 2020 (arXiv:2010.11929): ViT and AugReg (arXiv:2106.10270). The same network
 * with: a distillation token, DeiT (arXiv:2012.12877); LayerScale, DeiT III
 * (arXiv:2204.07118) and DINOv2 (arXiv:2304.07193); registers (arXiv:2309.16588); a norm
 * before the blocks and quick-GELU, CLIP's image tower (arXiv:2103.00020); the mean of
 * the patches in place of a class token. Rows, input sizes, means and crops are timm's. */
#include "layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct config {
    int patch, width, depth, heads;
    bool pre_norm;    /* norm_pre before the blocks, and patches without bias: CLIP */
    bool quick;       /* quick-GELU */
    bool distilled;   /* a second token and a second classifier */
    bool bare_tokens; /* positions for the patches alone: timm's no_embed_class */
    bool mean;        /* no class token: the mean of the patches is read */
    bool fc_norm;     /* with `mean`: normalised after the mean, not before */
    bool no_qkv_bias;
    int registers;
    float layerscale; /* initial value; 0: none */
};

enum { MLP_RATIO = 4 };

static const float EPS = 1e-6F, EPS_CLIP = 1e-5F;
static const float DEVIATION = 0.02F, TOKEN_DEVIATION = 1e-6F; /* timm's, at random */

#define HALF                                                                           \
    {                                                                                  \
        0.5F, 0.5F, 0.5F                                                               \
    }
#define IMAGENET_MEAN                                                                  \
    {                                                                                  \
        0.485F, 0.456F, 0.406F                                                         \
    }
#define IMAGENET_STD                                                                   \
    {                                                                                  \
        0.229F, 0.224F, 0.225F                                                         \
    }
#define CLIP_MEAN                                                                      \
    {                                                                                  \
        0.48145466F, 0.4578275F, 0.40821073F                                           \
    }
#define CLIP_STD                                                                       \
    {                                                                                  \
        0.26862954F, 0.26130258F, 0.27577711F                                          \
    }

/* name, config, input with bicubic resize, classes of the published weights. */
#define ROW(text, n_classes_, size_, crop_, mean_, std_, ...)                          \
    .name = text, .n_classes = n_classes_,                                             \
    .config = &(const struct config){__VA_ARGS__},                                     \
    .input = {.size = {size_, size_},                                                  \
        .mean = mean_,                                                                 \
        .std = std_,                                                                   \
        .crop = crop_,                                                                 \
        .bicubic = 1}
#define AUGREG(text, size, crop, ...)                                                  \
    ROW(text, 1000, size, crop, HALF, HALF, __VA_ARGS__)
#define IMAGENET(text, classes, size, crop, ...)                                       \
    ROW(text, classes, size, crop, IMAGENET_MEAN, IMAGENET_STD, __VA_ARGS__)
#define CLIP(text, size, crop, ...)                                                    \
    ROW(text, 512, size, crop, CLIP_MEAN, CLIP_STD, __VA_ARGS__, .pre_norm = true)
#define CIFAR(text, ...) IMAGENET(text, 10, 32, 1.0F, __VA_ARGS__)

#define SIZE(p, w, n, h) .patch = p, .width = w, .depth = n, .heads = h
#define MICRO(p) SIZE(p, 128, 6, 4)
#define TINY(p) SIZE(p, 192, 12, 3)
#define SMALL(p) SIZE(p, 384, 12, 6)
#define MEDIUM(p) SIZE(p, 512, 12, 8)
#define BASE(p) SIZE(p, 768, 12, 12)
#define LARGE(p) SIZE(p, 1024, 24, 16)
#define DEIT3 .bare_tokens = true, .layerscale = 1e-6F
#define DINO2 .layerscale = 1e-5F
#define DINO2_REG .registers = 4, .bare_tokens = true, DINO2
#define GAP .mean = true, .no_qkv_bias = true, .layerscale = 1e-6F

#define OR_DEIT                                                                        \
    "DeiT's have the same tensors: --backbone deit_... for them (mean and std differ)"
#define OR_QUICK                                                                       \
    "OpenAI's have the same tensors: --backbone vit_..._clip_quickgelu_... for them"

static const struct th_variant variants[] = {
    {AUGREG("vit_tiny_patch16_224", 224, 0.9F, TINY(16)), .about = "5.7 M, AugReg",
        .unsure = OR_DEIT},
    {AUGREG("vit_tiny_patch16_384", 384, 1.0F, TINY(16)), .about = "5.8 M, AugReg"},
    {AUGREG("vit_small_patch32_224", 224, 0.9F, SMALL(32)), .about = "22.9 M, AugReg"},
    {AUGREG("vit_small_patch32_384", 384, 1.0F, SMALL(32)), .about = "22.9 M, AugReg"},
    {AUGREG("vit_small_patch16_224", 224, 0.9F, SMALL(16)), .about = "22.1 M, AugReg",
        .unsure = OR_DEIT},
    {AUGREG("vit_small_patch16_384", 384, 1.0F, SMALL(16)), .about = "22.2 M, AugReg"},
    {AUGREG("vit_base_patch32_224", 224, 0.9F, BASE(32)), .about = "88.2 M, AugReg"},
    {AUGREG("vit_base_patch32_384", 384, 1.0F, BASE(32)), .about = "88.3 M, AugReg"},
    {AUGREG("vit_base_patch16_224", 224, 0.9F, BASE(16)), .about = "86.6 M, AugReg",
        .unsure = OR_DEIT},
    {AUGREG("vit_base_patch16_384", 384, 1.0F, BASE(16)), .about = "86.9 M, AugReg",
        .unsure = OR_DEIT},
    {AUGREG("vit_base_patch8_224", 224, 0.9F, BASE(8)), .about = "86.6 M, AugReg"},
    {AUGREG("vit_large_patch32_224", 224, 0.9F, LARGE(32)), .about = "306.5 M"},
    {AUGREG("vit_large_patch32_384", 384, 1.0F, LARGE(32)), .about = "306.6 M"},
    {AUGREG("vit_large_patch16_224", 224, 0.9F, LARGE(16)), .about = "304.3 M, AugReg"},
    {AUGREG("vit_large_patch16_384", 384, 1.0F, LARGE(16)), .about = "304.7 M, AugReg"},

    {IMAGENET("deit_tiny_patch16_224", 1000, 224, 0.9F, TINY(16)),
        .about = "5.7 M, DeiT"},
    {IMAGENET("deit_small_patch16_224", 1000, 224, 0.9F, SMALL(16)),
        .about = "22.1 M, DeiT"},
    {IMAGENET("deit_base_patch16_224", 1000, 224, 0.9F, BASE(16)),
        .about = "86.6 M, DeiT"},
    {IMAGENET("deit_base_patch16_384", 1000, 384, 1.0F, BASE(16)),
        .about = "86.9 M, DeiT"},
    {IMAGENET("deit_tiny_distilled_patch16_224", 1000, 224, 0.9F, TINY(16),
         .distilled = true),
        .about = "5.9 M, DeiT, two classifiers"},
    {IMAGENET("deit_small_distilled_patch16_224", 1000, 224, 0.9F, SMALL(16),
         .distilled = true),
        .about = "22.4 M, DeiT, two classifiers"},
    {IMAGENET("deit_base_distilled_patch16_224", 1000, 224, 0.9F, BASE(16),
         .distilled = true),
        .about = "87.3 M, DeiT, two classifiers"},
    {IMAGENET("deit_base_distilled_patch16_384", 1000, 384, 1.0F, BASE(16),
         .distilled = true),
        .about = "87.6 M, DeiT, two classifiers"},
    {IMAGENET("deit3_small_patch16_224", 1000, 224, 0.9F, SMALL(16), DEIT3),
        .about = "22.1 M, DeiT III"},
    {IMAGENET("deit3_small_patch16_384", 1000, 384, 1.0F, SMALL(16), DEIT3),
        .about = "22.2 M, DeiT III"},
    {IMAGENET("deit3_medium_patch16_224", 1000, 224, 0.9F, MEDIUM(16), DEIT3),
        .about = "38.8 M, DeiT III"},
    {IMAGENET("deit3_base_patch16_224", 1000, 224, 0.9F, BASE(16), DEIT3),
        .about = "86.6 M, DeiT III"},
    {IMAGENET("deit3_base_patch16_384", 1000, 384, 1.0F, BASE(16), DEIT3),
        .about = "86.9 M, DeiT III"},
    {IMAGENET("deit3_large_patch16_224", 1000, 224, 0.9F, LARGE(16), DEIT3),
        .about = "304.4 M, DeiT III"},
    {IMAGENET("deit3_large_patch16_384", 1000, 384, 1.0F, LARGE(16), DEIT3),
        .about = "304.8 M, DeiT III"},

    {IMAGENET("vit_small_patch16_224.dino", 0, 224, 0.9F, SMALL(16)),
        .about = "21.7 M, DINO"},
    {IMAGENET("vit_small_patch8_224.dino", 0, 224, 0.9F, SMALL(8)),
        .about = "21.7 M, DINO"},
    {IMAGENET("vit_base_patch16_224.dino", 0, 224, 0.9F, BASE(16)),
        .about = "85.8 M, DINO"},
    {IMAGENET("vit_base_patch8_224.dino", 0, 224, 0.9F, BASE(8)),
        .about = "85.8 M, DINO"},
    {IMAGENET("vit_small_patch14_dinov2", 0, 518, 1.0F, SMALL(14), DINO2),
        .about = "22.1 M, DINOv2"},
    {IMAGENET("vit_base_patch14_dinov2", 0, 518, 1.0F, BASE(14), DINO2),
        .about = "86.6 M, DINOv2"},
    {IMAGENET("vit_large_patch14_dinov2", 0, 518, 1.0F, LARGE(14), DINO2),
        .about = "304.4 M, DINOv2"},
    {IMAGENET("vit_small_patch14_reg4_dinov2", 0, 518, 1.0F, SMALL(14), DINO2_REG),
        .about = "22.1 M, DINOv2 with registers"},
    {IMAGENET("vit_base_patch14_reg4_dinov2", 0, 518, 1.0F, BASE(14), DINO2_REG),
        .about = "86.6 M, DINOv2 with registers"},
    {IMAGENET("vit_large_patch14_reg4_dinov2", 0, 518, 1.0F, LARGE(14), DINO2_REG),
        .about = "304.4 M, DINOv2 with registers"},

    {CLIP("vit_base_patch32_clip_224", 224, 0.9F, BASE(32)),
        .about = "87.5 M, CLIP's image tower", .unsure = OR_QUICK},
    {CLIP("vit_base_patch16_clip_224", 224, 0.9F, BASE(16)),
        .about = "85.8 M, CLIP's image tower", .unsure = OR_QUICK},
    {CLIP("vit_large_patch14_clip_224", 224, 1.0F, LARGE(14)),
        .about = "303.2 M, CLIP's image tower", .unsure = OR_QUICK},
    {CLIP("vit_large_patch14_clip_336", 336, 1.0F, LARGE(14)),
        .about = "303.5 M, CLIP's image tower", .unsure = OR_QUICK},
    {CLIP("vit_xsmall_patch16_clip_224", 224, 0.9F, SIZE(16, 256, 10, 4)),
        .about = "8.3 M, TinyCLIP's image tower"},
    {CLIP("vit_medium_patch32_clip_224", 224, 0.9F, MEDIUM(32)),
        .about = "39.7 M, TinyCLIP's image tower"},
    {CLIP("vit_medium_patch16_clip_224", 224, 0.9F, MEDIUM(16)),
        .about = "38.6 M, TinyCLIP's image tower"},
    {CLIP("vit_betwixt_patch32_clip_224", 224, 0.9F, SIZE(32, 640, 12, 10)),
        .about = "61.4 M, TinyCLIP's image tower"},
    {CLIP("vit_base_patch32_clip_quickgelu_224", 224, 0.9F, BASE(32), .quick = true),
        .about = "87.5 M, OpenAI's CLIP"},
    {CLIP("vit_base_patch16_clip_quickgelu_224", 224, 0.9F, BASE(16), .quick = true),
        .about = "85.8 M, OpenAI's CLIP"},
    {CLIP("vit_large_patch14_clip_quickgelu_224", 224, 1.0F, LARGE(14), .quick = true),
        .about = "303.2 M, OpenAI's CLIP"},
    {CLIP("vit_large_patch14_clip_quickgelu_336", 336, 1.0F, LARGE(14), .quick = true),
        .about = "303.5 M, OpenAI's CLIP"},

    {AUGREG("vit_medium_patch16_gap_240", 240, 0.95F, MEDIUM(16), GAP),
        .about = "38.8 M, mean of the patches"},
    {AUGREG("vit_medium_patch16_gap_256", 256, 0.95F, MEDIUM(16), GAP),
        .about = "38.9 M, mean of the patches"},
    {AUGREG("vit_medium_patch16_gap_384", 384, 0.95F, MEDIUM(16), GAP),
        .about = "39.0 M, mean of the patches"},
    {AUGREG("vit_medium_patch16_reg4_gap_256", 256, 0.95F, MEDIUM(16), .mean = true,
         .fc_norm = true, .bare_tokens = true, .registers = 4, .layerscale = 1e-5F),
        .about = "38.9 M, mean of the patches, registers"},

    {CIFAR("vit_micro_patch4_32", MICRO(4)), .about = "1.2 M, 80 MMAC at 32: CIFAR"},
    {CIFAR("vit_micro_patch4_gap_32", MICRO(4), .mean = true, .fc_norm = true),
        .about = "1.2 M, 79 MMAC at 32: CIFAR, mean of the patches"},
    {CIFAR("vit_tiny_patch4_32", TINY(4)), .about = "5.4 M, 0.37 GMAC at 32: CIFAR"},
};

enum { N_VARIANTS = sizeof variants / sizeof *variants };

/* Tokens before the patches. */
static int tokens_before(const struct config *c)
{
    return !c->mean + c->distilled + c->registers;
}

static float eps_of(const struct config *c)
{
    return c->pre_norm ? EPS_CLIP : EPS;
}

/* ---- The network ---- */

struct name {
    char text[64];
};

static struct name in_block(int block, const char *layer)
{
    struct name n;
    snprintf(n.text, sizeof n.text, "blocks.%d.%s", block, layer);
    return n;
}

/* x + drop_path(layerscale(y)) */
static int residual(
    struct th_builder *b, const struct config *c, int block, int half, int x, int y)
{
    char ls[8], drop[16];
    snprintf(ls, sizeof ls, "ls%d", half);
    snprintf(drop, sizeof drop, "drop_path%d", half);
    if (c->layerscale > 0)
        y = th_layerscale(b, in_block(block, ls).text, y, c->layerscale);
    float p = b->model->drop_path * (float)block / (float)(c->depth - 1);
    return th_add(b, x, th_drop_path(b, in_block(block, drop).text, y, p));
}

/* The head reads what became of the patches. */
static bool reads_patches(const struct th_builder *b)
{
    return b->model->head->patches || b->model->head->detector;
}

/* Whether after the last attention only the class token is read. */
static bool reads_class_alone(const struct th_builder *b, const struct config *c)
{
    return !c->mean && !c->distilled && !reads_patches(b);
}

/* x + attention(norm(x)), then x + mlp(norm(x)): equations 2 and 3. Of the last block's
 * tokens those that nobody reads are not computed: [n][d] instead of [n][t][d]. */
static int block(struct th_builder *b, const struct config *c, int i, int x)
{
    int width = c->width;
    int y = th_layernorm(b, in_block(i, "norm1").text, x, eps_of(c));
    y = th_linear(b, in_block(i, "attn.qkv").text, y, 3 * width, !c->no_qkv_bias);
    y = th_attention(b, y, c->heads);
    if (i == c->depth - 1 && reads_class_alone(b, c)) {
        x = th_token_mean(b, x, 0, 1);
        y = th_token_mean(b, y, 0, 1);
    }
    y = th_linear(b, in_block(i, "attn.proj").text, y, width, true);
    x = residual(b, c, i, 1, x, y);
    y = th_layernorm(b, in_block(i, "norm2").text, x, eps_of(c));
    y = th_linear(b, in_block(i, "mlp.fc1").text, y, MLP_RATIO * width, true);
    y = th_gelu(b, y, c->quick ? TH_GELU_QUICK : TH_GELU_ERF);
    y = th_linear(b, in_block(i, "mlp.fc2").text, y, width, true);
    return residual(b, c, i, 2, x, y);
}

/* Equation 1: patches and tokens, with positions. Catalogued in timm's order. */
static int embed(
    struct th_builder *b, const struct config *c, int image, struct th_size grid)
{
    int d = c->width, cls = -1, more = -1, positions;
    int before = c->bare_tokens ? 0 : tokens_before(c);
    if (!c->mean)
        cls = th_token(b, "cls_token", 1, d, TOKEN_DEVIATION);
    if (c->registers)
        more = th_token(b, "reg_token", c->registers, d, TOKEN_DEVIATION);
    positions =
        th_positions(b, "pos_embed", before, (int)th_size_pixels(grid), d, DEVIATION);
    if (c->distilled)
        more = th_token(b, "dist_token", 1, d, DEVIATION);
    struct th_conv_spec patches = {
        .out = d, .kernel = c->patch, .stride = c->patch, .bias = !c->pre_norm};
    int x = th_conv(b, "patch_embed.proj", image, patches);
    x = th_tokens(b, x, cls, more, positions);
    return c->pre_norm ? th_layernorm(b, "norm_pre", x, eps_of(c)) : x;
}

/* Equation 4, or the mean of the patches; for detectors, the patches as a map. */
static void pool(struct th_builder *b, const struct config *c, int x,
    struct th_size grid, struct th_taps *taps)
{
    int patches = (int)th_size_pixels(grid);
    if (!c->fc_norm)
        x = th_layernorm(b, "norm", x, eps_of(c));
    if (b->model->head->detector) {
        taps->value[0] = th_rows_map(b, x, grid.h, grid.w);
        taps->stride[0] = c->patch;
        taps->n = 1;
    }
    if (!c->mean && !c->fc_norm && reads_patches(b)) {
        taps->tokens = x;
        taps->patches = patches;
    }
    if (reads_class_alone(b, c))
        taps->pooled = x;
    else
        taps->pooled = c->mean ? th_token_mean(b, x, tokens_before(c), patches)
                               : th_token_mean(b, x, 0, 1);
    if (c->fc_norm)
        taps->pooled = th_layernorm(b, "fc_norm", taps->pooled, eps_of(c));
    taps->distilled = c->distilled;
    if (c->distilled)
        taps->pooled_dist = th_token_mean(b, x, 1, 1);
}

/* Both sides of the input are whole patches. */
static thaw_status check_size(const struct th_variant *v, struct th_size size)
{
    int patch = ((const struct config *)v->config)->patch;
    int side = size.w % patch ? size.w : size.h, n = side / patch;
    if (side % patch == 0)
        return THAW_OK;
    if (size.w == size.h)
        return th_fail(THAW_E_USAGE,
            "%s: images of %d pixels do not divide into patches of %d: --image-size %d "
            "or %d",
            v->name, side, patch, (n ? n : 1) * patch, (n + 1) * patch);
    return th_fail(THAW_E_USAGE,
        "%s: of images of %d x %d, %d pixels do not divide into patches of %d: give "
        "--image-size %d or %d in its place",
        v->name, size.w, size.h, side, patch, (n ? n : 1) * patch, (n + 1) * patch);
}

static void build(
    struct th_builder *b, const struct th_variant *v, int image, struct th_taps *taps)
{
    const struct config *c = v->config;
    if (b->graph->status != THAW_OK)
        return;
    const int64_t *d = th_shape_at(b, image)->dim;
    const struct th_size size = {(int)d[3], (int)d[2]};
    const struct th_size grid = {size.w / c->patch, size.h / c->patch};
    b->graph->status = check_size(v, size);
    if (b->graph->status != THAW_OK)
        return;
    b->init = DEVIATION;
    th_stage(b, "patch");
    int x = embed(b, c, image, grid);
    for (int i = 0; i < c->depth; i++) {
        char stage[32];
        snprintf(stage, sizeof stage, "block%d", i);
        th_stage(b, stage);
        x = block(b, c, i, x);
    }
    th_stage(b, "norm");
    pool(b, c, x, grid, taps);
}

/* ---- Whose tensors these are ---- */

/* Extent `axis` of a tensor, 0 where it is absent or of another rank. */
static int64_t extent(const struct th_weights *w, const char *name, int rank, int axis)
{
    const struct th_weight *t = th_weights_find(w, name);
    return t && t->tensor.shape.rank == rank ? t->tensor.shape.dim[axis] : 0;
}

static int count_blocks(const struct th_weights *w)
{
    int n = 0;
    while (n < TH_MAX_STAGES && extent(w, in_block(n, "norm1.weight").text, 1, 0) > 0)
        n++;
    return n;
}

static bool is_square(int64_t n)
{
    int64_t root = n > 0 ? (int64_t)lround(sqrt((double)n)) : 0;
    return n > 0 && root * root == n;
}

static bool matches(const struct th_weights *w, const struct config *c)
{
    const char *activation = th_weights_string(w, "activation");
    bool quick = activation && strcmp(activation, "quick_gelu") == 0;
    int64_t rows = extent(w, "pos_embed", 3, 1);
    return extent(w, "patch_embed.proj.weight", 4, 0) == c->width &&
           extent(w, "patch_embed.proj.weight", 4, 2) == c->patch &&
           count_blocks(w) == c->depth &&
           extent(w, "blocks.0.mlp.fc1.weight", 2, 0) == MLP_RATIO * c->width &&
           extent(w, "cls_token", 3, 1) == !c->mean &&
           extent(w, "dist_token", 3, 1) == c->distilled &&
           extent(w, "reg_token", 3, 1) == c->registers &&
           (extent(w, "norm_pre.weight", 1, 0) > 0) == c->pre_norm &&
           (extent(w, "blocks.0.ls1.gamma", 1, 0) > 0) == (c->layerscale > 0) &&
           (extent(w, "fc_norm.weight", 1, 0) > 0) == c->fc_norm &&
           (extent(w, "blocks.0.attn.qkv.bias", 1, 0) > 0) == !c->no_qkv_bias &&
           is_square(rows - (c->bare_tokens ? 0 : tokens_before(c))) &&
           quick == c->quick;
}

/* Rows differ in their positions' grid, and in whether a classifier was published. What
 * tensors do not show (how many heads, mean and std) is the first row's. */
static const struct th_variant *recognise(const struct th_weights *w)
{
    const struct th_variant *best = NULL;
    int most = -1;
    for (int i = 0; i < N_VARIANTS; i++) {
        const struct th_variant *v = &variants[i];
        const struct config *c = v->config;
        if (!matches(w, c))
            continue;
        int64_t grid = v->input.size.w / c->patch;
        int64_t rows = grid * grid + (c->bare_tokens ? 0 : tokens_before(c));
        bool headless = extent(w, "head.weight", 2, 0) == 0;
        int points = 2 * (extent(w, "pos_embed", 3, 1) == rows) +
                     (headless == (v->n_classes == 0));
        if (points > most) {
            most = points;
            best = v;
        }
    }
    return best;
}

static const char *head_name(const struct th_variant *v)
{
    (void)v;
    return "head";
}

const struct th_backbone th_backbone_vit = {
    .name = "vit",
    .about = "Vision Transformers: ViT, DeiT, DINO, CLIP's image tower",
    .variants = variants,
    .n_variants = N_VARIANTS,
    .build = build,
    .recognise = recognise,
    .head_name = head_name,
};
