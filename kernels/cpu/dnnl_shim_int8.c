/* SPDX-License-Identifier: Apache-2.0
 * Owns the use of dnnl.h (2.x interface) for integer convolutions. See dnnl_shim.h.
 *
 * The scales come with each run, as operands of binary post-ops: oneDNN's own output scales
 * and the scale of its sum post-op are baked into a primitive, and a plan is made before
 * its weights are known. That costs nothing that could be measured. The i8 source of a first
 * convolution is shifted to u8 by oneDNN, which packs what corrects for it behind the
 * weights. */
#include "dnnl_step.h"

static dnnl_data_type_t whole(bool is_signed)
{
    return is_signed ? dnnl_s8 : dnnl_u8;
}

static thaw_status describe(dnnl_memory_desc_t *md, int64_t n, int64_t c, int64_t h,
    int64_t w, dnnl_data_type_t type)
{
    TRY_DNNL(
        "describing an activation", dnnl_memory_desc_init_by_tag(md, 4,
                                        (dnnl_dims_t){n, c, h, w}, type, dnnl_nhwc));
    return THAW_OK;
}

static thaw_status describe_weights(
    dnnl_memory_desc_t *md, const struct th_dnnl_conv *c, bool any)
{
    int64_t g = c->groups;
    dnnl_dims_t dense = {c->o, c->c, c->kh, c->kw};
    dnnl_dims_t split = {g, c->o / g, c->c / g, c->kh, c->kw};
    dnnl_format_tag_t plain = g > 1 ? dnnl_goihw : dnnl_oihw;
    TRY_DNNL("describing weights",
        dnnl_memory_desc_init_by_tag(md, g > 1 ? 5 : 4, g > 1 ? split : dense, dnnl_s8,
            any ? dnnl_format_tag_any : plain));
    return THAW_OK;
}

/* All memories of a step. */
struct memories {
    dnnl_memory_desc_t x, w, b, y, add, scale, rescale;
};

static thaw_status describe_all(const struct th_dnnl_conv_q *q, struct memories *m)
{
    const struct th_dnnl_conv *c = &q->shape;
    dnnl_data_type_t y = q->y == TH_DNNL_REAL ? dnnl_f32 : whole(q->y == TH_DNNL_I8);
    TRY(describe(&m->x, c->n, c->c, c->h, c->w, whole(q->x_signed)));
    TRY(describe_weights(&m->w, c, true));
    TRY(describe(&m->y, c->n, c->o, c->oh, c->ow, y));
    TRY(describe(&m->add, c->n, c->o, c->oh, c->ow, whole(q->add_signed)));
    TRY(describe(&m->scale, 1, c->o, 1, 1, dnnl_f32));
    TRY(describe(&m->rescale, 1, 1, 1, 1, dnnl_f32));
    TRY_DNNL("describing a bias",
        dnnl_memory_desc_init_by_tag(&m->b, 1, (dnnl_dims_t){c->o}, dnnl_f32, dnnl_a));
    return THAW_OK;
}

/* The post-ops in the order of the formula; their numbers are those of conv_args. */
static dnnl_status_t append(
    dnnl_post_ops_t ops, const struct th_dnnl_conv_q *q, const struct memories *m)
{
    bool add = q->shape.add != TH_DNNL_ADD_NONE;
    dnnl_status_t status = dnnl_post_ops_append_binary(ops, dnnl_binary_mul, &m->scale);
    if (status == dnnl_success && add)
        status = dnnl_post_ops_append_binary(ops, dnnl_binary_add, &m->add);
    if (status == dnnl_success && add)
        status = dnnl_post_ops_append_binary(ops, dnnl_binary_mul, &m->rescale);
    if (status == dnnl_success && q->shape.relu)
        status = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0, 0);
    return status;
}

static thaw_status attributes(const struct th_dnnl_conv_q *q, const struct memories *m,
    dnnl_primitive_attr_t *out)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success)
        status =
            dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (status == dnnl_success)
        status = dnnl_post_ops_create(&ops);
    if (status == dnnl_success)
        status = append(ops, q, m);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (status != dnnl_success) {
        if (attr)
            dnnl_primitive_attr_destroy(attr);
        return th_dnnl_failed("setting attributes", status);
    }
    *out = attr;
    return THAW_OK;
}

static thaw_status choose_conv(struct th_dnnl *d, const struct th_dnnl_conv_q *q,
    const struct memories *m, dnnl_primitive_desc_t *out)
{
    const struct th_dnnl_conv *c = &q->shape;
    dnnl_dims_t dilation = {c->dilation[0] - 1, c->dilation[1] - 1};
    dnnl_dims_t stride = {c->stride[0], c->stride[1]};
    dnnl_dims_t left = {c->pad[0], c->pad[1]}, right = {c->pad[2], c->pad[3]};
    dnnl_convolution_desc_t op;
    dnnl_primitive_attr_t attr = NULL;
    *out = NULL;
    if (dnnl_dilated_convolution_forward_desc_init(&op, dnnl_forward_inference,
            dnnl_convolution_direct, &m->x, &m->w, &m->b, &m->y, stride, dilation, left,
            right) != dnnl_success)
        return THAW_OK;
    TRY(attributes(q, m, &attr));
    thaw_status status = th_dnnl_choose(d, &op, attr, NULL, out);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static int post_op(int i)
{
    return DNNL_ARG_ATTR_MULTIPLE_POST_OP(i) | DNNL_ARG_SRC_1;
}

static thaw_status conv_args(
    struct th_dnnl_step *s, const struct th_dnnl_conv_q *q, const struct memories *m)
{
    TRY(th_dnnl_add_arg(s, TH_DNNL_X, DNNL_ARG_SRC, &m->x));
    TRY(th_dnnl_add_arg(s, TH_DNNL_W, DNNL_ARG_WEIGHTS, &s->weights));
    TRY(th_dnnl_add_arg(s, TH_DNNL_B, DNNL_ARG_BIAS, &m->b));
    TRY(th_dnnl_add_arg(s, TH_DNNL_Y, DNNL_ARG_DST, &m->y));
    TRY(th_dnnl_add_arg(s, TH_DNNL_SCALE, post_op(0), &m->scale));
    if (q->shape.add == TH_DNNL_ADD_NONE)
        return THAW_OK;
    TRY(th_dnnl_add_arg(s, TH_DNNL_ADD, post_op(1), &m->add));
    return th_dnnl_add_arg(s, TH_DNNL_RESCALE, post_op(2), &m->rescale);
}

static thaw_status conv_make(
    struct th_dnnl *d, const struct th_dnnl_conv_q *q, struct th_dnnl_step **out)
{
    struct memories m;
    dnnl_primitive_desc_t pd = NULL;
    struct th_dnnl_step *s = NULL;
    TRY(describe_all(q, &m));
    TRY(choose_conv(d, q, &m, &pd));
    if (!pd)
        return THAW_OK;
    thaw_status status = th_dnnl_step_new(d, pd, &s);
    if (status == THAW_OK) {
        s->weights = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        status = conv_args(s, q, &m);
    }
    dnnl_primitive_desc_destroy(pd);
    if (status != THAW_OK) {
        th_dnnl_step_free(s);
        return status;
    }
    *out = s;
    return THAW_OK;
}

thaw_status th_dnnl_conv_q_new(
    struct th_dnnl *d, const struct th_dnnl_conv_q *conv, struct th_dnnl_step **out)
{
    *out = NULL;
    int before = th_dnnl_enter(d);
    thaw_status status = conv_make(d, conv, out);
    th_dnnl_leave(d, before);
    return status;
}

thaw_status th_dnnl_pack_q_new(struct th_dnnl *d, const struct th_dnnl_conv *conv,
    const struct th_dnnl_step *step, struct th_dnnl_step **out)
{
    dnnl_memory_desc_t plain;
    *out = NULL;
    TRY(describe_weights(&plain, conv, false));
    int before = th_dnnl_enter(d);
    thaw_status status = th_dnnl_reorder_between(d, &plain, &step->weights, out);
    th_dnnl_leave(d, before);
    return status;
}
