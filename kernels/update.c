/* SPDX-License-Identifier: Apache-2.0
 * Owns the rules of the steps that end a training step: gradient norm, guard,
 * accumulation, holding back, optimizers, EMA. None has a gradient. Formulas: kernels/ref/update.c. */
#include "rule.h"

static thaw_status sum_squares_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    TRY(th_rule_vector("sum_squares", "before", &in[1], 1));
    th_rule_f32(&out[0], TH_SHAPE(1));
    return THAW_OK;
}

static thaw_status guard_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr, (void)out;
    TRY(th_rule_vector("guard", "loss", &in[0], 1));
    return th_rule_vector("guard", "sum", &in[1], 1);
}

static thaw_status accumulate_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr, (void)out;
    return th_rule_same("accumulate", "grad", &in[1], "total", &in[0]);
}

static thaw_status hold_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr, (void)out;
    return th_rule_same("hold", "kept", &in[1], "value", &in[0]);
}

static thaw_status start_shape(
    const char *op, const struct th_operand *start, const struct th_operand *param)
{
    return start->present ? th_rule_same(op, "start", start, "param", param) : THAW_OK;
}

static thaw_status sgd_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)out;
    TRY(th_rule_same("sgd", "grad", &in[1], "param", &in[0]));
    TRY(start_shape("sgd", &in[3], &in[0]));
    if (in[2].present)
        return th_rule_same("sgd", "momentum", &in[2], "param", &in[0]);
    if (attr->update.momentum > 0)
        return th_fail(THAW_E_USAGE, "sgd: momentum %g needs a slot to keep it in",
            (double)attr->update.momentum);
    return THAW_OK;
}

static thaw_status adamw_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr, (void)out;
    TRY(th_rule_same("adamw", "grad", &in[1], "param", &in[0]));
    TRY(th_rule_same("adamw", "m", &in[2], "param", &in[0]));
    TRY(th_rule_same("adamw", "v", &in[3], "param", &in[0]));
    TRY(start_shape("adamw", &in[5], &in[0]));
    return th_rule_vector("adamw", "t", &in[4], 1);
}

static thaw_status ema_shape(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr, (void)out;
    return th_rule_same("ema", "average", &in[0], "param", &in[1]);
}

const struct th_op_fn th_rule_sum_squares = {.shape = sum_squares_shape};
const struct th_op_fn th_rule_guard = {.shape = guard_shape};
const struct th_op_fn th_rule_accumulate = {.shape = accumulate_shape};
const struct th_op_fn th_rule_hold = {.shape = hold_shape};
const struct th_op_fn th_rule_sgd = {.shape = sgd_shape};
const struct th_op_fn th_rule_adamw = {.shape = adamw_shape};
const struct th_op_fn th_rule_ema = {.shape = ema_shape};
