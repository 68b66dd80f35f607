/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_tune: every convolution of a network in every direction, once by each
 * algorithm that there is for it, timed; the fastest become rows of a table. The only
 * place where a clock chooses an algorithm, and only when it is asked to. */
#include "conv_table.h"
#include "file.h"
#include "mem.h"
#include "network.h"
#include "options.h"
#include "pretrained.h"
#include "recipe.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Rounds in which each algorithm runs once, at least and at most; between them, as many as
 * the time allows. The shortest counts. Another algorithm than the direct one has to win by
 * more than two shortest times of the same one differ. */
enum { RUNS = 9, MOST_RUNS = 300 };
static const double SECONDS = 0.1, MARGIN = 1.03;

/* One algorithm's way to do a convolution. */
struct candidate {
    struct th_call call;
    bool there; /* false: the kernel took another instead */
    double seconds;
};

/* A convolution being measured. */
struct subject {
    struct th_device *device;
    const struct th_kernel *kernel;
    struct th_conv_choice choice;
    int64_t batch;
    struct candidate candidate[TH_CONV_ALGORITHMS];
    void *args[TH_MAX_ARGS];
    size_t arg_bytes[TH_MAX_ARGS];
    void *scratch, *kept;
    size_t scratch_bytes, kept_bytes;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Operands of the call: x, w and y where its op has them. */
static void describe(const struct subject *s, struct th_call *call)
{
    const struct th_conv_choice *c = &s->choice;
    const struct th_attr_conv *a = &c->attr;
    int64_t oh = (c->h + a->pad[0] + a->pad[2] - a->dilation[0] * (c->kh - 1) - 1) /
                     a->stride[0] +
                 1;
    int64_t ow = (c->w + a->pad[1] + a->pad[3] - a->dilation[1] * (c->kw - 1) - 1) /
                     a->stride[1] +
                 1;
    struct th_operand x = {.shape = TH_SHAPE(s->batch, c->c, c->h, c->w),
        .dtype = TH_F32,
        .block = 1,
        .present = true};
    struct th_operand w = x, y = x;
    w.shape = TH_SHAPE(c->o, c->c / a->groups, c->kh, c->kw);
    y.shape = TH_SHAPE(s->batch, c->o, oh, ow);
    *call = (struct th_call){
        .op = c->op, .attr = {.conv = c->attr}, .device = s->device, .stale = true};
    call->in[0] = c->op == TH_OP_conv_dx ? y : x;
    call->in[1] = c->op == TH_OP_conv_dw ? y : w;
    call->out[0] = c->op == TH_OP_conv ? y : c->op == TH_OP_conv_dx ? x : w;
    th_layout(s->kernel, &call->attr, call->in, call->out, s->device->block);
}

static thaw_status prepare(struct subject *s, enum th_conv_algorithm algorithm)
{
    struct candidate *c = &s->candidate[algorithm];
    struct th_conv_choice choice = s->choice;
    choice.algorithm = algorithm;
    describe(s, &c->call);
    s->device->choices = &choice;
    s->device->n_choices = 1;
    thaw_status status = s->kernel->prepare ? s->kernel->prepare(&c->call) : THAW_OK;
    s->device->n_choices = 0;
    TRY(status);
    c->there = c->call.algorithm == algorithm;
    c->seconds = 1e30;
    if (c->call.scratch_bytes > s->scratch_bytes)
        s->scratch_bytes = c->call.scratch_bytes;
    if (c->call.kept_bytes > s->kept_bytes)
        s->kept_bytes = c->call.kept_bytes;
    return THAW_OK;
}

/* Device memory with values in it: zeros may multiply faster. */
static thaw_status make(struct th_device *device, size_t bytes, void **out)
{
    float *host = th_alloc(bytes, 1);
    *out = device->backend->alloc(device, bytes);
    for (size_t i = 0; host && i < bytes / sizeof *host; i++)
        host[i] = (float)(i * 2654435761u >> 8 & 1023) / 1024 - 0.5f;
    thaw_status status = !host || !*out
                             ? THAW_E_MEMORY
                             : device->backend->upload(device, *out, host, bytes);
    th_free(host);
    return status;
}

static thaw_status make_memory(struct subject *s)
{
    const struct th_call *call = &s->candidate[TH_CONV_DIRECT].call;
    int n_in = th_op_rule(call->op)->n_in;
    for (int i = 0; i < TH_MAX_ARGS; i++) {
        const struct th_operand *o = i < n_in    ? &call->in[i]
                                     : i == n_in ? &call->out[0]
                                                 : NULL;
        if (!o || !o->present)
            continue;
        s->arg_bytes[i] = th_operand_bytes(o);
        TRY(make(s->device, s->arg_bytes[i], &s->args[i]));
    }
    TRY(make(s->device, s->scratch_bytes + 1, &s->scratch));
    return make(s->device, s->kept_bytes + 1, &s->kept);
}

static thaw_status time_once(struct subject *s, struct candidate *c)
{
    memcpy(c->call.args, s->args, sizeof s->args);
    c->call.scratch = s->scratch;
    c->call.kept = c->call.kept_bytes ? s->kept : NULL;
    double start = now();
    TRY(s->kernel->run(&c->call));
    double seconds = now() - start;
    c->seconds = seconds < c->seconds ? seconds : c->seconds;
    return THAW_OK;
}

static void release(struct subject *s)
{
    const struct th_backend *backend = s->device->backend;
    for (int i = 0; i < TH_CONV_ALGORITHMS; i++)
        if (s->kernel->release && s->candidate[i].call.state)
            s->kernel->release(&s->candidate[i].call);
    for (int i = 0; i < TH_MAX_ARGS; i++)
        if (s->args[i])
            backend->free(s->device, s->args[i], s->arg_bytes[i]);
    if (s->scratch)
        backend->free(s->device, s->scratch, s->scratch_bytes + 1);
    if (s->kept)
        backend->free(s->device, s->kept, s->kept_bytes + 1);
}

static thaw_status measure(struct subject *s)
{
    for (int i = 0; i < TH_CONV_ALGORITHMS; i++)
        TRY(prepare(s, (enum th_conv_algorithm)i));
    TRY(make_memory(s));
    double start = now();
    for (int run = 0; run < RUNS || (run < MOST_RUNS && now() - start < SECONDS); run++)
        for (int i = 0; i < TH_CONV_ALGORITHMS; i++)
            if (s->candidate[i].there)
                TRY(time_once(s, &s->candidate[i]));
    double best = s->candidate[TH_CONV_DIRECT].seconds / MARGIN;
    for (int i = 0; i < TH_CONV_ALGORITHMS; i++)
        if (s->candidate[i].there && s->candidate[i].seconds < best) {
            best = s->candidate[i].seconds;
            s->choice.algorithm = (enum th_conv_algorithm)i;
        }
    return THAW_OK;
}

/* What was found, as a line and as a row ------------------------------------------- */

struct report {
    void (*write)(void *context, const char *text);
    void *context;
    struct th_json_out json;
};

static void tell(struct report *r, const struct subject *s)
{
    const struct th_conv_choice *c = &s->choice;
    const struct th_call *call = &s->candidate[TH_CONV_DIRECT].call;
    double macs = (double)th_op_rule(c->op)->fn->macs(&call->attr, call->in, call->out);
    char line[256];
    int n = snprintf(line, sizeof line, "%-7s %4lld x %3lldx%-3lld -> %4lld  ",
        th_op_rule(c->op)->name, (long long)c->c, (long long)c->h, (long long)c->w,
        (long long)c->o);
    th_json_open(&r->json, '{');
    th_conv_table_put(&r->json, c);
    th_json_key(&r->json, "milliseconds");
    th_json_open(&r->json, '{');
    for (int i = 0; i < TH_CONV_ALGORITHMS; i++) {
        const char *name = th_conv_algorithm_name((enum th_conv_algorithm)i);
        double seconds = s->candidate[i].seconds;
        if (!s->candidate[i].there)
            continue;
        th_json_put_real(&r->json, name, 1e3 * seconds);
        n += snprintf(line + n, sizeof line - (size_t)n, "%s %.1f  ", name,
            2e-9 * macs / seconds);
    }
    th_json_close(&r->json, '}');
    th_json_close(&r->json, '}');
    snprintf(line + n, sizeof line - (size_t)n, "GF/s: %s",
        th_conv_algorithm_name(c->algorithm));
    r->write(r->context, line);
}

static thaw_status tune_one(struct th_device *device, const struct th_conv_choice *c,
    int batch, struct report *r)
{
    struct subject s = {.device = device,
        .kernel = device->backend->kernel(c->op),
        .choice = *c,
        .batch = batch};
    thaw_status status = measure(&s);
    if (status == THAW_OK)
        tell(r, &s);
    release(&s);
    return status;
}

/* The network's convolutions, each once --------------------------------------------- */

static bool was_before(const struct th_conv_choice *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (th_conv_choice_same(&list[i], &list[n]))
            return true;
    return false;
}

/* In all directions, where there is a choice. Fresh list. */
static thaw_status list_convolutions(
    const struct th_graph *g, struct th_conv_choice **out, size_t *n)
{
    static const enum th_op directions[] = {TH_OP_conv, TH_OP_conv_dx, TH_OP_conv_dw};
    struct th_conv_choice *list = th_alloc((size_t)g->n_nodes * 3 + 1, sizeof *list);
    *out = list;
    if (!list)
        return THAW_E_MEMORY;
    for (size_t d = 0; d < 3; d++)
        for (int i = 0; i < g->n_nodes; i++) {
            const struct th_node *node = &g->nodes[i];
            struct th_call call = {.op = TH_OP_conv, .attr = node->attr};
            if (node->op != TH_OP_conv)
                continue;
            call.in[0] = g->values[node->in[0]].o;
            call.in[1] = g->values[node->in[1]].o;
            call.out[0] = g->values[node->out[0]].o;
            list[*n] = th_conv_choice_of(&call);
            list[*n].op = directions[d];
            if (th_conv_choice_open(&list[*n]) && !was_before(list, *n))
                ++*n;
        }
    return THAW_OK;
}

static thaw_status tune_network(struct th_network *net, int batch, struct report *r)
{
    struct th_graph g;
    struct th_conv_choice *list = NULL;
    size_t n = 0;
    int logits = -1;
    th_graph_init(&g);
    thaw_status status = th_model_build(&net->model, &g, batch, true, true, &logits);
    if (status == THAW_OK)
        status = list_convolutions(&g, &list, &n);
    th_graph_release(&g);
    th_json_open(&r->json, '{');
    th_json_put_whole(&r->json, TH_CONV_TABLE_KEY, TH_CONV_TABLE_VERSION);
    th_json_put_string(&r->json, "device", net->device->backend->describe(net->device));
    th_json_put_string(&r->json, "backbone", net->model.variant->name);
    th_json_put_size(&r->json, "image_size", net->model.input.size);
    th_json_put_whole(&r->json, "batch", batch);
    th_json_key(&r->json, TH_CONV_TABLE_ROWS);
    th_json_open(&r->json, '[');
    for (size_t i = 0; i < n && status == THAW_OK; i++)
        status = tune_one(net->device, &list[i], batch, r);
    th_json_close(&r->json, ']');
    th_json_close(&r->json, '}');
    th_free(list);
    return status == THAW_OK ? th_json_out_status(&r->json) : status;
}

thaw_status thaw_tune(const char *path, const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    static const char *const classes[] = {"0", "1"};
    const struct th_device_name device = th_option_device(o);
    struct th_network_spec spec = {.device = device.text,
        .threads = th_option_threads(o, "threads"),
        .classes = classes,
        .n_classes = 2};
    struct th_network net = {0};
    struct report r = {.write = write, .context = context};
    bool assumed = false;
    TRY(th_pretrained_identify(NULL, o, &spec, &assumed));
    thaw_status status = th_network_init(&net, &spec);
    if (status == THAW_OK)
        status = tune_network(&net, (int)th_option_int(o, "batch"), &r);
    if (status == THAW_OK)
        status = th_file_write_atomic(path, r.json.text, r.json.n, NULL);
    th_json_out_release(&r.json);
    th_network_release(&net);
    return status;
}
