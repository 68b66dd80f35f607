/* SPDX-License-Identifier: Apache-2.0
 * The ResNet family. He et al., "Deep Residual Learning for Image Recognition", 2015
 * (arXiv:1512.03385): the ImageNet nets with torchvision's names and its variant that
 * strides in the 3x3 convolution, and Keras's that does so in the first; wide ones (Zagoruyko and Komodakis 2016), ResNeXt (Xie
 * et al. 2017); and section 4.2's CIFAR nets with the parameter-free option A shortcut. */
#include "layers.h"

#include <stdio.h>
#include <string.h>

struct config {
    int blocks[4]; /* per stage; CIFAR nets have three stages */
    bool bottleneck;
    int groups, width; /* ResNeXt: groups x width per group; wide: 1 x 128 */
    bool cifar;
    bool
        keras; /* biases, another eps, the stride in the first convolution of a block */
    bool
        quarter; /* CIFAR nets on larger images: the stem strides, and a pooling, as those
                     of the ImageNet nets do; the weights are the same */
};

static const float EPS = 1e-5F;
static const float EPS_APPLICATIONS = 1.001e-5F; /* keras.applications */
static const float EPS_KERAS = 1e-3F;            /* Keras's default */

#define IMAGENET                                                                       \
    {                                                                                  \
        .size = {224, 224}, .mean = {0.485F, 0.456F, 0.406F},                          \
        .std = {0.229F, 0.224F, 0.225F}, .crop = 0.875F                                \
    }
#define CIFAR                                                                          \
    {                                                                                  \
        .size = {32, 32}, .mean = {0.485F, 0.456F, 0.406F},                            \
        .std = {0.229F, 0.224F, 0.225F}, .crop = 1.0F                                  \
    }

static const char *const cifar_classes[] = {"airplane", "automobile", "bird", "cat",
    "deer", "dog", "frog", "horse", "ship", "truck"};

#define NET(text, cifar, quarter, bottleneck, groups, width, ...)                      \
    .name = text, .config = &(const struct config)                                     \
    {                                                                                  \
        {__VA_ARGS__}, bottleneck, groups, width, cifar, false, quarter                \
    }
#define BASIC(text, ...)                                                               \
    NET(text, false, false, false, 1, 64, __VA_ARGS__), .input = IMAGENET,             \
                                                        .n_classes = 1000
#define BOTTLENECK(text, groups, width, ...)                                           \
    NET(text, false, false, true, groups, width, __VA_ARGS__), .input = IMAGENET,      \
                                                               .n_classes = 1000
#define SMALL(text, n)                                                                 \
    NET(text, true, false, false, 1, 64, n, n, n), .input = CIFAR, .n_classes = 10,    \
                                                   .classes = cifar_classes
#define QUARTER(text, n)                                                               \
    NET(text, true, true, false, 1, 64, n, n, n), .input = IMAGENET, .n_classes = 10,  \
                                                  .classes = cifar_classes

/* keras.applications: pixels 0..255 less a mean, whose order of colours is turned round
 * when the file is read. MLPerf Tiny's ResNet-8: pixels 0..255 as they are. */
#define CAFFE                                                                          \
    {                                                                                  \
        .size = {224, 224}, .mean = {123.68F / 255, 116.779F / 255, 103.939F / 255},   \
        .std = {1.0F / 255, 1.0F / 255, 1.0F / 255}, .crop = 1.0F                      \
    }
#define KERAS(text, ...)                                                               \
    .name = text, .input = CAFFE, .input_known = true, .n_classes = 1000,              \
    .config = &(const struct config)                                                   \
    {                                                                                  \
        {__VA_ARGS__}, true, 1, 64, false, true, false                                 \
    }

static const struct th_variant variants[] = {
    {BASIC("resnet18", 2, 2, 2, 2), .about = "11.7 M, 1.8 GMAC at 224"},
    {BASIC("resnet34", 3, 4, 6, 3), .about = "21.8 M, 3.7 GMAC at 224"},
    {BOTTLENECK("resnet50", 1, 64, 3, 4, 6, 3), .about = "25.6 M, 4.1 GMAC at 224"},
    {BOTTLENECK("resnet101", 1, 64, 3, 4, 23, 3), .about = "44.5 M, 7.8 GMAC at 224"},
    {BOTTLENECK("resnet152", 1, 64, 3, 8, 36, 3), .about = "60.2 M, 11.5 GMAC at 224"},
    {BOTTLENECK("wide_resnet50_2", 1, 128, 3, 4, 6, 3),
        .about = "68.9 M, 11.4 GMAC at 224"},
    {BOTTLENECK("wide_resnet101_2", 1, 128, 3, 4, 23, 3),
        .about = "126.9 M, 22.8 GMAC at 224"},
    {BOTTLENECK("resnext50_32x4d", 32, 4, 3, 4, 6, 3),
        .about = "25.0 M, 4.2 GMAC at 224"},
    {BOTTLENECK("resnext101_32x8d", 32, 8, 3, 4, 23, 3),
        .about = "88.8 M, 16.4 GMAC at 224"},
    {SMALL("resnet20", 3), .about = "0.27 M, 41 MMAC at 32: CIFAR"},
    {SMALL("resnet32", 5), .about = "0.46 M, 69 MMAC at 32: CIFAR"},
    {SMALL("resnet44", 7), .about = "0.66 M, 98 MMAC at 32: CIFAR"},
    {SMALL("resnet56", 9), .about = "0.85 M, 126 MMAC at 32: CIFAR"},
    {SMALL("resnet110", 18), .about = "1.7 M, 253 MMAC at 32: CIFAR"},
    {QUARTER("resnet20_s4", 3), .about = "resnet20 on larger images, 125 MMAC at 224"},
    {QUARTER("resnet56_s4", 9), .about = "resnet56 on larger images, 385 MMAC at 224"},
    {KERAS("keras_resnet50", 3, 4, 6, 3), .about = "25.6 M, 3.9 GMAC at 224"},
    {KERAS("keras_resnet101", 3, 4, 23, 3), .about = "44.7 M, 7.6 GMAC at 224"},
    {KERAS("keras_resnet152", 3, 8, 36, 3), .about = "60.4 M, 11.3 GMAC at 224"},
    {.name = "resnet8",
        .about = "0.08 M, 12.5 MMAC at 32: CIFAR, of MLPerf Tiny",
        .config = &(const struct config){{1, 1, 1}, false, 1, 64, true, true, false},
        .input = {.size = {32, 32},
            .std = {1.0F / 255, 1.0F / 255, 1.0F / 255},
            .crop = 1},
        .input_known = true,
        .n_classes = 10,
        .classes = cifar_classes},
};

struct names {
    char conv[64], bn[64];
};

/* PREFIX.convI and PREFIX.bnI, or for the stem conv1 and bn1. */
static struct names numbered(const char *prefix, int i)
{
    struct names n;
    snprintf(n.conv, sizeof n.conv, "%s%sconv%d", prefix, *prefix ? "." : "", i);
    snprintf(n.bn, sizeof n.bn, "%s%sbn%d", prefix, *prefix ? "." : "", i);
    return n;
}

static float eps(const struct config *c)
{
    return !c->keras ? EPS : c->cifar ? EPS_KERAS : EPS_APPLICATIONS;
}

static int conv_bn(struct th_builder *b, const struct config *c, struct names n, int x,
    struct th_conv_spec spec)
{
    spec.bias = c->keras;
    return th_batchnorm(b, n.bn, th_conv(b, n.conv, x, spec), eps(c), n.conv);
}

/* Option B: a 1x1 convolution where the shape changes, in ResNet-8 without BatchNorm;
 * option A in the other CIFAR nets. */
static int shortcut(struct th_builder *b, const struct config *c, const char *prefix,
    int x, int channels, int stride)
{
    if (b->graph->status != THAW_OK)
        return -1;
    if (stride == 1 && th_shape_at(b, x)->dim[1] == channels)
        return x;
    if (c->cifar && !c->keras)
        return th_shortcut_a(b, x, stride, channels);
    struct names n;
    struct th_conv_spec spec = {.out = channels, .kernel = 1, .stride = stride};
    snprintf(n.conv, sizeof n.conv, "%s.downsample.0", prefix);
    snprintf(n.bn, sizeof n.bn, "%s.downsample.1", prefix);
    spec.bias = c->keras;
    return c->cifar ? th_conv(b, n.conv, x, spec) : conv_bn(b, c, n, x, spec);
}

static int basic_block(struct th_builder *b, const struct config *c, const char *prefix,
    int x, int planes, int stride)
{
    struct th_conv_spec first = {
        .out = planes, .kernel = 3, .stride = stride, .pad = 1, .same = c->keras};
    struct th_conv_spec second = {.out = planes, .kernel = 3, .pad = 1};
    int y = th_relu(b, conv_bn(b, c, numbered(prefix, 1), x, first));
    return conv_bn(b, c, numbered(prefix, 2), y, second);
}

static int bottleneck_block(struct th_builder *b, const struct config *c,
    const char *prefix, int x, int planes, int stride)
{
    int width = planes * c->width / 64 * c->groups;
    struct th_conv_spec first = {
        .out = width, .kernel = 1, .stride = c->keras ? stride : 1};
    struct th_conv_spec second = {.out = width,
        .kernel = 3,
        .stride = c->keras ? 1 : stride,
        .pad = 1,
        .groups = c->groups};
    struct th_conv_spec third = {.out = planes * 4, .kernel = 1};
    int y = th_relu(b, conv_bn(b, c, numbered(prefix, 1), x, first));
    y = th_relu(b, conv_bn(b, c, numbered(prefix, 2), y, second));
    return conv_bn(b, c, numbered(prefix, 3), y, third);
}

/* y = relu(f(x) + shortcut(x)). torchvision catalogues downsample after the block. */
static int block(struct th_builder *b, const struct config *c, const char *prefix,
    int x, int planes, int stride)
{
    int y = c->bottleneck ? bottleneck_block(b, c, prefix, x, planes, stride)
                          : basic_block(b, c, prefix, x, planes, stride);
    int s = shortcut(b, c, prefix, x, c->bottleneck ? planes * 4 : planes, stride);
    return th_relu(b, th_add(b, y, s));
}

static void build(
    struct th_builder *b, const struct th_variant *v, int image, struct th_taps *taps)
{
    const struct config *c = v->config;
    th_stage(b, "stem");
    struct th_conv_spec stem = {.out = 64, .kernel = 7, .stride = 2, .pad = 3};
    if (c->cifar)
        stem = (struct th_conv_spec){
            .out = 16, .kernel = 3, .stride = c->quarter ? 2 : 1, .pad = 1};
    int x = th_relu(b, conv_bn(b, c, numbered("", 1), image, stem));
    bool whole = c->cifar && !c->quarter;
    if (!whole)
        x = th_maxpool(b, x, 3, 2, 1);
    int planes = stem.out, reach = whole ? 1 : 4;
    for (int stage = 0; stage < 4 && c->blocks[stage]; stage++) {
        char name[48];
        snprintf(name, sizeof name, "stage%d", stage + 1);
        th_stage(b, name);
        for (int i = 0; i < c->blocks[stage]; i++) {
            snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
            x = block(b, c, name, x, planes, stage && i == 0 ? 2 : 1);
        }
        taps->value[taps->n] = x;
        taps->stride[taps->n++] = reach;
        planes *= 2;
        reach *= 2;
    }
    taps->pooled = th_gap(b, x);
}

/* Number of blocks of a stage in a file: layerS.I.conv1.weight. */
static int count_blocks(const struct th_weights *w, int stage)
{
    char name[64];
    int n = 0;
    do
        snprintf(name, sizeof name, "layer%d.%d.conv1.weight", stage, n);
    while (th_weights_find(w, name) && ++n < 64);
    return n;
}

static bool matches(const struct th_weights *w, const struct config *c)
{
    const struct th_weight *stem = th_weights_find(w, "conv1.weight");
    const struct th_weight *conv2 = th_weights_find(w, "layer1.0.conv2.weight");
    bool bias = th_weights_find(w, "conv1.bias") != NULL;
    if (!stem || !conv2 || bias != c->keras || stem->tensor.shape.rank != 4 ||
        conv2->tensor.shape.rank != 4)
        return false;
    for (int s = 0; s < 4; s++)
        if (count_blocks(w, s + 1) != c->blocks[s])
            return false;
    bool bottleneck = th_weights_find(w, "layer1.0.conv3.weight") != NULL;
    int width = c->bottleneck ? c->width * c->groups : c->cifar ? 16 : 64;
    return bottleneck == c->bottleneck &&
           stem->tensor.shape.dim[2] == (c->cifar ? 3 : 7) &&
           conv2->tensor.shape.dim[0] == width &&
           conv2->tensor.shape.dim[1] == width / c->groups;
}

static const struct th_variant *recognise(const struct th_weights *w)
{
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        if (matches(w, variants[i].config))
            return &variants[i];
    return NULL;
}

static const char *head_name(const struct th_variant *v)
{
    const struct config *c = v->config;
    return c->cifar ? "linear" : "fc";
}

const struct th_backbone th_backbone_resnet = {
    .name = "resnet",
    .about = "ResNet, wide ResNet, ResNeXt; Keras's; CIFAR ResNets",
    .variants = variants,
    .n_variants = (int)(sizeof variants / sizeof *variants),
    .build = build,
    .recognise = recognise,
    .head_name = head_name,
};
