/* SPDX-License-Identifier: Apache-2.0
 * Other processors than x86-64: own kernels in the compiler's own vectors. */
#include "cpu.h"

enum th_isa_level th_best_level(void)
{
    return TH_ISA_BASE;
}

unsigned th_denormals(void)
{
    return 0;
}

void th_set_denormals(unsigned mode)
{
    (void)mode;
}

bool th_has_vnni(enum th_isa_level level)
{
    (void)level;
    return false;
}
