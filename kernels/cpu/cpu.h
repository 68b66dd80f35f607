/* SPDX-License-Identifier: Apache-2.0
 * The CPU device from within: its state, its own kernels by instruction set, and the
 * loop that spreads them over threads.
 *
 * Own kernels are a function of (call, part): a run is the parts 0..n-1 in any order on
 * any thread. What a part covers depends on the operands alone (of a matrix product, on the
 * threads too, but a value is one sum whatever the parts), and sums over parts are taken in
 * the order of their numbers, so the thread count never changes a result.
 * (oneDNN's weight gradients do depend on it.) */
#ifndef TH_CPU_H
#define TH_CPU_H

#include "backend.h"
#include "dnnl_shim.h"
#include "matmul.h"
#include "winograd.h"

/* One instruction set's own kernels; NULL where an op has none. */
struct th_isa {
    const char *name;
    thaw_status (*run[TH_OP_COUNT])(const struct th_call *call);
    const struct th_winograd_isa *winograd;
    const struct th_matmul_isa *matmul;
};
extern const struct th_isa th_isa_base, th_isa_avx2, th_isa_avx512;

struct th_cpu {
    enum th_isa_level level;
    const struct th_isa *isa;
    struct th_dnnl *dnnl;
    unsigned
        host_mode; /* between begin and end: th_denormals of the thread that runs */
    char text[128];
};

static inline struct th_cpu *th_cpu(const struct th_call *call)
{
    return call->device->state;
}

/* part(call, i) for every i in [0,n), on the device's threads. */
void th_parallel(const struct th_call *call, int64_t n,
    void (*part)(const struct th_call *call, int64_t i));

/* The same; `worker`, of [0, device->threads), runs no two parts at once. */
void th_parallel_workers(const struct th_call *call, int64_t n,
    void (*part)(const struct th_call *call, int64_t i, int worker));

/* th_set_denormals(mode) on each of the device's threads. */
void th_parallel_denormals(const struct th_device *device, unsigned mode);

/* Sizes of parts; both are multiples of 16, so that masks part at whole bytes. */
enum {
    TH_FLAT_PART = 1 << 14, /* values, where a tensor is seen as a row of them */
    TH_BIAS_ROWS = 256,     /* rows of a matrix that is summed over rows */
    TH_LAYERNORM_ROWS = 64,
};

/* Parts of `size` that cover n. */
static inline int64_t th_parts(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* Rows of logits, of `width` values each, in a part of focal. */
static inline int64_t th_focal_rows(int64_t width)
{
    return th_parts(TH_FLAT_PART, width);
}

/* attention: tokens whose scores are in memory at once for the gradient; a bound of a tile's
 * rows and of a panel's columns; a slab of a matrix, and how much of it is used (isa/tile.h). */
enum {
    TH_ATTENTION_ROWS = 112,
    TH_ATTENTION_PAD = 32,
    TH_ATTENTION_SLAB = 272,
    TH_ATTENTION_SLAB_USED = 256
};
int64_t th_attention_heads(const struct th_call *call);
int64_t th_attention_workers(const struct th_call *call);

/* The best instruction set of this machine. In level_x86.c or level_other.c. */
enum th_isa_level th_best_level(void);

/* How this thread computes with numbers too small for a full mantissa (denormals), and to
 * set that; TH_NO_DENORMALS: they are zeros, as operands and as results. One instruction with
 * such a number takes over a hundred cycles, and gradients of saturated logits are full of
 * them. Where the processor is not known: 0, and nothing happens. */
enum { TH_NO_DENORMALS = 0x8040 };
unsigned th_denormals(void);
void th_set_denormals(unsigned mode);

/* Whether it multiplies and adds u8 by i8 without saturating on the way (VNNI): without, conv_q
 * would be wrong in oneDNN's kernels, or no faster than floats. */
bool th_has_vnni(enum th_isa_level level);

/* Run the kernel of the device's instruction set. */
thaw_status th_cpu_run_own(const struct th_call *call);

extern const struct th_kernel th_cpu_conv, th_cpu_conv_dx, th_cpu_conv_dw;
extern const struct th_kernel th_cpu_linear, th_cpu_linear_dx, th_cpu_linear_dw;
extern const struct th_kernel th_cpu_linear_dw_db; /* of a pair */
void th_cpu_pair(struct th_pair_step *steps, int n);
extern const struct th_kernel th_cpu_bn_stats, th_cpu_bn_reduce, th_cpu_bias_grad;
extern const struct th_kernel th_cpu_sum_squares, th_cpu_reorder;
extern const struct th_kernel th_cpu_attention, th_cpu_attention_dx;
extern const struct th_kernel th_cpu_layernorm_dw;
extern const struct th_kernel th_cpu_groupnorm, th_cpu_groupnorm_dx,
    th_cpu_groupnorm_dw;
extern const struct th_kernel th_cpu_focal;
extern const struct th_kernel th_cpu_tokens, th_cpu_tokens_dx;
extern const struct th_kernel th_cpu_roi_align, th_cpu_roi_align_dx;
extern const struct th_kernel th_cpu_shortcut_a, th_cpu_shortcut_a_dx;
extern const struct th_kernel th_cpu_conv_q, th_cpu_quantize, th_cpu_dequantize;
extern const struct th_kernel th_cpu_maxpool_q;

/* What the tables have for a convolution: direct, or something that can do it. */
enum th_conv_algorithm th_conv_algorithm(
    const struct th_call *call, const struct th_dnnl_conv *c);

/* th_call.effort of a convolution; done by the plain C kernel or not. */
double th_conv_effort(
    const struct th_dnnl_conv *c, enum th_conv_algorithm algorithm, bool plain);

#endif
