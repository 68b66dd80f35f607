/* SPDX-License-Identifier: Apache-2.0
 * Owns the graph of dense heads' towers. */
#include "tower.h"

#include <math.h>
#include <stdio.h>

enum { NAME_SIZE = 96 };

static struct th_conv_spec spec_of(int out, bool has_bias, float bias)
{
    return (struct th_conv_spec){.out = out,
        .kernel = 3,
        .pad = 1,
        .bias = has_bias,
        .init = 0.01F,
        .bias_init = bias};
}

int th_tower(struct th_builder *b, const char *name, int x, struct th_tower spec)
{
    char layer[NAME_SIZE];
    const char *const form = spec.nested ? "%s.conv.%d.%d" : "%s.conv.%d";
    for (int i = 0; i < spec.depth && b->graph->status == THAW_OK; i++) {
        int out = (int)th_shape_at(b, x)->dim[1];
        snprintf(layer, sizeof layer, form, name, spec.nested ? i : 3 * i, 0);
        x = th_conv(b, layer, x, spec_of(out, spec.bias, 0));
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
