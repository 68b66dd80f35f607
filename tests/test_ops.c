/* SPDX-License-Identifier: Apache-2.0
 * Every op on every device against the plain C kernels, every gradient rule against
 * finite differences; what kernels may write; what a skipped step leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mem.h"
#include "rng.h"
#include "support/ops_sweep.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Finite differences: step, tolerance relative to the directional derivative's random
 * size, and the share of the loss's terms that f32 rounding may cost. */
static const double STEP = 1.0 / 64, DERIVATIVE_TOLERANCE = 2e-3, ROUNDING = 2e-6;

static struct th_device *opened(const char *name, int threads)
{
    struct th_device *device = NULL;
    ok(th_device_open(name, threads, &device), name);
    return device;
}

static void sweep_device(const char *name, bool exact)
{
    struct th_device *ref = opened("ref", 2), *device = opened(name, 2);
    for (int block = 1; block <= 16; block = block == 1 ? 8 : 2 * block)
        sweep(ref, device, (struct layout){.block = block}, exact);
    th_device_close(device);
    th_device_close(ref);
}

static void ref_gives_the_same_in_every_layout(void **state)
{
    (void)state;
    struct th_device *ref = opened("ref", 2);
    sweep(ref, ref, (struct layout){.block = 8, .force = true}, false);
    sweep(ref, ref, (struct layout){.block = 16, .force = true}, false);
    th_device_close(ref);
}

static void ref_gives_the_same_bits_for_any_thread_count(void **state)
{
    (void)state;
    struct th_device *ref = opened("ref", 1), *two = opened("ref", 2),
                     *four = opened("ref", 4);
    sweep(ref, two, (struct layout){.block = 1}, true);
    sweep(ref, four, (struct layout){.block = 1}, true);
    th_device_close(four);
    th_device_close(two);
    th_device_close(ref);
}

static void far_equals_ref(void **state)
{
    (void)state;
    struct th_device *ref = opened("ref", 2), *far = opened("far", 2);
    sweep(ref, far, (struct layout){.block = 1}, true);
    th_device_close(far);
    th_device_close(ref);
}

/* One test per instruction set; skipped where this machine or build lacks it. */
static void cpu_is_close_to_ref(void **state)
{
    const char *name = *state;
    struct th_device *device;
    thaw_status status = th_device_open(name, 2, &device);
    if (status == THAW_E_USAGE)
        skip();
    ok(status, name);
    th_device_close(device);
    sweep_device(name, false);
}

/* One convolution by our Winograd where that can do it; bits for any thread count. */
static bool check_own_winograd(const struct tape *t, const struct node *n,
    struct th_device *ref, struct th_device *threads[3])
{
    struct layout plain = {.block = 1};
    struct layout direct = {.block = threads[0]->block, .choose = true},
                  own = {.block = direct.block,
                      .choose = true,
                      .algorithm = TH_CONV_WINOGRAD};
    struct result expected, other, result, again;
    node_run(t, n, ref, ref, plain, &expected);
    node_run(t, n, ref, threads[0], direct, &other);
    node_run(t, n, ref, threads[0], own, &result);
    check_result(
        t, n, &result, &expected, (struct th_comparison){.device = threads[0]});
    bool taken = false;
    for (int i = 0; i < TH_MAX_ARGS; i++)
        if (result.arg[i] && node_writes(n, i))
            taken = memcmp(result.arg[i], other.arg[i],
                        th_operand_bytes(node_operand(t, n, i))) != 0;
    for (int k = 1; taken && k < 3; k++) {
        node_run(t, n, ref, threads[k], own, &again);
        check_result(t, n, &again, &result,
            (struct th_comparison){.device = threads[k], .exact = true});
        result_release(&again);
    }
    result_release(&expected);
    result_release(&other);
    result_release(&result);
    return taken;
}

static void own_winograd_is_close_to_ref_with_any_threads(void **state)
{
    const char *name = *state;
    struct th_device *ref = opened("ref", 2), *threads[3] = {NULL};
    bool here = th_device_open(name, 1, &threads[0]) == THAW_OK;
    if (!here || threads[0]->block == 1) { /* no oneDNN: "cpu" is plain C */
        th_device_close(threads[0]);
        th_device_close(ref);
        skip();
    }
    threads[1] = opened(name, 2);
    threads[2] = opened(name, 3);
    int taken = 0;
    for (int k = 0; k < n_op_cases; k++) {
        if (op_cases[k].op != TH_OP_conv)
            continue;
        struct tape t;
        tape_init(&t, &op_cases[k], NEED_ALL);
        tape_run(&t, ref, 0, t.n_nodes);
        for (int i = 0; i < t.n_nodes; i++)
            if (is_conv(&t.node[i]))
                taken += check_own_winograd(&t, &t.node[i], ref, threads);
        tape_release(&t);
    }
    assert_true(taken >= 15); /* five cases with gradients have 16 and 32 channels */
    for (int i = 0; i < 3; i++)
        th_device_close(threads[i]);
    th_device_close(ref);
}

/* reorder itself, which the sweep converts with. */
static void reorder_moves_each_value_to_its_place(void **state)
{
    (void)state;
    enum { N = 2, C = 16, H = 3, W = 5, B = 8 };
    float x[N * C * H * W], y[N * C * H * W], back[N * C * H * W];
    struct th_device *ref = opened("ref", 1);
    struct th_call call = {.op = TH_OP_reorder, .device = ref, .args = {x, y}};
    for (int i = 0; i < N * C * H * W; i++)
        x[i] = (float)i;
    call.in[0] = (struct th_operand){
        .shape = TH_SHAPE(N, C, H, W), .dtype = TH_F32, .block = 1, .present = true};
    call.out[0] = call.in[0];
    call.out[0].block = B;
    ok(ref->backend->kernel(TH_OP_reorder)->run(&call), "reorder");
    for (int n = 0, i = 0; n < N; n++)
        for (int c = 0; c < C; c++)
            for (int p = 0; p < H * W; p++, i++)
                assert_true(y[((n * C / B + c / B) * H * W + p) * B + c % B] == x[i]);
    struct th_operand swap = call.in[0];
    call.in[0] = call.out[0];
    call.out[0] = swap;
    call.args[0] = y;
    call.args[1] = back;
    ok(ref->backend->kernel(TH_OP_reorder)->run(&call), "reorder");
    assert_memory_equal(back, x, sizeof x);
    th_device_close(ref);
}

static int64_t count_of(const struct tape *t, int value)
{
    return th_shape_count(&t->value[value].shape);
}

/* sum dout*out over the outputs of the case's node, and the root of its squared terms. */
static double loss_of(struct tape *t, struct th_device *ref, double *size)
{
    const struct node *n = &t->node[t->n_forward - 1];
    double loss = 0, squares = 0;
    tape_run(t, ref, 0, t->n_forward);
    for (int i = 0; i < TH_MAX_OUT; i++)
        for (int64_t j = 0; t->dout[i] >= 0 && j < count_of(t, n->out[i]); j++) {
            double term = (double)((float *)t->data[n->out[i]])[j] *
                          (double)((float *)t->data[t->dout[i]])[j];
            loss += term;
            squares += term * term;
        }
    *size = sqrt(squares);
    return loss;
}

/* Compare the loss along a random direction of input i with its gradient. */
static void check_derivative(struct tape *t, struct th_device *ref, int i)
{
    int value = t->node[t->n_forward - 1].in[i];
    int64_t n = count_of(t, value);
    float *x = t->data[value], *dx = t->data[t->din[i]];
    float *saved = th_alloc((size_t)n, sizeof *saved);
    assert_non_null(saved);
    memcpy(saved, x, (size_t)n * sizeof *x);
    double expected = 0, squares = 0, size;
    for (int64_t j = 0; j < n; j++) {
        double v = STEP * (double)th_rng_normal(99, (uint64_t)j);
        float up = (float)((double)saved[j] + v), down = (float)((double)saved[j] - v);
        double term = (double)dx[j] * ((double)up - (double)down);
        expected += term;
        squares += term * term;
        x[j] = up;
    }
    double difference = loss_of(t, ref, &size);
    for (int64_t j = 0; j < n; j++)
        x[j] =
            (float)((double)saved[j] - STEP * (double)th_rng_normal(99, (uint64_t)j));
    difference -= loss_of(t, ref, &size);
    memcpy(x, saved, (size_t)n * sizeof *x);
    th_free(saved);
    double bound = DERIVATIVE_TOLERANCE * sqrt(squares) + ROUNDING * size;
    if (!(fabs(difference - expected) <= bound))
        fail_msg("%s: gradient of input %d: %.6g, finite difference %.6g, bound %.3g",
            t->name, i, expected, difference, bound);
}

static void gradients_equal_finite_differences(void **state)
{
    (void)state;
    struct th_device *ref = opened("ref", 2);
    for (int k = 0; k < n_op_cases; k++) {
        struct tape t;
        if (op_cases[k].mode == FORWARD)
            continue;
        tape_init(&t, &op_cases[k], NEED_ALL);
        tape_run(&t, ref, 0, t.n_nodes);
        int checked = 0;
        for (int i = 0; i < TH_MAX_IN; i++) {
            bool statistic = op_cases[k].mode == BATCH_STATISTICS && (i == 1 || i == 2);
            if (!t.need[i] || statistic)
                continue;
            assert_true(t.din[i] >= 0);
            assert_true(th_shape_equal(&t.value[t.din[i]].shape,
                &t.value[t.node[t.n_forward - 1].in[i]].shape));
            check_derivative(&t, ref, i);
            checked++;
        }
        assert_true(checked > 0);
        tape_release(&t);
    }
    th_device_close(ref);
}

/* Whether some gradient that the rule reported depends on this node. */
static bool is_used(const struct tape *t, int node)
{
    for (int o = 0; o < TH_MAX_OUT; o++) {
        int value = t->node[node].out[o];
        for (int i = 0; value >= 0 && i < TH_MAX_IN; i++)
            if (t->din[i] == value)
                return true;
        for (int k = node + 1; value >= 0 && k < t->n_nodes; k++)
            for (int i = 0; i < TH_MAX_IN; i++)
                if (t->node[k].in[i] == value && is_used(t, k))
                    return true;
    }
    return false;
}

static void rules_emit_what_is_needed_and_no_more(void **state)
{
    (void)state;
    for (int k = 0; k < n_op_cases; k++) {
        if (op_cases[k].mode == FORWARD)
            continue;
        for (int need = 0; need < 1 << 5; need++) {
            struct tape t;
            tape_init(&t, &op_cases[k], need);
            for (int node = t.n_forward; node < t.n_nodes; node++)
                if (!is_used(&t, node))
                    fail_msg("%s: %s is emitted for nothing (need %x)", t.name,
                        th_op_rule(t.node[node].op)->name, (unsigned)need);
            for (int i = 0; i < 5; i++) {
                bool folded =
                    op_cases[k].mode == BATCH_STATISTICS && (i == 1 || i == 2);
                assert_int_equal(t.din[i] >= 0, t.need[i] && !folded);
            }
            tape_release(&t);
        }
    }
}

static thaw_status refuse_to_emit(struct th_grad *g, enum th_op op,
    const union th_attr *attr, const int *in, const int *like, int *out)
{
    (void)g, (void)op, (void)attr, (void)in, (void)like, (void)out;
    fail_msg("a rule emitted a node");
    return THAW_E_FAIL;
}

static void what_is_fused_cannot_be_differentiated(void **state)
{
    (void)state;
    union th_attr attr = {.conv = {.relu = true}}, norm = {.norm = {.relu = true}};
    struct th_grad g = {.attr = &attr,
        .in = (int[]){0, 1, -1, -1, -1, -1},
        .out = (int[]){2, -1},
        .dout = (int[]){3, -1},
        .need = (bool[]){true, true, false, false, false, false},
        .din = (int[]){-1, -1, -1, -1, -1, -1},
        .emit = refuse_to_emit};
    assert_int_equal(th_op_rule(TH_OP_conv)->fn->grad(&g), THAW_E_FAIL);
    assert_non_null(strstr(thaw_error(), "fused before gradients"));
    g.attr = &norm;
    assert_int_equal(th_op_rule(TH_OP_bn_apply)->fn->grad(&g), THAW_E_FAIL);
}

static void a_skipped_step_changes_nothing(void **state)
{
    (void)state;
    static const enum th_op guarded[] = {
        TH_OP_sgd, TH_OP_adamw, TH_OP_ema, TH_OP_bn_update};
    static const char *const devices[] = {"ref", "far", "cpu"};
    struct th_device *ref = opened("ref", 1);
    for (int k = 0; k < n_op_cases; k++)
        for (size_t j = 0; j < 4 * 3; j++) {
            if (op_cases[k].op != guarded[j / 3])
                continue;
            struct th_device *device = opened(devices[j % 3], 2);
            struct tape t;
            struct result r;
            tape_init(&t, &op_cases[k], 0);
            const struct node *n = &t.node[0];
            int n_in = th_op_rule(n->op)->n_in;
            ((struct th_scalars *)t.data[n->in[n_in - 1]])->skip = 1;
            node_run(&t, n, ref, device, (struct layout){.block = 1}, &r);
            for (int i = 0; i < n_in; i++)
                if (n->in[i] >= 0 && memcmp(r.arg[i], t.data[n->in[i]],
                                         th_operand_bytes(&t.value[n->in[i]])) != 0)
                    fail_msg("%s: argument %d changed", t.name, i);
            result_release(&r);
            tape_release(&t);
            th_device_close(device);
        }
    th_device_close(ref);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reorder_moves_each_value_to_its_place),
        cmocka_unit_test(ref_gives_the_same_in_every_layout),
        cmocka_unit_test(ref_gives_the_same_bits_for_any_thread_count),
        cmocka_unit_test(far_equals_ref),
        cmocka_unit_test_prestate(cpu_is_close_to_ref, "cpu"),
        cmocka_unit_test_prestate(cpu_is_close_to_ref, "cpu:base"),
        cmocka_unit_test_prestate(cpu_is_close_to_ref, "cpu:avx2"),
        cmocka_unit_test_prestate(cpu_is_close_to_ref, "cpu:avx512"),
        cmocka_unit_test_prestate(
            own_winograd_is_close_to_ref_with_any_threads, "cpu:base"),
        cmocka_unit_test_prestate(
            own_winograd_is_close_to_ref_with_any_threads, "cpu:avx2"),
        cmocka_unit_test_prestate(
            own_winograd_is_close_to_ref_with_any_threads, "cpu:avx512"),
        cmocka_unit_test(gradients_equal_finite_differences),
        cmocka_unit_test(rules_emit_what_is_needed_and_no_more),
        cmocka_unit_test(what_is_fused_cannot_be_differentiated),
        cmocka_unit_test(a_skipped_step_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
