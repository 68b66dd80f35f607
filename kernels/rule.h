/* SPDX-License-Identifier: Apache-2.0
 * What the families' shape and gradient rules share: checks with their sentences, and
 * short forms of emit. A rule file includes this and nothing of a device. */
#ifndef TH_RULE_H
#define TH_RULE_H

#include "op.h"

/* out = f32 of shape s; block and presence are the caller's. */
static inline void th_rule_f32(struct th_operand *out, struct th_shape s)
{
    out->shape = s;
    out->dtype = TH_F32;
}

/* THAW_E_USAGE with a sentence unless o is an f32 tensor of this rank. */
thaw_status th_rule_rank(
    const char *op, const char *name, const struct th_operand *o, int rank);

/* THAW_E_USAGE unless o, where present, is [n]. */
thaw_status th_rule_vector(
    const char *op, const char *name, const struct th_operand *o, int64_t n);

/* THAW_E_USAGE unless a and b have the same shape. */
thaw_status th_rule_same(const char *op, const char *name_a, const struct th_operand *a,
    const char *name_b, const struct th_operand *b);

/* out[0] = in[0]: shape rule of ops that work element by element. */
thaw_status th_rule_shape_as_input(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out);

/* Output extent of a window that slides over `size` values; THAW_E_USAGE if it cannot. */
thaw_status th_rule_window(const char *op, int64_t size, int before, int after,
    int64_t kernel, int dilation, int stride, int64_t *out);

/* Emit a node with the forward node's attributes and one output, shaped after `like`. */
static inline thaw_status th_rule_emit(
    struct th_grad *g, enum th_op op, const int *in, int like, int *out)
{
    return g->emit(g, op, g->attr, in, &like, out);
}

/* The forward output that the gradient reads; THAW_E_FAIL if it was not kept. */
thaw_status th_rule_saved(const char *op, const char *name, int value);

/* THAW_E_FAIL: gradients of this node had to be taken before it was fused. */
thaw_status th_rule_fused(const char *op);

#endif
