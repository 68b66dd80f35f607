/* SPDX-License-Identifier: Apache-2.0
 * Owns the graph of a feature pyramid. */
#include "fpn.h"

#include "simple_pyramid.h"

#include <math.h>
#include <stdio.h>

enum { KERNEL = 3 };

/* A convolution, its bias 0 at random; torch's kaiming_uniform_(a=1) has this deviation, and
 * another distribution. */
static int conv(struct th_builder *b, const char *name, int x, int out, int kernel,
    int stride, bool bias)
{
    if (b->graph->status != THAW_OK)
        return -1;
    float fan_in = (float)(th_shape_at(b, x)->dim[1] * kernel * kernel);
    return th_conv(b, name, x,
        (struct th_conv_spec){.out = out,
            .kernel = kernel,
            .stride = stride,
            .pad = kernel / 2,
            .bias = bias,
            .init = 1 / sqrtf(fan_in)});
}

static int numbered(struct th_builder *b, const char *blocks, int i, int x,
    struct th_fpn_spec spec, int kernel)
{
    char name[48], norm[48];
    snprintf(name, sizeof name, "fpn.%s.%d.0", blocks, i);
    snprintf(norm, sizeof norm, "fpn.%s.%d.1", blocks, i);
    x = conv(b, name, x, spec.width, kernel, 1, !spec.norm);
    return spec.norm ? th_batchnorm(b, norm, x, TH_BN_EPS, name) : x;
}

static void add_level(struct th_builder *b, int *map, int value, int stride)
{
    struct th_pyramid *p = &b->model->pyramid;
    if (b->graph->status != THAW_OK)
        return;
    const int64_t *d = th_shape_at(b, value)->dim;
    map[p->n] = value;
    p->level[p->n++] =
        (struct th_level){.h = (int)d[2], .w = (int)d[3], .stride = stride};
}

/* From the coarsest down: what is above, enlarged, on the 1x1 convolution of each tap. */
static void top_down(struct th_builder *b, const struct th_taps *taps,
    struct th_fpn_spec spec, int *inner)
{
    int first = taps->n - spec.taps;
    for (int i = spec.taps - 1; i >= 0 && b->graph->status == THAW_OK; i--) {
        inner[i] = numbered(b, "inner_blocks", i, taps->value[first + i], spec, 1);
        if (i + 1 < spec.taps)
            inner[i] = th_upsample(b, inner[i + 1], inner[i]);
    }
}

/* The levels of the backbone's last maps; what P6 may be made of. */
static int levels(
    struct th_builder *b, const struct th_taps *taps, struct th_fpn_spec spec, int *map)
{
    int inner[TH_MAX_LEVELS], first = taps->n - spec.taps;
    top_down(b, taps, spec, inner);
    for (int i = 0; i < spec.taps; i++)
        add_level(b, map, numbered(b, "layer_blocks", i, inner[i], spec, KERNEL),
            taps->stride[first + i]);
    return taps->value[taps->n - 1];
}

/* Likewise, of its only one. */
static int simple_levels(
    struct th_builder *b, const struct th_taps *taps, struct th_fpn_spec spec, int *map)
{
    struct th_simple_pyramid p =
        th_simple_pyramid(b, taps->value[0], taps->stride[0], spec.taps, spec.width);
    for (int i = 0; i < p.n; i++)
        add_level(b, map, p.map[i], p.stride[i]);
    return p.coarsest;
}

void th_fpn(struct th_builder *b, const struct th_taps *taps, struct th_fpn_spec spec,
    int map[TH_MAX_LEVELS])
{
    struct th_pyramid *p = &b->model->pyramid;
    bool simple = taps->n == 1;
    *p = (struct th_pyramid){0};
    if (b->graph->status != THAW_OK)
        return;
    if (taps->n < spec.taps && !simple) {
        b->graph->status = th_fail(THAW_E_USAGE,
            "--head %s: %s has %d feature maps, a pyramid wants one, or %d: take a "
            "ResNet or a ViT",
            b->model->head->name, b->model->variant->name, taps->n, spec.taps);
        return;
    }
    int tap = (simple ? simple_levels : levels)(b, taps, spec, map);
    if (b->graph->status != THAW_OK)
        return;
    int last = map[p->n - 1], stride = p->level[p->n - 1].stride;
    if (spec.pooled)
        add_level(b, map, th_maxpool(b, last, 1, 2, 0), 2 * stride);
    if (!spec.p6_p7)
        return;
    const char *p6 = simple ? "top_block.p6" : "fpn.extra_blocks.p6";
    const char *p7 = simple ? "top_block.p7" : "fpn.extra_blocks.p7";
    int x = conv(b, p6, spec.p6_of_tap ? tap : last, spec.width, KERNEL, 2, true);
    add_level(b, map, x, 2 * stride);
    add_level(
        b, map, conv(b, p7, th_relu(b, x), spec.width, KERNEL, 2, true), 4 * stride);
}

int th_pyramid_rows(
    struct th_builder *b, const int *map, int anchors, int width, const char *name)
{
    struct th_pyramid *p = &b->model->pyramid;
    int rows = th_map_rows(b, map, p->n, width);
    p->anchors = anchors;
    p->rows = 0;
    for (int i = 0; i < p->n; i++) {
        p->level[i].first = p->rows;
        p->rows += (int64_t)p->level[i].h * p->level[i].w * anchors;
    }
    th_want(b, rows, name);
    return rows;
}
