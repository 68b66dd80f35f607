/* SPDX-License-Identifier: Apache-2.0
 * Owns the graph of ViTDet's simple feature pyramid. Detectron2's SimpleFeaturePyramid, with
 * its norm "LN". */
#include "simple_pyramid.h"

#include <stdio.h>

static const float EPS = 1e-6F; /* Detectron2's, of LayerNorm over channels */

/* Layers of one level are counted in the order in which they run, GELU and pooling too. */
struct level {
    struct th_builder *b;
    int log2_stride, layer;
};

struct name {
    char text[48];
};

static struct name next_name(struct level *l, const char *suffix)
{
    struct name n;
    snprintf(
        n.text, sizeof n.text, "simfp_%d.%d%s", l->log2_stride, l->layer++, suffix);
    return n;
}

/* A convolution without bias, and the norm that counts with it. */
static int conv(struct level *l, int x, int out, int kernel)
{
    struct th_conv_spec spec = {.out = out, .kernel = kernel, .pad = kernel / 2};
    int y = th_conv(l->b, next_name(l, "").text, x, spec);
    l->layer--;
    return th_pixel_layernorm(l->b, next_name(l, ".norm").text, y, EPS);
}

/* x enlarged four times, twice, as it is, or halved: to `stride`, from `from`. */
static int scaled(struct level *l, int x, int from, int stride)
{
    if (l->b->graph->status != THAW_OK)
        return -1;
    int channels = (int)th_shape_at(l->b, x)->dim[1];
    if (stride < from)
        x = th_upconv(l->b, next_name(l, "").text, x, channels / 2);
    if (2 * stride < from) {
        x = th_pixel_layernorm(l->b, next_name(l, "").text, x, EPS);
        x = th_gelu(l->b, x, TH_GELU_ERF);
        l->layer++;
        x = th_upconv(l->b, next_name(l, "").text, x, channels / 4);
    }
    if (stride > from) {
        x = th_maxpool(l->b, x, 2, 2, 0);
        l->layer++;
    }
    return x;
}

static int log2_of(int stride)
{
    int n = 0;
    while (stride >>= 1)
        n++;
    return n;
}

struct th_simple_pyramid th_simple_pyramid(
    struct th_builder *b, int x, int stride, int n, int width)
{
    struct th_simple_pyramid p = {.n = n};
    int parts = 1 << (n - 2); /* of the finest level: n - 2 times finer than x */
    if (b->graph->status == THAW_OK && stride % parts)
        b->graph->status = th_fail(THAW_E_USAGE,
            "--head %s: the pyramid's finest level would be %d / %d pixels a place on "
            "%s: take a network with patches of a multiple of %d pixels, or --head "
            "fcos",
            b->model->head->name, stride, parts, b->model->variant->name, parts);
    for (int i = 0; i < n && b->graph->status == THAW_OK; i++) {
        p.stride[i] = (stride << i) / parts;
        struct level l = {.b = b, .log2_stride = log2_of(p.stride[i])};
        p.coarsest = scaled(&l, x, stride, p.stride[i]);
        p.map[i] = conv(&l, conv(&l, p.coarsest, width, 1), width, 3);
    }
    return p;
}
