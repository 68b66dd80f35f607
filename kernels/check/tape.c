/* SPDX-License-Identifier: Apache-2.0
 * Owns building a tape: parsing a case, filling its values, recording its gradient. */
#include "tape.h"

#include "mem.h"
#include "rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int new_value(struct tape *t, struct th_operand o, char kind)
{
    assert(t->n_values < MAX_VALUES);
    t->value[t->n_values] = o;
    t->value[t->n_values].present = true;
    t->value[t->n_values].block = 1;
    t->kind[t->n_values] = kind;
    t->weight[t->n_values] = kind == 'w' || kind == 'W';
    return t->n_values++;
}

static enum th_dtype dtype_of(char kind)
{
    switch (kind) {
    case '0':
    case 'N':
    case 'k':
    case 'l':
        return TH_I32;
    case 'm':
        return TH_BIT;
    case 'i':
    case 'u':
        return TH_U8;
    case 'b':
    case 'W':
        return TH_I8;
    default:
        return TH_F32;
    }
}

/* One operand of a case's text; moves *text behind it. -1 where it is absent. */
static int parse_operand(struct tape *t, const char **text)
{
    char kind = **text;
    struct th_operand o = {.dtype = dtype_of(kind)};
    for ((*text)++; **text != '\0' && **text != ' '; *text += **text == ',') {
        char *end;
        o.shape.dim[o.shape.rank++] = strtoll(*text, &end, 10);
        assert(end != *text);
        *text = end;
    }
    *text += **text == ' ';
    return kind == '-' ? -1 : new_value(t, o, kind);
}

static thaw_status fill_distinct(uint64_t key, int64_t n, float *v)
{
    int64_t *order = th_alloc((size_t)n, sizeof *order);
    if (!order)
        return THAW_E_MEMORY;
    th_rng_permutation(key, n, order);
    for (int64_t i = 0; i < n; i++)
        v[i] = 0.25f * (float)(order[i] - n / 2);
    th_free(order);
    return THAW_OK;
}

/* Rows of weights that sum to about 1, a few of them 0. */
static float target_at(uint64_t key, uint64_t i, const struct th_shape *s)
{
    float u = th_rng_uniform(key, i);
    return u < 0.2f ? 0 : 2 * u / (float)s->dim[1];
}

/* Side i % 4 of box i / 4; every seventh is none. */
static float side_at(uint64_t key, uint64_t i)
{
    float from = 40 * th_rng_uniform(key, i % 4 < 2 ? i : i - 2);
    float size = 2 + 44 * th_rng_uniform(key, i % 4 < 2 ? i + 2 : i);
    return i / 4 % 7 == 3 ? -1 : i % 4 < 2 ? from : from + size;
}

static float real_at(char kind, uint64_t key, uint64_t i, const struct th_shape *s)
{
    float x = th_rng_normal(key, i);
    switch (kind) {
    case 'o':
        return x < 0 ? x - 0.3f : x + 0.3f;
    case 'Q':
    case 'q':
        return kind == 'Q' && i % 11 == 5 ? NAN : 0.5f * floorf(2 * x);
    case 'v':
    case 'p':
    case '+':
        return 0.5f + th_rng_uniform(key, i);
    case 'y':
        return x < 0 ? -1 : th_rng_uniform(key, i);
    case 'e':
        return side_at(key, i);
    case 'n':
        return -1;
    case 't':
        return target_at(key, i, s);
    case '1':
        return 3;
    case 'z':
        return 0.01f * (0.5f + th_rng_uniform(key, i));
    case 'A': /* of conv_q: the sums of some hundred products come to whole numbers */
        return (int64_t)i < s->dim[1] ? 1e-3f * (0.5f + th_rng_uniform(key, i))
                                      : 2e4f * x;
    default:
        return x;
    }
}

static thaw_status fill(struct tape *t, int value)
{
    static const struct th_scalars scalars = {.lr = 0.1f,
        .clip = 0.5f,
        .loss_scale = 0.75f,
        .gathered = 1,
        .momentum = 0.8f,
        .ema_decay = 0.9f,
        .n_skipped = 2};
    const struct th_operand *o = &t->value[value];
    int64_t n = th_shape_count(&o->shape);
    size_t bytes = th_operand_bytes(o);
    uint64_t key = th_rng_mix(th_rng_mix_name(1, t->name), (uint64_t)value);
    char kind = t->kind[value];
    uint64_t mask = kind == '0' ? 0 : kind == 'i' ? 3 : 255;
    void *data = th_alloc(bytes, 1);
    if (!data)
        return THAW_E_MEMORY;
    t->data[value] = data;
    if (kind == 's')
        memcpy(data, &scalars, sizeof scalars);
    else if (kind == 'd')
        return fill_distinct(key, n, data);
    else if (o->dtype == TH_F32)
        for (int64_t i = 0; i < n; i++)
            ((float *)data)[i] = real_at(kind, key, (uint64_t)i, &o->shape);
    else if (kind == 'l')
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)data)[i] = (int32_t)th_rng_below(key, (uint64_t)i, 5) - 2;
    else
        for (size_t i = 0; i < bytes; i++)
            ((uint8_t *)data)[i] =
                kind == 'N' ? 255 : (uint8_t)(th_rng_u64(key, i) & mask);
    return THAW_OK;
}

static struct node *new_node(struct tape *t, enum th_op op, const union th_attr *attr)
{
    assert(t->n_nodes < MAX_NODES);
    struct node *n = &t->node[t->n_nodes++];
    n->op = op;
    n->attr = *attr;
    for (int i = 0; i < TH_MAX_IN; i++)
        n->in[i] = -1;
    for (int i = 0; i < TH_MAX_OUT; i++)
        n->out[i] = -1;
    return n;
}

/* Give the node its outputs by its shape rule, or as the text says. */
static thaw_status add_outputs(struct tape *t, struct node *n, const char *text)
{
    const struct th_op_rule *rule = th_op_rule(n->op);
    struct th_operand in[TH_MAX_IN] = {0}, out[TH_MAX_OUT] = {0};
    for (int i = 0; i < rule->n_in; i++)
        if (n->in[i] >= 0)
            in[i] = t->value[n->in[i]];
    if (rule->fn->shape != NULL)
        TRY(rule->fn->shape(&n->attr, in, out));
    for (int i = 0; i < rule->n_out; i++)
        n->out[i] =
            rule->fn->shape != NULL ? new_value(t, out[i], 0) : parse_operand(t, &text);
    return THAW_OK;
}

struct recorder {
    struct th_grad grad;
    struct tape *tape;
};

static thaw_status record(struct th_grad *g, enum th_op op, const union th_attr *attr,
    const int *in, const int *like, int *out)
{
    struct tape *t = ((struct recorder *)(void *)g)->tape;
    const struct th_op_rule *rule = th_op_rule(op);
    struct node *n = new_node(t, op, attr);
    for (int i = 0; i < rule->n_in; i++)
        n->in[i] = in[i];
    for (int i = 0; i < rule->n_out; i++) {
        n->out[i] = like[i] < 0 ? -1 : new_value(t, t->value[like[i]], 0);
        if (like[i] >= 0)
            t->weight[n->out[i]] = t->weight[like[i]];
        out[i] = n->out[i];
    }
    return THAW_OK;
}

static const struct th_operand *operand_of(const struct th_grad *g, int value)
{
    return &((const struct recorder *)(const void *)g)->tape->value[value];
}

static bool is_loss(enum th_op op)
{
    return op == TH_OP_softmax_ce || op == TH_OP_sigmoid_ce || op == TH_OP_focal ||
           op == TH_OP_box_loss || op == TH_OP_masked_ce || op == TH_OP_row_ce;
}

/* A random gradient for the first output (no other has one); of a loss, what the
 * scalars say. */
static thaw_status fill_gradients(struct tape *t, const struct node *n)
{
    for (int i = 0; i < TH_MAX_OUT; i++)
        t->dout[i] = -1;
    t->dout[0] = new_value(t, t->value[n->out[0]], 'r');
    TRY(fill(t, t->dout[0]));
    if (is_loss(n->op))
        *(float *)t->data[t->dout[0]] = 0.75f;
    return THAW_OK;
}

static thaw_status add_gradient(struct tape *t, const struct op_case *c, int need)
{
    const struct node n = t->node[t->n_nodes - 1];
    TRY(fill_gradients(t, &n));
    for (int i = 0; i < TH_MAX_IN; i++) {
        char kind = n.in[i] >= 0 ? t->kind[n.in[i]] : '-';
        t->need[i] = kind != 0 && strchr("xwcodp", kind) != NULL && (need >> i & 1);
        t->din[i] = -1;
    }
    if (c->mode == BATCH_STATISTICS)
        t->need[1] = t->need[2] = t->need[0];
    struct th_operand scalars = {.shape = TH_SHAPE(7), .dtype = TH_F32};
    struct recorder r = {.tape = t,
        .grad = {.attr = &n.attr,
            .in = n.in,
            .out = n.out,
            .dout = t->dout,
            .need = t->need,
            .din = t->din,
            .scalars = new_value(t, scalars, 's'),
            .operand = operand_of,
            .emit = record}};
    TRY(fill(t, r.grad.scalars));
    return th_op_rule(c->op)->fn->grad(&r.grad);
}

static thaw_status build(struct tape *t, const struct op_case *c, int need)
{
    const char *text = c->operands;
    int in[TH_MAX_IN], n_in = th_op_rule(c->op)->n_in;
    for (int i = 0; i < n_in; i++) {
        in[i] = parse_operand(t, &text);
        if (in[i] >= 0)
            TRY(fill(t, in[i]));
    }
    if (c->mode == BATCH_STATISTICS) {
        struct node *stats = new_node(t, TH_OP_bn_stats, &c->attr);
        stats->in[0] = in[0];
        TRY(add_outputs(t, stats, ""));
        in[1] = stats->out[0];
        in[2] = stats->out[1];
    }
    struct node *n = new_node(t, c->op, &c->attr);
    memcpy(n->in, in, (size_t)n_in * sizeof in[0]);
    TRY(add_outputs(t, n, *text == '>' ? text + 2 : ""));
    t->n_forward = t->n_nodes;
    return c->mode == FORWARD ? THAW_OK : add_gradient(t, c, need);
}

thaw_status th_tape_init(struct tape *t, const struct op_case *c, int need)
{
    *t = (struct tape){.name = c->name};
    thaw_status status = build(t, c, need);
    if (status != THAW_OK)
        th_tape_release(t);
    return status;
}

void th_tape_release(struct tape *t)
{
    for (int i = 0; i < t->n_values; i++) {
        th_free(t->data[i]);
        t->data[i] = NULL;
    }
}
