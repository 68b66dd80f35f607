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

/* Workers along rows and columns, so that the one with most tiles has fewest. */
static void share(struct th_matmul *p, int64_t tiles, int64_t panels, int threads)
{
    int64_t least = INT64_MAX;
    for (int rows = 1; rows <= threads; rows++) {
        if (threads % rows != 0)
            continue;
        int64_t most = th_parts(tiles, rows) * th_parts(panels, threads / rows);
        if (most <= least) { /* if alike, more along rows: they share no row of c */
            least = most;
            p->row_workers = rows;
            p->column_workers = threads / rows;
        }
    }
}

void th_matmul_init(struct th_matmul *p, const struct th_matmul_isa *isa, int threads)
{
    int64_t panels = th_parts(p->n, isa->panel);
    p->k_part = th_parts(p->k, th_parts(p->k, K_PART));
    p->block = isa->tiles * isa->rows;
    p->strip = isa->strip / (isa->panel * p->k_part);
    if (p->strip < 1)
        p->strip = 1;
    p->packs = isa->b_rows && p->b_k != 1 ? th_parts(p->k_part, isa->b_rows) : panels;
    share(p, th_parts(p->m, isa->rows), panels, threads);
    p->worker_floats = p->block * (p->k_part + TH_MATMUL_SKEW);
    p->n_packed = panels * isa->panel * p->k_part;
    int64_t copies =
        p->n_packed + p->row_workers * p->column_workers * p->worker_floats;
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

static void multiply(const struct th_call *call, int64_t worker)
{
    const struct th_matmul_job *job = call->state;
    job->isa->multiply(&job->sizes, &job->args, worker);
}

void th_matmul_run(const struct th_call *call, struct th_matmul_job *job)
{
    const struct th_matmul *p = &job->sizes;
    int64_t *from = &job->args.from;
    for (*from = 0; *from < p->k; *from += p->k_part) {
        th_parallel(call, p->packs, pack);
        th_parallel(call, p->row_workers * p->column_workers, multiply);
    }
}
