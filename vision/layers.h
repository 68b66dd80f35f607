/* SPDX-License-Identifier: Apache-2.0
 * Layers: what backbones and heads are written in. Each returns the value it makes, or -1
 * once the graph has failed. `name` prefixes the parameters: name.weight, name.bias, ... */
#ifndef TH_LAYERS_H
#define TH_LAYERS_H

#include "model.h"

struct th_conv_spec {
    int out, kernel; /* channels, square kernel */
    int stride, pad; /* 0 stands for 1 in stride, groups and dilation */
    int groups, dilation;
    bool bias;
    /* Of random values: deviation of the weights, and the bias then; init 0: as the network's
     * others. */
    float init, bias_init;
    bool same; /* instead of pad, TensorFlow's: as many outputs as inputs / stride, the
                  odd row and column of zeros behind */
};

/* Everything after this belongs to the stage of this name. */
void th_stage(struct th_builder *b, const char *name);
/* What the network answers under this name, behind the builder's scope. */
void th_want(struct th_builder *b, int value, const char *name);

int th_conv(struct th_builder *b, const char *name, int x, struct th_conv_spec spec);
#define TH_BN_EPS 1e-5F /* torch.nn.BatchNorm2d's */
/* The BatchNorm after the convolution `conv_name` (NULL: after something else). */
int th_batchnorm(
    struct th_builder *b, const char *name, int x, float eps, const char *conv_name);
int th_relu(struct th_builder *b, int x);
int th_gelu(struct th_builder *b, int x, enum th_gelu kind);
int th_add(struct th_builder *b, int a, int c);
int th_scale(struct th_builder *b, int x, float factor);
int th_maxpool(struct th_builder *b, int x, int kernel, int stride, int pad);
int th_avgpool(struct th_builder *b, int x, int kernel, int stride, int pad);
int th_gap(struct th_builder *b, int x); /* [n][c][h][w] -> [n][c], the means */
int th_gmp(struct th_builder *b, int x); /* likewise, the maxima */
int th_concat(struct th_builder *b, int a, int c); /* [n][a], [n][c] -> [n][a + c] */
/* [n][c] -> [n][out]: scale cos(x, w), by name.weight [out][c] and name.scale [1]. */
int th_cosine(struct th_builder *b, const char *name, int x, int out, float scale);
int th_linear(struct th_builder *b, const char *name, int x, int out, bool bias);
int th_layernorm(struct th_builder *b, const char *name, int x, float eps);
/* name.weight and name.bias [c]; groups of neighbouring channels. */
int th_groupnorm(struct th_builder *b, const char *name, int x, int groups, float eps);
/* The nearest values of x in the size of `finer`, added to it. */
int th_upsample(struct th_builder *b, int x, int finer);
/* n maps [images][k width][h][w] as rows, k a place: [images][rows][width]. */
int th_map_rows(struct th_builder *b, const int *map, int n, int width);
/* The last h w rows of [n][rows][c] as the map [n][c][h][w]. */
int th_rows_map(struct th_builder *b, int x, int h, int w);
/* LayerNorm over the channels of each place of a map. */
int th_pixel_layernorm(struct th_builder *b, const char *name, int x, float eps);
/* A transposed convolution of 2x2 and stride 2, with a bias: [n][c][h][w] -> [n][out][2h][2w].
 * name.weight is a linear layer's, [(row, column, out)][c]: torch's [c][out][2][2] turned. */
int th_upconv(struct th_builder *b, const char *name, int x, int out);
int th_attention(
    struct th_builder *b, int qkv, int heads); /* [n][t][3d] -> [n][t][d] */
int th_dropout(struct th_builder *b, const char *name, int x, float p);
/* Stochastic depth: a sample's x is zero with probability p. */
int th_drop_path(struct th_builder *b, const char *name, int x, float p);

/* The linear classifier that a backbone comes with, on the pooled features: logits. */
int th_classifier(struct th_builder *b, const struct th_taps *taps);
/* [n][c]: the pooled features; of two, a distilled DeiT's, the mean (timm's pre_logits). */
int th_pooled(struct th_builder *b, const struct th_taps *taps);
/* NAME of a layer of the head, or NAME.LAYER. */
struct th_layer_name {
    char text[64];
};
struct th_layer_name th_head_layer(const struct th_builder *b, const char *layer);
/* Softmax cross-entropy on "target" [n][classes]: a distribution a row (one-hot, smoothed
 * or mixed). */
int th_softmax_loss(struct th_builder *b, int logits);

/* n tokens [1][n][d], normal with that deviation at random; and positions, `before` of
 * them for tokens before the patches. The parameters are called just `name`. */
int th_token(struct th_builder *b, const char *name, int n, int d, float init);
int th_positions(
    struct th_builder *b, const char *name, int before, int patches, int d, float init);
/* [n][d][h][w] -> [n][t][d]: class token, more tokens (-1: none), patches, + positions. */
int th_tokens(struct th_builder *b, int x, int cls, int more, int pos);
/* [n][t][d] -> [n][d]: mean of `count` tokens from `first` on. */
int th_token_mean(struct th_builder *b, int x, int first, int count);
/* x * name.gamma, which is `init` at random. */
int th_layerscale(struct th_builder *b, const char *name, int x, float init);

/* x[:, :, ::stride, ::stride] between zero channels: He et al. 2016, 4.2, option A. */
int th_shortcut_a(struct th_builder *b, int x, int stride, int channels);

const struct th_shape *th_shape_at(const struct th_builder *b, int value);

#endif
