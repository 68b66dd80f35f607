/* SPDX-License-Identifier: Apache-2.0
 * Owns the tables of own.def and kernels.def. */
#include "own.h"

#include "launch.h"
#include "own_ops.h"
#include "params.h"

const struct th_own *th_own(enum th_op op)
{
    static const struct th_own *const table[TH_OP_COUNT] = {
#define OWN(name) [TH_OP_##name] = &th_own_##name,
#include "own.def"
#undef OWN
    };
    return table[op];
}

const char *th_cuda_kernel_name(enum th_cuda_kernel k)
{
    static const char *const names[TH_K_COUNT] = {
#define KERNEL(name, params, pointers) [TH_K_##name] = #name,
#include "kernels.def"
#undef KERNEL
    };
    return names[k];
}

size_t th_cuda_kernel_params(enum th_cuda_kernel k)
{
    static const size_t bytes[TH_K_COUNT] = {
#define KERNEL(name, params, pointers) [TH_K_##name] = sizeof(struct th_k_##params),
#include "kernels.def"
#undef KERNEL
    };
    return bytes[k];
}

const char *th_cuda_kernel_pointers(enum th_cuda_kernel k)
{
    static const char *const letters[TH_K_COUNT] = {
#define KERNEL(name, params, pointers) [TH_K_##name] = pointers,
#include "kernels.def"
#undef KERNEL
    };
    return letters[k];
}
