/* SPDX-License-Identifier: Apache-2.0
 * Our kernels, as nvcc compiled them, give what the plain C kernels give, over the op
 * sweep's cases; in any order of blocks, warps and branches, and in grids of one block where
 * the kernel goes on by the grid, the same bits; in bf16 what plain C gives on the same
 * operands, rounded; and the cases reach the code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "host.h"
#include "mem.h"
#include "own.h"
#include "params.h"
#include "rng.h"
#include "support/ops.h"
#include "test_launch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Relative, ||a - b|| / ||b||: fp32 rounding of what the reference sums in double. Where the
 * values cancel, as the gradient of a row of one value and unit length, of a norm this small
 * instead. */
static const double TOLERANCE = 2e-6, SMALL = 0.05;

/* Of a value in bf16: half a unit in the last of 8 places. */
static const double BF16 = 0x1p-8;

static struct th_device *ref;
static struct test_how how;       /* the next run is run */
static bool was_bf16[TH_MAX_OUT]; /* outputs of the last run */
static bool took_bf16;            /* any operand of it */

static void check_values(const char *name, const char *what, const struct th_operand *o,
    const void *a, const void *expected, double tolerance)
{
    double difference = 0, norm = 0;
    const float *x = a, *y = expected;
    if (o->dtype != TH_F32) {
        if (memcmp(a, expected, th_operand_bytes(o)) != 0)
            fail_msg("%s: %s differs", name, what);
        return;
    }
    for (int64_t i = 0; i < th_shape_count(&o->shape); i++) {
        if (memcmp(&x[i], &y[i], sizeof x[i]) == 0 && !isfinite(x[i]))
            continue; /* the same infinity */
        double d = (double)x[i] - (double)y[i];
        difference += d * d;
        norm += (double)y[i] * (double)y[i];
    }
    if (!(sqrt(difference) <= tolerance * fmax(sqrt(norm), SMALL)))
        fail_msg(
            "%s: %s is off by %.3g of %.3g", name, what, sqrt(difference), sqrt(norm));
}

/* ---- a device that runs our kernels ---- */

static int n_run[TH_OP_COUNT];

static thaw_status own_prepare(struct th_call *call)
{
    const struct th_own *own = th_own(call->op);
    return own->prepare ? own->prepare(call) : THAW_OK;
}

/* Each operand is memory of its own; outputs and scratch were not written yet. */
static thaw_status own_run(const struct th_call *call)
{
    const struct th_op_rule *rule = th_op_rule(call->op);
    for (int i = 0; i < rule->n_in + rule->n_out; i++) {
        const struct th_operand *o =
            i < rule->n_in ? &call->in[i] : &call->out[i - rule->n_in];
        if (call->args[i])
            test_launch_block(call->args[i], th_operand_bytes(o), i < rule->n_in);
    }
    if (call->scratch_bytes)
        test_launch_block(call->scratch, call->scratch_bytes, false);
    test_launch_how(how);
    how.order++;
    how.grid = (how.grid + 1) % TEST_GRIDS;
    thaw_status status = th_own(call->op)->run(call);
    took_bf16 = false;
    for (int i = 0; i < rule->n_in + rule->n_out; i++)
        took_bf16 |= call->args[i] && test_launch_was_bf16(call->args[i]);
    for (int i = 0; i < rule->n_out; i++) {
        const void *out = call->args[rule->n_in + i];
        if (out && !test_launch_all_written(out))
            fail_msg("%s: output %d is not written whole", rule->name, i);
        was_bf16[i] = out && test_launch_was_bf16(out);
    }
    test_launch_forget();
    n_run[call->op]++;
    return status;
}

/* Activations NHWC; weights, which are what these ops have of rank 4, as they are. */
static void own_layout(
    const union th_attr *attr, struct th_operand *in, struct th_operand *out, int block)
{
    (void)attr, (void)block;
    for (int i = 0; i < TH_MAX_IN + TH_MAX_OUT; i++) {
        struct th_operand *o = i < TH_MAX_IN ? &in[i] : &out[i - TH_MAX_IN];
        o->block = o->present && o->shape.rank == 4 ? (int)o->shape.dim[1] : 1;
    }
}

static bool takes_weights(enum th_op op)
{
    return op == TH_OP_bn_fold || op == TH_OP_lora_merge || op == TH_OP_lora_da ||
           op == TH_OP_lora_db || op == TH_OP_scale_rows;
}

static const struct th_kernel *own_kernel_of(enum th_op op)
{
    static const struct th_kernel activations = {
        .layout = own_layout, .prepare = own_prepare, .run = own_run};
    static const struct th_kernel weights = {
        .layout = th_layout_plain, .prepare = own_prepare, .run = own_run};
    static const struct th_kernel as_told = {
        .layout = th_layout_reorder, .prepare = own_prepare, .run = own_run};
    return op == TH_OP_reorder ? &as_told : takes_weights(op) ? &weights : &activations;
}

static const struct th_backend own_backend = {.name = "own",
    .kernel = own_kernel_of,
    .alloc = th_host_alloc,
    .free = th_host_free,
    .upload = th_host_copy,
    .download = th_host_copy};

static void check_result(const struct tape *t, const struct node *n,
    const struct result *own, const struct result *expected, double tolerance)
{
    const struct th_op_rule *rule = th_op_rule(n->op);
    for (int a = 0; a < rule->n_in + rule->n_out; a++) {
        bool half = a >= rule->n_in && was_bf16[a - rule->n_in];
        if (own->arg[a] && node_writes(n, a))
            check_values(t->name, rule->name, node_operand(t, n, a), own->arg[a],
                expected->arg[a], half ? BF16 : tolerance);
    }
}

static void check_same_bits(const struct tape *t, const struct node *n,
    const struct result *x, const struct result *y)
{
    for (int a = 0; a < TH_MAX_ARGS; a++)
        if (x->arg[a] &&
            memcmp(x->arg[a], y->arg[a], th_operand_bytes(node_operand(t, n, a))) != 0)
            fail_msg("%s: %s gives other bits in another order", t->name,
                th_op_rule(n->op)->name);
}

/* Runs the node in several orders, two a node_run, which compares their bits; then once more
 * with approximate instructions that are off by as much as they may. In bf16 only what has
 * such a form. */
static void check_node(const struct tape *t, const struct node *n)
{
    enum { ORDERS = 6 };
    struct th_device own = {.backend = &own_backend, .threads = 1, .block = 16};
    double tolerance = n->op == TH_OP_proposals ? 0 : TOLERANCE;
    struct result expected, first, other;
    node_run(t, n, ref, ref, (struct layout){.block = 1}, &expected);
    how = (struct test_how){.bf16 = how.bf16};
    node_run(t, n, ref, &own, (struct layout){.block = 1}, &first);
    if (how.bf16 == took_bf16) {
        while (how.order < ORDERS) {
            node_run(t, n, ref, &own, (struct layout){.block = 1}, &other);
            check_same_bits(t, n, &first, &other);
            result_release(&other);
        }
        check_result(t, n, &first, &expected, tolerance);
        how = (struct test_how){.bf16 = how.bf16, .approximate = 7};
        node_run(t, n, ref, &own, (struct layout){.block = 1}, &other);
        check_result(t, n, &other, &expected, 2 * tolerance);
        result_release(&other);
    }
    result_release(&expected);
    result_release(&first);
}

/* Outputs that a caller may leave out. */
static const struct {
    enum th_op op;
    int out;
} optional[] = {{TH_OP_relu, 1}, {TH_OP_bn_apply, 1}, {TH_OP_gmp, 1},
    {TH_OP_concat_dx, 0}, {TH_OP_concat_dx, 1}, {TH_OP_tokens_dw, 0},
    {TH_OP_tokens_dw, 1}, {TH_OP_tokens_dw, 2}, {TH_OP_linear_fold, 1}};

/* As the case has it, and without each output that may be left out. */
static void check_forms(const struct tape *t, const struct node *n)
{
    check_node(t, n);
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        struct node without = *n;
        int left = 0;
        if (n->op != optional[i].op || n->out[optional[i].out] < 0)
            continue;
        without.out[optional[i].out] = -1;
        for (int k = 0; k < TH_MAX_OUT; k++)
            left += without.out[k] >= 0;
        if (left > 0)
            check_node(t, &without);
    }
}

/* Scalars of other steps: one that is skipped, the first of a group, without a momentum. */
static void check_steps(struct tape *t, const struct node *n)
{
    static const struct th_scalars steps[] = {
        {.lr = 0.1F, .skip = 1, .clip = 1, .gathered = 1, .momentum = 0.8F},
        {.lr = 0.1F, .clip = 0.5F, .loss_scale = 1, .ema_decay = 0.5F},
        {.lr = 0.1F, .clip = 1e-3F, .loss_scale = 1, .gathered = 2, .n_skipped = 1}};
    int s = -1;
    for (int i = 0; i < th_op_rule(n->op)->n_in; i++)
        if (n->in[i] >= 0 && t->kind[n->in[i]] == 's')
            s = n->in[i];
    for (int i = 0; s >= 0 && i < 3; i++) {
        memcpy(t->data[s], &steps[i], sizeof steps[i]);
        check_node(t, n);
    }
    if (n->op != TH_OP_guard)
        return;
    for (int i = 0; i < 2 && n->in[i] >= 0; i++) { /* the loss, the sum of squares */
        *(float *)t->data[n->in[i]] = i ? INFINITY : NAN;
        check_node(t, n);
        *(float *)t->data[n->in[i]] = 3;
    }
}

static void round_values(struct tape *t)
{
    for (int v = 0; v < t->n_values; v++) {
        int64_t count = th_shape_count(&t->value[v].shape);
        uint32_t *bits = t->data[v];
        if (!bits || t->value[v].dtype != TH_F32 || t->kind[v] == 's')
            continue;
        for (int64_t i = 0; i < count; i++)
            bits[i] = (bits[i] + 0x7fff + (bits[i] >> 16 & 1)) & 0xffff0000;
    }
}

/* Cases that the sweep has no need of: a rest of channels beside vectors of 8 alone, rows
 * and columns in several blocks and chunks. */
#define NORM .attr.norm = {.eps = 1e-5F}
static const struct op_case more_cases[] = {
    {"bn of 12 channels", TH_OP_bn_apply, BATCH_STATISTICS, NORM,
        "x3,12,5,3 - - c12 c12 -"},
    {"bn of 136 channels", TH_OP_bn_apply, BATCH_STATISTICS, NORM,
        "x2,136,3,2 - - c136 c136 -"},
    {"bn of 33 channels, chunks", TH_OP_bn_apply, BATCH_STATISTICS, NORM,
        "x1,33,23,31 - - c33 c33 -"},
    {"layernorm, chunks", TH_OP_layernorm, GRADIENT, NORM, "x560,136 c136 c136"},
    {"layernorm of 33, chunks", TH_OP_layernorm, GRADIENT, NORM, "x560,33 c33 c33"},
    {"layernorm of 12", TH_OP_layernorm, GRADIENT, NORM, "x9,12 c12 c12"},
    {"l2norm, many rows", TH_OP_l2norm, GRADIENT, .operands = "x77,264 o1"},
    {"linear, chunks", TH_OP_linear, GRADIENT, .operands = "x560,3 w136,3 c136"},
    {"linear of 33, chunks", TH_OP_linear, GRADIENT, .operands = "x2050,2 w33,2 c33"},
    {"linear to 12", TH_OP_linear, GRADIENT, .operands = "x9,3 w12,3 c12"},
    {"tokens of many samples", TH_OP_tokens, GRADIENT, .attr.token = {.first = 1},
        .operands = "x550,8,1,2 c1,1,8 c1,2,8 c1,5,8"},
    {"tokens of 3, many samples", TH_OP_tokens, GRADIENT, .attr.token = {.first = 1},
        .operands = "x2100,3,1,2 c1,1,3 c1,2,3 c1,5,3"},
    {"sgd of vectors, nesterov", TH_OP_sgd, FORWARD,
        .attr.update = {.lr_scale = 1, .momentum = 0.9F, .nesterov = true},
        "x1032 x1032 x1032 - s9"},
    {"sgd of vectors without momentum", TH_OP_sgd, FORWARD,
        .attr.update = {.lr_scale = 1}, "x1032 x1032 - x1032 s9"},
    {"adamw of vectors", TH_OP_adamw, FORWARD,
        .attr.update = {.lr_scale = 1, .beta1 = 0.9F, .beta2 = 0.95F, .eps = 1e-6F},
        "x1032 x1032 x1032 v1032 11 x1032 s9"},
    {"adamw of vectors, no start", TH_OP_adamw, FORWARD,
        .attr.update = {.lr_scale = 1, .beta1 = 0.9F, .beta2 = 0.95F, .eps = 1e-6F},
        "x1032 x1032 x1032 v1032 11 - s9"},
    {"gelu far from 0", TH_OP_gelu, GRADIENT, .operands = "d1031"},
    {"gelu far from 0, vectors", TH_OP_gelu, GRADIENT, .operands = "d1032"},
    {"gelu by tanh, far from 0", TH_OP_gelu, GRADIENT, .attr.act = {TH_GELU_TANH},
        .operands = "d1031"},
    {"gelu by tanh, far from 0, vectors", TH_OP_gelu, GRADIENT,
        .attr.act = {TH_GELU_TANH}, .operands = "d1032"},
    {"gelu by sigmoid, odd", TH_OP_gelu, GRADIENT, .attr.act = {TH_GELU_QUICK},
        .operands = "d1031"},
    {"bn_apply + add, relu, 9 channels", TH_OP_bn_apply, FORWARD,
        .attr.norm = {.eps = 1e-5F, .relu = true}, "x3,9,5,7 r9 +9 c9 c9 x3,9,5,7"},
    {"bn_apply + add, 9 channels", TH_OP_bn_apply, FORWARD, NORM,
        "x3,9,5,7 r9 +9 c9 c9 x3,9,5,7"},
    {"bn_apply + relu, 40 channels", TH_OP_bn_apply, FORWARD,
        .attr.norm = {.eps = 1e-5F, .relu = true}, "x3,40,5,7 r40 +40 c40 c40 -"},
    {"bn_apply + add, relu, 40 channels", TH_OP_bn_apply, FORWARD,
        .attr.norm = {.eps = 1e-5F, .relu = true},
        "x3,40,5,7 r40 +40 c40 c40 x3,40,5,7"},
    {"bn_apply + add, 40 channels", TH_OP_bn_apply, FORWARD, NORM,
        "x3,40,5,7 r40 +40 c40 c40 x3,40,5,7"},
    {"relu of 1031", TH_OP_relu, GRADIENT, .operands = "o1031"},
    {"relu of vectors", TH_OP_relu, GRADIENT, .operands = "o1032"},
    {"gmp of 77 pixels", TH_OP_gmp, GRADIENT, .operands = "d3,264,11,7"},
    {"gmp of 33 channels", TH_OP_gmp, GRADIENT, .operands = "d3,33,11,7"},
    {"gmp of one pixel, 33 channels", TH_OP_gmp, GRADIENT, .operands = "d2,33,1,1"},
    {"gmp of one pixel, 264 channels", TH_OP_gmp, GRADIENT, .operands = "d2,264,1,1"},
    {"gap of 264 channels", TH_OP_gap, GRADIENT, .operands = "x3,264,2,3"},
    {"gap of 33 channels", TH_OP_gap, GRADIENT, .operands = "x3,33,2,3"},
    {"drop_path, odd", TH_OP_drop_path, GRADIENT,
        .attr.dropout = {.p = 0.4F, .layer = 77}, .operands = "x7,5,33 k7,2"},
    {"drop_path of vectors", TH_OP_drop_path, GRADIENT,
        .attr.dropout = {.p = 0.4F, .layer = 77}, .operands = "x7,5,80 k7,2"},
    {"dropout of vectors", TH_OP_dropout, GRADIENT,
        .attr.dropout = {.p = 0.4F, .layer = 77}, .operands = "x7,5,80 k7,2"},
    {"tokens of 264", TH_OP_tokens, GRADIENT, .attr.token = {.first = 1},
        .operands = "x2,264,1,2 c1,1,264 c1,2,264 c1,5,264"},
    {"token_mean of 264", TH_OP_token_mean, GRADIENT,
        .attr.token = {.first = 2, .count = 3}, .operands = "x3,6,264"},
    {"token_mean of 33", TH_OP_token_mean, GRADIENT,
        .attr.token = {.first = 2, .count = 3}, .operands = "x3,6,33"},
    {"l2norm of 33", TH_OP_l2norm, GRADIENT, .operands = "x77,33 -"},
    {"l2norm of 520", TH_OP_l2norm, GRADIENT, .operands = "x9,520 -"},
    {"layernorm of 520", TH_OP_layernorm, GRADIENT, NORM, "x9,520 c520 c520"},
    {"layernorm of 33, few", TH_OP_layernorm, GRADIENT, NORM, "x3,65 c65 c65"},
    {"scale_rows by gamma", TH_OP_scale_rows, FORWARD, .attr.lora = {.scale = 2},
        "x17,37 c17 -"},
    {"scale_rows by var", TH_OP_scale_rows, FORWARD, .attr.lora = {.scale = 2},
        "x17,37 - +17"},
    {"linear_fold of more", TH_OP_linear_fold, FORWARD, .operands = "w17,300 c17 c17"},
    {"bn_fold of more", TH_OP_bn_fold, FORWARD, NORM, "w5,300,1,1 c5 c5 c5 r5 +5"},
    {"lora_merge of vectors", TH_OP_lora_merge, GRADIENT, .attr.lora = {.scale = 1},
        "w17,1032 w3,1032 w17,3"},
    {"concat of more", TH_OP_concat, GRADIENT, .operands = "x5,170 x5,300"},
    {"softmax_ce of many", TH_OP_softmax_ce, GRADIENT, .operands = "x77,70 t77,70"},
    {"sigmoid_ce of many", TH_OP_sigmoid_ce, GRADIENT, .operands = "x300,9 t300,9 +9"},
    {"groupnorm of 8 of 64", TH_OP_groupnorm, GRADIENT,
        .attr.norm = {.eps = 1e-5F, .groups = 8}, "x2,64,5,9 c64 c64"},
    {"groupnorm of 4 of 136, chunks", TH_OP_groupnorm, GRADIENT,
        .attr.norm = {.eps = 1e-5F, .groups = 34}, "x2,136,16,17 c136 c136"},
    {"groupnorm of 3 of 33, chunks", TH_OP_groupnorm, GRADIENT,
        .attr.norm = {.eps = 1e-5F, .groups = 11}, "x1,33,23,31 c33 c33"},
    {"upsample of 264", TH_OP_upsample, GRADIENT, .attr.upsample = {{5, 4}},
        .operands = "x2,264,2,3 x2,264,5,4"},
    {"upsample of 33, alone", TH_OP_upsample, GRADIENT, .attr.upsample = {{5, 4}},
        .operands = "x2,33,2,3 -"},
    {"map_rows of 1100", TH_OP_map_rows, GRADIENT, .attr.rows = {.width = 11},
        .operands = "x2,33,9,4 x2,33,2,2 - - - - - -"},
    {"map_rows of vectors", TH_OP_map_rows, GRADIENT, .attr.rows = {.width = 4},
        .operands = "x2,24,19,7 x2,24,3,3 - - - - - -"},
    {"rows_map of 4 places of 24", TH_OP_rows_map, GRADIENT,
        .attr.rows = {.grid = {5, 3}, .factor = 2}, .operands = "x2,17,96 c24"},
    {"rows_map of 4 places of 16, alone", TH_OP_rows_map, FORWARD,
        .attr.rows = {.grid = {3, 3}, .factor = 2}, .operands = "x2,9,64 -"},
    {"rows_map of 9 places of 7", TH_OP_rows_map, GRADIENT,
        .attr.rows = {.grid = {2, 5}, .factor = 3}, .operands = "x3,10,63 -"},
    {"focal of many", TH_OP_focal, GRADIENT, .attr.focal = {0.25F, 2},
        .operands = "x3,200,5 l3,200 +3"},
    {"box_loss of many deltas", TH_OP_box_loss, GRADIENT,
        .attr.box = {.kind = TH_BOX_GIOU_DELTAS},
        .operands = "x2,300,4 r2,300,4 l2,300 +2"},
    {"box_loss of many sides", TH_OP_box_loss, GRADIENT,
        .attr.box = {.kind = TH_BOX_GIOU_SIDES},
        .operands = "p2,300,4 +2,300,4 l2,300 +2"},
    {"masked_ce of many", TH_OP_masked_ce, GRADIENT, .operands = "x3,300,1 y3,300 +3"},
    {"row_weight of many", TH_OP_row_weight, FORWARD, .operands = "l3,300"},
    {"row_ce of many", TH_OP_row_ce, GRADIENT, .operands = "x3,200,70 l3,200 +3"},
    {"roi_align of many boxes", TH_OP_roi_align, GRADIENT,
        .attr.roi = {.stride = 8, .n_maps = 1, .pooled = 2, .sampling = 2},
        .operands = "x2,72,6,9 - - - e2,270,4"},
    {"roi_align of 5 channels, outside", TH_OP_roi_align, GRADIENT,
        .attr.roi = {.stride = 1, .n_maps = 2, .pooled = 2, .sampling = 2},
        .operands = "x1,5,30,23 x1,5,15,12 - - e1,12,4"},
    {"class_rows of many", TH_OP_class_rows, GRADIENT, .attr.rows = {.width = 4},
        .operands = "x2,170,16 l2,170"},
    {"ema of vectors", TH_OP_ema, FORWARD, .operands = "x1032 x1032 s9"},
    {"ema of odd length", TH_OP_ema, FORWARD, .operands = "x1031 x1031 s9"},
    {"accumulate vectors", TH_OP_accumulate, FORWARD, .operands = "x1032 x1032 s9"},
    {"hold more", TH_OP_hold, FORWARD, .operands = "x77 x77 s9"},
    {"sum_squares of vectors", TH_OP_sum_squares, FORWARD, .operands = "x80000 -"},
    {"sum_squares of odd length", TH_OP_sum_squares, FORWARD, .operands = "x40001 11"},
};
enum { N_MORE = sizeof more_cases / sizeof *more_cases };

static void check_case(const struct op_case *c, bool bf16)
{
    struct tape t;
    tape_init(&t, c, NEED_ALL);
    tape_run(&t, ref, 0, t.n_nodes);
    if (bf16)
        round_values(&t);
    how.bf16 = bf16;
    for (int i = 0; i < t.n_nodes; i++)
        if (th_own(t.node[i].op)) {
            check_forms(&t, &t.node[i]);
            check_steps(&t, &t.node[i]);
        }
    tape_release(&t);
}

static void each_kernel_means_its_op(void **state)
{
    (void)state;
    for (int k = 0; k < n_op_cases + N_MORE; k++)
        check_case(k < N_MORE ? &more_cases[k] : &op_cases[k - N_MORE], false);
    for (int i = 0; i < TH_OP_COUNT; i++)
        if (th_own((enum th_op)i) && n_run[i] == 0)
            fail_msg("no case ran the kernel of %s", th_op_rule((enum th_op)i)->name);
}

static void each_kernel_means_it_in_bf16(void **state)
{
    (void)state;
    for (int k = 0; k < n_op_cases + N_MORE; k++)
        check_case(k < N_MORE ? &more_cases[k] : &op_cases[k - N_MORE], true);
}

/* Small kernels a good part of which is a copy of their loop for no tokens, no chunks, no
 * outputs, no images, of which there always is one. */
static bool has_a_copy_for_nothing(const char *kernel)
{
    static const char *const names[] = {"token_mean_f32", "token_mean_bf16",
        "bn_stats_end", "sum_chunks", "lora_da", "focal"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(kernel, names[i]) == 0)
            return true;
    return false;
}

/* Of each kernel every line, and nearly all instructions and sides of branches: the rest is
 * what the compiler made of loops that no shape brings round, and special cases of the
 * library's functions. */
static void the_cases_reach_every_line_and_nearly_all_instructions(void **state)
{
    (void)state;
    static const double part = 0.88, part_with_a_copy = 0.7;
    char text[512];
    int n = 0, missed = 0, little = 0;
    uint64_t executed = 0;
    for (int i = 0; i < TH_K_COUNT; i++) {
        const struct ptx_kernel *k = test_launch_kernel((enum th_cuda_kernel)i);
        struct ptx_coverage c = ptx_coverage(k);
        bool copy = has_a_copy_for_nothing(ptx_name(k));
        int left = 0;
        while (ptx_missed(k, left, text, sizeof text))
            left++;
        if (left > (1 - (copy ? part_with_a_copy : part)) * c.n_instructions) {
            print_message("%s: %d of %d instructions and branches not reached\n",
                ptx_name(k), left, c.n_instructions);
            little++;
        }
        for (int m = 0; !copy && ptx_missed_line(k, m, text, sizeof text);
             m++, little++)
            print_message("no case reaches %s\n", text);
        executed += c.executed;
        n += c.n_instructions;
        missed += left;
    }
    print_message("%d of %d instructions and branches not reached; %.3g ran\n", missed,
        n, (double)executed);
    assert_int_equal(little, 0);
}

static int open_all(void **state)
{
    (void)state;
    test_launch_open();
    return th_device_open("ref", 2, &ref) == THAW_OK ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    th_device_close(ref);
    test_launch_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kernel_means_its_op),
        cmocka_unit_test(each_kernel_means_it_in_bf16),
        cmocka_unit_test(weights_are_packed_and_unpacked),
        cmocka_unit_test(of_boxes_drawn_alike_the_lower_row_comes_first),
        cmocka_unit_test(the_softmax_of_attention_and_its_gradient),
        cmocka_unit_test(the_cases_reach_every_line_and_nearly_all_instructions),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
