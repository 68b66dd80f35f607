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
    static const enum emu_order orders[] = {EMU_LATE, EMU_EARLY, EMU_RANDOM};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        const struct emu_options options = {.order = orders[i], .seed = 3};
        struct th_device *ref = NULL, *cuda = NULL;
        emu_open(&options);
        ok(th_device_open("ref", 2, &ref), "ref");
        ok(th_device_open("cuda:0", 1, &cuda), "cuda:0");
        sweep(ref, cuda, (struct layout){.block = 1}, false);
        th_device_close(cuda);
        th_device_close(ref);
        if (emu_close() > 0)
            fail_msg("%s", emu_finding(0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_is_close_to_ref)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
