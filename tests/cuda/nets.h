/* SPDX-License-Identifier: Apache-2.0
 * Small networks with every kind of layer, and trainings of them on any device. */
#ifndef TH_TESTS_CUDA_NETS_H
#define TH_TESTS_CUDA_NETS_H

#include "net.h"

/* "resnet20" at 12 pixels, larger ones at 32, "bottleneck" (a stem with max pooling, blocks of width 8),
 * "vit" (16 tokens and a class token of 32 values, 2 blocks). */
struct training {
    const char *net, *thaw, *bn;
    enum th_optimizer optimizer;
    int steps;
    const char *then; /* what is thawed from the middle on; NULL: as before */
    float clip;
    float lr;              /* 0: 1e-3. Where rounding does not grow from step to step */
    const char *precision; /* on a GPU; NULL: fp32 */
};

enum { TRACE = 32 };

struct trace {
    float loss[TRACE];
    float *values; /* of all parameters, one after the other; owned */
    int64_t n;
};

void model_init_small(struct th_model *m, const char *name);
/* The network on the device, with values drawn from one seed. */
void net_open_small(struct net *n, const char *device, const char *name);

/* Plan for the training's step. */
void training_plan(struct net *n, const struct training *t, const char *thaw);
void training_optim(struct net *n, const struct training *t);
/* What a step reads: the same images each time. */
void training_upload(struct net *n, const struct training *t);
/* Adds the values of all parameters to the trace. */
void training_values(struct net *n, struct trace *out);
/* One step; its loss. */
float training_step(struct net *n, const struct training *t);

void training_run(const char *device, const struct training *t, struct trace *out);
void trace_release(struct trace *t);

#endif
