/* SPDX-License-Identifier: Apache-2.0
 * Owns the walk over plans, and labels. */
#include "calls.h"

#include "mem.h"
#include "pass.h"

#include <stdio.h>
#include <string.h>

extern const struct th_head th_head_classify; /* heads/classify.c */

/* ---- labels ---- */

static const char *const operands[TH_OP_COUNT] = {
#define OP(name, family, n_in, n_out, writes, ...) [TH_OP_##name] = #__VA_ARGS__,
#include "ops.def"
#undef OP
};

struct label {
    char text[160];
    size_t used;
};

static void put(struct label *l, const char *word)
{
    int n = snprintf(
        l->text + l->used, sizeof l->text - l->used, l->used ? " %s" : "%s", word);
    if (n > 0 && (size_t)n < sizeof l->text - l->used)
        l->used += (size_t)n;
}

/* The operands that may be absent and are not: their names end in an underscore. */
static void put_optional(struct label *l, const struct th_call *call)
{
    const struct th_op_rule *rule = th_op_rule(call->op);
    const char *at = operands[call->op];
    for (int i = 0; i < rule->n_in + rule->n_out; i++) {
        const struct th_operand *o =
            i < rule->n_in ? &call->in[i] : &call->out[i - rule->n_in];
        at += strspn(at, "*, ");
        size_t n = strcspn(at, ",");
        char word[32];
        snprintf(word, sizeof word, "+%.*s", (int)n - 1, at);
        if (at[n - 1] == '_' && o->present)
            put(l, word);
        at += n;
    }
}

static void put_window(struct label *l, const struct th_call *call)
{
    const struct th_operand *w =
        call->op == TH_OP_conv_dw ? &call->out[0] : &call->in[1];
    const struct th_attr_conv *a = &call->attr.conv;
    char word[64];
    snprintf(word, sizeof word, "%lldx%lld/%d", (long long)w->shape.dim[2],
        (long long)w->shape.dim[3], a->stride[0]);
    put(l, word);
    if (w->shape.dim[1] * a->groups == 3)
        put(l, "of 3 channels");
}

static void put_call(struct label *l, const struct th_call *call)
{
    enum th_op op = call->op;
    put(l, th_op_rule(op)->name);
    if (op == TH_OP_conv || op == TH_OP_conv_dx || op == TH_OP_conv_dw)
        put_window(l, call);
    put_optional(l, call);
    if ((op == TH_OP_conv && call->attr.conv.relu) ||
        (op == TH_OP_bn_apply && call->attr.norm.relu))
        put(l, "relu");
    if (op == TH_OP_bias_grad)
        put(l, call->in[0].shape.rank == 4 ? "of an image" : "of rows");
    if ((op == TH_OP_linear || op == TH_OP_linear_dx || op == TH_OP_linear_dw) &&
        call->in[0].shape.rank == 2)
        put(l, "[n][d]"); /* of one row a sample: a head, a last block */
}

static char *label_of(const struct th_cuda_group *g)
{
    struct label l = {.used = 0};
    put_call(&l, g->calls[0]);
    if (g->n == 2) {
        put(&l, "&");
        put_call(&l, g->calls[1]);
    }
    if (g->n == 2 && g->keep && g->calls[0]->op == TH_OP_linear)
        put(&l, "(keeps x)");
    return th_strdup(l.text);
}

/* ---- the walk ---- */

struct th_cuda_group distinct_group(const struct distinct *d)
{
    return (struct th_cuda_group){
        .calls = {&d->calls[0], &d->calls[1]}, .n = d->n, .keep = d->keep};
}

static thaw_status add(
    struct distinct_list *list, const struct th_cuda_group *g, const char *name)
{
    struct th_cudnn_graph *graph = NULL;
    struct distinct d = {.n = g->n, .keep = g->keep};
    thaw_status status = th_cuda_graph(g, CUDNN_DATA_FLOAT, &graph);
    if (status != THAW_OK)
        return th_fail(status, "%s: %s", name, thaw_error());
    d.text = th_cudnn_graph_text(graph);
    d.label = label_of(g);
    th_cudnn_graph_free(graph);
    if (!d.text || !d.label)
        return THAW_E_MEMORY;
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->all[i].text, d.text) == 0) {
            th_free(d.text);
            th_free(d.label);
            return THAW_OK;
        }
    for (int i = 0; i < g->n; i++)
        d.calls[i] = *g->calls[i];
    if (list->n == list->cap) {
        int grown = list->cap ? 2 * list->cap : 64;
        void *all =
            th_realloc(list->all, (size_t)list->cap, (size_t)grown, sizeof *list->all);
        if (!all)
            return THAW_E_MEMORY;
        list->all = all;
        list->cap = grown;
    }
    list->all[list->n++] = d;
    return THAW_OK;
}

struct th_pair_step *plan_steps(const struct th_plan *p)
{
    struct th_pair_step *steps = th_alloc((size_t)p->n_steps, sizeof *steps);
    for (int i = 0; steps && i < p->n_steps; i++) {
        const struct th_step *s = &p->steps[i];
        steps[i].call = &s->call;
        memcpy(steps[i].in, s->in, sizeof s->in);
        memcpy(steps[i].out, s->out, sizeof s->out);
        for (int k = 0; k < TH_MAX_OUT; k++)
            steps[i].wanted = steps[i].wanted ||
                              (s->out[k] >= 0 && p->graph.values[s->out[k]].wanted);
    }
    if (steps)
        th_cuda_group_steps(steps, p->n_steps);
    return steps;
}

static thaw_status walk(void *context, const struct th_plan *p)
{
    struct distinct_list *list = context;
    struct th_pair_step *steps = plan_steps(p);
    thaw_status status = steps ? THAW_OK : THAW_E_MEMORY;
    for (int i = 0; status == THAW_OK && i < p->n_steps; i++) {
        struct th_cuda_group g;
        const char *why;
        bool opens = th_cuda_group_of(steps, i, &g);
        bool graph = g.n == 2 || th_cuda_has_graph(g.calls[0]->op, &why);
        list->n_steps++;
        list->n_graph_steps += graph;
        if (!graph)
            list->own[g.calls[0]->op] = true;
        else if (opens)
            status = add(list, &g, p->steps[i].name ? p->steps[i].name : "?");
    }
    list->n_plans++;
    th_free(steps);
    return status;
}

struct visitor {
    thaw_status (*visit)(void *context, const struct th_plan *p);
    void *context;
};

static thaw_status plan_and_visit(
    const struct plan_case *c, struct th_model *m, int batch, const struct visitor *to)
{
    struct th_store store;
    struct th_arena arena;
    struct th_freeze freeze = {0};
    struct th_plan *plan = NULL;
    const struct th_optim optim = {.kind = TH_SGD, .momentum = 0.9F};
    bool *measured = th_alloc((size_t)m->n_bns + 1, sizeof *measured);
    if (!measured)
        return THAW_E_MEMORY;
    for (int i = 0; i < m->n_bns; i++)
        measured[i] = true;
    th_store_init(&store, &plancheck_device);
    th_arena_init(&arena, &plancheck_device);
    thaw_status status = THAW_OK;
    for (int i = 0, id; status == THAW_OK && i < m->n_params; i++)
        status = th_store_add(&store, m->params[i].name, m->params[i].shape, &id);
    if (status == THAW_OK)
        status = th_freeze_init(&freeze, m, c->thaw, c->bn, batch);
    struct th_plan_spec spec = {.model = m,
        .freeze = &freeze,
        .mode = c->mode,
        .batch = batch,
        .loss = true,
        .optim = &optim,
        .measured = measured};
    if (status == THAW_OK)
        status = th_plan_new(&spec, &store, &arena, &plan);
    if (status == THAW_OK)
        status = to->visit(to->context, plan);
    th_plan_free(plan);
    th_freeze_release(&freeze);
    th_arena_release(&arena);
    th_store_release(&store);
    th_free(measured);
    return status;
}

thaw_status plan_case_visit(const struct plan_case *c, int batch,
    thaw_status (*visit)(void *context, const struct th_plan *p), void *context)
{
    static const char *const classes[] = {
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    const struct visitor to = {visit, context};
    const struct th_backbone *backbone = NULL;
    const struct th_variant *v = NULL;
    struct th_model model;
    TRY(th_variant_find(c->variant, &backbone, &v));
    TRY(th_model_init(&model, backbone, v, &th_head_classify, 0, &v->input, classes,
        (int)(sizeof classes / sizeof *classes)));
    thaw_status status = plan_and_visit(c, &model, batch, &to);
    th_model_release(&model);
    return status;
}

thaw_status distinct_collect(
    struct distinct_list *list, const struct plan_case *c, int batch)
{
    return plan_case_visit(c, batch, walk, list);
}

thaw_status distinct_add_calls(struct distinct_list *list, int i)
{
    const struct distinct pair = list->all[i];
    for (int k = 0; k < pair.n; k++) {
        const struct th_cuda_group g = {.calls = {&pair.calls[k]}, .n = 1};
        const char *why;
        if (th_cuda_has_graph(pair.calls[k].op, &why))
            TRY(add(list, &g, pair.label));
        else
            list->own[pair.calls[k].op] = true;
    }
    return THAW_OK;
}

void distinct_release(struct distinct_list *list)
{
    for (int i = 0; i < list->n; i++) {
        th_free(list->all[i].label);
        th_free(list->all[i].text);
    }
    th_free(list->all);
    *list = (struct distinct_list){0};
}
