/* SPDX-License-Identifier: Apache-2.0
 * Keras: networks of keras.applications (ResNet50, 101, 152) and the ResNet-8 of MLPerf
 * Tiny, from model and weight files of Keras 2 and 3.
 *
 *   Keras 2 and 3 .h5    [model_weights.]LAYER...LAYER.kernel[:0]; also gamma, beta, ...
 *   .weights.h5          ....layers.CLASS_N.vars.I: the N-th layer of its class in the order of
 *                        making, and the I-th variable in Keras's order
 *
 * First all become LAYER.VARIABLE; layers that Keras numbered get the name that stands at
 * their place in the network; then rows do the rest. Kernels are [h][w][i][o]; the
 * networks of keras.applications read blue, green, red ("caffe"): turning the first kernel
 * round makes them read red, green, blue. */
#include "dialect.h"
#include "error.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 256, RESNET8_CONVS = 9, RESNET8_NORMS = 7 };

static const struct th_name_row row[] = {
    TH_FITTED("conv1_conv.kernel", "conv1.weight", KERNEL_BGR),
    TH_NAME("conv1_conv.bias", "conv1.bias"),
    TH_NAME("conv1_bn.gamma", "bn1.weight"),
    TH_NAME("conv1_bn.beta", "bn1.bias"),
    TH_NAME("conv1_bn.moving_mean", "bn1.running_mean"),
    TH_NAME("conv1_bn.moving_variance", "bn1.running_var"),
    TH_FITTED("conv#_block#_0_conv.kernel", "layer#-.#-.downsample.0.weight", KERNEL),
    TH_NAME("conv#_block#_0_conv.bias", "layer#-.#-.downsample.0.bias"),
    TH_NAME("conv#_block#_0_bn.gamma", "layer#-.#-.downsample.1.weight"),
    TH_NAME("conv#_block#_0_bn.beta", "layer#-.#-.downsample.1.bias"),
    TH_NAME("conv#_block#_0_bn.moving_mean", "layer#-.#-.downsample.1.running_mean"),
    TH_NAME("conv#_block#_0_bn.moving_variance", "layer#-.#-.downsample.1.running_var"),
    TH_FITTED("conv#_block#_#_conv.kernel", "layer#-.#-.conv#.weight", KERNEL),
    TH_NAME("conv#_block#_#_conv.bias", "layer#-.#-.conv#.bias"),
    TH_NAME("conv#_block#_#_bn.gamma", "layer#-.#-.bn#.weight"),
    TH_NAME("conv#_block#_#_bn.beta", "layer#-.#-.bn#.bias"),
    TH_NAME("conv#_block#_#_bn.moving_mean", "layer#-.#-.bn#.running_mean"),
    TH_NAME("conv#_block#_#_bn.moving_variance", "layer#-.#-.bn#.running_var"),
    TH_FITTED("predictions.kernel", "fc.weight", KERNEL),
    TH_NAME("predictions.bias", "fc.bias"),
    TH_FITTED("resnet8_stem.kernel", "conv1.weight", KERNEL),
    TH_NAME("resnet8_stem.bias", "conv1.bias"),
    TH_FITTED("resnet8_head.kernel", "linear.weight", KERNEL),
    TH_NAME("resnet8_head.bias", "linear.bias"),
};

/* ---- one way to say it ---- */

/* Keras's order of a layer's variables. */
static const char *variable(long index, bool norm)
{
    static const char *const of_norm[] = {
        "gamma", "beta", "moving_mean", "moving_variance"};
    static const char *const of_kernel[] = {"kernel", "bias"};
    if (index < 0 || index >= (norm ? 4 : 2))
        return NULL;
    return norm ? of_norm[index] : of_kernel[index];
}

/* The part before the dot at `end`, from the dot before it. */
static const char *part_before(const char *name, const char *end)
{
    const char *at = end;
    while (at > name && at[-1] != '.')
        at--;
    return at;
}

/* LAYER.VARIABLE of a name into text; false for what is no layer's variable. */
static bool plain_name(const char *name, char *text)
{
    static const char *const known[] = {
        "kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"};
    const char *last = strrchr(name, '.');
    const char *end = last, *what = NULL;
    if (!last || strstr(name, "optimizer"))
        return false;
    size_t n = strcspn(last + 1, ":");
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !what; i++)
        if (strlen(known[i]) == n && !strncmp(last + 1, known[i], n))
            what = known[i];
    if (!what && last - name > 5 && !strncmp(last - 5, ".vars", 5)) {
        end = last - 5;
        what = variable(strtol(last + 1, NULL, 10),
            !strncmp(part_before(name, end), "batch_norm", 10));
    }
    const char *layer = part_before(name, end);
    return what && (size_t)snprintf(text, MAX_NAME, "%.*s.%s", (int)(end - layer),
                       layer, what) < MAX_NAME;
}

/* ---- layers that Keras numbered ---- */

enum class { CONV, NORM, DENSE, N_CLASSES };

/* "conv2d" is number 0, "conv2d_7" 7; -1: another layer. */
static long number_of(const char *name, enum class c)
{
    static const char *const class[N_CLASSES] = {
        "conv2d", "batch_normalization", "dense"};
    size_t n = strlen(class[c]);
    if (strncmp(name, class[c], n) != 0)
        return -1;
    if (name[n] == '.')
        return 0;
    size_t digits = name[n] == '_' ? strspn(name + n + 1, "0123456789") : 0;
    return digits && digits < 7 && name[n + 1 + digits] == '.'
               ? strtol(name + n + 1, NULL, 10)
               : -1;
}

/* The numbers of a class in order, each once; how many. */
static int numbers(const struct th_weights *w, enum class c, long *number, int most)
{
    int n = 0;
    for (size_t i = 0; i < w->n; i++) {
        long k = number_of(w->weight[i].name, c);
        int at = n;
        while (at > 0 && number[at - 1] > k)
            at--;
        if (k < 0 || n == most || (at > 0 && number[at - 1] == k))
            continue;
        memmove(number + at + 1, number + at, (size_t)(n - at) * sizeof *number);
        number[at] = k;
        n++;
    }
    return n;
}

/* The i-th convolution or BatchNorm of keras.applications's ResNet, in the order of its
 * layers: the stem; then 1, 2, (of a stage's first block 0,) 3 of each block. */
static void resnet_layer(const int blocks[4], int i, const char *what, char *text)
{
    snprintf(text, MAX_NAME, "conv1_%s", what);
    int left = i - 1;
    for (int stage = 0; stage < 4 && left >= 0; stage++)
        for (int b = 0; b < blocks[stage] && left >= 0; b++) {
            static const int first[] = {1, 2, 0, 3}, other[] = {1, 2, 3};
            int n = b ? 3 : 4;
            if (left < n)
                snprintf(text, MAX_NAME, "conv%d_block%d_%d_%s", stage + 2, b + 1,
                    b ? other[left] : first[left], what);
            left -= n;
        }
}

/* ResNet-8: a stem, then three blocks of 1, 2 and, but for the first, the shortcut 0. */
static void resnet8_layer(int i, enum class c, char *text)
{
    static const char *const conv[RESNET8_CONVS] = {"resnet8_stem",
        "conv2_block1_1_conv", "conv2_block1_2_conv", "conv3_block1_1_conv",
        "conv3_block1_2_conv", "conv3_block1_0_conv", "conv4_block1_1_conv",
        "conv4_block1_2_conv", "conv4_block1_0_conv"};
    static const char *const norm[RESNET8_NORMS] = {"conv1_bn", "conv2_block1_1_bn",
        "conv2_block1_2_bn", "conv3_block1_1_bn", "conv3_block1_2_bn",
        "conv4_block1_1_bn", "conv4_block1_2_bn"};
    snprintf(text, MAX_NAME, "%s", c == CONV ? conv[i] : norm[i]);
}

enum { MAX_LAYERS = 160 };

/* The numbered layers of a file, by class, and which network they are. */
struct numbered {
    long number[N_CLASSES][MAX_LAYERS];
    int n[N_CLASSES];
    const int *blocks; /* of a ResNet of keras.applications */
    bool resnet8;
};

static void find_numbered(const struct th_weights *w, struct numbered *f)
{
    static const struct {
        int convs, blocks[4];
    } nets[] = {{53, {3, 4, 6, 3}}, {104, {3, 4, 23, 3}}, {155, {3, 8, 36, 3}}};
    for (int c = 0; c < N_CLASSES; c++)
        f->n[c] = numbers(w, (enum class)c, f->number[c], MAX_LAYERS);
    f->resnet8 = f->n[CONV] == RESNET8_CONVS && f->n[NORM] == RESNET8_NORMS;
    for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++)
        if (f->n[CONV] == nets[i].convs && f->n[NORM] == nets[i].convs)
            f->blocks = nets[i].blocks;
}

/* The name of a layer at its place in the network, instead of a numbered one. */
static void place_name(const struct numbered *f, const char *name, char *text)
{
    const char *dot = strchr(name, '.');
    char layer[MAX_NAME] = "";
    bool others = f->blocks != NULL || f->resnet8;
    for (int c = 0; c < N_CLASSES; c++) {
        long k = number_of(name, (enum class)c);
        int at = 0;
        while (at < f->n[c] && f->number[c][at] != k)
            at++;
        if (k < 0 || at == f->n[c])
            continue;
        if (c == DENSE)
            snprintf(
                layer, sizeof layer, "%s", f->resnet8 ? "resnet8_head" : "predictions");
        else if (f->resnet8)
            resnet8_layer(at, (enum class)c, layer);
        else if (others)
            resnet_layer(f->blocks, at, c == CONV ? "conv" : "bn", layer);
    }
    snprintf(text, MAX_NAME, "%s%s", *layer ? layer : "", *layer ? dot : name);
}

/* ---- the step ---- */

/* Move every tensor to the name that `rename` gives it; without one it goes. */
static thaw_status plain_names(struct th_weights *w, const char *where)
{
    struct th_weights out;
    size_t dropped = 0;
    thaw_status status = THAW_OK;
    th_dialect_begin(w, &out);
    out.where = where;
    for (size_t i = 0; status == THAW_OK && i < w->n; i++) {
        char text[MAX_NAME];
        if (plain_name(w->weight[i].name, text))
            status = th_weights_move(&out, text, &w->weight[i].tensor);
        else
            dropped++;
    }
    if (status == THAW_OK && dropped)
        status = th_weights_note(
            &out, "%zu of the optimizer's and the like dropped", dropped);
    out.where = "";
    th_dialect_finish(w, &out);
    return status;
}

static thaw_status by_place(struct th_weights *w, const char *where)
{
    struct th_weights out;
    thaw_status status = THAW_OK;
    struct numbered *f = th_alloc(1, sizeof *f);
    if (!f)
        return THAW_E_MEMORY;
    find_numbered(w, f);
    th_dialect_begin(w, &out);
    out.where = where;
    for (size_t i = 0; status == THAW_OK && i < w->n; i++) {
        char text[MAX_NAME];
        place_name(f, w->weight[i].name, text);
        status = th_weights_move(&out, text, &w->weight[i].tensor);
    }
    out.where = "";
    th_free(f);
    th_dialect_finish(w, &out);
    return status;
}

static thaw_status before(struct th_weights *w, const char *where)
{
    TRY(plain_names(w, where));
    if (th_weights_find(w, "post_bn.gamma"))
        return th_fail(THAW_E_DATA,
            "%s: a ResNetV2 of keras.applications (BatchNorm before the convolution): "
            "Thaw has ResNet50, 101 and 152 of the first version",
            where);
    return by_place(w, where);
}

/* A mirrored first kernel is a guess about its training that nobody sees: it is said. */
static thaw_status after(struct th_weights *w, const char *where)
{
    (void)where;
    if (!th_weights_find(w, "conv1.bias") || !th_weights_find(w, "fc.weight"))
        return THAW_OK;
    return th_weights_note(w, "conv1 turned from blue, green, red to red, green, blue");
}

static bool recognise(const struct th_weights *w)
{
    bool kernel = false;
    for (size_t i = 0; i < w->n; i++) {
        char text[MAX_NAME];
        const char *name = w->weight[i].name;
        if (strstr(name, "tf_") || strstr(name, "_._"))
            return false; /* Hugging Face's */
        kernel |= plain_name(name, text) && strstr(text, ".kernel");
    }
    return kernel && !strcmp(w->format, "hdf5");
}

const struct th_dialect th_dialect_keras = {
    .name = "Keras",
    TH_ROWS(row),
    .recognise = recognise,
    .before = before,
    .after = after,
};
