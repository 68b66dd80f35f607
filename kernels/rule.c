/* SPDX-License-Identifier: Apache-2.0
 * Owns the checks that rules share (see rule.h). */
#include "rule.h"

thaw_status th_rule_rank(
    const char *op, const char *name, const struct th_operand *o, int rank)
{
    char text[128];
    if (o->shape.rank == rank && o->dtype == TH_F32)
        return THAW_OK;
    return th_fail(THAW_E_USAGE, "%s: %s is %s %s, it has to be f32 of rank %d", op,
        name, th_dtype_name(o->dtype), th_shape_text(&o->shape, text, sizeof text),
        rank);
}

thaw_status th_rule_vector(
    const char *op, const char *name, const struct th_operand *o, int64_t n)
{
    char text[128];
    if (!o->present)
        return THAW_OK;
    TRY(th_rule_rank(op, name, o, 1));
    if (o->shape.dim[0] == n)
        return THAW_OK;
    return th_fail(THAW_E_USAGE, "%s: %s is %s, it has to be [%lld]", op, name,
        th_shape_text(&o->shape, text, sizeof text), (long long)n);
}

thaw_status th_rule_same(const char *op, const char *name_a, const struct th_operand *a,
    const char *name_b, const struct th_operand *b)
{
    char text_a[128], text_b[128];
    if (th_shape_equal(&a->shape, &b->shape))
        return THAW_OK;
    return th_fail(THAW_E_USAGE, "%s: %s is %s but %s is %s, they have to be alike", op,
        name_a, th_shape_text(&a->shape, text_a, sizeof text_a), name_b,
        th_shape_text(&b->shape, text_b, sizeof text_b));
}

thaw_status th_rule_shape_as_input(
    const union th_attr *attr, const struct th_operand *in, struct th_operand *out)
{
    (void)attr;
    out[0].shape = in[0].shape;
    out[0].dtype = in[0].dtype;
    return THAW_OK;
}

thaw_status th_rule_window(const char *op, int64_t size, int before, int after,
    int64_t kernel, int dilation, int stride, int64_t *out)
{
    if (kernel < 1 || dilation < 1 || stride < 1 || before < 0 || after < 0)
        return th_fail(THAW_E_USAGE,
            "%s: kernel %lld, dilation %d, stride %d, padding %d and %d: kernel, "
            "dilation "
            "and stride have to be at least 1, padding at least 0",
            op, (long long)kernel, dilation, stride, before, after);
    int64_t room = size + before + after - (dilation * (kernel - 1) + 1);
    if (room < 0)
        return th_fail(THAW_E_USAGE,
            "%s: a kernel of %lld (dilation %d) does not fit into %lld values padded "
            "by "
            "%d and %d",
            op, (long long)kernel, dilation, (long long)size, before, after);
    *out = room / stride + 1;
    return THAW_OK;
}

thaw_status th_rule_saved(const char *op, const char *name, int value)
{
    if (value >= 0)
        return THAW_OK;
    return th_fail(THAW_E_FAIL,
        "%s: its gradient needs the output %s, which this node was built without", op,
        name);
}

thaw_status th_rule_fused(const char *op)
{
    return th_fail(
        THAW_E_FAIL, "%s: fused before gradients: take gradients first, then fuse", op);
}
