/* SPDX-License-Identifier: Apache-2.0
 * Owns how matrix products are cut into parts and spread over threads; the arithmetic is
 * isa/matmul.c's, or isa/matmul_avx512.c's. */
#include "matmul.h"

#include "cpu.h"

enum {
    K_PART =
        512, /* a panel of 16 columns is then 32 KB, and half of it in use: a first cache */
    ENOUGH = 64, /* rows of c that pay for a copy of b */
};

bool th_matmul_can(const struct th_matmul *p, const struct th_matmul_isa *isa)
{
    return p->m >= ENOUGH && p->n >= isa->panel && p->k >= isa->panel;
}

/* Tiles of the next piece of a strip, when so many are left: a whole block while every worker
 * has two of them before it, then less and less. */
static int64_t next_piece(int64_t left, int64_t most, int workers)
{
    int64_t fair = workers > 1 ? left / (2 * workers) : left;
    return fair > most ? most : fair < 1 ? 1 : fair;
}

struct th_matmul_rows th_matmul_rows_of(
    const struct th_matmul *p, int64_t piece, int rows)
{
    int64_t most = p->block / rows, tiles = th_parts(p->m, rows);
    int64_t at = (piece < p->whole ? piece : p->whole) * most, n = most;
    for (int64_t i = p->whole; i <= piece; i++) {
        at += i > p->whole ? n : 0;
        n = next_piece(tiles - at, most, p->workers);
    }
    int64_t end = (at + n) * rows;
    return (struct th_matmul_rows){at * rows, end < p->m ? end : p->m};
}

static void cut_rows(struct th_matmul *p, int rows, int64_t most)
{
    int64_t left = th_parts(p->m, rows), n;
    p->whole = p->pieces = 0;
    for (; left > 0; left -= n, p->pieces++) {
        n = next_piece(left, most, p->workers);
        p->whole += n == most && p->whole == p->pieces;
    }
}

void th_matmul_init(struct th_matmul *p, const struct th_matmul_isa *isa, int threads)
{
    int64_t panels = th_parts(p->n, isa->panel);
    p->k_part = th_parts(p->k, th_parts(p->k, K_PART));
    p->block = isa->tiles * isa->rows;
    p->strips = th_parts(panels * isa->panel * p->k_part, isa->strip);
    int64_t enough =
        th_parts(2 * threads, th_parts(p->m, isa->rows)); /* for all workers */
    p->strips = p->strips > enough ? p->strips : enough;
    p->strips = p->strips < panels ? p->strips : panels;
    p->packs = isa->b_rows && p->b_k != 1 ? th_parts(p->k_part, isa->b_rows) : panels;
    p->workers = threads;
    cut_rows(p, isa->rows, isa->tiles);
    p->worker_floats = p->block * (p->k_part + TH_MATMUL_SKEW);
    p->n_packed = panels * isa->panel * p->k_part;
    int64_t copies = p->n_packed + p->workers * p->worker_floats;
    p->sums_at = th_parts(copies, TH_MATMUL_SUMS) * TH_MATMUL_SUMS;
    p->n_scratch = p->sums_at;
    if (isa->sums) /* in doubles */
        p->n_scratch += 2 * th_parts(p->m, isa->rows) * TH_MATMUL_SUMS;
}

/* The call's state begins with it. */
static void pack(const struct th_call *call, int64_t part)
{
    const struct th_matmul_job *job = call->state;
    job->isa->pack(&job->sizes, &job->args, part);
}

static void multiply(const struct th_call *call, int64_t piece, int worker)
{
    const struct th_matmul_job *job = call->state;
    job->isa->multiply(&job->sizes, &job->args, piece, worker);
}

void th_matmul_run(const struct th_call *call, struct th_matmul_job *job)
{
    const struct th_matmul *p = &job->sizes;
    int64_t *from = &job->args.from;
    for (*from = 0; *from < p->k; *from += p->k_part) {
        th_parallel(call, p->packs, pack);
        th_parallel_workers(call, p->strips * p->pieces, multiply);
    }
}
