/* SPDX-License-Identifier: Apache-2.0
 * Owns the sums of the roofline model: what each launch moves and multiplies.
 *
 * Bytes: each operand once; activations 2 bytes a value, optimizer steps fp32; what lies
 * between two steps that run as one, not at all. What is derived from frozen tensors is no
 * part of a step. Pairs are the planner's, which asks the engine. */
#include "cost.h"

#include "pass.h"

#include <math.h>

static const struct {
    double flops, bandwidth; /* a second */
} device[DEVICES] = {{989e12, 3.35e12}, {312e12, 2.04e12}};
static const double REACHED = 0.85, LAUNCH = 3e-6;

/* What lies between the two of a pair is nowhere. */
static double operand_bytes(const struct th_plan *p, int value)
{
    return value < 0 || p->places[value].nowhere ? 0 : (double)p->places[value].bytes;
}

/* Of one step, in fp32. */
static double bytes_of(const struct th_plan *p, int step)
{
    const struct th_step *s = &p->steps[step];
    double bytes = 0;
    for (int k = 0; k < TH_MAX_IN; k++)
        bytes += operand_bytes(p, s->in[k]);
    for (int k = 0; k < TH_MAX_OUT; k++)
        bytes += operand_bytes(p, s->out[k]);
    return bytes;
}

static double macs_of(const struct th_plan *p, int step)
{
    struct th_step_info info;
    th_plan_step(p, step, &info);
    return (double)info.macs;
}

/* Of what runs in place i: that step, or a pair. */
static void add_launch(struct cost *c, const struct th_plan *p, int i)
{
    int other = p->steps[i].partner;
    double macs = macs_of(p, i), bytes = bytes_of(p, i);
    if (other >= 0) {
        macs += macs_of(p, other);
        bytes += bytes_of(p, other);
    }
    bytes *= p->steps[i].phase == TH_COMMIT ? 1 : 0.5;
    c->launches++;
    c->macs += macs;
    c->bytes += bytes;
    for (int d = 0; d < DEVICES; d++) {
        double compute = 2 * macs / device[d].flops;
        double memory = bytes / (REACHED * device[d].bandwidth);
        c->seconds[d] += fmax(fmax(compute, memory), LAUNCH);
    }
}

thaw_status cost_add(void *context, const struct th_plan *p)
{
    struct cost *c = context;
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].runs_at == i && (!p->steps[i].derived || p->steps[i].moves))
            add_launch(c, p, i);
    return THAW_OK;
}
