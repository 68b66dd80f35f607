/* SPDX-License-Identifier: Apache-2.0
 * Owns conv, conv_dx and conv_dw: layouts, packed weights, and what happens to a
 * convolution for which there is nothing fast.
 *
 * A call is tried in this order: what the table says, own Winograd or oneDNN's; oneDNN's
 * direct one in the blocks that its operands have; direct on plain copies of them, which
 * live in the call's scratch; the plain C kernel. Packed weights of forward and dx are
 * what the call keeps. */
#include "cpu.h"

#include "mem.h"
#include "ref/ref.h"

#include <string.h>

struct conv_state {
    struct th_winograd_job
        own; /* first, for winograd.c; its isa is NULL: it is not ours */
    struct th_dnnl_conv desc;
    enum th_conv_algorithm algorithm;
    struct th_dnnl_step *step; /* NULL: ours, or the plain C kernel */
    struct th_dnnl_step
        *pack; /* canonical weights to the step's, for dw back; or NULL */
    struct th_dnnl_step *x_copy, *y_copy; /* to (of an output: from) plain; or NULL */
    struct th_dnnl_step *add_copy; /* residual into the plain copy of y; or NULL */
    size_t scratch_at, x_at, y_at, w_at; /* offsets in the call's scratch */
};

/* Blocks ---------------------------------------------------------------------------- */

/* oneDNN's fast kernels want both sides blocked; only the first convolution of a network
 * has a plain input, of at most this many channels. */
enum { FIRST_CHANNELS = 3 };

static void blocks(const struct th_attr_conv *a, int64_t c, int64_t o, int block,
    enum th_dnnl_direction direction, int *x, int *y)
{
    int64_t g = a->groups;
    bool depthwise = g == c && g == o;
    bool whole = depthwise ? c % block == 0 : c / g % block == 0 && o / g % block == 0;
    bool first = g == 1 && c <= FIRST_CHANNELS && o % block == 0;
    *x = whole ? block : 1;
    *y = whole || (first && direction != TH_DNNL_DX) ? block : 1;
}

static void conv_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    blocks(&attr->conv, in[0].shape.dim[1], out[0].shape.dim[1], device_block,
        TH_DNNL_FORWARD, &in[0].block, &out[0].block);
    in[3].block = in[3].present ? out[0].block : 1;
}

static void conv_dx_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    blocks(&attr->conv, out[0].shape.dim[1], in[0].shape.dim[1], device_block,
        TH_DNNL_DX, &out[0].block, &in[0].block);
}

static void conv_dw_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)out;
    blocks(&attr->conv, in[0].shape.dim[1], in[1].shape.dim[1], device_block,
        TH_DNNL_DW, &in[0].block, &in[1].block);
}

/* Preparing ------------------------------------------------------------------------- */

/* Positions of x, w, y among the call's args: inputs, then outputs. */
static const struct places {
    int x, w, y;
} conv_places[] = {
    [TH_DNNL_FORWARD] = {0, 1, 4},
    [TH_DNNL_DX] = {2, 1, 0},
    [TH_DNNL_DW] = {0, 2, 1},
};

enum { CONV_B = 2, CONV_ADD = 3 };

static enum th_dnnl_direction direction_of(enum th_op op)
{
    return op == TH_OP_conv      ? TH_DNNL_FORWARD
           : op == TH_OP_conv_dx ? TH_DNNL_DX
                                 : TH_DNNL_DW;
}

static struct th_operand *operand(struct th_call *call, int arg)
{
    int n_in = th_op_rule(call->op)->n_in;
    return arg < n_in ? &call->in[arg] : &call->out[arg - n_in];
}

static void describe(struct th_call *call, struct th_dnnl_conv *d)
{
    const struct th_attr_conv *a = &call->attr.conv;
    enum th_dnnl_direction direction = direction_of(call->op);
    const struct places *p = &conv_places[direction];
    const struct th_operand *x = operand(call, p->x), *y = operand(call, p->y);
    const int64_t *xd = x->shape.dim, *yd = y->shape.dim;
    const int64_t *wd = operand(call, p->w)->shape.dim;
    bool forward = direction == TH_DNNL_FORWARD;
    bool add = forward && call->in[CONV_ADD].present;
    *d = (struct th_dnnl_conv){
        .direction = direction,
        .n = xd[0],
        .c = xd[1],
        .h = xd[2],
        .w = xd[3],
        .o = yd[1],
        .oh = yd[2],
        .ow = yd[3],
        .kh = wd[2],
        .kw = wd[3],
        .groups = a->groups,
        .stride = {a->stride[0], a->stride[1]},
        .dilation = {a->dilation[0], a->dilation[1]},
        .pad = {a->pad[0], a->pad[1], a->pad[2], a->pad[3]},
        .x_block = x->block,
        .y_block = y->block,
        .bias = forward && call->in[CONV_B].present,
        .relu = forward && a->relu,
        .add = add ? TH_DNNL_ADD_BUFFER : TH_DNNL_ADD_NONE,
    };
}

/* Winograd keeps transformed images and weights, some per thread, in its scratch: more
 * than this is not worth its speed. */
static const size_t WINOGRAD_SCRATCH = (size_t)512 << 20;

/* Winograd's kernel has no way to read a residual but from y itself. */
static thaw_status try_winograd(struct th_dnnl *d, struct conv_state *s)
{
    struct th_dnnl_conv winograd = s->desc;
    winograd.winograd = true;
    if (winograd.add != TH_DNNL_ADD_NONE)
        winograd.add = TH_DNNL_ADD_IN_Y;
    TRY(th_dnnl_conv_new(d, &winograd, &s->step));
    if (th_dnnl_scratch_bytes(s->step) > WINOGRAD_SCRATCH) {
        th_dnnl_step_free(s->step);
        s->step = NULL;
    }
    if (s->step)
        s->desc = winograd;
    else
        s->algorithm = TH_CONV_DIRECT;
    return THAW_OK;
}

/* Reorders between the operands' blocks and plain copies. A residual is brought into the
 * plain copy of y, and added to there. */
static thaw_status make_copies(struct th_call *call, struct th_dnnl *d)
{
    struct conv_state *s = call->state;
    const struct th_dnnl_conv *c = &s->desc;
    const int64_t x[4] = {c->n, c->c, c->h, c->w}, y[4] = {c->n, c->o, c->oh, c->ow};
    int xb = operand(call, conv_places[c->direction].x)->block;
    int yb = operand(call, conv_places[c->direction].y)->block;
    if (xb != 1) {
        bool out = c->direction == TH_DNNL_DX;
        TRY(th_dnnl_reorder_new(d, x, out ? 1 : xb, out ? xb : 1, &s->x_copy));
    }
    if (yb != 1) {
        bool out = c->direction == TH_DNNL_FORWARD;
        TRY(th_dnnl_reorder_new(d, y, out ? 1 : yb, out ? yb : 1, &s->y_copy));
        if (c->add != TH_DNNL_ADD_NONE)
            TRY(th_dnnl_reorder_new(d, y, yb, 1, &s->add_copy));
    }
    return THAW_OK;
}

static thaw_status choose_slow_step(struct th_call *call, struct th_cpu *cpu)
{
    struct conv_state *s = call->state;
    int xb = s->desc.x_block, yb = s->desc.y_block;
    s->desc.x_block = s->desc.y_block = 1;
    if (s->desc.add != TH_DNNL_ADD_NONE && yb != 1)
        s->desc.add = TH_DNNL_ADD_IN_Y;
    if (xb != 1 || yb != 1)
        TRY(th_dnnl_conv_new(cpu->dnnl, &s->desc, &s->step));
    if (s->step)
        TRY(make_copies(call, cpu->dnnl));
    return THAW_OK;
}

static void choose_own(struct th_call *call, struct th_cpu *cpu)
{
    struct conv_state *s = call->state;
    const struct th_winograd_isa *isa = cpu->isa->winograd;
    s->own.isa = isa;
    th_winograd_init(&s->own.sizes, &s->desc, isa, call->device->threads);
}

static thaw_status choose_step(struct th_call *call, struct th_cpu *cpu)
{
    struct conv_state *s = call->state;
    s->algorithm = th_conv_algorithm(call, &s->desc);
    if (s->algorithm == TH_CONV_WINOGRAD) {
        choose_own(call, cpu);
        return THAW_OK;
    }
    if (s->algorithm == TH_CONV_DNNL_WINOGRAD)
        TRY(try_winograd(cpu->dnnl, s));
    if (!s->step)
        TRY(th_dnnl_conv_new(cpu->dnnl, &s->desc, &s->step));
    return s->step ? THAW_OK : choose_slow_step(call, cpu);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Scratch: what the steps themselves want, the plain copies, weights in oneDNN's layout
 * on their way back. */
static void place_scratch(struct th_call *call)
{
    struct conv_state *s = call->state;
    const struct th_dnnl_conv *c = &s->desc;
    size_t bytes = th_dnnl_scratch_bytes(s->step);
    bytes = larger(bytes, th_dnnl_scratch_bytes(s->pack));
    bytes = larger(bytes, th_dnnl_scratch_bytes(s->x_copy));
    bytes = larger(bytes, th_dnnl_scratch_bytes(s->y_copy));
    bytes = larger(bytes, th_dnnl_scratch_bytes(s->add_copy));
    s->x_at = th_align_up(bytes);
    s->y_at = s->x_at;
    if (s->x_copy)
        s->y_at += th_align_up(sizeof(float) * (size_t)(c->n * c->c * c->h * c->w));
    s->w_at = s->y_at;
    if (s->y_copy)
        s->w_at += th_align_up(sizeof(float) * (size_t)(c->n * c->o * c->oh * c->ow));
    call->scratch_bytes = s->w_at;
    if (s->pack && c->direction == TH_DNNL_DW)
        call->scratch_bytes += th_align_up(th_dnnl_weight_bytes(s->step));
}

static thaw_status prepare_state(struct th_call *call)
{
    struct th_cpu *cpu = th_cpu(call);
    struct conv_state *s = call->state;
    describe(call, &s->desc);
    TRY(choose_step(call, cpu));
    bool plain = !s->step && !s->own.isa;
    call->algorithm = s->algorithm;
    call->effort = th_conv_effort(&s->desc, s->algorithm, plain);
    if (s->own.isa) {
        call->scratch_bytes = sizeof(float) * (size_t)s->own.sizes.n_scratch;
        call->kept_bytes = sizeof(float) * (size_t)s->own.sizes.n_packed;
        call->packs = 1U << conv_places[s->desc.direction].w;
        return THAW_OK;
    }
    if (s->step)
        TRY(th_dnnl_pack_new(cpu->dnnl, &s->desc, s->step, &s->pack));
    if (s->pack && s->desc.direction != TH_DNNL_DW)
        call->kept_bytes = th_dnnl_weight_bytes(s->step);
    call->packs = call->kept_bytes ? 1U << conv_places[s->desc.direction].w : 0;
    place_scratch(call);
    return THAW_OK;
}

static void conv_release(struct th_call *call)
{
    struct conv_state *s = call->state;
    if (!s)
        return;
    th_dnnl_step_free(s->step);
    th_dnnl_step_free(s->pack);
    th_dnnl_step_free(s->x_copy);
    th_dnnl_step_free(s->y_copy);
    th_dnnl_step_free(s->add_copy);
    th_free(s);
    call->state = NULL;
}

static thaw_status conv_prepare(struct th_call *call)
{
    call->state = th_alloc(1, sizeof(struct conv_state));
    if (!call->state)
        return THAW_E_MEMORY;
    thaw_status status = prepare_state(call);
    if (status != THAW_OK)
        conv_release(call);
    return status;
}

/* Running --------------------------------------------------------------------------- */

static thaw_status move(
    const struct th_call *call, struct th_dnnl_step *step, void *from, void *to)
{
    void *ptr[TH_DNNL_ROLES] = {
        [TH_DNNL_X] = from, [TH_DNNL_Y] = to, [TH_DNNL_SCRATCH] = call->scratch};
    return th_dnnl_run(step, ptr);
}

enum { COPY_FLOATS = 1 << 16 };

static void copy_add(const struct th_call *call, int64_t i)
{
    const struct th_args_conv *a = (const void *)call->args;
    int64_t from = i * COPY_FLOATS, n = th_shape_count(&call->out[0].shape) - from;
    memcpy((float *)a->y + from, (const float *)a->add_ + from,
        sizeof(float) * (size_t)(n < COPY_FLOATS ? n : COPY_FLOATS));
}

/* Where the step adds to y, y has to hold the residual first. */
static thaw_status bring_add(const struct th_call *call, float *y)
{
    const struct conv_state *s = call->state;
    const struct th_args_conv *a = (const void *)call->args;
    if (s->add_copy)
        return move(call, s->add_copy, a->add_, y);
    int64_t n = th_shape_count(&call->out[0].shape);
    th_parallel(call, (n + COPY_FLOATS - 1) / COPY_FLOATS, copy_add);
    return THAW_OK;
}

static thaw_status before_step(
    const struct th_call *call, void *const ptr[TH_DNNL_ROLES])
{
    const struct conv_state *s = call->state;
    const struct places *p = &conv_places[s->desc.direction];
    if (call->kept && call->stale)
        TRY(move(call, s->pack, call->args[p->w], call->kept));
    if (s->x_copy && s->desc.direction != TH_DNNL_DX)
        TRY(move(call, s->x_copy, call->args[p->x], ptr[TH_DNNL_X]));
    if (s->y_copy && s->desc.direction != TH_DNNL_FORWARD)
        TRY(move(call, s->y_copy, call->args[p->y], ptr[TH_DNNL_Y]));
    return s->desc.add == TH_DNNL_ADD_IN_Y ? bring_add(call, ptr[TH_DNNL_Y]) : THAW_OK;
}

static thaw_status after_step(
    const struct th_call *call, void *const ptr[TH_DNNL_ROLES])
{
    const struct conv_state *s = call->state;
    const struct places *p = &conv_places[s->desc.direction];
    if (s->x_copy && s->desc.direction == TH_DNNL_DX)
        TRY(move(call, s->x_copy, ptr[TH_DNNL_X], call->args[p->x]));
    if (s->y_copy && s->desc.direction == TH_DNNL_FORWARD)
        TRY(move(call, s->y_copy, ptr[TH_DNNL_Y], call->args[p->y]));
    if (s->pack && s->desc.direction == TH_DNNL_DW)
        TRY(move(call, s->pack, ptr[TH_DNNL_W], call->args[p->w]));
    return THAW_OK;
}

static struct th_winograd_args own_args(const struct th_call *call)
{
    const struct conv_state *s = call->state;
    const struct places *p = &conv_places[s->desc.direction];
    void *x = call->args[p->x], *w = call->args[p->w], *y = call->args[p->y];
    struct th_winograd_args a = {
        .w = w, .packed = call->kept, .scratch = call->scratch};
    a.src = s->desc.direction == TH_DNNL_DX ? y : x;
    a.dst = s->desc.direction == TH_DNNL_FORWARD ? y
            : s->desc.direction == TH_DNNL_DX    ? x
                                                 : w;
    if (s->desc.direction == TH_DNNL_DW)
        a.dy = y;
    if (s->desc.direction == TH_DNNL_FORWARD) {
        a.bias = call->args[CONV_B];
        a.add = call->args[CONV_ADD];
    }
    return a;
}

static thaw_status run_own(const struct th_call *call)
{
    struct conv_state *s = call->state;
    s->own.args = own_args(call);
    th_winograd_run(call);
    return THAW_OK;
}

static thaw_status conv_run(const struct th_call *call)
{
    const struct conv_state *s = call->state;
    const struct places *p = &conv_places[s->desc.direction];
    bool forward = s->desc.direction == TH_DNNL_FORWARD;
    char *scratch = call->scratch;
    if (s->own.isa)
        return run_own(call);
    if (!s->step)
        return th_ref_kernel(call->op)->run(call);
    void *ptr[TH_DNNL_ROLES] = {
        [TH_DNNL_X] = s->x_copy ? scratch + s->x_at : call->args[p->x],
        [TH_DNNL_Y] = s->y_copy ? scratch + s->y_at : call->args[p->y],
        [TH_DNNL_W] = call->kept ? call->kept : call->args[p->w],
        [TH_DNNL_B] = forward ? call->args[CONV_B] : NULL,
        [TH_DNNL_ADD] = forward ? call->args[CONV_ADD] : NULL,
        [TH_DNNL_SCRATCH] = scratch,
    };
    if (s->pack && s->desc.direction == TH_DNNL_DW)
        ptr[TH_DNNL_W] = scratch + s->w_at;
    TRY(before_step(call, ptr));
    TRY(th_dnnl_run(s->step, ptr));
    return after_step(call, ptr);
}

/* The weights packed into `to`. */
static thaw_status pack_again(const struct th_call *call, void *scratch, void *to)
{
    const struct conv_state *s = call->state;
    void *ptr[TH_DNNL_ROLES] = {
        [TH_DNNL_X] = call->args[conv_places[s->desc.direction].w],
        [TH_DNNL_Y] = to,
        [TH_DNNL_SCRATCH] = scratch,
    };
    if (!s->own.isa)
        return th_dnnl_run(s->pack, ptr);
    struct th_winograd_args a = own_args(call);
    a.packed = to;
    th_winograd_pack(&s->own, &a);
    return THAW_OK;
}

static thaw_status conv_verify(const struct th_call *call)
{
    const struct conv_state *s = call->state;
    if (!call->kept)
        return THAW_OK;
    size_t scratch = th_align_up(th_dnnl_scratch_bytes(s->pack));
    char *again = th_alloc(scratch + call->kept_bytes, 1);
    if (!again)
        return THAW_E_MEMORY;
    thaw_status status = pack_again(call, again, again + scratch);
    if (status == THAW_OK && memcmp(again + scratch, call->kept, call->kept_bytes) != 0)
        status = th_fail(THAW_E_FAIL,
            "%s: the packed weights in use are not those that the parameter gives now",
            th_op_rule(call->op)->name);
    th_free(again);
    return status;
}

const struct th_kernel th_cpu_conv = {
    .layout = conv_layout,
    .prepare = conv_prepare,
    .run = conv_run,
    .release = conv_release,
    .verify = conv_verify,
};
const struct th_kernel th_cpu_conv_dx = {
    .layout = conv_dx_layout,
    .prepare = conv_prepare,
    .run = conv_run,
    .release = conv_release,
    .verify = conv_verify,
};
const struct th_kernel th_cpu_conv_dw = {
    .layout = conv_dw_layout,
    .prepare = conv_prepare,
    .run = conv_run,
    .release = conv_release,
};
