/* SPDX-License-Identifier: Apache-2.0
 * Owns how a convolution is cut into blocks of tiles and tasks for own Winograd kernels,
 * and where everything lies in the scratch. The arithmetic is in isa/winograd.c. */
#include "winograd.h"

#include "cpu.h"

/* Between two points' arrays, so that the 36 that are written side by side do not fall
 * into the same set of a cache: a line. */
enum { SKEW = 16 };

/* Sizes, measured where a core has 1 MB of L2 cache; 12 to 96 tiles and 32 to 256 channels
 * are within a tenth of each other. The products of a block run through all its source
 * channels, so that fewer tiles fit where there are more. */
enum {
    BLOCK_TILES =
        24, /* forward, dx: up to MANY_CHANNELS, else twice as many: the weights */
    MANY_CHANNELS = 128, /* then come from beyond L2 once a block */
    O_PART = 128,        /* output channels in a task */
    DW_TILES = 48,
    DW_C_PART = 64, /* source channels in a task of dw */
    DW_TASKS = 8,   /* at least, so that threads find work */
    DW_SPLIT = 64,  /* least tiles in one of several sums */
};

static int64_t round_up(int64_t n, int64_t size)
{
    return th_parts(n, size) * size;
}

bool th_winograd_can(const struct th_dnnl_conv *c, const struct th_winograd_isa *isa)
{
    bool shape = c->kh == 3 && c->kw == 3 && c->stride[0] == 1 && c->stride[1] == 1 &&
                 c->dilation[0] == 1 && c->dilation[1] == 1 && c->groups == 1;
    for (int i = 0; i < 4; i++)
        shape = shape && c->pad[i] < 3;
    return shape && c->x_block == isa->block && c->y_block == isa->block;
}

/* Source and destination by direction; dx is a convolution of dy, padded with the rest of
 * what the kernel's edge needs. */
static void orient(struct th_winograd *p, const struct th_dnnl_conv *c)
{
    bool dx = c->direction == TH_DNNL_DX;
    p->direction = c->direction;
    p->n = c->n;
    p->c = dx ? c->o : c->c;
    p->h = dx ? c->oh : c->h;
    p->w = dx ? c->ow : c->w;
    p->o = dx ? c->c : c->o;
    p->oh = dx ? c->h : c->oh;
    p->ow = dx ? c->w : c->ow;
    p->top = dx ? 2 - c->pad[0] : c->pad[0];
    p->left = dx ? 2 - c->pad[1] : c->pad[1];
    p->relu = c->relu;
    p->rows = th_parts(p->oh, TH_WINOGRAD_OUT);
    p->columns = th_parts(p->ow, TH_WINOGRAD_OUT);
    p->tiles = p->n * p->rows * p->columns;
}

/* Parts of n channels, as even as multiples of `unit` allow. */
static void part(int64_t n, int64_t most, int64_t unit, int64_t *size, int64_t *parts)
{
    *parts = th_parts(n, most);
    *size = round_up(th_parts(n, *parts), unit);
    *parts = th_parts(n, *size);
}

static void cut_forward(
    struct th_winograd *p, const struct th_winograd_isa *isa, int threads)
{
    int64_t block = p->c <= MANY_CHANNELS ? BLOCK_TILES : 2 * BLOCK_TILES;
    p->block = round_up(block < p->tiles ? block : p->tiles, isa->rows);
    p->c_part = p->c;
    p->c_parts = 1;
    p->splits = th_parts(p->tiles, p->block);
    int64_t most = p->splits * p->o / O_PART < 2 * threads ? O_PART / 2 : O_PART;
    part(p->o, most, isa->panel, &p->o_part, &p->o_parts);
    p->src_point = p->block * p->c + SKEW;
    p->dst_point = p->block * round_up(p->o_part, isa->panel) + SKEW;
    p->packed_point = round_up(p->o, isa->panel) * p->c + SKEW;
    p->n_packed = TH_WINOGRAD_POINTS * p->packed_point;
    int64_t tasks = p->splits * p->o_parts;
    p->workers = (int)(tasks < threads ? tasks : threads);
    p->worker_floats = TH_WINOGRAD_POINTS * (p->src_point + p->dst_point);
    p->n_scratch = p->workers * p->worker_floats;
}

static void cut_dw(
    struct th_winograd *p, const struct th_winograd_isa *isa, int unit, int threads)
{
    p->block = DW_TILES < p->tiles ? DW_TILES : p->tiles;
    part(p->c, DW_C_PART, unit, &p->c_part, &p->c_parts);
    part(p->o, O_PART, isa->panel, &p->o_part, &p->o_parts);
    int64_t pairs = p->c_parts * p->o_parts, most = p->tiles / DW_SPLIT;
    p->splits = th_parts(DW_TASKS, pairs);
    p->splits = p->splits < most ? p->splits : most > 0 ? most : 1;
    p->src_point = p->block * p->c_part + SKEW;
    p->dst_point = p->block * round_up(p->o_part, isa->panel) + SKEW;
    p->sum_point = p->c_part * round_up(p->o_part, isa->panel) + SKEW;
    p->sum = TH_WINOGRAD_POINTS * p->sum_point;
    int64_t tasks = p->splits * pairs;
    p->workers = (int)(tasks < threads ? tasks : threads);
    p->worker_floats = TH_WINOGRAD_POINTS * (p->src_point + p->dst_point);
    int64_t sums = p->splits > 1 ? tasks : p->workers;
    p->n_scratch = p->workers * p->worker_floats + sums * p->sum;
}

void th_winograd_init(struct th_winograd *p, const struct th_dnnl_conv *c,
    const struct th_winograd_isa *isa, int threads)
{
    *p = (struct th_winograd){0};
    orient(p, c);
    if (p->direction == TH_DNNL_DW)
        cut_dw(p, isa, c->x_block, threads);
    else
        cut_forward(p, isa, threads);
}

/* Running --------------------------------------------------------------------------- */

static const struct th_winograd_job *job_of(const struct th_call *call)
{
    return call->state;
}

static void pack(const struct th_call *call, int64_t part)
{
    const struct th_winograd_job *job = job_of(call);
    job->isa->pack(&job->sizes, &job->args, part);
}

static void convolve(const struct th_call *call, int64_t worker)
{
    const struct th_winograd_job *job = job_of(call);
    job->isa->convolve(&job->sizes, &job->args, worker);
}

static void weigh(const struct th_call *call, int64_t worker)
{
    const struct th_winograd_job *job = job_of(call);
    job->isa->weigh(&job->sizes, &job->args, worker);
}

static void finish(const struct th_call *call, int64_t part)
{
    const struct th_winograd_job *job = job_of(call);
    job->isa->finish(&job->sizes, &job->args, part);
}

static int64_t panels(const struct th_winograd_job *job)
{
    return th_parts(job->sizes.o, job->isa->panel);
}

void th_winograd_pack(
    const struct th_winograd_job *job, const struct th_winograd_args *args)
{
    for (int64_t part = 0; part < panels(job); part++)
        job->isa->pack(&job->sizes, args, part);
}

void th_winograd_run(const struct th_call *call)
{
    const struct th_winograd_job *job = job_of(call);
    const struct th_winograd *p = &job->sizes;
    if (p->direction != TH_DNNL_DW) {
        if (call->stale)
            th_parallel(call, panels(job), pack);
        th_parallel(call, p->workers, convolve);
        return;
    }
    th_parallel(call, p->workers, weigh);
    if (p->splits > 1)
        th_parallel(
            call, p->c_parts * p->o_parts * (p->c_part / job->isa->block), finish);
}
