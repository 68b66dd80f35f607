/* SPDX-License-Identifier: Apache-2.0
 * Owns the question to an x86-64 processor what it can do. */
#include "cpu.h"

#include <cpuid.h>

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

/* Intel's manual, volume 2, CPUID: leaf 7. */
enum { FEATURES = 7, AVX512_VNNI = 1 << 11, AVX_VNNI = 1 << 4 };

bool th_has_vnni(enum th_isa_level level)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (level == TH_ISA_AVX512)
        return __get_cpuid_count(FEATURES, 0, &eax, &ebx, &ecx, &edx) &&
               ecx & AVX512_VNNI;
    return level == TH_ISA_AVX2 &&
           __get_cpuid_count(FEATURES, 1, &eax, &ebx, &ecx, &edx) && eax & AVX_VNNI;
}
