/* SPDX-License-Identifier: Apache-2.0
 * Owns the machine's rates and the arithmetic of forecasts. Knows no trainer. */
#include "forecast.h"

#include "report.h"

#include <math.h>
#include <stdlib.h>

/* ---- Rates: two ops of the device's own, run by hand ---- */

/* One op, run over and over: so long at most, or so often; which of its times counts,
 * from the shortest, 0, to the longest, 1. */
enum { MOST_RUNS = 64 };
struct probe {
    double seconds, rank;
    int side;   /* rows, inputs and outputs of the product */
    int values; /* of the sum */
};

/* The median, on sizes like a network's, as a step meets them: other programs that break
 * in on a few runs do not count. And the best, on sizes for which it is highest. */
static const struct probe typical = {0.008, 0.5, 256, 1 << 19};
static const struct probe best = {0.08, 0, 768, 1 << 24};

static void set_operand(struct th_operand *o, struct th_shape shape)
{
    *o = (struct th_operand){
        .shape = shape, .dtype = TH_F32, .block = 1, .present = true};
}

static struct th_call product(struct th_device *device, int side)
{
    struct th_call c = {.op = TH_OP_linear, .device = device};
    set_operand(&c.in[0], TH_SHAPE(side, side));
    set_operand(&c.in[1], TH_SHAPE(side, side));
    set_operand(&c.in[2], TH_SHAPE(side));
    set_operand(&c.out[0], TH_SHAPE(side, side));
    return c;
}

static struct th_call sum(struct th_device *device, int values)
{
    struct th_call c = {.op = TH_OP_add, .device = device};
    set_operand(&c.in[0], TH_SHAPE(values));
    set_operand(&c.in[1], TH_SHAPE(values));
    set_operand(&c.out[0], TH_SHAPE(values));
    return c;
}

static thaw_status alloc_args(struct th_call *c, size_t *bytes, double *all)
{
    struct th_device *d = c->device;
    int n_in = th_op_rule(c->op)->n_in, n_out = th_op_rule(c->op)->n_out;
    for (int k = 0; k < n_in + n_out; k++) {
        bytes[k] = th_operand_bytes(k < n_in ? &c->in[k] : &c->out[k - n_in]);
        c->args[k] = d->backend->alloc(d, bytes[k]);
        if (!c->args[k])
            return THAW_E_MEMORY;
        *all += (double)bytes[k];
    }
    c->scratch = d->backend->alloc(d, c->scratch_bytes);
    return c->scratch ? THAW_OK : THAW_E_MEMORY;
}

static void free_args(struct th_call *c, const size_t *bytes)
{
    struct th_device *d = c->device;
    for (int k = 0; k < TH_MAX_ARGS; k++)
        if (c->args[k])
            d->backend->free(d, c->args[k], bytes[k]);
    if (c->scratch)
        d->backend->free(d, c->scratch, c->scratch_bytes);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A device may be behind with its work: what it is asked for comes after it. */
static thaw_status run_once(const struct th_kernel *kernel, const struct th_call *c)
{
    float first;
    TRY(kernel->run(c));
    return c->device->backend->download(
        c->device, &first, c->args[th_op_rule(c->op)->n_in], sizeof first);
}

/* Seconds of one run. The first does not count: it touches new memory. */
static thaw_status time_runs(const struct th_kernel *kernel, const struct th_call *c,
    const struct probe *probe, double *seconds)
{
    double took[MOST_RUNS], began = th_seconds(), from = began;
    int n = 0;
    TRY(run_once(kernel, c));
    for (from = th_seconds(); n < MOST_RUNS && from - began < probe->seconds; n++) {
        TRY(run_once(kernel, c));
        took[n] = th_seconds() - from;
        from += took[n];
    }
    if (!n) /* that first one was slow enough */
        took[n++] = from - began;
    qsort(took, (size_t)n, sizeof took[0], compare);
    *seconds = took[(int)(probe->rank * n)];
    return THAW_OK;
}

/* A prepared call's rate: its multiply-adds, or bytes where it has none, in a second. */
static thaw_status measure(const struct th_kernel *kernel, struct th_call *c,
    const struct probe *probe, double *rate)
{
    const struct th_op_fn *fn = th_op_rule(c->op)->fn;
    size_t bytes[TH_MAX_ARGS] = {0};
    double all = 0, seconds = 0;
    thaw_status status = alloc_args(c, bytes, &all);
    if (status == THAW_OK)
        status = time_runs(kernel, c, probe, &seconds);
    if (status == THAW_OK)
        *rate = (fn->macs ? (double)fn->macs(&c->attr, c->in, c->out) : all) / seconds;
    free_args(c, bytes);
    return status;
}

static thaw_status prepare_and_measure(
    struct th_call c, const struct probe *probe, double *rate)
{
    const struct th_kernel *kernel = c.device->backend->kernel(c.op);
    if (!kernel)
        return th_fail(
            THAW_E_FAIL, "the device has no kernel for %s", th_op_rule(c.op)->name);
    c.stale = true;
    if (kernel->prepare)
        TRY(kernel->prepare(&c));
    thaw_status status = measure(kernel, &c, probe, rate);
    if (kernel->release)
        kernel->release(&c);
    return status;
}

static thaw_status measure_both(
    struct th_device *d, const struct probe *probe, double *macs, double *bytes)
{
    TRY(prepare_and_measure(product(d, probe->side), probe, macs));
    return prepare_and_measure(sum(d, probe->values), probe, bytes);
}

thaw_status th_rates_measure(struct th_device *device, struct th_rates *rates)
{
    rates->threads = device->threads;
    return measure_both(device, &typical, &rates->macs, &rates->bytes);
}

thaw_status th_rates_best(struct th_device *device, double *macs, double *bytes)
{
    return measure_both(device, &best, macs, bytes);
}

/* ---- Time ---- */

/* A step beside the sum of its kernels, each with warm caches: measured with ResNet-20. */
static const double between_kernels = 1.2;

/* Bytes of a sum that take as long as one byte of a file: gathered, brought into HDF5,
 * copied, hashed, written. Measured with ResNet-18; a slow disk is not foreseen. */
static const double file_effort = 80;

static double seconds_of(const struct th_plan_stats *plan, const struct th_rates *r)
{
    return between_kernels * (plan->work_macs / r->macs + plan->work_bytes / r->bytes);
}

/* Seconds of so much computing, while workers make `images`: the slower of both, or what
 * their work takes on the cores that they share. */
static double pass(double computing, double images, const struct th_rates *r)
{
    double loading = r->image * images;
    double shared = (computing * r->threads + loading) / r->cores;
    return fmax(fmax(computing, loading / r->workers), shared);
}

/* `share` of the images goes through what is below the cut. */
static double train_share(
    const struct th_phase_cost *p, double share, const struct th_rates *r)
{
    double n = (double)p->images / (double)p->batch;
    double step = seconds_of(&p->train, r) + share * seconds_of(&p->below, r);
    return pass(n * step, share * (double)p->images, r);
}

/* Validation's last batch is padded. */
static double eval_share(const struct th_phase_cost *p, int64_t images, double share,
    const struct th_rates *r)
{
    double n = ceil((double)images / (double)p->val_batch);
    double run = seconds_of(&p->eval, r) + share * seconds_of(&p->eval_below, r);
    return images ? pass(n * run, share * (double)images, r) : 0;
}

double th_forecast_train(const struct th_phase_cost *p, const struct th_rates *r)
{
    return train_share(p, 1, r);
}

double th_forecast_eval(
    const struct th_phase_cost *p, int64_t images, const struct th_rates *r)
{
    return eval_share(p, images, 1, r);
}

double th_forecast_kept(const struct th_phase_cost *p, const struct th_rates *r)
{
    return train_share(p, p->missing, r) + eval_share(p, p->val_images, p->missing, r);
}

double th_forecast_save(int64_t bytes, const struct th_rates *r)
{
    return file_effort * (double)bytes / r->bytes;
}

/* ---- Memory and disk ---- */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Pages of libraries that the first steps touch, oneDNN's above all. */
enum { FIRST_USE = 7 << 20 };

int64_t th_forecast_peak(
    const struct th_phase_cost *phases, int n, const struct th_memory *m)
{
    int64_t highest = 0;
    size_t arena = 0; /* it only grows */
    for (int i = 0; i < n; i++) {
        const struct th_plan_stats *train = &phases[i].train, *eval = &phases[i].eval;
        const struct th_plan_stats *below = &phases[i].below;
        size_t of_train = train->kept_bytes + train->derived_bytes;
        arena = larger(arena, larger(train->arena_bytes, eval->arena_bytes));
        arena =
            larger(arena, larger(below->arena_bytes, phases[i].eval_below.arena_bytes));
        size_t kept = of_train + eval->kept_bytes + eval->derived_bytes +
                      below->kept_bytes + below->derived_bytes;
        /* The file's image, when the arena has been given back. */
        int64_t saving = m->params + phases[i].slot_bytes;
        int64_t transient = saving > (int64_t)arena ? saving : (int64_t)arena;
        int64_t here =
            (int64_t)kept + phases[i].slot_bytes + transient + phases[i].cache_bytes;
        highest = here > highest ? here : highest;
    }
    int64_t shadow = m->shadow ? m->params : 0;
    return m->base + FIRST_USE + m->loading + shadow + highest;
}

/* Checkpoints that stay, the one that is written beside them, best.h5 and last.h5. */
enum { KEPT_CHECKPOINTS = 3, KEPT_MODELS = 2 };

int64_t th_forecast_disk(
    const struct th_phase_cost *phases, int n, const struct th_memory *m)
{
    int64_t slots = 0;
    for (int i = 0; i < n; i++)
        slots = phases[i].slot_bytes > slots ? phases[i].slot_bytes : slots;
    return KEPT_CHECKPOINTS * (m->params + slots) + KEPT_MODELS * m->params;
}
