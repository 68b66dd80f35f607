/* SPDX-License-Identifier: Apache-2.0
 * Owns the timing of training steps for `thaw doctor`: which networks, and their runs. Values
 * are random, and the learning rate is 0: a step costs what it always costs. */
#include "doctor_steps.h"

#include "forecast.h"
#include "inspect_time.h"
#include "mem.h"
#include "network.h"
#include "report.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { STATES = 3, MOST_RUNS = 7, LEAST_RUNS = 2, CLASSES = 10 };

/* From the one that everybody times down to what plain C does in a second. */
struct subject {
    const char *variant;
    int size, batch;
};
static const struct subject resnets[] = {{"resnet50", 224, 32}, {"resnet50", 224, 8},
    {"resnet18", 224, 8}, {"resnet18", 224, 2}, {"resnet20", 32, 8}};
static const struct subject vits[] = {{"vit_base_patch16_224", 224, 32},
    {"vit_base_patch16_224", 224, 8}, {"vit_small_patch16_224", 224, 8},
    {"vit_tiny_patch16_224", 224, 2}, {"vit_tiny_patch16_224", 64, 4}};
enum { SUBJECTS = sizeof resnets / sizeof *resnets };

/* ---- Choosing ---- */

static thaw_status make_model(const struct subject *s, struct th_network_spec *spec)
{
    static const char *const classes[CLASSES] = {
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
    TRY(th_variant_find(s->variant, &spec->backbone, &spec->variant));
    TRY(th_head_find("classify", &spec->head));
    spec->input = spec->variant->input;
    spec->input.size = (struct th_size){s->size, s->size};
    spec->classes = classes;
    spec->n_classes = CLASSES;
    return THAW_OK;
}

/* Multiply-adds of the network on one image. */
static thaw_status count_macs(const struct subject *s, double *macs)
{
    struct th_network_spec spec = {0};
    struct th_model model;
    struct th_graph g;
    int logits = -1;
    TRY(make_model(s, &spec));
    TRY(th_model_init(&model, spec.backbone, spec.variant, spec.head, 0, &spec.input,
        spec.classes, spec.n_classes));
    th_graph_init(&g);
    thaw_status status = th_model_build(&model, &g, 1, false, false, &logits);
    *macs = 0;
    for (int i = 0; i < g.n_nodes && status == THAW_OK; i++) {
        const struct th_node *n = &g.nodes[i];
        const struct th_op_rule *rule = th_op_rule(n->op);
        struct th_operand in[TH_MAX_IN] = {0}, out[TH_MAX_OUT] = {0};
        for (int k = 0; k < rule->n_in; k++)
            if (n->in[k] >= 0)
                in[k] = g.values[n->in[k]].o;
        for (int k = 0; k < rule->n_out; k++)
            if (n->out[k] >= 0)
                out[k] = g.values[n->out[k]].o;
        if (rule->fn->macs)
            *macs += (double)rule->fn->macs(&n->attr, in, out);
    }
    th_graph_release(&g);
    th_model_release(&model);
    return status;
}

/* A step is some three times its forward half, and not all of it runs like a product; the
 * steps of the three states together take as long as two of the first. */
static const double backward = 3, beside_products = 1.5, all_states = 2;

/* The first whose three states, each run as often as it has to be, fit; -1: none does. */
static thaw_status choose(
    const struct subject *list, const char *device, int threads, double time, int *out)
{
    struct th_device *d = NULL;
    struct th_rates rates = {0};
    TRY(th_device_open(device, threads, &d));
    thaw_status status = th_rates_measure(d, &rates);
    th_device_close(d);
    *out = -1;
    for (int i = 0; i < SUBJECTS && *out < 0 && status == THAW_OK; i++) {
        double macs = 0;
        status = count_macs(&list[i], &macs);
        double step = backward * beside_products * macs * list[i].batch / rates.macs;
        if (step * all_states * (1 + LEAST_RUNS) <= time)
            *out = i;
    }
    return status;
}

/* ---- One step ---- */

/* The head; the head and what is below it down to a numbered stage, "stage4" or "block11". */
static void name_state(const struct th_model *m, int state, char *text, size_t size)
{
    snprintf(text, size, "%s", state == 0 ? "all" : "head");
    for (int s = m->n_stages - 2; state == 1 && s >= 0; s--) {
        char above[64];
        const char *name = m->stages[s];
        snprintf(above, sizeof above, "%s", text);
        snprintf(text, size, "%.24s,%.38s", name, above);
        if (isdigit((unsigned char)name[strlen(name) - 1]))
            break;
    }
}

/* A run of the step and its loss, as a trainer that logs each step would have it. */
static thaw_status run_step(struct th_plan *plan, double *seconds)
{
    float loss;
    TRY(th_inspect_inputs(plan));
    double start = th_seconds();
    TRY(th_plan_run(plan));
    TRY(th_plan_get(plan, "loss", &loss));
    *seconds = th_seconds() - start;
    return THAW_OK;
}

static double median(double *took, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && took[k] < took[k - 1]; k--) {
            double swap = took[k];
            took[k] = took[k - 1];
            took[k - 1] = swap;
        }
    return took[n / 2];
}

static thaw_status time_plan(
    struct th_plan *plan, struct th_store *store, double until, struct th_timed_step *s)
{
    const struct th_scalars still = {.loss_scale = 1, .clip = 1};
    struct th_plan_stats stats;
    double took[MOST_RUNS];
    th_plan_stats(plan, &stats);
    s->arena_bytes = (int64_t)stats.arena_bytes;
    TRY(th_store_put(store, th_store_find(store, "scalars"), (const float *)&still));
    TRY(run_step(plan, &took[0]));
    do
        TRY(run_step(plan, &took[s->runs]));
    while (++s->runs < MOST_RUNS && th_seconds() < until);
    s->seconds = median(took, s->runs);
    return THAW_OK;
}

static thaw_status time_state(
    struct th_network *net, double until, struct th_timed_step *s)
{
    const struct th_optim optim = {.kind = TH_SGD, .momentum = 0.9F};
    struct th_freeze freeze;
    struct th_plan *plan = NULL;
    TRY(th_freeze_init(&freeze, &net->model, s->thaw, "auto", s->batch));
    s->trained = th_freeze_trained(&freeze, &net->model);
    const struct th_plan_spec spec = {.model = &net->model,
        .freeze = &freeze,
        .mode = TH_TRAIN,
        .batch = s->batch,
        .optim = &optim};
    thaw_status status = th_plan_new(&spec, &net->store, &net->arena, &plan);
    if (status == THAW_OK)
        status = time_plan(plan, &net->store, until, s);
    th_plan_free(plan);
    th_freeze_release(&freeze);
    return status;
}

/* ---- One network ---- */

/* Until the time is over for all states; each gets its share of what is left. */
static thaw_status time_states(struct th_network *net, const struct subject *subject,
    double until, struct th_timed_step *steps, int *n)
{
    for (int state = 0; state < STATES && th_seconds() < until; state++) {
        struct th_timed_step *s = &steps[(*n)++];
        *s = (struct th_timed_step){.network = subject->variant,
            .size = subject->size,
            .batch = subject->batch};
        name_state(&net->model, state, s->thaw, sizeof s->thaw);
        double now = th_seconds();
        thaw_status status = time_state(net, now + (until - now) / (STATES - state), s);
        if (status != THAW_OK)
            snprintf(s->why, sizeof s->why, "%s", thaw_error());
    }
    return THAW_OK;
}

static thaw_status time_network(const struct subject *list, const char *device,
    int threads, double until, struct th_timed_step *steps, int *n)
{
    int chosen;
    struct th_network net = {0};
    struct th_network_spec spec = {.device = device, .threads = threads};
    TRY(choose(list, device, threads, until - th_seconds(), &chosen));
    if (chosen < 0)
        return THAW_OK;
    TRY(make_model(&list[chosen], &spec));
    thaw_status status = th_network_init(&net, &spec);
    if (status == THAW_OK)
        status = th_network_randomise(&net, 1, false);
    if (status == THAW_OK)
        status = time_states(&net, &list[chosen], until, steps, n);
    th_network_release(&net);
    return status;
}

thaw_status th_time_steps(const char *device, int threads, double until,
    struct th_timed_step steps[TH_TIMED_STEPS], int *n)
{
    *n = 0;
    double now = th_seconds();
    TRY(time_network(resnets, device, threads, now + (until - now) / 2, steps, n));
    return time_network(vits, device, threads, until, steps, n);
}
