/* SPDX-License-Identifier: Apache-2.0
 * Owns the table of ops, made from ops.def and the families' rules. */
#include "op.h"

const struct th_op_rule *th_op_rule(enum th_op op)
{
    static const struct th_op_rule rules[] = {
#define OP(op_name, family, inputs, outputs, writes_, ...)                               \
    {.name = #op_name,                                                                   \
        .n_in = inputs,                                                                  \
        .n_out = outputs,                                                                \
        .writes = writes_,                                                               \
        .fn = &th_rule_##op_name},
#include "ops.def"
#undef OP
    };
    return &rules[op];
}
