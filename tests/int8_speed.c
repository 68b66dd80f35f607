/* SPDX-License-Identifier: Apache-2.0
 * How much faster an int8 prefix is: int8_speed [VARIANT [SIZE [BATCH [ROUNDS]]]].
 *
 * Plans of head-only training, in fp32 and with the prefix in int8, are run one after the
 * other; of each layer's steps (reorders and quantising belong to the layer they are made
 * for) and of the whole the shortest of all rounds counts. Values are by formula: speed does
 * not depend on them. Build the target int8_speed; OMP_WAIT_POLICY=passive on a busy machine. */
#include "net.h"

#include "int8.h"
#include "pass.h"

#include <stdio.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct layer {
    const char *name;
    int64_t macs;
    double best[2]; /* fp32, int8 */
};

struct table {
    struct layer *layer;
    int n;
    double best[2];
};

static struct layer *layer_of(struct table *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->layer[i].name, name))
            return &t->layer[i];
    t->layer[t->n] = (struct layer){.name = name, .best = {INFINITY, INFINITY}};
    return &t->layer[t->n++];
}

/* A run of the plan, step by step; the plan has run before, so nothing is derived. */
static void time_plan(struct th_plan *p, struct table *t, int which)
{
    double *sum = th_alloc((size_t)p->n_steps, sizeof *sum), all = 0;
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = &p->steps[i];
        if (s->derived)
            continue;
        double began = seconds();
        must(s->kernel->run(&s->call));
        double took = seconds() - began;
        struct layer *l = layer_of(t, s->name ? s->name : th_op_rule(s->call.op)->name);
        const struct th_op_fn *fn = th_op_rule(s->call.op)->fn;
        sum[l - t->layer] += took;
        all += took;
        l->macs = fn->macs ? fn->macs(&s->call.attr, s->call.in, s->call.out) : l->macs;
    }
    for (int i = 0; i < t->n; i++)
        if (sum[i] > 0 && sum[i] < t->layer[i].best[which])
            t->layer[i].best[which] = sum[i];
    t->best[which] = all < t->best[which] ? all : t->best[which];
    th_free(sum);
}

static void calibrate(struct net *n)
{
    struct th_network view = {
        .device = n->device, .model = n->model, .store = n->store, .arena = n->arena};
    size_t pixels = th_input_values(&n->model.input);
    struct th_probe probe = {.n = 2};
    int count = 0;
    probe.images = th_alloc(2 * pixels, sizeof *probe.images);
    for (size_t i = 0; i < 2 * pixels; i++)
        probe.images[i] = th_rng_normal(5, i);
    must(th_int8_calibrate(&view, &n->freeze, &probe, &count));
    n->store = view.store;
    th_probe_release(&probe);
}

static void print(const struct table *t, int batch)
{
    printf(
        "%-28s %10s %10s %8s %10s\n", "layer", "fp32 ms", "int8 ms", "ratio", "GMAC/s");
    for (int i = 0; i < t->n; i++) {
        const struct layer *l = &t->layer[i];
        bool both = l->best[0] < INFINITY && l->best[1] < INFINITY;
        printf("%-28s %10.2f %10.2f %8.2f %10.0f\n", l->name,
            l->best[0] < INFINITY ? 1e3 * l->best[0] : 0,
            l->best[1] < INFINITY ? 1e3 * l->best[1] : 0,
            both ? l->best[0] / l->best[1] : 0,
            both && l->macs ? 1e-9 * (double)l->macs / l->best[1] : 0);
    }
    printf("%-28s %10.2f %10.2f %8.2f   %.1f and %.1f images/s\n", "all",
        1e3 * t->best[0], 1e3 * t->best[1], t->best[0] / t->best[1], batch / t->best[0],
        batch / t->best[1]);
}

int main(int argc, char **argv)
{
    const char *variant = argc > 1 ? argv[1] : "resnet50";
    int size = argc > 2 ? atoi(argv[2]) : 224, batch = argc > 3 ? atoi(argv[3]) : 32;
    int rounds = argc > 4 ? atoi(argv[4]) : 5;
    struct net n;
    struct th_plan *real = NULL;
    struct table t = {.best = {INFINITY, INFINITY}};
    net_open(&n, "cpu", variant, size, 10, 7);
    net_plan(
        &n, (struct th_plan_spec){.mode = TH_TRAIN, .batch = batch}, "head", "frozen");
    calibrate(&n);
    real = n.plan;
    n.plan = NULL;
    net_plan(&n,
        (struct th_plan_spec){.mode = TH_TRAIN, .batch = batch, .prefix_int8 = true},
        "head", "frozen");
    t.layer = th_alloc((size_t)(real->n_steps + n.plan->n_steps), sizeof *t.layer);
    struct th_plan *plans[] = {real, n.plan};
    for (int r = 0; r < rounds; r++)
        for (int k = 0; k < 2; k++) {
            n.plan = plans[k];
            net_run(&n, 1, 0.1F);
            time_plan(plans[k], &t, k);
        }
    print(&t, batch);
    n.plan = plans[1];
    th_plan_free(real);
    th_free(t.layer);
    net_close(&n);
    return 0;
}
