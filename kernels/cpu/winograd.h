/* SPDX-License-Identifier: Apache-2.0
 * Own Winograd convolutions: 3x3, stride 1, channel blocks on both sides.
 *
 * Tiles of 6x6 pixels of the source go through B^T d B to 36 points; there, convolutions
 * are 36 matrix products; their results go back through A^T m A (Lavin & Gray,
 * arXiv:1509.09308). Forward and dx are F(4x4,3x3), and dx is the forward one with
 * weights turned by 180 degrees and transposed. dw is F(3x3,4x4): tiles of x by 4x4
 * tiles of dy, summed over tiles at the 36 points, so that only the sum goes back.
 *
 * Tiles are worked on in blocks, all three stages at once, so that the points of a block
 * stay in the processor's caches. A task is a block and a range of output channels (dw: a
 * range of tiles and of both channels); a worker does a range of tasks. Sums are taken in
 * an order that follows from the shape alone, so the thread count never changes a bit. */
#ifndef TH_WINOGRAD_H
#define TH_WINOGRAD_H

#include "dnnl_shim.h"

enum {
    TH_WINOGRAD_OUT = 4,  /* pixels on a side of y's tile */
    TH_WINOGRAD_TILE = 6, /* and of x's */
    TH_WINOGRAD_POINTS = TH_WINOGRAD_TILE * TH_WINOGRAD_TILE,
};

/* One convolution's sizes. Offsets and strides count floats. */
struct th_winograd {
    enum th_dnnl_direction direction;
    int64_t n, c, h, w; /* source, in 6x6 tiles: x; of dx: dy */
    int64_t o, oh, ow;  /* destination: y; of dx: dx; of dw, a source too: dy */
    int64_t top, left;  /* padding of the source */
    int64_t rows, columns, tiles; /* tiles of an image; of all images */
    bool relu;

    int64_t block;          /* tiles in a block */
    int64_t c_part, o_part; /* channels in a task; forward and dx: all of c */
    int64_t c_parts, o_parts;
    int64_t splits; /* forward and dx: blocks; dw: ranges of tiles, each a sum */
    int workers;

    int64_t n_packed;                 /* weights at the points */
    int64_t packed_point;             /* from a point's to the next's */
    int64_t src_point, dst_point;     /* the same of a block's source and products */
    int64_t sum_point, sum;           /* dw: of a task's sums; all of them */
    int64_t worker_floats, n_scratch; /* scratch: of a worker; all */
};

struct th_winograd_args {
    const float *src;        /* [n][c][h][w] in blocks */
    const float *dy;         /* dw: [n][o][oh][ow] in blocks */
    const float *w;          /* [o][c][3][3] as the parameter lies in memory */
    const float *bias, *add; /* or NULL */
    float *dst;              /* dw: [o][c][3][3] */
    float *packed;
    float *scratch;
};

/* One instruction set's kernels, in isa/winograd.c. */
struct th_winograd_isa {
    int block; /* of channels, that operands have */
    int panel; /* output channels that are multiplied together */
    int rows;  /* tiles (dw: source channels) that are */
    /* Weights of output channels [part*panel, ...) to the points, as the products read
     * them. */
    void (*pack)(
        const struct th_winograd *p, const struct th_winograd_args *a, int64_t part);
    void (*convolve)(
        const struct th_winograd *p, const struct th_winograd_args *a, int64_t worker);
    void (*weigh)(
        const struct th_winograd *p, const struct th_winograd_args *a, int64_t worker);
    /* dw in splits, afterwards: sums to gradients, a block of source channels of a pair of
     * ranges in a part. */
    void (*finish)(
        const struct th_winograd *p, const struct th_winograd_args *a, int64_t part);
};
extern const struct th_winograd_isa th_winograd_base, th_winograd_avx2,
    th_winograd_avx512;

/* Whether own kernels can do it; then, its sizes. */
bool th_winograd_can(const struct th_dnnl_conv *c, const struct th_winograd_isa *isa);
void th_winograd_init(struct th_winograd *p, const struct th_dnnl_conv *c,
    const struct th_winograd_isa *isa, int threads);

/* What a run works on: the call's state begins with it. */
struct th_winograd_job {
    const struct th_winograd_isa *isa;
    struct th_winograd sizes;
    struct th_winograd_args args; /* set before each run */
};

struct th_call;
/* On the device's threads; weights are packed first where the call is stale. */
void th_winograd_run(const struct th_call *call);

/* All weights into args->packed, on this thread. */
void th_winograd_pack(
    const struct th_winograd_job *job, const struct th_winograd_args *args);

#endif
