/* SPDX-License-Identifier: Apache-2.0
 * Owns the use of dnnl.h (2.x interface) for floats. See dnnl_shim.h; dnnl_shim_int8.c has
 * the integer convolutions.
 *
 * The instruction set is capped per primitive, by walking through the implementations
 * that oneDNN offers and reading their names: its own cap is global to the process and
 * only settable before first use. "gemm:jit" picks its instructions itself and does not
 * say which: on a capped device its results may be those of a newer processor. */
#include "dnnl_step.h"

#include "mem.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

thaw_status th_dnnl_failed(const char *what, dnnl_status_t status)
{
    enum thaw_status ours = status == dnnl_out_of_memory ? THAW_E_MEMORY : THAW_E_FAIL;
    return th_fail(ours, "oneDNN: %s failed with status %d", what, (int)status);
}

int th_dnnl_enter(const struct th_dnnl *d)
{
    int before = omp_get_max_threads();
    if (before != d->threads)
        omp_set_num_threads(d->threads);
    return before;
}

void th_dnnl_leave(const struct th_dnnl *d, int before)
{
    if (before != d->threads)
        omp_set_num_threads(before);
}

thaw_status th_dnnl_open(enum th_isa_level cap, int threads, struct th_dnnl **out)
{
    struct th_dnnl *d = th_alloc(1, sizeof *d);
    if (!d)
        return THAW_E_MEMORY;
    d->cap = cap;
    d->threads = threads;
    const dnnl_version_t *v = dnnl_version();
    snprintf(d->version, sizeof d->version, "%d.%d.%d", v->major, v->minor, v->patch);
    dnnl_status_t status = dnnl_engine_create(&d->engine, dnnl_cpu, 0);
    if (status == dnnl_success)
        status = dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags);
    if (status != dnnl_success) {
        th_dnnl_close(d);
        return th_dnnl_failed("opening its CPU engine", status);
    }
    *out = d;
    return THAW_OK;
}

void th_dnnl_close(struct th_dnnl *d)
{
    if (!d)
        return;
    if (d->stream)
        dnnl_stream_destroy(d->stream);
    if (d->engine)
        dnnl_engine_destroy(d->engine);
    th_free(d);
}

const char *th_dnnl_version(const struct th_dnnl *d)
{
    return d->version;
}

/* Memory descriptions --------------------------------------------------------------- */

static thaw_status activation(
    dnnl_memory_desc_t *md, int64_t n, int64_t c, int64_t h, int64_t w, int block)
{
    dnnl_format_tag_t tag = block == 16           ? dnnl_nChw16c
                            : block == 8          ? dnnl_nChw8c
                            : block == c && c > 1 ? dnnl_nhwc
                                                  : dnnl_nchw;
    TRY_DNNL("describing an activation",
        dnnl_memory_desc_init_by_tag(md, 4, (dnnl_dims_t){n, c, h, w}, dnnl_f32, tag));
    return THAW_OK;
}

/* Canonical OIHW, or any layout the implementation likes. */
static thaw_status weights(
    dnnl_memory_desc_t *md, const struct th_dnnl_conv *c, bool any)
{
    int64_t g = c->groups;
    bool grouped = g > 1;
    dnnl_dims_t dense = {c->o, c->c, c->kh, c->kw};
    dnnl_dims_t split = {g, c->o / g, c->c / g, c->kh, c->kw};
    dnnl_format_tag_t plain = grouped ? dnnl_goihw : dnnl_oihw;
    TRY_DNNL("describing weights",
        dnnl_memory_desc_init_by_tag(md, grouped ? 5 : 4, grouped ? split : dense,
            dnnl_f32, any ? dnnl_format_tag_any : plain));
    return THAW_OK;
}

static thaw_status matrix(
    dnnl_memory_desc_t *md, int64_t rows, int64_t columns, bool transposed)
{
    TRY_DNNL("describing a matrix",
        dnnl_memory_desc_init_by_strides(md, 2, (dnnl_dims_t){rows, columns}, dnnl_f32,
            (dnnl_dims_t){transposed ? 1 : columns, transposed ? rows : 1}));
    return THAW_OK;
}

/* Steps ----------------------------------------------------------------------------- */

static bool acceptable(const char *name, enum th_isa_level cap)
{
    if (strstr(name, "ref"))
        return false;
    if (strstr(name, "avx512"))
        return cap >= TH_ISA_AVX512;
    return !strstr(name, "avx") || cap >= TH_ISA_AVX2;
}

static const char *name_of(const_dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return name ? name : "ref";
}

thaw_status th_dnnl_choose(struct th_dnnl *d, const_dnnl_op_desc_t op,
    const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint,
    dnnl_primitive_desc_t *out)
{
    *out = NULL;
    dnnl_primitive_desc_iterator_t it = NULL;
    dnnl_status_t status =
        dnnl_primitive_desc_iterator_create(&it, op, attr, d->engine, hint);
    while (status == dnnl_success) {
        dnnl_primitive_desc_t pd = dnnl_primitive_desc_iterator_fetch(it);
        if (pd && acceptable(name_of(pd), d->cap)) {
            *out = pd;
            break;
        }
        dnnl_primitive_desc_destroy(pd);
        status = dnnl_primitive_desc_iterator_next(it);
    }
    dnnl_primitive_desc_iterator_destroy(it);
    if (status == dnnl_out_of_memory)
        return th_dnnl_failed("choosing an implementation", status);
    return THAW_OK;
}

thaw_status th_dnnl_add_arg(struct th_dnnl_step *s, enum th_dnnl_role role, int arg,
    const dnnl_memory_desc_t *md)
{
    dnnl_memory_t memory = NULL;
    TRY_DNNL("describing an argument",
        dnnl_memory_create(&memory, md, s->dnnl->engine, DNNL_MEMORY_NONE));
    s->arg[s->n_args] = (dnnl_exec_arg_t){arg, memory};
    s->role[s->n_args++] = role;
    return THAW_OK;
}

thaw_status th_dnnl_step_new(
    struct th_dnnl *d, const_dnnl_primitive_desc_t pd, struct th_dnnl_step **out)
{
    struct th_dnnl_step *s = th_alloc(1, sizeof *s);
    if (!s)
        return THAW_E_MEMORY;
    s->dnnl = d;
    snprintf(s->implementation, sizeof s->implementation, "%s", name_of(pd));
    dnnl_status_t status = dnnl_primitive_create(&s->primitive, pd);
    if (status != dnnl_success) {
        th_dnnl_step_free(s);
        return th_dnnl_failed("making a primitive", status);
    }
    const dnnl_memory_desc_t *scratch =
        dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    s->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    if (s->scratch_bytes) {
        thaw_status added =
            th_dnnl_add_arg(s, TH_DNNL_SCRATCH, DNNL_ARG_SCRATCHPAD, scratch);
        if (added != THAW_OK) {
            th_dnnl_step_free(s);
            return added;
        }
    }
    *out = s;
    return THAW_OK;
}

static thaw_status attributes(const struct th_dnnl_conv *c, const dnnl_memory_desc_t *y,
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
    if (status == dnnl_success && c && c->add == TH_DNNL_ADD_BUFFER)
        status = dnnl_post_ops_append_binary(ops, dnnl_binary_add, y);
    if (status == dnnl_success && c && c->add == TH_DNNL_ADD_IN_Y)
        status = dnnl_post_ops_append_sum(ops, 1.0f);
    if (status == dnnl_success && c && c->relu)
        status = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0, 0);
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

/* Convolution ----------------------------------------------------------------------- */

static dnnl_status_t conv_operation(const struct th_dnnl_conv *c,
    enum th_dnnl_direction direction, const dnnl_memory_desc_t *x,
    const dnnl_memory_desc_t *w, const dnnl_memory_desc_t *b,
    const dnnl_memory_desc_t *y, dnnl_convolution_desc_t *op)
{
    dnnl_alg_kind_t alg =
        c->winograd ? dnnl_convolution_winograd : dnnl_convolution_direct;
    /* oneDNN counts the zeros between taps, not their distance */
    dnnl_dims_t dilation = {c->dilation[0] - 1, c->dilation[1] - 1};
    dnnl_dims_t stride = {c->stride[0], c->stride[1]};
    dnnl_dims_t left = {c->pad[0], c->pad[1]}, right = {c->pad[2], c->pad[3]};
    if (direction == TH_DNNL_FORWARD)
        return dnnl_dilated_convolution_forward_desc_init(
            op, dnnl_forward_training, alg, x, w, b, y, stride, dilation, left, right);
    if (direction == TH_DNNL_DX)
        return dnnl_dilated_convolution_backward_data_desc_init(
            op, alg, x, w, y, stride, dilation, left, right);
    return dnnl_dilated_convolution_backward_weights_desc_init(
        op, alg, x, w, NULL, y, stride, dilation, left, right);
}

/* Backward descriptions want a forward one beside them, of the same shape. */
static thaw_status conv_choose(struct th_dnnl *d, const struct th_dnnl_conv *c,
    const dnnl_memory_desc_t *x, const dnnl_memory_desc_t *w,
    const dnnl_memory_desc_t *y, dnnl_primitive_desc_t *out)
{
    dnnl_convolution_desc_t forward, op;
    dnnl_memory_desc_t b;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attr = NULL;
    TRY_DNNL("describing a bias",
        dnnl_memory_desc_init_by_tag(&b, 1, (dnnl_dims_t){c->o}, dnnl_f32, dnnl_a));
    *out = NULL;
    if (conv_operation(c, TH_DNNL_FORWARD, x, w, c->bias ? &b : NULL, y, &forward) !=
            dnnl_success ||
        conv_operation(c, c->direction, x, w, c->bias ? &b : NULL, y, &op) !=
            dnnl_success)
        return THAW_OK;
    if (c->direction != TH_DNNL_FORWARD && dnnl_primitive_desc_create(&hint, &forward,
                                               NULL, d->engine, NULL) != dnnl_success)
        return THAW_OK;
    thaw_status status = attributes(c, y, &attr);
    if (status == THAW_OK)
        status = th_dnnl_choose(d, &op, attr, hint, out);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    if (hint)
        dnnl_primitive_desc_destroy(hint);
    return status;
}

/* oneDNN's names of the roles, by direction: x, w, y. */
static const struct {
    int arg[3];
    dnnl_query_t w;
} conv_names[] = {
    [TH_DNNL_FORWARD] = {{DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        dnnl_query_weights_md},
    [TH_DNNL_DX] = {{DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        dnnl_query_weights_md},
    [TH_DNNL_DW] = {{DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST},
        dnnl_query_diff_weights_md},
};

static thaw_status conv_args(struct th_dnnl_step *s, const struct th_dnnl_conv *c,
    const dnnl_memory_desc_t *x, const dnnl_memory_desc_t *y)
{
    const int *arg = conv_names[c->direction].arg;
    TRY(th_dnnl_add_arg(s, TH_DNNL_X, arg[0], x));
    TRY(th_dnnl_add_arg(s, TH_DNNL_W, arg[1], &s->weights));
    TRY(th_dnnl_add_arg(s, TH_DNNL_Y, arg[2], y));
    if (c->bias) {
        dnnl_memory_desc_t b;
        TRY_DNNL("describing a bias",
            dnnl_memory_desc_init_by_tag(&b, 1, (dnnl_dims_t){c->o}, dnnl_f32, dnnl_a));
        TRY(th_dnnl_add_arg(s, TH_DNNL_B, DNNL_ARG_BIAS, &b));
    }
    if (c->add == TH_DNNL_ADD_BUFFER)
        TRY(th_dnnl_add_arg(
            s, TH_DNNL_ADD, DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, y));
    return THAW_OK;
}

static thaw_status conv_make(
    struct th_dnnl *d, const struct th_dnnl_conv *c, struct th_dnnl_step **out)
{
    dnnl_memory_desc_t x, w, y;
    dnnl_primitive_desc_t pd = NULL;
    struct th_dnnl_step *s = NULL;
    TRY(activation(&x, c->n, c->c, c->h, c->w, c->x_block));
    TRY(weights(&w, c, true));
    TRY(activation(&y, c->n, c->o, c->oh, c->ow, c->y_block));
    TRY(conv_choose(d, c, &x, &w, &y, &pd));
    if (!pd)
        return THAW_OK;
    thaw_status status = th_dnnl_step_new(d, pd, &s);
    if (status == THAW_OK) {
        s->weights = *dnnl_primitive_desc_query_md(pd, conv_names[c->direction].w, 0);
        status = conv_args(s, c, &x, &y);
    }
    dnnl_primitive_desc_destroy(pd);
    if (status != THAW_OK) {
        th_dnnl_step_free(s);
        return status;
    }
    *out = s;
    return THAW_OK;
}

thaw_status th_dnnl_conv_new(
    struct th_dnnl *d, const struct th_dnnl_conv *conv, struct th_dnnl_step **out)
{
    *out = NULL;
    int before = th_dnnl_enter(d);
    thaw_status status = conv_make(d, conv, out);
    th_dnnl_leave(d, before);
    return status;
}

/* Matrix products ------------------------------------------------------------------- */

static thaw_status matmul_make(
    struct th_dnnl *d, const struct th_dnnl_matmul *mm, struct th_dnnl_step **out)
{
    dnnl_memory_desc_t x, w, y, b;
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    struct th_dnnl_step *s = NULL;
    TRY(matrix(&x, mm->m, mm->k, mm->x_transposed));
    TRY(matrix(&w, mm->k, mm->n, mm->w_transposed));
    TRY(matrix(&y, mm->m, mm->n, false));
    TRY(matrix(&b, 1, mm->n, false));
    if (dnnl_matmul_desc_init(&op, &x, &w, mm->bias ? &b : NULL, &y) != dnnl_success)
        return THAW_OK;
    TRY(attributes(NULL, &y, &attr));
    thaw_status status = th_dnnl_choose(d, &op, attr, NULL, &pd);
    dnnl_primitive_attr_destroy(attr);
    if (status != THAW_OK || !pd)
        return status;
    status = th_dnnl_step_new(d, pd, &s);
    dnnl_primitive_desc_destroy(pd);
    if (status == THAW_OK)
        status = th_dnnl_add_arg(s, TH_DNNL_X, DNNL_ARG_SRC, &x);
    if (status == THAW_OK)
        status = th_dnnl_add_arg(s, TH_DNNL_W, DNNL_ARG_WEIGHTS, &w);
    if (status == THAW_OK)
        status = th_dnnl_add_arg(s, TH_DNNL_Y, DNNL_ARG_DST, &y);
    if (status == THAW_OK && mm->bias)
        status = th_dnnl_add_arg(s, TH_DNNL_B, DNNL_ARG_BIAS, &b);
    if (status != THAW_OK) {
        th_dnnl_step_free(s);
        return status;
    }
    *out = s;
    return THAW_OK;
}

thaw_status th_dnnl_matmul_new(
    struct th_dnnl *d, const struct th_dnnl_matmul *mm, struct th_dnnl_step **out)
{
    *out = NULL;
    int before = th_dnnl_enter(d);
    thaw_status status = matmul_make(d, mm, out);
    th_dnnl_leave(d, before);
    return status;
}

/* Reorders -------------------------------------------------------------------------- */

thaw_status th_dnnl_reorder_between(struct th_dnnl *d, const dnnl_memory_desc_t *from,
    const dnnl_memory_desc_t *to, struct th_dnnl_step **out)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    struct th_dnnl_step *s = NULL;
    TRY(attributes(NULL, to, &attr));
    dnnl_status_t made =
        dnnl_reorder_primitive_desc_create(&pd, from, d->engine, to, d->engine, attr);
    dnnl_primitive_attr_destroy(attr);
    if (made != dnnl_success)
        return th_dnnl_failed("describing a reorder", made);
    thaw_status status = th_dnnl_step_new(d, pd, &s);
    dnnl_primitive_desc_destroy(pd);
    if (status == THAW_OK)
        status = th_dnnl_add_arg(s, TH_DNNL_X, DNNL_ARG_FROM, from);
    if (status == THAW_OK)
        status = th_dnnl_add_arg(s, TH_DNNL_Y, DNNL_ARG_TO, to);
    if (status != THAW_OK) {
        th_dnnl_step_free(s);
        return status;
    }
    *out = s;
    return THAW_OK;
}

thaw_status th_dnnl_reorder_new(struct th_dnnl *d, const int64_t nchw[4], int x_block,
    int y_block, struct th_dnnl_step **out)
{
    dnnl_memory_desc_t x, y;
    *out = NULL;
    TRY(activation(&x, nchw[0], nchw[1], nchw[2], nchw[3], x_block));
    TRY(activation(&y, nchw[0], nchw[1], nchw[2], nchw[3], y_block));
    int before = th_dnnl_enter(d);
    thaw_status status = th_dnnl_reorder_between(d, &x, &y, out);
    th_dnnl_leave(d, before);
    return status;
}

thaw_status th_dnnl_pack_new(struct th_dnnl *d, const struct th_dnnl_conv *conv,
    const struct th_dnnl_step *step, struct th_dnnl_step **out)
{
    dnnl_memory_desc_t plain;
    *out = NULL;
    TRY(weights(&plain, conv, false));
    if (dnnl_memory_desc_equal(&plain, &step->weights))
        return THAW_OK;
    bool unpack = conv->direction == TH_DNNL_DW;
    int before = th_dnnl_enter(d);
    thaw_status status = th_dnnl_reorder_between(
        d, unpack ? &step->weights : &plain, unpack ? &plain : &step->weights, out);
    th_dnnl_leave(d, before);
    return status;
}

/* Running --------------------------------------------------------------------------- */

size_t th_dnnl_scratch_bytes(const struct th_dnnl_step *step)
{
    return step ? step->scratch_bytes : 0;
}

size_t th_dnnl_weight_bytes(const struct th_dnnl_step *step)
{
    return step ? dnnl_memory_desc_get_size(&step->weights) : 0;
}

thaw_status th_dnnl_run(struct th_dnnl_step *step, void *const ptr[TH_DNNL_ROLES])
{
    for (int i = 0; i < step->n_args; i++)
        TRY_DNNL("setting an argument",
            dnnl_memory_set_data_handle(step->arg[i].memory, ptr[step->role[i]]));
    int before = th_dnnl_enter(step->dnnl);
    dnnl_status_t status = dnnl_primitive_execute(
        step->primitive, step->dnnl->stream, step->n_args, step->arg);
    if (status == dnnl_success)
        status = dnnl_stream_wait(step->dnnl->stream);
    th_dnnl_leave(step->dnnl, before);
    if (status != dnnl_success)
        return th_dnnl_failed(step->implementation, status);
    return THAW_OK;
}

void th_dnnl_step_free(struct th_dnnl_step *step)
{
    if (!step)
        return;
    for (int i = 0; i < step->n_args; i++)
        dnnl_memory_destroy(step->arg[i].memory);
    if (step->primitive)
        dnnl_primitive_destroy(step->primitive);
    th_free(step);
}
