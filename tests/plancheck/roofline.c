/* SPDX-License-Identifier: Apache-2.0
 * A roofline MODEL of training steps in bf16 on an H100 SXM and an A100 80 GB, from what the
 * plans move and multiply. No GPU was asked: it is what a step takes at the least if every
 * kernel reaches 85 % of the memory's bandwidth or all of the tensor cores' peak, launched
 * without a gap (Williams, Waterman, Patterson, "Roofline", CACM 2009; NVIDIA's data sheets).
 *
 *     seconds = sum over launches of max(2 macs / flops, bytes / (0.85 bandwidth), 3e-6)
 *
 * Bytes: each operand once; activations 2 bytes a value, optimizer steps fp32; what lies
 * between two steps that run as one, not at all. What is derived from frozen tensors is no
 * part of a step. Pairs are the planner's, which asks the engine. */
#include "calls.h"

#include "pass.h"

#include <math.h>
#include <stdio.h>

enum { H100, A100, DEVICES };
static const struct {
    double flops, bandwidth; /* a second */
} device[DEVICES] = {{989e12, 3.35e12}, {312e12, 2.04e12}};
static const double REACHED = 0.85, LAUNCH = 3e-6;

struct cost {
    int launches;
    double macs, bytes, seconds[DEVICES];
};

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

static thaw_status add_up(void *context, const struct th_plan *p)
{
    struct cost *c = context;
    for (int i = 0; i < p->n_steps; i++)
        if (p->steps[i].runs_at == i && (!p->steps[i].derived || p->steps[i].moves))
            add_launch(c, p, i);
    return THAW_OK;
}

int main(void)
{
    enum { BATCH = 256 };
    static const struct plan_case cases[] = {
        {"resnet50", "all", "train", TH_TRAIN},
        {"resnet50", "all", "frozen", TH_TRAIN},
        {"resnet50", "stage4,head", "auto", TH_TRAIN},
        {"resnet50", "head", "auto", TH_TRAIN},
        {"vit_base_patch16_224", "all", "auto", TH_TRAIN},
        {"vit_base_patch16_224", "block10,block11,norm,head", "auto", TH_TRAIN},
        {"vit_base_patch16_224", "head", "auto", TH_TRAIN},
    };
    printf("a MODEL (roofline), not a measurement: bf16, batch %d\n", BATCH);
    printf("%-21s %-25s %-7s %8s %7s %6s %14s %14s\n", "network", "trains", "bn",
        "launches", "TFLOP", "GB", "H100 images/s", "A100 images/s");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cost c = {0};
        if (plan_case_visit(&cases[i], BATCH, add_up, &c) != THAW_OK) {
            fprintf(stderr, "%s: %s\n", cases[i].variant, thaw_error());
            return 1;
        }
        printf("%-21s %-25s %-7s %8d %7.2f %6.1f %14.0f %14.0f\n", cases[i].variant,
            cases[i].thaw, cases[i].bn, c.launches, 2e-12 * c.macs, 1e-9 * c.bytes,
            BATCH / c.seconds[H100], BATCH / c.seconds[A100]);
    }
    return 0;
}
