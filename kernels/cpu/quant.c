/* SPDX-License-Identifier: Apache-2.0
 * Owns conv_q on oneDNN: its layout, and its packed weights. Whole numbers have their
 * channels last: a block of all of them. A convolution that oneDNN has nothing fast for, or
 * whose operands are laid out otherwise, is done in plain C, and so is every one on a
 * processor without VNNI, where oneDNN's sums saturate (vpmaddubsw): the same bits
 * everywhere. The other ops of the int8 prefix are in isa/. */
#include "cpu.h"

#include "mem.h"
#include "ref/ref.h"

#include <string.h>

struct conv_q_state {
    struct th_dnnl_step *step, *pack; /* NULL: plain C */
};

enum { X, W, AFFINE, RESCALE, ADD };

static void all_channels(struct th_operand *o)
{
    if (o->present && o->shape.rank == 4)
        o->block = (int)o->shape.dim[1];
}

static void conv_q_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr, (void)device_block;
    all_channels(&in[X]);
    all_channels(&in[ADD]);
    all_channels(&out[0]);
    in[W].block = 1;
}

/* quantize takes any layout and gives channels last; dequantize and maxpool_q take that. */
static void quantize_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr, (void)in, (void)device_block;
    all_channels(&out[0]);
}

static void last_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr, (void)device_block;
    all_channels(&in[0]);
    all_channels(&out[0]);
}

static bool has_channels_last(const struct th_operand *o)
{
    return !o->present || o->block == o->shape.dim[1];
}

static struct th_dnnl_conv_q describe(const struct th_call *call)
{
    const struct th_attr_conv *a = &call->attr.conv;
    const int64_t *x = call->in[X].shape.dim, *w = call->in[W].shape.dim;
    const int64_t *y = call->out[0].shape.dim;
    enum th_dtype type = call->out[0].dtype;
    return (struct th_dnnl_conv_q){
        .shape = {.n = x[0],
            .c = x[1],
            .h = x[2],
            .w = x[3],
            .o = y[1],
            .oh = y[2],
            .ow = y[3],
            .kh = w[2],
            .kw = w[3],
            .groups = a->groups,
            .stride = {a->stride[0], a->stride[1]},
            .dilation = {a->dilation[0], a->dilation[1]},
            .pad = {a->pad[0], a->pad[1], a->pad[2], a->pad[3]},
            .relu = a->relu,
            .add = call->in[ADD].present ? TH_DNNL_ADD_BUFFER : TH_DNNL_ADD_NONE},
        .x_signed = call->in[X].dtype == TH_I8,
        .add_signed = call->in[ADD].dtype == TH_I8,
        .y = type == TH_F32  ? TH_DNNL_REAL
             : type == TH_I8 ? TH_DNNL_I8
                             : TH_DNNL_U8,
    };
}

/* Beside a matrix product in floats: three to five times as many multiply-adds a second on
 * ResNet-50's shapes (AVX-512 VNNI, 2 threads, oneDNN 2.6.3). */
static const double EFFORT = 0.28, PLAIN_C_EFFORT = 50;

static thaw_status prepare_step(struct th_call *call)
{
    struct conv_q_state *s = call->state;
    struct th_dnnl *dnnl = th_cpu(call)->dnnl;
    const struct th_dnnl_conv_q q = describe(call);
    if (!call->device->int8 || !has_channels_last(&call->in[X]) ||
        !has_channels_last(&call->in[ADD]) || !has_channels_last(&call->out[0]))
        return THAW_OK;
    TRY(th_dnnl_conv_q_new(dnnl, &q, &s->step));
    if (!s->step)
        return THAW_OK;
    TRY(th_dnnl_pack_q_new(dnnl, &q.shape, s->step, &s->pack));
    size_t run = th_dnnl_scratch_bytes(s->step), pack = th_dnnl_scratch_bytes(s->pack);
    call->scratch_bytes = run > pack ? run : pack;
    call->kept_bytes = th_dnnl_weight_bytes(s->step);
    call->effort = EFFORT;
    return THAW_OK;
}

static void conv_q_release(struct th_call *call)
{
    struct conv_q_state *s = call->state;
    if (!s)
        return;
    th_dnnl_step_free(s->step);
    th_dnnl_step_free(s->pack);
    th_free(s);
    call->state = NULL;
}

static thaw_status conv_q_prepare(struct th_call *call)
{
    call->effort = PLAIN_C_EFFORT;
    call->state = th_alloc(1, sizeof(struct conv_q_state));
    if (!call->state)
        return THAW_E_MEMORY;
    thaw_status status = prepare_step(call);
    if (status != THAW_OK)
        conv_q_release(call);
    return status;
}

/* The layout has gaps that oneDNN leaves as they are: zero, so that they compare. */
static thaw_status pack(const struct th_call *call, void *scratch, void *to)
{
    const struct conv_q_state *s = call->state;
    memset(to, 0, call->kept_bytes);
    void *ptr[TH_DNNL_ROLES] = {
        [TH_DNNL_X] = call->args[W], [TH_DNNL_Y] = to, [TH_DNNL_SCRATCH] = scratch};
    return th_dnnl_run(s->pack, ptr);
}

static thaw_status conv_q_run(const struct th_call *call)
{
    const struct th_args_conv_q *a = (const void *)call->args;
    const struct conv_q_state *s = call->state;
    if (!s->step)
        return th_ref_kernel(call->op)->run(call);
    if (call->stale)
        TRY(pack(call, call->scratch, call->kept));
    void *ptr[TH_DNNL_ROLES] = {
        [TH_DNNL_X] = a->x,
        [TH_DNNL_W] = call->kept,
        [TH_DNNL_B] = (float *)a->affine + call->out[0].shape.dim[1],
        [TH_DNNL_Y] = a->y,
        [TH_DNNL_ADD] = a->add_,
        [TH_DNNL_SCALE] = a->affine,
        [TH_DNNL_RESCALE] = a->rescale_,
        [TH_DNNL_SCRATCH] = call->scratch,
    };
    return th_dnnl_run(s->step, ptr);
}

static thaw_status conv_q_verify(const struct th_call *call)
{
    const struct conv_q_state *s = call->state;
    if (!s->step)
        return THAW_OK;
    size_t scratch = th_align_up(th_dnnl_scratch_bytes(s->pack));
    char *again = th_alloc(scratch + call->kept_bytes, 1);
    if (!again)
        return THAW_E_MEMORY;
    thaw_status status = pack(call, again, again + scratch);
    if (status == THAW_OK && memcmp(again + scratch, call->kept, call->kept_bytes) != 0)
        status = th_fail(THAW_E_FAIL, "conv_q: the packed weights in use are not those "
                                      "that the parameters give now");
    th_free(again);
    return status;
}

const struct th_kernel th_cpu_conv_q = {
    .layout = conv_q_layout,
    .prepare = conv_q_prepare,
    .run = conv_q_run,
    .release = conv_q_release,
    .verify = conv_q_verify,
};
const struct th_kernel th_cpu_quantize = {
    .layout = quantize_layout, .run = th_cpu_run_own};
const struct th_kernel th_cpu_dequantize = {
    .layout = last_layout, .run = th_cpu_run_own};
const struct th_kernel th_cpu_maxpool_q = {
    .layout = last_layout, .run = th_cpu_run_own};
