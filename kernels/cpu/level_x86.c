/* SPDX-License-Identifier: Apache-2.0
 * Owns the question to an x86-64 processor what it can do. */
#include "cpu.h"

enum th_isa_level th_best_level(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return TH_ISA_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return TH_ISA_AVX2;
    return TH_ISA_BASE;
}
