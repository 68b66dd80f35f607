/* SPDX-License-Identifier: Apache-2.0
 * The emulated device for one training: mistakes that it saw fail the test. */
#ifndef TH_TESTS_CUDA_EMULATED_H
#define TH_TESTS_CUDA_EMULATED_H

#include "nets.h"

#include "emucuda.h"

static inline void open_emulated(enum emu_order order)
{
    const struct emu_options options = {.order = order, .seed = 5};
    emu_open(&options);
}

static inline void close_emulated(void)
{
    if (emu_close() > 0)
        fail_msg("the emulated device found %d mistakes, first: %s", emu_findings(),
            emu_finding(0));
}

#endif
