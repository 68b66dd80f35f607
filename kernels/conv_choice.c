/* SPDX-License-Identifier: Apache-2.0
 * Owns what identifies a convolution in tables of algorithms. Knows no algorithm. */
#include "conv_choice.h"

#include "backend.h"

#include <assert.h>
#include <string.h>

const char *th_conv_algorithm_name(enum th_conv_algorithm algorithm)
{
    static const char *const names[TH_CONV_ALGORITHMS] = {
        [TH_CONV_DIRECT] = "direct",
        [TH_CONV_DNNL_WINOGRAD] = "onednn-winograd",
        [TH_CONV_WINOGRAD] = "winograd",
    };
    return names[algorithm];
}

struct th_conv_choice th_conv_choice_of(const struct th_call *call)
{
    /* x, w, y as they lie among inputs and outputs */
    const struct th_operand *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    assert(call->op == TH_OP_conv || call->op == TH_OP_conv_dx ||
           call->op == TH_OP_conv_dw);
    if (call->op == TH_OP_conv_dx) {
        x = &call->out[0];
        y = &call->in[0];
    } else if (call->op == TH_OP_conv_dw) {
        w = &call->out[0];
        y = &call->in[1];
    }
    return (struct th_conv_choice){
        .op = call->op,
        .c = x->shape.dim[1],
        .h = x->shape.dim[2],
        .w = x->shape.dim[3],
        .o = y->shape.dim[1],
        .kh = w->shape.dim[2],
        .kw = w->shape.dim[3],
        .attr = call->attr.conv,
    };
}

bool th_conv_choice_open(const struct th_conv_choice *c)
{
    const struct th_attr_conv *a = &c->attr;
    return c->kh == 3 && c->kw == 3 && a->stride[0] == 1 && a->stride[1] == 1 &&
           a->dilation[0] == 1 && a->dilation[1] == 1 && a->groups == 1;
}

static bool same_attr(const struct th_attr_conv *a, const struct th_attr_conv *b)
{
    return a->groups == b->groups &&
           memcmp(a->stride, b->stride, sizeof a->stride) == 0 &&
           memcmp(a->dilation, b->dilation, sizeof a->dilation) == 0 &&
           memcmp(a->pad, b->pad, sizeof a->pad) == 0;
}

bool th_conv_choice_same(const struct th_conv_choice *a, const struct th_conv_choice *b)
{
    return a->op == b->op && a->c == b->c && a->h == b->h && a->w == b->w &&
           a->o == b->o && a->kh == b->kh && a->kw == b->kw &&
           same_attr(&a->attr, &b->attr);
}
