/* SPDX-License-Identifier: Apache-2.0
 * Owns the table of convolution algorithms: which shapes take Winograd's instead of the
 * direct one. A table, never a clock, so that results depend on the build, instruction
 * set and thread count alone. */
#include "cpu.h"

bool th_conv_winograd(enum th_isa_level level, const struct th_dnnl_conv *c)
{
    (void)level, (void)c;
    return false;
}
