/* SPDX-License-Identifier: Apache-2.0
 * Owns the table of what runs each op, and operands as tensors. Families: lower_*.c. */
#include "lower.h"

#include "lower_ops.h"

typedef void lowering(struct th_lower *l);

static lowering *const graphs[TH_OP_COUNT] = {
#define GRAPH(op) [TH_OP_##op] = th_lower_##op,
#define PAIR(first, second, out, in, sole)
#define OWN(op, why)
#include "lower.def"
#undef GRAPH
#undef PAIR
#undef OWN
};

static const char *const own[TH_OP_COUNT] = {
#define GRAPH(op)
#define PAIR(first, second, out, in, sole)
#define OWN(op, why) [TH_OP_##op] = why,
#include "lower.def"
#undef GRAPH
#undef PAIR
#undef OWN
};

static const struct th_cuda_pair pairs[] = {
#define GRAPH(op)
#define PAIR(first, second, out, in, sole)                                             \
    {TH_OP_##first, TH_OP_##second, out, in, sole},
#define OWN(op, why)
#include "lower.def"
#undef GRAPH
#undef PAIR
#undef OWN
};

static lowering *const pair_graphs[] = {
#define GRAPH(op)
#define PAIR(first, second, out, in, sole) th_lower_##first##_##second,
#define OWN(op, why)
#include "lower.def"
#undef GRAPH
#undef PAIR
#undef OWN
};

static const char *const pair_names[] = {
#define GRAPH(op)
#define PAIR(first, second, out, in, sole) #first " + " #second,
#define OWN(op, why)
#include "lower.def"
#undef GRAPH
#undef PAIR
#undef OWN
};

enum { N_PAIRS = sizeof pairs / sizeof *pairs };

bool th_cuda_has_graph(enum th_op op, const char **why)
{
    *why = own[op];
    return graphs[op] != NULL;
}

bool th_cuda_splits(const struct th_cuda_group *group)
{
    const struct th_call *c = group->calls[0];
    return group->n == 1 &&
           ((c->op == TH_OP_conv &&
                (c->in[2].present || c->in[3].present || c->attr.conv.relu)) ||
               (c->op == TH_OP_linear && c->in[2].present));
}

const struct th_cuda_pair *th_cuda_pairs(int *n)
{
    *n = N_PAIRS;
    return pairs;
}

static lowering *find(const struct th_cuda_group *group, const char **name)
{
    enum th_op first = group->calls[0]->op;
    *name = th_op_rule(first)->name;
    if (group->n == 1)
        return graphs[first];
    for (int i = 0; i < N_PAIRS; i++)
        if (pairs[i].first == first && pairs[i].second == group->calls[1]->op) {
            *name = pair_names[i];
            return pair_graphs[i];
        }
    return NULL;
}

/* The op's own rule, so that a graph is never built of operands that no op has. */
static thaw_status check(const struct th_call *call)
{
    struct th_operand in[TH_MAX_IN], out[TH_MAX_OUT];
    const struct th_op_rule *rule = th_op_rule(call->op);
    char want[128], has[128];
    if (!rule->fn->shape)
        return THAW_OK;
    for (int i = 0; i < TH_MAX_IN; i++) {
        in[i] = call->in[i];
        if (in[i].dtype == TH_BF16)
            in[i].dtype = TH_F32; /* which is what rules know of */
    }
    for (int i = 0; i < TH_MAX_OUT; i++)
        out[i] = call->out[i];
    TRY(rule->fn->shape(&call->attr, in, out));
    for (int i = 0; i < rule->n_out; i++)
        if (call->out[i].present && !th_shape_equal(&out[i].shape, &call->out[i].shape))
            return th_fail(THAW_E_USAGE, "%s: output %d is %s, it has to be %s",
                rule->name, i, th_shape_text(&call->out[i].shape, has, sizeof has),
                th_shape_text(&out[i].shape, want, sizeof want));
    return THAW_OK;
}

thaw_status th_cuda_graph(const struct th_cuda_group *group, cudnnDataType_t type,
    struct th_cudnn_graph **out)
{
    const char *name;
    lowering *lower = find(group, &name);
    if (!lower)
        return th_fail(THAW_E_USAGE, "%s%s%s: there is no cuDNN graph for it", name,
            group->n == 2 ? " + " : "",
            group->n == 2 ? th_op_rule(group->calls[1]->op)->name : "");
    for (int i = 0; i < group->n; i++)
        TRY(check(group->calls[i]));
    struct th_lower l = {th_cudnn_graph_new(name), group, type};
    if (!l.g)
        return THAW_E_MEMORY;
    lower(&l);
    thaw_status status = th_cudnn_graph_check(l.g);
    if (status == THAW_OK)
        *out = l.g;
    else
        th_cudnn_graph_free(l.g);
    return status;
}

void th_cuda_layout(const union th_attr *attr, struct th_operand *in,
    struct th_operand *out, int device_block)
{
    (void)attr, (void)device_block;
    for (int i = 0; i < TH_MAX_IN + TH_MAX_OUT; i++) {
        struct th_operand *o = i < TH_MAX_IN ? &in[i] : &out[i - TH_MAX_IN];
        bool whole = o->present && o->shape.rank == 4;
        o->block = whole ? (int)o->shape.dim[1] : 1;
    }
}

/* ---- operands ---- */

const struct th_call *th_lower_call(const struct th_lower *l, int c)
{
    return l->group->calls[c];
}

const struct th_operand *th_lower_operand(const struct th_lower *l, int c, int k)
{
    const struct th_call *call = l->group->calls[c];
    return k < TH_LOWER_OUT ? &call->in[k] : &call->out[k - TH_LOWER_OUT];
}

int th_lower_argument(const struct th_lower *l, int c, int k)
{
    int n_in = th_op_rule(l->group->calls[c]->op)->n_in;
    return c * TH_MAX_ARGS + (k < TH_LOWER_OUT ? k : n_in + k - TH_LOWER_OUT);
}

static cudnnDataType_t type_of(const struct th_lower *l, const struct th_operand *o)
{
    switch (o->dtype) {
    case TH_BIT:
        return CUDNN_DATA_BOOLEAN;
    case TH_U8: /* the index of a pooling, which only cuDNN reads */
    case TH_I8:
        return CUDNN_DATA_INT8;
    default:
        return l->type;
    }
}

static int absent(
    struct th_lower *l, const struct th_operand *o, const char *name, int rank)
{
    if (o->present && rank > 0 && o->shape.rank != rank && l->g->status == THAW_OK)
        l->g->status = th_fail(
            THAW_E_USAGE, "%s: %s has to be of rank %d", l->g->name, name, rank);
    return !o->present || l->g->status != THAW_OK;
}

/* All values but the last axis. */
static int64_t rows_of(const struct th_operand *o)
{
    return th_shape_count(&o->shape) / o->shape.dim[o->shape.rank - 1];
}

static void set_nhwc(struct th_cudnn_tensor *t, const int64_t *d)
{
    t->rank = 4;
    for (int i = 0; i < 4; i++)
        t->dim[i] = d[i];
    t->stride[0] = d[1] * d[2] * d[3];
    t->stride[1] = 1;
    t->stride[2] = d[1] * d[3];
    t->stride[3] = d[1];
}

static void set_dense(struct th_cudnn_tensor *t, int rank, const int64_t *d)
{
    int64_t stride = 1;
    t->rank = rank;
    for (int i = rank - 1; i >= 0; i--) {
        t->dim[i] = d[i];
        t->stride[i] = stride;
        stride *= d[i];
    }
}

int th_lower_activation(struct th_lower *l, int c, int k, const char *name)
{
    const struct th_operand *o = th_lower_operand(l, c, k);
    struct th_cudnn_tensor t = {
        .name = name, .type = type_of(l, o), .argument = th_lower_argument(l, c, k)};
    if (absent(l, o, name, 0))
        return -1;
    const int64_t *d = o->shape.dim;
    if (o->shape.rank == 4 && o->block == d[1])
        set_nhwc(&t, d);
    else if (o->shape.rank == 4 && o->block <= 1)
        set_dense(&t, 4, d);
    else if (o->shape.rank != 4)
        set_dense(&t, 3, (int64_t[]){1, rows_of(o), d[o->shape.rank - 1]});
    else
        l->g->status =
            th_fail(THAW_E_USAGE, "%s: %s has blocks of %d channels, of %lld in all",
                l->g->name, name, o->block, (long long)d[1]);
    return th_cudnn_tensor(l->g, &t);
}

int th_lower_weight(struct th_lower *l, int c, int k, const char *name)
{
    const struct th_operand *o = th_lower_operand(l, c, k);
    struct th_cudnn_tensor t = {.name = name,
        .type = l->type,
        .source = TH_CUDNN_PACKED,
        .argument = th_lower_argument(l, c, k)};
    if (absent(l, o, name, 4))
        return -1;
    set_nhwc(&t, o->shape.dim);
    return th_cudnn_tensor(l->g, &t);
}

static int vector(
    struct th_lower *l, int c, int k, const char *name, int rank, int axis)
{
    const struct th_operand *o = th_lower_operand(l, c, k);
    struct th_cudnn_tensor t = {
        .name = name, .type = CUDNN_DATA_FLOAT, .argument = th_lower_argument(l, c, k)};
    int64_t d[TH_CUDNN_RANK] = {1, 1, 1, 1};
    if (absent(l, o, name, 1))
        return -1;
    d[axis] = o->shape.dim[0];
    if (rank == 4)
        set_nhwc(&t, d);
    else
        set_dense(&t, rank, d);
    return th_cudnn_tensor(l->g, &t);
}

int th_lower_channels(struct th_lower *l, int c, int k, const char *name)
{
    return vector(l, c, k, name, 4, 1);
}

int th_lower_row(struct th_lower *l, int c, int k, const char *name)
{
    return vector(l, c, k, name, 3, 2);
}

int th_lower_rows(struct th_lower *l, int c, int k, const char *name)
{
    const struct th_operand *o = th_lower_operand(l, c, k);
    struct th_cudnn_tensor t = {
        .name = name, .type = l->type, .argument = th_lower_argument(l, c, k)};
    if (absent(l, o, name, 0))
        return -1;
    set_nhwc(&t, (int64_t[]){rows_of(o), o->shape.dim[o->shape.rank - 1], 1, 1});
    return th_cudnn_tensor(l->g, &t);
}

int th_lower_between(struct th_lower *l, int c, int k, const char *name)
{
    int y = th_lower_activation(l, c, k, name);
    if (y >= 0 && !l->group->keep) {
        l->g->tensors[y].kind = TH_CUDNN_VIRTUAL;
        l->g->tensors[y].type = CUDNN_DATA_FLOAT;
    }
    return y;
}

int th_lower_product(struct th_lower *l, int y)
{
    if (y < 0)
        return -1;
    struct th_cudnn_tensor t = l->g->tensors[y];
    size_t size = t.type == CUDNN_DATA_FLOAT ? 4 : 2; /* bytes of an element */
    t.name = "product";
    t.source = TH_CUDNN_SCRATCH;
    t.offset = 0;
    l->g->scratch_bytes = (size_t)(t.dim[0] * t.stride[0]) * size;
    return th_cudnn_tensor(l->g, &t);
}

int th_lower_masked(struct th_lower *l, int dy, int mask, int out)
{
    if (mask < 0)
        return dy;
    return th_cudnn_pointwise(l->g, CUDNN_POINTWISE_MUL, dy, mask, out);
}

void th_lower_positive(struct th_lower *l, int y, int mask)
{
    if (mask >= 0)
        th_cudnn_pointwise(
            l->g, CUDNN_POINTWISE_CMP_GT, y, th_cudnn_scalar(l->g, "zero", 0.0F), mask);
}
