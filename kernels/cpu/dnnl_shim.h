/* SPDX-License-Identifier: Apache-2.0
 * oneDNN behind plain descriptions: convolutions, matrix products and reorders become
 * steps that are made once and run on pointers.
 *
 * Nothing of dnnl.h is visible here, so this and dnnl_shim*.c are all that differs between
 * its 2.x and 3.x interfaces. A step takes its scratch from the caller. An implementation
 * is accepted when it stays within the device's instruction set and is not oneDNN's slow
 * "ref"; a description that has none gives no step, and the caller chooses another. */
#ifndef TH_DNNL_SHIM_H
#define TH_DNNL_SHIM_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum th_isa_level { TH_ISA_BASE, TH_ISA_AVX2, TH_ISA_AVX512 };

/* Pointers of a run. Backward steps use X for the source's gradient, Y for the
 * destination's, W for the weights' gradient: the role, not the direction. */
enum th_dnnl_role {
    TH_DNNL_X,
    TH_DNNL_W,
    TH_DNNL_B,
    TH_DNNL_Y,
    TH_DNNL_ADD,
    TH_DNNL_SCALE,   /* conv_q: affine[0] */
    TH_DNNL_RESCALE, /* conv_q */
    TH_DNNL_SCRATCH,
    TH_DNNL_ROLES
};

enum th_dnnl_direction { TH_DNNL_FORWARD, TH_DNNL_DX, TH_DNNL_DW };

enum th_dnnl_add {
    TH_DNNL_ADD_NONE,
    TH_DNNL_ADD_BUFFER, /* y = conv + add, read from role ADD */
    TH_DNNL_ADD_IN_Y,   /* y += conv */
};

struct th_dnnl_conv {
    enum th_dnnl_direction direction;
    int64_t n, c, h, w;                     /* x */
    int64_t o, oh, ow;                      /* y is [n][o][oh][ow] */
    int64_t kh, kw, groups;                 /* weights [o][c/groups][kh][kw] */
    int64_t stride[2], dilation[2], pad[4]; /* pad: top, left, bottom, right */
    int x_block, y_block;                   /* 1, 8, 16: see th_operand.block */
    bool bias, relu, winograd;
    enum th_dnnl_add add;
};

/* y[m][n] = x[m][k] w[k][n] (+ b[n]); a transposed operand lies in memory as [k][m],
 * [n][k]. */
struct th_dnnl_matmul {
    int64_t m, n, k;
    bool x_transposed, w_transposed, bias;
};

/* conv_q of kernels/quant.c: i8 weights; x, add and y have their channels last. */
struct th_dnnl_conv_q {
    struct th_dnnl_conv shape; /* x_block, y_block, winograd: not read; bias: always */
    bool x_signed, add_signed; /* i8; else u8 */
    enum th_dnnl_whole { TH_DNNL_REAL, TH_DNNL_U8, TH_DNNL_I8 } y;
};

struct th_dnnl;      /* engine, stream, thread count */
struct th_dnnl_step; /* one primitive and its arguments */

thaw_status th_dnnl_open(enum th_isa_level cap, int threads, struct th_dnnl **out);
void th_dnnl_close(struct th_dnnl *d);                /* NULL is fine */
const char *th_dnnl_version(const struct th_dnnl *d); /* "2.6.3" */

/* These four set *out to NULL, with THAW_OK, where no implementation is acceptable. */
thaw_status th_dnnl_conv_new(
    struct th_dnnl *d, const struct th_dnnl_conv *conv, struct th_dnnl_step **out);
thaw_status th_dnnl_conv_q_new(
    struct th_dnnl *d, const struct th_dnnl_conv_q *conv, struct th_dnnl_step **out);
thaw_status th_dnnl_matmul_new(
    struct th_dnnl *d, const struct th_dnnl_matmul *mm, struct th_dnnl_step **out);
/* From X to Y, both [n][c][h*w] in blocks. */
thaw_status th_dnnl_reorder_new(struct th_dnnl *d, const int64_t nchw[4], int x_block,
    int y_block, struct th_dnnl_step **out);
/* From X to Y, between canonical OIHW and the layout of the convolution step's weights:
 * towards the step's for the forward and dx steps, from it for dw. NULL where they are
 * the same layout. */
thaw_status th_dnnl_pack_new(struct th_dnnl *d, const struct th_dnnl_conv *conv,
    const struct th_dnnl_step *step, struct th_dnnl_step **out);

/* From canonical OIHW to the layout of a conv_q step's weights, and what goes with them.
 * Never NULL. */
thaw_status th_dnnl_pack_q_new(struct th_dnnl *d, const struct th_dnnl_conv *conv,
    const struct th_dnnl_step *step, struct th_dnnl_step **out);

/* These accept NULL: 0. */
size_t th_dnnl_scratch_bytes(const struct th_dnnl_step *step);
size_t th_dnnl_weight_bytes(
    const struct th_dnnl_step *step); /* as the step wants them */

thaw_status th_dnnl_run(struct th_dnnl_step *step, void *const ptr[TH_DNNL_ROLES]);
void th_dnnl_step_free(struct th_dnnl_step *step); /* NULL is fine */

#endif
