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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_is_close_to_ref)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
