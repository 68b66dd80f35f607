/* SPDX-License-Identifier: Apache-2.0
 * Owns which arguments of an op are bf16 on a device of that precision: activations and
 * their gradients. Weights come as fp32 and are packed by who multiplies by them; gradients
 * of weights, statistics, losses and whatever updates are fp32. */
#include "halves.h"

const char *th_cuda_halves(enum th_op op)
{
    /* inputs, outputs; in the order of ops.def */
    static const char *const halves[TH_OP_COUNT] = {
        [TH_OP_conv] = "h..hh",
        [TH_OP_conv_dx] = "h.h",
        [TH_OP_conv_dw] = "hh.",
        [TH_OP_bn_stats] = "h..",
        [TH_OP_bn_apply] = "h....hh.",
        [TH_OP_bn_reduce] = "hh.....",
        [TH_OP_bn_dx_batch] = "hh......h",
        [TH_OP_bn_dx_running] = "h...h",
        [TH_OP_layernorm] = "h..h..",
        [TH_OP_layernorm_dx] = "hh...h",
        [TH_OP_layernorm_dw] = "hh....",
        [TH_OP_l2norm] = "h.h.",
        [TH_OP_l2norm_dx] = "hh..h",
        [TH_OP_l2norm_dw] = "hh..",
        [TH_OP_linear] = "h..h",
        [TH_OP_linear_dx] = "h.h",
        [TH_OP_linear_dw] = "hh.",
        [TH_OP_bias_grad] = "h.",
        [TH_OP_relu] = "hh.",
        [TH_OP_relu_dx] = "h.hh",
        [TH_OP_gelu] = "hh",
        [TH_OP_gelu_dx] = "hhh",
        [TH_OP_dropout] = "h.h",
        [TH_OP_dropout_dx] = "h.h",
        [TH_OP_drop_path] = "h.h",
        [TH_OP_drop_path_dx] = "h.h",
        [TH_OP_maxpool] = "hh.",
        [TH_OP_maxpool_dx] = "h.h",
        [TH_OP_avgpool] = "hh",
        [TH_OP_avgpool_dx] = "hh",
        [TH_OP_gap] = "hh",
        [TH_OP_gap_dx] = "hh",
        [TH_OP_gmp] = "hh.",
        [TH_OP_gmp_dx] = "h.h",
        [TH_OP_tokens] = "h...h",
        [TH_OP_tokens_dx] = "hh",
        [TH_OP_tokens_dw] = "h...",
        [TH_OP_token_mean] = "hh",
        [TH_OP_token_mean_dx] = "hh",
        [TH_OP_layerscale] = "h.h",
        [TH_OP_layerscale_dx] = "h.h",
        [TH_OP_layerscale_dw] = "hh.",
        [TH_OP_attention] = "hh.",
        [TH_OP_attention_dx] = "hhh.h",
        [TH_OP_add] = "hhh",
        [TH_OP_scale] = "hh",
        [TH_OP_shortcut_a] = "hh",
        [TH_OP_shortcut_a_dx] = "hh",
        [TH_OP_concat] = "hhh",
        [TH_OP_concat_dx] = "hhh",
    };
    return halves[op];
}
