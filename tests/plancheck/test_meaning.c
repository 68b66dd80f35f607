/* SPDX-License-Identifier: Apache-2.0
 * What the graphs mean: each op's graph, and each pair's, run by an interpreter of the graph
 * alone, gives what the plain C kernels give, over the op sweep's cases. No cuDNN is called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "graph_run.h"
#include "groups.h"
#include "host.h"
#include "mem.h"
#include "rng.h"
#include "support/ops.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Relative, ||a - b|| / ||b||: fp32 rounding of what both sum in double. */
static const double TOLERANCE = 2e-6;

static struct th_device *ref;

static void check_values(const char *name, const char *what, const struct th_operand *o,
    const void *a, const void *expected)
{
    double difference = 0, norm = 0;
    const float *x = a, *y = expected;
    if (o->dtype != TH_F32) {
        if (memcmp(a, expected, th_operand_bytes(o)) != 0)
            fail_msg("%s: %s differs", name, what);
        return;
    }
    for (int64_t i = 0; i < th_shape_count(&o->shape); i++) {
        double d = (double)x[i] - (double)y[i];
        difference += d * d;
        norm += (double)y[i] * (double)y[i];
    }
    if (!(sqrt(difference) <= TOLERANCE * sqrt(norm)))
        fail_msg(
            "%s: %s is off by %.3g of %.3g", name, what, sqrt(difference), sqrt(norm));
}

/* ---- a device that runs an op's graph, where it has one ---- */

static int n_run[TH_OP_COUNT]; /* how often each op's graph was */

static thaw_status graph_prepare(struct th_call *call)
{
    struct th_cudnn_graph *g = NULL;
    const char *why;
    bool quick = (call->op == TH_OP_gelu || call->op == TH_OP_gelu_dx) &&
                 call->attr.act.kind == TH_GELU_QUICK;
    if (!th_cuda_has_graph(call->op, &why) || quick)
        return THAW_OK; /* plain C runs it */
    TRY(th_cuda_graph(
        &(struct th_cuda_group){.calls = {call}, .n = 1}, CUDNN_DATA_FLOAT, &g));
    call->state = g;
    call->scratch_bytes = g->scratch_bytes;
    return THAW_OK;
}

static thaw_status graph_kernel(const struct th_call *call)
{
    if (!call->state)
        return ref->backend->kernel(call->op)->run(call);
    n_run[call->op]++;
    return graph_run(call->state, call->args, call->scratch);
}

static void graph_release(struct th_call *call)
{
    th_cudnn_graph_free(call->state);
}

/* As the planner has it: weights stay in the plain order. */
static void conv_layout(
    const union th_attr *attr, struct th_operand *in, struct th_operand *out, int block)
{
    th_cuda_layout(attr, in, out, block);
    in[1].block = 1;
}

static void conv_dw_layout(
    const union th_attr *attr, struct th_operand *in, struct th_operand *out, int block)
{
    th_cuda_layout(attr, in, out, block);
    out[0].block = 1;
}

static const struct th_kernel *graph_kernel_of(enum th_op op)
{
    static const struct th_kernel plain = {.layout = th_cuda_layout,
        .prepare = graph_prepare,
        .run = graph_kernel,
        .release = graph_release};
    static struct th_kernel conv, conv_dw;
    conv = conv_dw = plain;
    conv.layout = conv_layout;
    conv_dw.layout = conv_dw_layout;
    return op == TH_OP_conv || op == TH_OP_conv_dx ? &conv
           : op == TH_OP_conv_dw                   ? &conv_dw
                                                   : &plain;
}

static const struct th_backend graph_backend = {.name = "graphs",
    .kernel = graph_kernel_of,
    .alloc = th_host_alloc,
    .free = th_host_free,
    .upload = th_host_copy,
    .download = th_host_copy};

static void each_graph_means_its_op(void **state)
{
    (void)state;
    const char *why;
    struct th_device graphs = {.backend = &graph_backend, .threads = 2, .block = 16};
    const struct layout plain = {.block = 1};
    for (int k = 0; k < n_op_cases; k++) {
        struct tape t;
        tape_init(&t, &op_cases[k], NEED_ALL);
        tape_run(&t, ref, 0, t.n_nodes);
        for (int i = 0; i < t.n_nodes; i++) {
            struct result expected, result;
            const struct node *n = &t.node[i];
            if (!th_cuda_has_graph(n->op, &why))
                continue;
            node_run(&t, n, ref, ref, plain, &expected);
            node_run(&t, n, ref, &graphs, plain, &result);
            for (int a = 0; a < TH_MAX_ARGS; a++)
                if (result.arg[a] && node_writes(n, a))
                    check_values(t.name, th_op_rule(n->op)->name,
                        node_operand(&t, n, a), result.arg[a], expected.arg[a]);
            result_release(&expected);
            result_release(&result);
        }
        tape_release(&t);
    }
    for (int i = 0; i < TH_OP_COUNT; i++)
        if (th_cuda_has_graph((enum th_op)i, &why) && n_run[i] == 0)
            fail_msg("no case ran the graph of %s", th_op_rule((enum th_op)i)->name);
}

/* ---- pairs ---- */

enum { RSTD = 'R' }; /* kind of a value: var here, 1 / sqrt(var + eps) in graphs */
static const float EPS = 1e-3F;

/* A value of the tape: filled with normal numbers, bits or positive numbers; kind 0: made. */
static int value(struct tape *t, char kind, struct th_shape shape, enum th_dtype dtype)
{
    int v = t->n_values++;
    t->value[v] = (struct th_operand){
        .shape = shape, .dtype = dtype, .block = 1, .present = true};
    t->kind[v] = kind;
    size_t bytes = th_operand_bytes(&t->value[v]);
    int64_t count = th_shape_count(&shape);
    t->data[v] = th_alloc(bytes, 1);
    for (int64_t i = 0; kind && i < count; i++) {
        float x = th_rng_normal(77 + (uint64_t)v, (uint64_t)i);
        if (dtype == TH_BIT)
            ((uint8_t *)t->data[v])[i / 8] |= (uint8_t)((x > 0) << (i % 8));
        else
            ((float *)t->data[v])[i] = kind == RSTD ? 0.5F + fabsf(x) : x;
    }
    return v;
}

static void node(
    struct tape *t, enum th_op op, union th_attr attr, const int *in, const int *out)
{
    struct node *n = &t->node[t->n_nodes++];
    *n = (struct node){.op = op, .attr = attr};
    for (int k = 0; k < TH_MAX_IN; k++)
        n->in[k] = k < th_op_rule(op)->n_in ? in[k] : -1;
    for (int k = 0; k < TH_MAX_OUT; k++)
        n->out[k] = k < th_op_rule(op)->n_out ? out[k] : -1;
}

static void convert(const struct th_operand *o, int from, int to, void *src, void *dst)
{
    struct th_call call = {.op = TH_OP_reorder, .device = ref, .args = {src, dst}};
    call.in[0] = call.out[0] = *o;
    call.in[0].block = from;
    call.out[0].block = to;
    ok(ref->backend->kernel(TH_OP_reorder)->run(&call), "reorder");
}

static void invert(float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = 1 / sqrtf(v[i] + EPS);
}

/* The two calls, channels innermost, on copies of the tape's values. */
struct pair {
    struct th_call calls[2];
    struct th_pair_step steps[2];
    void *memory[MAX_VALUES], *args[2 * TH_MAX_ARGS];
    int block[MAX_VALUES];
};

static void lay_out(struct pair *p, const struct tape *t, bool *made)
{
    for (int v = 0; v < t->n_values; v++) {
        const struct th_operand *o = &t->value[v];
        bool image = o->shape.rank == 4 && !t->weight[v];
        p->block[v] = image ? (int)o->shape.dim[1] : 1;
        p->memory[v] = th_alloc(th_operand_bytes(o), 1);
        memset(p->memory[v], 0xA5, th_operand_bytes(o));
        if (!made[v])
            convert(o, 1, p->block[v], t->data[v], p->memory[v]);
        if (!made[v] && t->kind[v] == RSTD)
            invert(p->memory[v], th_shape_count(&o->shape));
    }
}

static void place(struct pair *p, const struct tape *t, int c, bool *made)
{
    const struct node *n = &t->node[c];
    struct th_call *call = &p->calls[c];
    int n_in = th_op_rule(n->op)->n_in;
    *call = (struct th_call){.op = n->op, .attr = n->attr};
    p->steps[c].call = call;
    for (int k = 0; k < TH_MAX_IN + TH_MAX_OUT; k++) {
        bool in = k < TH_MAX_IN;
        int v = in ? n->in[k] : n->out[k - TH_MAX_IN];
        struct th_operand *o = in ? &call->in[k] : &call->out[k - TH_MAX_IN];
        *(in ? &p->steps[c].in[k] : &p->steps[c].out[k - TH_MAX_IN]) = v;
        if (v < 0)
            continue;
        *o = t->value[v];
        o->block = p->block[v];
        p->args[c * TH_MAX_ARGS + (in ? k : n_in + k - TH_MAX_IN)] = p->memory[v];
        made[v] = made[v] || !in;
    }
}

/* Runs the two nodes as one graph and compares all that it makes. `keep`: the value between
 * is wanted, too. */
static void check_pair(struct tape *t, bool keep)
{
    struct pair p = {.block = {0}};
    bool made[MAX_VALUES] = {false};
    for (int c = 0; c < 2; c++)
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (t->node[c].out[k] >= 0)
                made[t->node[c].out[k]] = true;
    tape_run(t, ref, 0, 2);
    lay_out(&p, t, made);
    place(&p, t, 0, made);
    place(&p, t, 1, made);
    p.steps[0].wanted = keep;
    th_cuda_group_steps(p.steps, 2);
    struct th_cuda_group g;
    assert_true(th_cuda_group_of(p.steps, 0, &g));
    assert_int_equal(g.n, 2);
    assert_int_equal(g.keep, keep);
    struct th_cudnn_graph *graph = NULL;
    ok(th_cuda_graph(&g, CUDNN_DATA_FLOAT, &graph), t->name);
    void *scratch = th_alloc(graph->scratch_bytes + 1, 1);
    ok(graph_run(graph, p.args, scratch), t->name);
    for (int v = 0; v < t->n_values; v++) {
        const struct th_operand *o = &t->value[v];
        bool between = v == t->node[0].out[0] && !keep && o->shape.rank > 1;
        void *plain = th_alloc(th_operand_bytes(o), 1);
        if (made[v] && !between) {
            convert(o, p.block[v], 1, p.memory[v], plain);
            if (t->kind[v] == RSTD)
                invert(t->data[v], th_shape_count(&o->shape));
            check_values(t->name, "an output", o, plain, t->data[v]);
        }
        th_free(plain);
        th_free(p.memory[v]);
        th_free(t->data[v]);
    }
    th_free(scratch);
    th_cudnn_graph_free(graph);
}

#define IMAGE(c) TH_SHAPE(2, c, 7, 5)

/* gamma, beta, mean, var of a BatchNorm of c channels */
static void batchnorm(struct tape *t, int64_t c, int *v)
{
    v[0] = value(t, 'x', TH_SHAPE(c), TH_F32);
    v[1] = value(t, 'x', TH_SHAPE(c), TH_F32);
    v[2] = value(t, 'x', TH_SHAPE(c), TH_F32);
    v[3] = value(t, 'v', TH_SHAPE(c), TH_F32);
    for (int64_t i = 0; i < c; i++)
        ((float *)t->data[v[3]])[i] = 0.5F + fabsf(((float *)t->data[v[3]])[i]);
}

static const union th_attr conv3x3 = {
    .conv = {.stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1}};

/* form: bit 0 a residual, bit 1 a ReLU with its mask */
static void conv_and_bn(int form)
{
    struct tape t = {.name = "conv + bn_apply"};
    union th_attr norm = {.norm = {.eps = EPS, .relu = form & 2}};
    int x = value(&t, 'x', IMAGE(3), TH_F32),
        w = value(&t, 'x', TH_SHAPE(5, 3, 3, 3), TH_F32);
    int y = value(&t, 0, IMAGE(5), TH_F32), bn[4];
    t.weight[w] = true;
    batchnorm(&t, 5, bn);
    int add = form & 1 ? value(&t, 'x', IMAGE(5), TH_F32) : -1;
    int z = value(&t, 0, IMAGE(5), TH_F32);
    int mask = form & 2 ? value(&t, 0, IMAGE(5), TH_BIT) : -1;
    node(&t, TH_OP_conv, conv3x3, (int[]){x, w, -1, -1}, (int[]){y});
    node(&t, TH_OP_bn_apply, norm, (int[]){y, bn[2], bn[3], bn[0], bn[1], add},
        (int[]){z, mask});
    check_pair(&t, false);
}

static void statistics_and_bn(int form)
{
    struct tape t = {.name = "bn_stats + bn_apply"};
    union th_attr norm = {.norm = {.eps = EPS, .relu = form & 2}};
    int x = value(&t, 'x', IMAGE(5), TH_F32), bn[4];
    int mean = value(&t, 0, TH_SHAPE(5), TH_F32),
        var = value(&t, 0, TH_SHAPE(5), TH_F32);
    t.kind[var] = RSTD;
    batchnorm(&t, 5, bn);
    int add = form & 1 ? value(&t, 'x', IMAGE(5), TH_F32) : -1;
    int z = value(&t, 0, IMAGE(5), TH_F32);
    int mask = form & 2 ? value(&t, 0, IMAGE(5), TH_BIT) : -1;
    node(&t, TH_OP_bn_stats, norm, (int[]){x}, (int[]){mean, var});
    node(&t, TH_OP_bn_apply, norm, (int[]){x, mean, var, bn[0], bn[1], add},
        (int[]){z, mask});
    check_pair(&t, false);
}

static void bn_backward(int form)
{
    struct tape t = {.name = "bn_reduce + bn_dx_batch"};
    union th_attr norm = {.norm = {.eps = EPS}};
    int dy = value(&t, 'x', IMAGE(5), TH_F32), x = value(&t, 'x', IMAGE(5), TH_F32);
    int mean = value(&t, 'x', TH_SHAPE(5), TH_F32),
        var = value(&t, RSTD, TH_SHAPE(5), TH_F32);
    int gamma = value(&t, 'x', TH_SHAPE(5), TH_F32);
    int mask = form & 2 ? value(&t, 'm', IMAGE(5), TH_BIT) : -1;
    int dgamma = value(&t, 0, TH_SHAPE(5), TH_F32),
        dbeta = value(&t, 0, TH_SHAPE(5), TH_F32);
    int dx = value(&t, 0, IMAGE(5), TH_F32), mean_x = mean;
    /* dx's formula is that of x's own statistics */
    struct th_call stats = {.op = TH_OP_bn_stats, .device = ref};
    stats.in[0] = t.value[x];
    stats.out[0] = stats.out[1] = t.value[mean];
    stats.args[0] = t.data[x];
    stats.args[1] = t.data[mean_x];
    stats.args[2] = t.data[var];
    ok(ref->backend->kernel(TH_OP_bn_stats)->run(&stats), t.name);
    node(&t, TH_OP_bn_reduce, norm, (int[]){dy, x, mean, var, mask},
        (int[]){dgamma, dbeta});
    node(&t, TH_OP_bn_dx_batch, norm,
        (int[]){dy, x, mean, var, gamma, dgamma, dbeta, mask}, (int[]){dx});
    check_pair(&t, false);
}

static void conv_and_relu_backward(int form)
{
    struct tape t = {.name = "conv_dx + relu_dx"};
    int dy = value(&t, 'x', IMAGE(5), TH_F32),
        w = value(&t, 'x', TH_SHAPE(5, 3, 3, 3), TH_F32);
    int dz = value(&t, 0, IMAGE(3), TH_F32), mask = value(&t, 'm', IMAGE(3), TH_BIT);
    t.weight[w] = true;
    int add = form & 1 ? value(&t, 'x', IMAGE(3), TH_F32) : -1;
    int dx = value(&t, 0, IMAGE(3), TH_F32);
    node(&t, TH_OP_conv_dx, conv3x3, (int[]){dy, w}, (int[]){dz});
    node(&t, TH_OP_relu_dx, (union th_attr){0}, (int[]){dz, mask, add}, (int[]){dx});
    check_pair(&t, false);
}

static void linear_and_gelu(int form, bool keep)
{
    struct tape t = {.name = "linear + gelu"};
    union th_attr act = {.act = {.kind = form & 2 ? TH_GELU_TANH : TH_GELU_ERF}};
    int x = value(&t, 'x', TH_SHAPE(2, 5, 7), TH_F32),
        w = value(&t, 'x', TH_SHAPE(3, 7), TH_F32);
    int b = form & 1 ? value(&t, 'x', TH_SHAPE(3), TH_F32) : -1;
    int y = value(&t, 0, TH_SHAPE(2, 5, 3), TH_F32),
        z = value(&t, 0, TH_SHAPE(2, 5, 3), TH_F32);
    node(&t, TH_OP_linear, (union th_attr){0}, (int[]){x, w, b}, (int[]){y});
    node(&t, TH_OP_gelu, act, (int[]){y}, (int[]){z});
    check_pair(&t, keep);
}

static void linear_and_gelu_backward(int form)
{
    struct tape t = {.name = "linear_dx + gelu_dx"};
    union th_attr act = {.act = {.kind = form & 2 ? TH_GELU_TANH : TH_GELU_ERF}};
    int dy = value(&t, 'x', TH_SHAPE(2, 5, 3), TH_F32),
        w = value(&t, 'x', TH_SHAPE(3, 7), TH_F32);
    int dz = value(&t, 0, TH_SHAPE(2, 5, 7), TH_F32),
        x = value(&t, 'x', TH_SHAPE(2, 5, 7), TH_F32);
    int dx = value(&t, 0, TH_SHAPE(2, 5, 7), TH_F32);
    node(&t, TH_OP_linear_dx, (union th_attr){0}, (int[]){dy, w}, (int[]){dz});
    node(&t, TH_OP_gelu_dx, act, (int[]){dz, x}, (int[]){dx});
    check_pair(&t, false);
}

static void each_pair_means_its_two_ops(void **state)
{
    (void)state;
    for (int form = 0; form < 4; form++) {
        conv_and_bn(form);
        statistics_and_bn(form);
        bn_backward(form);
        conv_and_relu_backward(form);
        linear_and_gelu(form, false);
        linear_and_gelu(form, true);
        linear_and_gelu_backward(form);
    }
}

/* ---- parts ---- */

static void a_product_and_its_epilogue_mean_the_whole(void **state)
{
    (void)state;
    int n_split = 0;
    for (int k = 0; k < n_op_cases; k++) {
        struct tape t;
        struct th_call call = {.op = op_cases[k].op};
        struct th_cuda_group g = {.calls = {&call}, .n = 1};
        tape_init(&t, &op_cases[k], 0);
        const struct node *n = &t.node[t.n_forward - 1];
        call.attr = n->attr;
        void *args[TH_MAX_ARGS] = {0};
        for (int i = 0; i < TH_MAX_IN; i++)
            if (n->in[i] >= 0) {
                call.in[i] = t.value[n->in[i]];
                args[i] = t.data[n->in[i]];
            }
        if (n->out[0] >= 0)
            call.out[0] = t.value[n->out[0]];
        if (th_cuda_splits(&g)) { /* in the plain order: blocks are no part of this */
            static const enum th_cuda_part parts[] = {
                TH_CUDA_PRODUCT, TH_CUDA_EPILOGUE};
            tape_run(&t, ref, 0, t.n_forward);
            void *y = th_alloc(th_operand_bytes(&call.out[0]), 1);
            void *scratch = th_alloc(th_operand_bytes(&call.out[0]) + 256, 1);
            args[th_op_rule(call.op)->n_in] = y;
            for (int i = 0; i < 2; i++) {
                struct th_cudnn_graph *graph = NULL;
                g.part = parts[i];
                ok(th_cuda_graph(&g, CUDNN_DATA_FLOAT, &graph), t.name);
                ok(graph_run(graph, args, scratch), t.name);
                th_cudnn_graph_free(graph);
            }
            check_values(t.name, "y", &call.out[0], y, t.data[n->out[0]]);
            th_free(y);
            th_free(scratch);
            n_split++;
        }
        tape_release(&t);
    }
    assert_true(n_split > 4);
}

static int open_ref(void **state)
{
    (void)state;
    return th_device_open("ref", 2, &ref) == THAW_OK ? 0 : -1;
}

static int close_ref(void **state)
{
    (void)state;
    th_device_close(ref);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_graph_means_its_op),
        cmocka_unit_test(each_pair_means_its_two_ops),
        cmocka_unit_test(a_product_and_its_epilogue_mean_the_whole),
    };
    return cmocka_run_group_tests(tests, open_ref, close_ref);
}
