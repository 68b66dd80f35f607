/* SPDX-License-Identifier: Apache-2.0
 * Own matrix products of floats: c[m][n] = a[m][k] b[k][n] + bias[n].
 *
 * b is copied to panels, k_part of its rows at a time, by all workers; then they take pieces of
 * c, blocks of rows by strips of panels, and copy a's rows for it. The last blocks become
 * smaller and smaller, so that all workers end at about the same time.
 * Either a panel's k_part values stay in the first cache and the block in the second (Goto and
 * van de Geijn 2008, "Anatomy of high-performance matrix multiplication"), or a tile's rows of
 * a in the first and a strip of panels in the second.
 *
 * A value of c is one sum in the order of k whatever the blocks, workers and place, but
 * for a rounding where a part ends: neither threads nor rows beside it change a bit. */
#ifndef TH_MATMUL_H
#define TH_MATMUL_H

#include <stdbool.h>
#include <stdint.h>

/* Floats that rows of a copy are further apart than they are long, so that a power of two
 * does not put them all into one set of a cache. */
enum { TH_MATMUL_SKEW = 16 };
/* A tile's sums of a's rows, where the instruction set makes them: a vector's lanes. */
enum { TH_MATMUL_SUMS = 16 };

/* One product's sizes. Steps count floats. */
struct th_matmul {
    int64_t m, n, k;
    int64_t a_row, a_k;    /* from a value of a to the next row's; to the next k's */
    int64_t b_k, b_column; /* of each pair, one is 1 */
    int64_t k_part;        /* the last part may be smaller */
    int64_t block;         /* rows of a that are worked on at once */
    int64_t packs;         /* parts of a copy of b */
    int64_t strips; /* parts of b's panels that are worked on one after the other */
    int64_t whole, pieces; /* blocks of a; with the smaller ones after them */
    int workers;
    int64_t n_packed, worker_floats,
        n_scratch;   /* floats of b's panels; a worker's; all */
    int64_t sums_at; /* in scratch, of a's tiles: doubles [TH_MATMUL_SUMS] each */
};

struct th_matmul_args {
    const float *a, *b, *bias; /* bias or NULL */
    float *c;                  /* rows n apart */
    float *scratch;
    float *sums;  /* [m] of a's rows over k, where the instruction set can; or NULL */
    int64_t from; /* first k of the part */
};

/* One instruction set's kernels, in isa/matmul.c or isa/matmul_avx512.c. */
struct th_matmul_isa {
    int panel, rows; /* a tile of registers: columns, rows */
    int tiles;       /* in a block of a */
    int strip;       /* floats of b that are worked on at once */
    int b_rows;      /* a part of a copy of b has so many of its rows where they are
                      * contiguous; 0, or else: a panel */
    bool sums; /* can sum a, where its columns are contiguous, while it is copied */
    void (*pack)(
        const struct th_matmul *p, const struct th_matmul_args *a, int64_t part);
    /* A piece of c, in order of use: a strip's first. */
    void (*multiply)(const struct th_matmul *p, const struct th_matmul_args *a,
        int64_t piece, int worker);
};
extern const struct th_matmul_isa th_matmul_base, th_matmul_avx2, th_matmul_avx512;

/* m, n, k and the steps are set. Whether it is large enough for the copies to be worth it;
 * then, the rest of the sizes. */
bool th_matmul_can(const struct th_matmul *p, const struct th_matmul_isa *isa);
void th_matmul_init(struct th_matmul *p, const struct th_matmul_isa *isa, int threads);

/* What a run works on: the call's state begins with it. */
struct th_matmul_job {
    const struct th_matmul_isa *isa;
    struct th_matmul sizes;
    struct th_matmul_args args; /* set before each run; `from` by it */
};

/* Rows [row, end) of a piece of a strip; `rows` are a tile's. */
struct th_matmul_rows {
    int64_t row, end;
};
struct th_matmul_rows th_matmul_rows_of(
    const struct th_matmul *p, int64_t piece, int rows);

struct th_call;
/* On the device's threads. */
void th_matmul_run(const struct th_call *call, struct th_matmul_job *job);

#endif
