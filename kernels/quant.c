/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of the int8 prefix's ops: quantize, dequantize, conv_q_weights, conv_q,
 * maxpool_q. They have no gradient, since nothing trains at or below them, and no shape
 * rule: pass_int8 puts them in place of checked nodes and says which type a value has.
 *
 * Symmetric and linear, after Jacob et al. 2018 (arXiv:1712.05877), section 2.1, with zero
 * point 0: a value x is s * q, q of type u8 where x is known not to be below 0 (behind a
 * ReLU), else i8. With sat() the nearest whole number, ties to even, cut off at the type's
 * range:
 *
 *   quantize    y = sat(x / s)          dequantize   y = s x
 *   maxpool_q   y = the window's largest: the scale of x is that of y
 *
 * Weights have a scale an output channel: s_w[o] = max |w[o]| / 127, wq = sat(w / s_w). With
 * t the scale of the residual where there is one, else of y, and 1 for a real y:
 *
 *   affine[0][o] = s_x s_w[o] / t       affine[1][o] = b[o] / (s_x s_w[o])
 *   rescale      = t / s_y where there is a residual
 *   conv_q: a = sum wq q_x, a whole number
 *           y = sat(max(0, ((a + affine[1][o]) affine[0][o] + add) rescale))
 *
 * in floats, in this order; without the max where attr.relu is not set, and without sat()
 * where y is f32. So all devices give the same bits (the op sweep compares them). */
#include "rule.h"

static int64_t conv_q_macs(const union th_attr *attr, const struct th_operand *in,
    const struct th_operand *out)
{
    const int64_t *w = in[1].shape.dim;
    (void)attr;
    return th_shape_count(&out[0].shape) * w[1] * w[2] * w[3];
}

const struct th_op_fn th_rule_quantize = {0};
const struct th_op_fn th_rule_dequantize = {0};
const struct th_op_fn th_rule_conv_q_weights = {0};
const struct th_op_fn th_rule_conv_q = {.macs = conv_q_macs};
const struct th_op_fn th_rule_maxpool_q = {0};
