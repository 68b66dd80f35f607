/* SPDX-License-Identifier: Apache-2.0
 * Owns a plan: lowers a model's graph through the passes, prepares the steps, places
 * their bytes. Running them is exec.c's business.
 *
 * Invariants, each with a test in tests/test_plan.c:
 *   P1 running a plan allocates nothing
 *   P2 a frozen parameter is bitwise unchanged after any number of steps
 *   P3 no step has all its outputs unread; an unread output has no lasting storage
 *   P4 two storages alive together share no byte (views and in-place steps name theirs)
 *   P5 each pass alone keeps results within tolerance
 *   P6 a BatchNorm on running statistics has bitwise unchanged statistics */
#include "pass.h"

#include "mem.h"
#include "ref/ref.h"

#include <stdio.h>
#include <string.h>

void th_arena_init(struct th_arena *a, struct th_device *device)
{
    *a = (struct th_arena){.device = device};
}

void th_arena_release(struct th_arena *a)
{
    if (a->base)
        a->device->backend->free(a->device, a->base, a->bytes);
    *a = (struct th_arena){0};
}

void th_arena_discard(struct th_arena *a)
{
    a->turn++;
    if (a->base && a->device->backend->discard)
        a->device->backend->discard(a->device, a->base, a->bytes);
}

/* At least `bytes`; what was in it is lost, and plans bind their pointers again. */
static thaw_status arena_grow(struct th_arena *a, size_t bytes)
{
    if (bytes <= a->bytes && a->base)
        return THAW_OK;
    struct th_device *device = a->device;
    uint64_t turn = a->turn + 1;
    th_arena_release(a);
    a->device = device;
    a->turn = turn;
    a->base = device->backend->alloc(device, bytes ? bytes : TH_ALIGN);
    if (!a->base)
        return THAW_E_MEMORY;
    a->bytes = bytes ? bytes : TH_ALIGN;
    return THAW_OK;
}

static void mark_trainable(struct th_lowering *l)
{
    const struct th_plan_spec *spec = l->spec;
    for (int i = 0; spec->mode == TH_TRAIN && i < spec->model->n_params; i++) {
        int v = th_graph_find(&l->graph, spec->model->params[i].name);
        if (v >= 0)
            l->graph.values[v].trainable = spec->freeze->trainable[i];
    }
}

/* Forward nodes with no trainable, batch-statistics or random node among themselves and
 * their ancestors. */
static thaw_status count_cut(struct th_lowering *l)
{
    struct th_graph *g = &l->graph;
    bool *above = th_alloc((size_t)g->n_values, sizeof *above);
    if (!above)
        return THAW_E_MEMORY;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct th_node *n = &g->nodes[i];
        bool moves = n->op == TH_OP_bn_stats || th_op_is_random(n->op);
        for (int k = 0; k < TH_MAX_IN; k++)
            moves = moves || (n->in[k] >= 0 &&
                                 (above[n->in[k]] || g->values[n->in[k]].trainable));
        for (int k = 0; k < TH_MAX_OUT; k++)
            if (n->out[k] >= 0)
                above[n->out[k]] = moves;
        l->n_cut += !moves && n->phase == TH_FORWARD && n->op != TH_OP_bn_fold &&
                    n->op != TH_OP_linear_fold && n->op != TH_OP_conv_q_weights &&
                    n->op != TH_OP_lora_merge && n->op != TH_OP_view;
    }
    th_free(above);
    return THAW_OK;
}

static thaw_status want_gradients(struct th_lowering *l)
{
    const struct th_model *m = l->spec->model;
    for (int i = 0; l->spec->keep_gradients && i < m->n_params; i++) {
        int v = th_graph_find(&l->graph, m->params[i].name);
        if (v < 0 || v >= l->n_grad || l->grad[v] < 0)
            continue;
        char *name = th_format("grad/%s", m->params[i].name);
        if (!name)
            return THAW_E_MEMORY;
        th_graph_want(&l->graph, l->grad[v], name);
        th_free(name);
    }
    return l->graph.status;
}

static void add_scalars(struct th_lowering *l)
{
    if (l->scalars < 0)
        l->scalars = th_graph_state(&l->graph, "scalars",
            TH_SHAPE((int64_t)(sizeof(struct th_scalars) / sizeof(float))));
}

static thaw_status lower_update(struct th_lowering *l)
{
    th_graph_init(&l->graph);
    add_scalars(l);
    return th_pass_update_from_totals(l);
}

static thaw_status lower_training(struct th_lowering *l)
{
    add_scalars(l);
    TRY(th_pass_grad(l));
    TRY(want_gradients(l));
    return th_pass_update(l);
}

static thaw_status lower(struct th_lowering *l)
{
    const struct th_plan_spec *spec = l->spec;
    bool training = spec->mode == TH_TRAIN;
    if (spec->part == TH_PART_UPDATE)
        return lower_update(l);
    TRY(th_model_build((struct th_model *)spec->model, &l->graph, spec->batch, training,
        training || spec->loss, &l->loss));
    for (int i = 0; i < l->graph.n_values && spec->mode == TH_CALIBRATE; i++)
        l->graph.values[i].wanted = false;
    mark_trainable(l);
    TRY(th_pass_random(l));
    if (spec->prefix_int8)
        TRY(th_pass_int8_mark(l));
    TRY(th_pass_bn(l));
    if (!(spec->without & TH_PASS_FOLD))
        TRY(th_pass_fold(l));
    if (training)
        TRY(lower_training(l));
    th_graph_sweep(&l->graph);
    if (!(spec->without & TH_PASS_FUSE))
        TRY(th_pass_fuse(l));
    if (spec->prefix_int8)
        TRY(th_pass_int8(l));
    TRY(th_pass_recompute(l));
    TRY(th_pass_layout(l));
    TRY(count_cut(l));
    return th_pass_cut(l);
}

/* ---- From nodes to prepared steps ---- */

static bool outlives_run(const struct th_graph *g, int value)
{
    return g->values[value].kind == TH_VALUE_STATE ||
           g->values[value].kind == TH_VALUE_DERIVED;
}

static thaw_status describe_step(
    struct th_plan *p, const struct th_node *n, struct th_step *s)
{
    const struct th_backend *backend = p->store->device->backend;
    s->kernel = n->host ? &th_hosted_kernel : backend->kernel(n->op);
    if (!s->kernel)
        return th_fail(THAW_E_FAIL, "%s: the device '%s' has no kernel for %s", n->name,
            backend->name, th_op_rule(n->op)->name);
    s->phase = n->phase;
    s->call =
        (struct th_call){.op = n->op, .attr = n->attr, .device = p->store->device};
    s->feeds = s->fed_by = -1;
    s->derived = n->phase == TH_FORWARD;
    for (int k = 0; k < TH_MAX_IN; k++) {
        s->in[k] = n->in[k];
        if (n->in[k] >= 0)
            s->call.in[k] = p->graph.values[n->in[k]].o;
        s->derived = s->derived && (n->in[k] < 0 || outlives_run(&p->graph, n->in[k]));
    }
    for (int k = 0; k < TH_MAX_OUT; k++) {
        s->out[k] = n->out[k];
        if (n->out[k] >= 0)
            s->call.out[k] = p->graph.values[n->out[k]].o;
    }
    for (int k = 0; k < TH_MAX_IN; k++)
        s->moves = s->moves || (n->in[k] >= 0 && (p->graph.values[n->in[k]].trainable ||
                                                     p->graph.values[n->in[k]].moves));
    for (int k = 0; s->derived && s->moves && k < TH_MAX_OUT; k++)
        if (n->out[k] >= 0)
            p->graph.values[n->out[k]].moves = true;
    s->name = th_strdup(n->name);
    return n->name && !s->name ? THAW_E_MEMORY : THAW_OK;
}

/* With its partner, if it is the first of a pair and the device takes it. */
static thaw_status prepare_step(struct th_plan *p, int i)
{
    struct th_step *s = &p->steps[i];
    const struct th_backend *backend = p->store->device->backend;
    if (s->call.second) {
        TRY(backend->pair_kernel->prepare(&s->call));
        if (s->call.second)
            s->kernel = backend->pair_kernel;
        else
            th_pass_part(p, i);
    } else if (s->partner >= 0)
        return THAW_OK; /* the first has prepared both */
    if (!s->call.second && s->kernel->prepare)
        TRY(s->kernel->prepare(&s->call));
    s->bound = true;
    if (!s->call.kept_bytes || s->moves || p->keeping != TH_KEPT_APART)
        return THAW_OK;
    p->stats.kept_bytes += s->call.kept_bytes;
    s->lasting = backend->alloc(p->store->device, s->call.kept_bytes);
    return s->lasting ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status make_steps(struct th_plan *p)
{
    p->steps = th_alloc((size_t)p->graph.n_nodes, sizeof *p->steps);
    p->calls = th_alloc((size_t)p->graph.n_nodes, sizeof *p->calls);
    if (!p->steps || !p->calls)
        return THAW_E_MEMORY;
    for (int i = 0; i < p->graph.n_nodes; i++) {
        const struct th_node *n = &p->graph.nodes[i];
        if (n->op == TH_OP_view)
            continue;
        p->calls[p->n_steps] = &p->steps[p->n_steps].call;
        TRY(describe_step(p, n, &p->steps[p->n_steps++]));
    }
    TRY(th_pass_pair(p));
    for (int i = 0; i < p->n_steps; i++)
        TRY(prepare_step(p, i));
    return THAW_OK;
}

/* States get their memory; other values only their size. */
static thaw_status make_places(struct th_plan *p)
{
    p->places = th_alloc((size_t)p->graph.n_values, sizeof *p->places);
    if (!p->places)
        return THAW_E_MEMORY;
    for (int v = 0; v < p->graph.n_values; v++) {
        const struct th_value *value = &p->graph.values[v];
        struct th_place *place = &p->places[v];
        *place = (struct th_place){
            .root = v, .state = -1, .bytes = th_operand_bytes(&value->o)};
        if (value->kind == TH_VALUE_STATE)
            TRY(th_store_add(p->store, value->name, value->o.shape, &place->state));
    }
    return THAW_OK;
}

/* The step that alone reads a value, and only to keep it packed from run to run; -1. */
static int packer_of(const struct th_plan *p, int value)
{
    int found = -1;
    for (int i = 0; i < p->n_steps; i++)
        for (int k = 0; k < TH_MAX_IN; k++) {
            const struct th_step *s = &p->steps[i];
            if (s->in[k] < 0 ||
                (s->in[k] != value && p->graph.values[s->in[k]].view_of != value))
                continue;
            bool packs = s->in[k] == value && s->lasting && (s->call.packs >> k & 1);
            if (found >= 0 || !packs || s->derived || s->partner >= 0 || s->fed_by >= 0)
                return -1;
            found = i;
        }
    return p->graph.values[value].wanted ? -1 : found;
}

/* Of a training plan, derived values get memory of their own, but what is packed lives from
 * where it is made to where that happens. */
static thaw_status place_derived(struct th_plan *p)
{
    struct th_device *device = p->store->device;
    for (int i = 0; i < p->n_steps && p->keeping == TH_KEPT_APART; i++) {
        struct th_step *s = &p->steps[i];
        for (int k = 0; s->derived && k < TH_MAX_OUT; k++) {
            if (s->out[k] < 0)
                continue;
            struct th_place *place = &p->places[s->out[k]];
            int packer = s->feeds < 0 ? packer_of(p, s->out[k]) : -1;
            if (packer >= 0) {
                s->feeds = packer;
                p->steps[packer].fed_by = i;
                continue;
            }
            place->derived = device->backend->alloc(device, place->bytes);
            if (!place->derived)
                return THAW_E_MEMORY;
        }
    }
    return THAW_OK;
}

/* Plain C on a device that has faster kernels for the common ops. */
enum { PLAIN_C_EFFORT = 30 };

static double effort(const struct th_plan *p, const struct th_step *s)
{
    const struct th_backend *backend = p->store->device->backend;
    bool plain = s->kernel == th_ref_kernel(s->call.op) &&
                 backend->kernel(TH_OP_linear) != th_ref_kernel(TH_OP_linear);
    return s->call.effort > 0 ? s->call.effort : plain ? PLAIN_C_EFFORT : 1;
}

static size_t value_bytes(const struct th_plan *p, int value)
{
    return value < 0 || p->places[value].nowhere ? 0 : p->places[value].bytes;
}

static size_t bytes_of(const struct th_plan *p, const struct th_step *s)
{
    size_t bytes = 0;
    for (int k = 0; k < TH_MAX_IN; k++)
        bytes += value_bytes(p, s->in[k]);
    for (int k = 0; k < TH_MAX_OUT; k++)
        bytes += value_bytes(p, s->out[k]);
    return bytes;
}

static int64_t macs_of(const struct th_step *s)
{
    const struct th_op_fn *fn = th_op_rule(s->call.op)->fn;
    return fn->macs ? fn->macs(&s->call.attr, s->call.in, s->call.out) : 0;
}

static void count_work(struct th_plan *p)
{
    struct th_plan_stats *stats = &p->stats;
    for (int i = 0; i < p->n_steps; i++) {
        const struct th_step *s = &p->steps[i];
        if (s->derived && !s->moves)
            continue;
        stats->macs += macs_of(s);
        stats->moved_bytes += bytes_of(p, s);
        if (th_op_rule(s->call.op)->fn->macs)
            stats->work_macs += effort(p, s) * (double)macs_of(s);
        else
            stats->work_bytes += effort(p, s) * (double)bytes_of(p, s);
    }
    for (int v = 0; v < p->graph.n_values; v++)
        stats->derived_bytes += p->places[v].derived ? p->places[v].bytes : 0;
}

static void count_steps(struct th_plan *p)
{
    p->stats.n_steps = p->n_steps;
    for (int i = 0; i < p->n_steps; i++) {
        const struct th_step *s = &p->steps[i];
        p->stats.n_derived += s->derived;
        p->stats.n_forward += s->phase == TH_FORWARD && !s->derived;
        p->stats.n_backward += s->phase == TH_BACKWARD;
        p->stats.n_commit += s->phase == TH_COMMIT;
    }
}

static thaw_status place_steps(struct th_plan *p, bool reuse)
{
    TRY(th_pass_arena(p, reuse));
    bool grows = p->arena->base && p->stats.arena_bytes > p->arena->bytes;
    if (grows && p->keeping == TH_KEPT_IN_ARENA) {
        p->keeping = TH_NOT_KEPT;
        TRY(th_pass_arena(p, reuse));
    }
    return arena_grow(p->arena, p->stats.arena_bytes);
}

thaw_status th_plan_new(const struct th_plan_spec *spec, struct th_store *store,
    struct th_arena *arena, struct th_plan **out)
{
    struct th_lowering l = {.spec = spec,
        .store = store,
        .device = store->device,
        .loss = -1,
        .scalars = -1};
    struct th_plan *p = th_alloc(1, sizeof *p);
    if (!p)
        return THAW_E_MEMORY;
    thaw_status status = lower(&l);
    p->graph = l.graph;
    p->store = store;
    p->arena = arena;
    bool steady = spec->mode == TH_TRAIN && !spec->rare;
    p->keeping = steady ? TH_KEPT_APART : spec->rare ? TH_NOT_KEPT : TH_KEPT_IN_ARENA;
    p->stats.n_cut = l.n_cut;
    p->stats.n_dead = l.n_dead;
    p->stats.n_int8 = l.n_int8;
    th_free(l.moves);
    th_free(l.grad);
    if (status == THAW_OK && spec->side != TH_WHOLE && l.n_frontier == 0) {
        *out = NULL;
        th_plan_free(p);
        return THAW_OK;
    }
    if (status == THAW_OK)
        status = make_places(p);
    if (status == THAW_OK)
        status = make_steps(p);
    if (status == THAW_OK)
        status = place_derived(p);
    if (status == THAW_OK)
        status = place_steps(p, !(spec->without & TH_PASS_REUSE));
    if (status != THAW_OK) {
        th_plan_free(p);
        return status;
    }
    count_steps(p);
    count_work(p);
    *out = p;
    return THAW_OK;
}

void th_plan_free(struct th_plan *p)
{
    if (!p)
        return;
    struct th_device *device = p->store->device;
    th_plan_forget(p);
    for (int i = 0; i < p->n_steps; i++) {
        struct th_step *s = &p->steps[i];
        if (s->bound && s->kernel->release)
            s->kernel->release(&s->call);
        if (s->lasting)
            device->backend->free(device, s->lasting, s->call.kept_bytes);
        th_free(s->name);
    }
    for (int v = 0; p->places && v < p->graph.n_values; v++)
        if (p->places[v].derived)
            device->backend->free(device, p->places[v].derived, p->places[v].bytes);
    th_free(p->steps);
    th_free(p->calls);
    th_free(p->places);
    th_graph_release(&p->graph);
    th_free(p);
}

void th_plan_stats(const struct th_plan *p, struct th_plan_stats *stats)
{
    *stats = p->stats;
}

const struct th_graph *th_plan_graph(const struct th_plan *p)
{
    return &p->graph;
}

static const char *const phase_names[] = {"forward", "backward", "commit"};

/* Where a convolution's weight stands among its operands. */
static const struct th_operand *conv_weight(const struct th_call *c)
{
    if (c->op == TH_OP_conv || c->op == TH_OP_conv_q || c->op == TH_OP_conv_dx)
        return &c->in[1];
    return c->op == TH_OP_conv_dw ? &c->out[0] : NULL;
}

void th_plan_step(const struct th_plan *p, int i, struct th_step_info *step)
{
    const struct th_step *s = &p->steps[i];
    *step =
        (struct th_step_info){.phase = s->derived ? "derived" : phase_names[s->phase],
            .op = th_op_rule(s->call.op)->name,
            .name = s->name ? s->name : "",
            .out = s->out[0] >= 0 ? &s->call.out[0] : NULL,
            .weight = conv_weight(&s->call),
            .attr = &s->call.attr,
            .macs = macs_of(s),
            .bytes = bytes_of(p, s)};
}

char *th_plan_text(const struct th_plan *p)
{
    size_t cap = (size_t)(p->n_steps + 1) * 200, used = 0;
    char *text = th_alloc(cap, 1);
    for (int i = 0; text && i < p->n_steps; i++) {
        struct th_step_info s;
        char shape[96] = "";
        th_plan_step(p, i, &s);
        if (s.out)
            th_shape_text(&s.out->shape, shape, sizeof shape);
        int n = snprintf(text + used, cap - used, "%4d %-8s %-14s %-28.60s %-20s %s\n",
            i, s.phase, s.op, s.name, shape,
            s.out && s.out->block > 1 ? "blocked" : "");
        used += n > 0 && (size_t)n < cap - used ? (size_t)n : 0;
    }
    return text;
}
