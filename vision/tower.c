/* SPDX-License-Identifier: Apache-2.0
 * Owns the graph of dense heads' towers. */
#include "tower.h"

#include <math.h>
#include <stdio.h>

enum { NAME_SIZE = 96 };

/* torchvision's deviation at random, which is for maps of 256 channels. */
static const float INIT = 0.01F, INIT_WIDTH = 256;

static struct th_conv_spec spec_of(int out, bool has_bias, float bias)
{
    return (struct th_conv_spec){.out = out,
        .kernel = 3,
        .pad = 1,
        .bias = has_bias,
        .init = INIT,
        .bias_init = bias};
}

/* Without norms a signal is to come through narrow layers as it does through wide ones. */
static struct th_conv_spec layer_of(int out, struct th_tower spec)
{
    struct th_conv_spec conv = spec_of(out, spec.bias, 0);
    if (!spec.groups)
        conv.init *= sqrtf(INIT_WIDTH / (float)out);
    return conv;
}

int th_tower(struct th_builder *b, const char *name, int x, struct th_tower spec)
{
    char layer[NAME_SIZE];
    const char *const form = spec.nested ? "%s.conv.%d.%d" : "%s.conv.%d";
    for (int i = 0; i < spec.depth && b->graph->status == THAW_OK; i++) {
        int out = (int)th_shape_at(b, x)->dim[1];
        snprintf(layer, sizeof layer, form, name, spec.nested ? i : 3 * i, 0);
        x = th_conv(b, layer, x, layer_of(out, spec));
        snprintf(layer, sizeof layer, form, name, spec.nested ? i : 3 * i + 1, 1);
        if (spec.groups)
            x = th_groupnorm(b, layer, x, spec.groups, 1e-5F);
        x = th_relu(b, x);
    }
    return x;
}

int th_tower_end(struct th_builder *b, const char *name, const char *layer, int x,
    int out, float bias)
{
    char full[NAME_SIZE];
    snprintf(full, sizeof full, "%s.%s", name, layer);
    return th_conv(b, full, x, spec_of(out, true, bias));
}

float th_prior_bias(float probability)
{
    return -logf((1 - probability) / probability);
}

int th_row_input(struct th_builder *b, const struct th_row_values *v, int64_t images)
{
    int64_t rows = v->rows ? v->rows : b->model->pyramid.rows;
    struct th_shape shape =
        v->n > 1 ? TH_SHAPE(images, rows, v->n) : TH_SHAPE(images, rows);
    return th_graph_input(b->graph, v->name, v->dtype, shape);
}

struct th_row_inputs th_row_inputs(
    struct th_builder *b, const struct th_detector *detector, int logits)
{
    struct th_row_inputs in = {.weight = -1};
    if (b->graph->status != THAW_OK)
        return in;
    int64_t n = th_shape_at(b, logits)->dim[0];
    for (int k = 0; k < detector->n_targets; k++)
        in.target[k] = th_row_input(b, &detector->target[k], n);
    in.weight = th_graph_input(b->graph, "weight", TH_F32, TH_SHAPE(n));
    return in;
}

int th_focal_loss(struct th_builder *b, int logits, const struct th_row_inputs *in)
{
    union th_attr attr = {.focal = {.alpha = 0.25F, .gamma = 2}};
    return th_graph_node(b->graph, TH_OP_focal, &attr,
        (int[]){logits, in->target[0], in->weight}, "classes");
}
