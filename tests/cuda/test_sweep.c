/* SPDX-License-Identifier: Apache-2.0
 * The op sweep on the CUDA engine, on the emulated device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emucuda.h"
#include "support/ops_sweep.h"

static void every_op_is_close_to_ref(void **state)
{
    (void)state;
    static const struct run {
        const char *device;
        enum emu_order order;
    } runs[] = {{"cuda:0", EMU_EARLY}, {"cuda:0", EMU_RANDOM},
        {"cuda:0:tf32", EMU_LATE}, {"cuda:0:bf16", EMU_LATE}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const struct emu_options options = {.order = runs[i].order, .seed = 3};
        struct th_device *ref = NULL, *cuda = NULL;
        emu_open(&options);
        ok(th_device_open("ref", 2, &ref), "ref");
        ok(th_device_open(runs[i].device, 1, &cuda), runs[i].device);
        sweep(ref, cuda, (struct layout){.block = 1}, false);
        th_device_close(cuda);
        th_device_close(ref);
        if (emu_close() > 0)
            fail_msg("%s", emu_finding(0));
    }
}

static int n_attention;

static bool is_attention(const struct node *n)
{
    bool is = n->op == TH_OP_attention || n->op == TH_OP_attention_dx;
    n_attention += is;
    return is;
}

/* As of a shape, a device or a version of cuDNN that has none. */
static void attention_in_bf16_needs_no_engine_of_cudnn(void **state)
{
    (void)state;
    const struct emu_options options = {
        .order = EMU_RANDOM, .seed = 4, .no_attention = true};
    struct th_device *ref = NULL, *cuda = NULL;
    emu_open(&options);
    ok(th_device_open("ref", 2, &ref), "ref");
    ok(th_device_open("cuda:0:bf16", 1, &cuda), "bf16");
    n_attention = 0;
    sweep_some(ref, cuda, (struct layout){.block = 1}, false, is_attention);
    assert_true(n_attention > 2);
    assert_int_equal(emu_counters().executes, 0);
    assert_true(emu_counters().products > 0);
    th_device_close(cuda);
    th_device_close(ref);
    if (emu_close() > 0)
        fail_msg("%s", emu_finding(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_is_close_to_ref),
        cmocka_unit_test(attention_in_bf16_needs_no_engine_of_cudnn)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
