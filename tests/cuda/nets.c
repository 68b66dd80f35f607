/* SPDX-License-Identifier: Apache-2.0
 * Owns the small networks and their trainings. */
#include "nets.h"

#include "layers.h"

enum { BATCH = 4, CLASSES = 5, WIDTH = 8, TOKEN = 32, HEADS = 4, BLOCKS = 2 };

/* ---- networks ---- */

static int conv_bn(
    struct th_builder *b, const char *name, int x, struct th_conv_spec spec)
{
    char conv[96], bn[96];
    snprintf(conv, sizeof conv, "%s.conv", name);
    snprintf(bn, sizeof bn, "%s.bn", name);
    return th_batchnorm(b, bn, th_conv(b, conv, x, spec), 1e-5F, conv);
}

static int bottleneck(struct th_builder *b, const char *name, int x, int stride)
{
    char part[64];
    snprintf(part, sizeof part, "%s.down", name);
    int shortcut = conv_bn(b, part, x,
        (struct th_conv_spec){.out = 4 * WIDTH, .kernel = 1, .stride = stride});
    snprintf(part, sizeof part, "%s.1", name);
    x = th_relu(
        b, conv_bn(b, part, x, (struct th_conv_spec){.out = WIDTH, .kernel = 1}));
    snprintf(part, sizeof part, "%s.2", name);
    x = th_relu(b, conv_bn(b, part, x,
                       (struct th_conv_spec){
                           .out = WIDTH, .kernel = 3, .stride = stride, .pad = 1}));
    snprintf(part, sizeof part, "%s.3", name);
    x = conv_bn(b, part, x, (struct th_conv_spec){.out = 4 * WIDTH, .kernel = 1});
    return th_relu(b, th_add(b, x, shortcut));
}

static void build_bottlenecks(struct th_builder *b, int image, struct th_taps *taps)
{
    th_stage(b, "stem");
    int x = th_relu(b,
        conv_bn(b, "stem", image,
            (struct th_conv_spec){.out = WIDTH, .kernel = 7, .stride = 2, .pad = 3}));
    x = th_maxpool(b, x, 3, 2, 1);
    th_stage(b, "layer1");
    x = bottleneck(b, "layer1", x, 1);
    th_stage(b, "layer2");
    x = bottleneck(b, "layer2", x, 2);
    taps->value[taps->n] = x;
    taps->stride[taps->n++] = 8;
    taps->pooled = th_gap(b, x);
}

static int block(struct th_builder *b, int i, int x)
{
    char name[64];
    snprintf(name, sizeof name, "blocks.%d.norm1", i);
    int y = th_layernorm(b, name, x, 1e-6F);
    snprintf(name, sizeof name, "blocks.%d.qkv", i);
    y = th_linear(b, name, y, 3 * TOKEN, true);
    y = th_attention(b, y, HEADS);
    snprintf(name, sizeof name, "blocks.%d.proj", i);
    y = th_linear(b, name, y, TOKEN, true);
    snprintf(name, sizeof name, "blocks.%d.ls1", i);
    x = th_add(b, x, th_layerscale(b, name, y, 0.5F));
    snprintf(name, sizeof name, "blocks.%d.norm2", i);
    y = th_layernorm(b, name, x, 1e-6F);
    snprintf(name, sizeof name, "blocks.%d.fc1", i);
    y = th_gelu(b, th_linear(b, name, y, 4 * TOKEN, true), TH_GELU_ERF);
    snprintf(name, sizeof name, "blocks.%d.fc2", i);
    return th_add(b, x, th_linear(b, name, y, TOKEN, true));
}

static void build_vit(struct th_builder *b, int image, struct th_taps *taps)
{
    th_stage(b, "embed");
    int x = th_conv(b, "patch", image,
        (struct th_conv_spec){.out = TOKEN, .kernel = 4, .stride = 4, .bias = true});
    int cls = th_token(b, "cls_token", 1, TOKEN, 0.02F);
    int pos = th_positions(b, "pos_embed", 1, 16, TOKEN, 0.02F);
    x = th_tokens(b, x, cls, -1, pos);
    for (int i = 0; i < BLOCKS; i++) {
        char stage[32];
        snprintf(stage, sizeof stage, "block%d", i);
        th_stage(b, stage);
        x = block(b, i, x);
    }
    th_stage(b, "norm");
    taps->tokens = th_layernorm(b, "norm", x, 1e-6F);
    taps->patches = 16;
    taps->pooled = th_token_mean(b, taps->tokens, 0, 1);
}

static void build(
    struct th_builder *b, const struct th_variant *v, int image, struct th_taps *taps)
{
    if (strcmp(v->name, "vit") == 0)
        build_vit(b, image, taps);
    else
        build_bottlenecks(b, image, taps);
}

static const char *head_name(const struct th_variant *v)
{
    (void)v;
    return "fc";
}

static const struct th_variant variants[] = {
    {.name = "bottleneck", .input = {.size = {32, 32}, .crop = 1.0F}},
    {.name = "vit", .input = {.size = {16, 16}, .crop = 1.0F}}};
static const struct th_backbone backbone = {.name = "small",
    .variants = variants,
    .n_variants = 2,
    .build = build,
    .head_name = head_name};

void model_init_small(struct th_model *m, const char *name)
{
    static const char *const classes[] = {"a", "b", "c", "d", "e"};
    const struct th_variant *v = &variants[!strcmp(name, "vit")];
    must(th_model_init(
        m, &backbone, v, &th_head_classify, 0, &v->input, classes, CLASSES));
}

void net_open_small(struct net *n, const char *device, const char *name)
{
    if (strncmp(name, "resnet", 6) == 0) {
        net_open(n, device, name, strcmp(name, "resnet20") == 0 ? 12 : 32, CLASSES, 7);
        return;
    }
    *n = (struct net){.optim = {.kind = TH_SGD}};
    must(th_device_open(device, 2, &n->device));
    th_store_init(&n->store, n->device);
    th_arena_init(&n->arena, n->device);
    model_init_small(&n->model, name);
    net_fill(n, 7);
}

/* ---- trainings ---- */

void training_optim(struct net *n, const struct training *t)
{
    n->optim = (struct th_optim){.kind = t->optimizer,
        .momentum = t->optimizer == TH_SGD ? 0.9F : 0.0F,
        .weight_decay = 1e-3F,
        .beta1 = 0.9F,
        .beta2 = 0.999F,
        .eps = 1e-8F,
        .clip = t->clip};
}

void training_plan(struct net *n, const struct training *t, const char *thaw)
{
    training_optim(n, t);
    net_plan(n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = BATCH}, thaw, t->bn);
}

void training_upload(struct net *n, const struct training *t)
{
    net_upload(n, 3, t->lr > 0 ? t->lr : 1e-3F);
}

float training_step(struct net *n, const struct training *t)
{
    float loss = 0;
    training_upload(n, t);
    must(th_plan_run(n->plan));
    must(th_plan_get(n->plan, "loss", &loss));
    return loss;
}

void training_values(struct net *n, struct trace *out)
{
    for (int i = 0; i < n->model.n_params; i++)
        out->n += th_shape_count(&n->model.params[i].shape);
    out->values = th_alloc((size_t)out->n, sizeof *out->values);
    float *at = out->values;
    for (int i = 0; i < n->model.n_params; i++) {
        int id = th_store_find(&n->store, n->model.params[i].name);
        must(th_store_get(&n->store, id, at));
        at += th_shape_count(&n->model.params[i].shape);
    }
}

void training_run(const char *device, const struct training *t, struct trace *out)
{
    struct net n;
    *out = (struct trace){.n = 0};
    assert_true(t->steps <= TRACE);
    net_open_small(&n, device, t->net);
    training_plan(&n, t, t->thaw);
    for (int i = 0; i < t->steps; i++) {
        if (t->then && i == t->steps / 2)
            training_plan(&n, t, t->then);
        out->loss[i] = training_step(&n, t);
    }
    training_values(&n, out);
    net_close(&n);
}

void trace_release(struct trace *t)
{
    th_free(t->values);
}
