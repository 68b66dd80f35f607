/* SPDX-License-Identifier: Apache-2.0
 * Owns the question to an x86-64 processor which loops of a resize it can run. */
#include "resize_pass.h"

extern const struct th_resize_pass th_resize_avx2;

const struct th_resize_pass *th_resize_fastest(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? &th_resize_avx2 : &th_resize_plain;
}
