/* SPDX-License-Identifier: Apache-2.0
 * Owns the question to an x86-64 processor what it can do, and its mode for denormals. */
#include "cpu.h"

#include <cpuid.h>
#include <xmmintrin.h>

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

/* Intel's manual, volume 1, 10.2.3: bits 15 (flush to zero) and 6 (denormals are zeros) of
 * MXCSR, which every thread has. */
unsigned th_denormals(void)
{
    return _mm_getcsr() & TH_NO_DENORMALS;
}

void th_set_denormals(unsigned mode)
{
    _mm_setcsr((_mm_getcsr() & ~(unsigned)TH_NO_DENORMALS) | mode);
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
