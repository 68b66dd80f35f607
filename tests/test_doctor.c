/* SPDX-License-Identifier: Apache-2.0
 * thaw doctor --check: devices that compute right are found to, and each way of computing
 * wrong is found and named. The wrong devices are plain C but for one kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "check/check.h"
#include "doctor_steps.h"
#include "host.h"
#include "mem.h"
#include "must.h"
#include "report.h"

#include <math.h>
#include <string.h>

/* ---- A clock, and plain C with planted mistakes ---- */

static double no_time_passes(void)
{
    return 0;
}

static double ticks;

static double a_second_a_look(void)
{
    return ticks++;
}

static const struct th_check_time whole = {.now = no_time_passes, .until = 1};

static enum th_op wrong_op;
static thaw_status (*wrong_run)(const struct th_call *call);

static const struct th_kernel *kernel_of(enum th_op op)
{
    static struct th_kernel wrong;
    if (op != wrong_op)
        return th_backend_ref.kernel(op);
    wrong = *th_backend_ref.kernel(op);
    wrong.run = wrong_run;
    return &wrong;
}

static struct th_check check; /* too much for a stack */

/* What is found of plain C with this kernel in place of the op's. */
static void check_wrong(
    const char *name, enum th_op op, thaw_status (*run)(const struct th_call *call))
{
    struct th_backend backend = th_backend_ref;
    struct th_device device = {.backend = &backend, .threads = 1, .block = 1};
    backend.name = name;
    backend.kernel = kernel_of;
    wrong_op = op;
    wrong_run = run;
    must(th_check_device(&device, &whole, &check));
}

static thaw_status right(const struct th_call *call)
{
    return th_backend_ref.kernel(call->op)->run(call);
}

static float *output(const struct th_call *call)
{
    return call->args[th_op_rule(call->op)->n_in];
}

/* ---- Findings ---- */

static void found_in(enum th_op op, const char *part)
{
    const struct th_check_row *row = &check.row[op];
    assert_int_equal(check.n_failed, 1);
    assert_int_equal(check.first, op);
    assert_true(row->failed > 0);
    if (!strstr(row->why, part))
        fail_msg("\"%s\" does not say \"%s\"", row->why, part);
    assert_non_null(strstr(row->why, th_op_rule(op)->name));
}

static void right_devices_are_found_right(void **state)
{
    (void)state;
    static const char *const names[] = {"ref", "far", "cpu", "cpu:base"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct th_device *device = NULL;
        thaw_status status = th_device_open(names[k], 2, &device);
        if (status == THAW_E_USAGE) /* no oneDNN, no instruction sets */
            continue;
        must(status);
        must(th_check_device(device, &whole, &check));
        th_device_close(device);
        for (int op = 0; op < TH_OP_COUNT; op++) {
            const struct th_check_row *row = &check.row[op];
            if (row->failed)
                fail_msg("%s: %s", names[k], row->why);
            if ((row->cases == 0) != (op == TH_OP_batchnorm))
                fail_msg("%s: %d cases of %s", names[k], row->cases,
                    th_op_rule((enum th_op)op)->name);
            assert_true(row->worst <= row->bound);
        }
        assert_int_equal(check.n_ops, TH_OP_COUNT - 1);
        assert_int_equal(check.n_failed, 0);
        assert_int_equal(check.left_out, 0);
    }
}

static thaw_status a_little_off(const struct th_call *call)
{
    TRY(right(call));
    output(call)[0] += 1e-3f;
    return THAW_OK;
}

static thaw_status not_a_number(const struct th_call *call)
{
    TRY(right(call));
    output(call)[0] = NAN;
    return THAW_OK;
}

static void wrong_values_are_found_and_how_wrong(void **state)
{
    (void)state;
    check_wrong("wrong", TH_OP_gelu, a_little_off);
    found_in(TH_OP_gelu, "off by a relative");
    const struct th_check_row *row = &check.row[TH_OP_gelu];
    assert_int_equal(row->failed, row->cases);
    assert_true(row->worst > row->bound && row->worst < 1);
    check_wrong("wrong", TH_OP_layerscale_dw, not_a_number);
    found_in(TH_OP_layerscale_dw, "off by a relative inf");
}

static thaw_status one_bit_of_the_mask(const struct th_call *call)
{
    const struct th_args_relu *a = (const void *)call->args;
    TRY(right(call));
    if (a->mask_)
        *(uint8_t *)a->mask_ ^= 1;
    return THAW_OK;
}

static void a_wrong_bit_is_found(void **state)
{
    (void)state;
    check_wrong("wrong", TH_OP_relu, one_bit_of_the_mask);
    found_in(TH_OP_relu, "argument 2 differs");
    assert_true(check.row[TH_OP_relu].worst == 0);
}

static thaw_status behind_its_output(const struct th_call *call)
{
    TRY(right(call));
    ((char *)output(call))[th_operand_bytes(&call->out[0])] = 0;
    return THAW_OK;
}

static thaw_status into_its_input(const struct th_call *call)
{
    TRY(right(call));
    *(float *)call->args[0] = 0;
    return THAW_OK;
}

static void writing_what_is_not_its_own_is_found(void **state)
{
    (void)state;
    check_wrong("wrong", TH_OP_add, behind_its_output);
    found_in(TH_OP_add, "wrote behind");
    check_wrong("wrong", TH_OP_linear, into_its_input);
    found_in(TH_OP_linear, "wrote before argument 3");
}

static thaw_status another_each_time(const struct th_call *call)
{
    static int runs;
    TRY(right(call));
    output(call)[0] *= 1 + 1e-7f * (float)(++runs % 2);
    return THAW_OK;
}

static void other_bits_in_a_second_run_are_found(void **state)
{
    (void)state;
    check_wrong("wrong", TH_OP_softmax_ce, another_each_time);
    found_in(TH_OP_softmax_ce, "gave other bits when run again");
}

static thaw_status refuses(const struct th_call *call)
{
    return th_fail(THAW_E_FAIL, "%s: out of order", th_op_rule(call->op)->name);
}

static void a_kernel_that_fails_is_found_and_the_rest_is_checked(void **state)
{
    (void)state;
    check_wrong("wrong", TH_OP_conv, refuses);
    found_in(TH_OP_conv, "conv: out of order");
    assert_int_equal(check.n_ops, TH_OP_COUNT - 1);
}

/* ---- An index of its own ---- */

static thaw_status index_of_its_own(const struct th_call *call)
{
    struct th_call plain = *call;
    struct th_args_maxpool_dx *a = (void *)plain.args;
    bool gradient = call->op == TH_OP_maxpool_dx;
    uint8_t *index = call->args[gradient ? 1 : 2];
    int64_t n = th_shape_count(&call->in[gradient].shape);
    uint8_t *inside = NULL;
    if (!gradient) {
        TRY(right(call));
        for (int64_t i = 0; index && i < th_shape_count(&call->out[0].shape); i++)
            index[i] ^= 0x55;
        return THAW_OK;
    }
    inside = th_alloc((size_t)n, 1);
    assert_non_null(inside);
    for (int64_t i = 0; i < n; i++)
        inside[i] = index[i] ^ 0x55;
    a->index = inside;
    thaw_status status = right(&plain);
    th_free(inside);
    return status;
}

static const struct th_kernel *pooling_of(enum th_op op)
{
    static struct th_kernel pooling[2];
    if (op != TH_OP_maxpool && op != TH_OP_maxpool_dx)
        return th_backend_ref.kernel(op);
    struct th_kernel *k = &pooling[op == TH_OP_maxpool_dx];
    *k = *th_backend_ref.kernel(op);
    k->run = index_of_its_own;
    return k;
}

/* cuDNN's: only that device's own gradient has to understand it. */
static void an_index_of_its_own_is_read_by_its_own_gradient(void **state)
{
    (void)state;
    struct th_backend backend = th_backend_ref;
    struct th_device device = {.backend = &backend, .threads = 1, .block = 16};
    backend.kernel = pooling_of;
    backend.name = "cuda";
    must(th_check_device(&device, &whole, &check));
    if (check.n_failed)
        fail_msg("%s", check.row[check.first].why);
    backend.name = "other";
    must(th_check_device(&device, &whole, &check));
    assert_int_equal(check.n_failed, 2);
    assert_true(check.row[TH_OP_maxpool].failed && check.row[TH_OP_maxpool_dx].failed);
}

/* ---- Time ---- */

static void cases_without_time_are_left_out_and_each_op_comes_first(void **state)
{
    (void)state;
    struct th_device *device = NULL;
    must(th_device_open("ref", 1, &device));
    must(th_check_device(
        device, &(struct th_check_time){.now = no_time_passes, .until = 0}, &check));
    assert_int_equal(check.cases, 0);
    int all = check.left_out;
    ticks = 0;
    struct th_check_time some = {.now = a_second_a_look, .until = 60};
    must(th_check_device(device, &some, &check));
    th_device_close(device);
    assert_int_equal(check.left_out, all - 60);
    assert_true(check.n_ops > 50); /* the cheapest case of each */
    assert_true(check.row[TH_OP_conv].cases == 1);
}

static void steps_are_timed_as_time_allows(void **state)
{
    (void)state;
    struct th_timed_step steps[TH_TIMED_STEPS];
    int n;
    must(th_time_steps("cpu", 2, th_seconds() - 1, steps, &n));
    assert_int_equal(n, 0);
    must(th_time_steps("cpu", 2, th_seconds() + 5, steps, &n));
    for (int i = 0; i < n; i++) {
        if (*steps[i].why)
            fail_msg("%s: %s", steps[i].network, steps[i].why);
        assert_true(steps[i].seconds > 0 && steps[i].runs > 0);
        assert_true(steps[i].trained > 0 && steps[i].arena_bytes > 0);
        bool less = i % 3 == 0 || steps[i].trained < steps[i - 1].trained;
        assert_true(less);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_devices_are_found_right),
        cmocka_unit_test(wrong_values_are_found_and_how_wrong),
        cmocka_unit_test(a_wrong_bit_is_found),
        cmocka_unit_test(writing_what_is_not_its_own_is_found),
        cmocka_unit_test(other_bits_in_a_second_run_are_found),
        cmocka_unit_test(a_kernel_that_fails_is_found_and_the_rest_is_checked),
        cmocka_unit_test(an_index_of_its_own_is_read_by_its_own_gradient),
        cmocka_unit_test(cases_without_time_are_left_out_and_each_op_comes_first),
        cmocka_unit_test(steps_are_timed_as_time_allows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
