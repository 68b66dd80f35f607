/* SPDX-License-Identifier: Apache-2.0
 * Owns an instruction set's table of own kernels. */
#include "lanes.h"

#define OWN(op) TH_OWN(op);
#include "own.def"
#undef OWN

const struct th_isa TH_ISA_NAME(th_isa) = {
    .name = TH_TEXT(TH_ISA),
    .winograd = &TH_ISA_NAME(th_winograd),
    .matmul = &TH_ISA_NAME(th_matmul),
    .run =
        {
#define OWN(op) [TH_OP_##op] = TH_ISA_NAME(th_##op),
#include "own.def"
#undef OWN
        },
};
