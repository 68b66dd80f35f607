/* SPDX-License-Identifier: Apache-2.0
 * Owns what "close" means for each op. */
#include "tape.h"

#include <math.h>
#include <string.h>

/* f32 rounding of sums in any order; Winograd where convolutions use it; a polynomial erf
 * in gelu. A choice of boxes is one. */
static const struct tolerance {
    enum th_op op;
    double error;
} tolerances[] = {
    {TH_OP_conv, 2e-5},
    {TH_OP_conv_dx, 2e-5},
    {TH_OP_conv_dw, 2e-5},
    {TH_OP_gelu, 5e-6},
    {TH_OP_gelu_dx, 5e-6},
    {TH_OP_attention, 5e-6},
    {TH_OP_attention_dx, 5e-6},
    {TH_OP_bn_dx_batch, 5e-6},
    {TH_OP_proposals, 0},
};
static const double DEFAULT_TOLERANCE = 2e-6;

/* Where values cancel, as in the gradient of a row of one value and unit length, errors are
 * relative to a norm of this. */
static const double SMALL = 0.05;

/* Sums of products whose operands TF32 rounds to 2^-11 of their size; attention takes powers
 * of such a sum. */
static const struct tolerance tf32_tolerances[] = {
    {TH_OP_conv, 1e-3},
    {TH_OP_conv_dx, 1e-3},
    {TH_OP_conv_dw, 1e-3},
    {TH_OP_linear, 1e-3},
    {TH_OP_linear_dx, 1e-3},
    {TH_OP_linear_dw, 1e-3},
    {TH_OP_attention, 4e-3},
    {TH_OP_attention_dx, 1e-2},
};

static double tolerance_of(const struct tolerance *table, size_t n, enum th_op op)
{
    for (size_t i = 0; i < n; i++)
        if (table[i].op == op)
            return table[i].error;
    return DEFAULT_TOLERANCE;
}

/* Results, and the weights that are multiplied by, are rounded to bf16: by 2^-9 of them. */
static const double HALF_TOLERANCE = 8e-3;

double th_op_tolerance(enum th_op op, const struct th_device *device)
{
    const struct th_backend *backend = device->backend;
    enum {
        EXACT = sizeof tolerances / sizeof *tolerances,
        TF32 = sizeof tf32_tolerances / sizeof *tf32_tolerances
    };
    double exact = tolerance_of(tolerances, EXACT, op);
    double tf32 = tolerance_of(tf32_tolerances, TF32, op);
    if (backend->halves && backend->halves(op))
        return HALF_TOLERANCE;
    return device->precision == TH_TF32 && tf32 > exact ? tf32 : exact;
}

/* Relative; infinite where a value is not a number. */
static double error_of(const float *a, const float *expected, int64_t count)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        double d = (double)a[i] - (double)expected[i];
        difference += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    double error = sqrt(difference) / fmax(sqrt(norm), SMALL);
    return isnan(error) ? INFINITY : error;
}

thaw_status th_tape_compare(const struct tape *t, const struct node *n,
    const struct result *a, const struct result *expected, struct th_comparison how,
    double *worst)
{
    const char *op = th_op_rule(n->op)->name;
    double tolerance = th_op_tolerance(n->op, how.device);
    for (int i = 0; i < TH_MAX_ARGS; i++) {
        if (!a->arg[i] || !th_tape_writes(n, i) || how.opaque >> i & 1)
            continue;
        const struct th_operand *o = th_tape_operand(t, n, i);
        if (o->dtype == TH_F32 && !how.exact) {
            double error =
                error_of(a->arg[i], expected->arg[i], th_shape_count(&o->shape));
            if (worst && error > *worst)
                *worst = error;
            if (!(error <= tolerance))
                return th_fail(THAW_E_FAIL,
                    "%s, argument %d: off by a relative %.3g, more than %.3g", op, i,
                    error, tolerance);
        } else if (memcmp(a->arg[i], expected->arg[i], th_operand_bytes(o)) != 0)
            return th_fail(THAW_E_FAIL, "%s, argument %d differs", op, i);
    }
    return THAW_OK;
}
