/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_inspect: a model and the plan of each phase of a timetable, in words or
 * as JSON. Plans are made and never run. */
#include "freeze.h"
#include "inspect_time.h"
#include "json.h"
#include "mem.h"
#include "model_open.h"
#include "options.h"
#include "recipe.h"
#include "report.h"
#include "schedule.h"

#include <stdio.h>
#include <string.h>

struct output {
    struct th_lines lines;
    struct th_json_out *json; /* takes everything instead; NULL: lines */
};

/* One phase of the timetable. */
struct phase {
    int epoch, batch;
    const char *thaw, *bn; /* as asked for, and what each BatchNorm does */
    enum th_keep keep;
    int runs;        /* to be timed; 0: not at all */
    int64_t trained; /* values */
};

/* ---- Lines ---- */

/* Lines of a text, which is cut up. */
static void put_lines(const struct output *out, char *text)
{
    for (char *line; (line = th_next_line(&text)) && *line;)
        out->lines.write(out->lines.context, line);
}

static void put_stages(const struct output *out, const struct th_model *m)
{
    for (int s = 0; s < m->n_stages; s++) {
        char text[32];
        int64_t values = 0;
        int tensors = 0;
        for (int i = 0; i < m->n_params; i++) {
            if (m->params[i].stage != s || th_param_is_buffer(&m->params[i]))
                continue;
            values += th_shape_count(&m->params[i].shape);
            tensors++;
        }
        th_line(&out->lines, "  %-8s %4d tensors %14s values", m->stages[s], tensors,
            th_text_count(values, text, sizeof text));
    }
}

static void put_origin(const struct output *out, const struct th_model *m)
{
    const struct th_fingerprint *f = &m->trained_on;
    char text[TH_FINGERPRINT_TEXT], train[32], val[32], test[32];
    if (f->images[TH_SPLIT_TRAIN])
        th_line(&out->lines,
            "data %s: trained on %s images, %s to validate, %s to test",
            th_fingerprint_text(f, text),
            th_text_count(f->images[TH_SPLIT_TRAIN], train, sizeof train),
            th_text_count(f->images[TH_SPLIT_VAL], val, sizeof val),
            th_text_count(f->images[TH_SPLIT_TEST], test, sizeof test));
    if (*m->adapted_on)
        th_line(&out->lines, "BatchNorm statistics adapted to data %s", m->adapted_on);
}

static void put_model(const struct output *out, const thaw_model *m)
{
    const struct th_model *model = &m->net.model;
    const struct th_input *in = &model->input;
    char values[32];
    th_line(&out->lines, "%s: %s, head %s, %d classes (%s ... %s)", m->path,
        model->variant->name, model->head->name, model->n_classes, model->classes[0],
        model->classes[model->n_classes - 1]);
    th_line(&out->lines,
        "input %d x %d, crop %.3g, %s, mean %.3g %.3g %.3g, std %.3g %.3g %.3g",
        in->size.w, in->size.h, (double)in->crop, in->bicubic ? "bicubic" : "bilinear",
        (double)in->mean[0], (double)in->mean[1], (double)in->mean[2],
        (double)in->std[0], (double)in->std[1], (double)in->std[2]);
    const struct th_sizes sizes = th_input_sizes(in);
    if (sizes.n > 1)
        th_line(&out->lines, "each picture where it is largest of %s",
            th_sizes_text(&sizes).text);
    if (m->notes)
        th_line(&out->lines, "as read: %s", m->notes);
    put_origin(out, model);
    th_line(&out->lines, "%s values in %d stages:",
        th_text_count(th_model_values(model), values, sizeof values), model->n_stages);
    put_stages(out, model);
}

static void put_stats(const struct output *out, const struct th_plan *plan)
{
    struct th_plan_stats s;
    char macs[32], arena[32], saved[32];
    th_plan_stats(plan, &s);
    th_line(&out->lines,
        "  %d steps: %d forward (%d below the cut), %d backward, %d commit; %d "
        "derived; "
        "%d gradients never built",
        s.n_steps, s.n_forward, s.n_cut, s.n_backward, s.n_commit, s.n_derived,
        s.n_dead);
    th_line(&out->lines, "  %sMAC a step, arena %s, saved for backward %s",
        th_text_short((double)s.macs, macs, sizeof macs),
        th_text_bytes((double)s.arena_bytes, arena, sizeof arena),
        th_text_bytes((double)s.saved_bytes, saved, sizeof saved));
}

/* An op's share of the steps, and of all their time. */
static void put_op(const struct output *out, const struct th_plan *plan, enum th_op op,
    int n_steps, const double *seconds)
{
    double took = 0, macs = 0, bytes = 0, all = 0;
    int n = 0;
    for (int i = 0; i < n_steps; i++) {
        struct th_step_info s;
        th_plan_step(plan, i, &s);
        all += seconds[i];
        if (strcmp(s.op, th_op_rule(op)->name) != 0 || seconds[i] <= 0)
            continue;
        n++;
        took += seconds[i];
        macs += (double)s.macs;
        bytes += (double)s.bytes;
    }
    if (n)
        th_line(&out->lines,
            "  %-14s %4d steps %10.3f ms %5.1f %% %8.1f GFLOP/s %7.1f GB/s",
            th_op_rule(op)->name, n, 1e3 * took, 100 * took / all, 2e-9 * macs / took,
            1e-9 * bytes / took);
}

/* FLOPs are those of the direct algorithms; bytes, each operand once. */
static void put_times(
    const struct output *out, const struct th_plan *plan, const double *seconds)
{
    struct th_plan_stats s;
    double all = 0;
    th_plan_stats(plan, &s);
    for (int i = 0; i < s.n_steps; i++)
        all += seconds[i];
    th_line(&out->lines,
        "  where the time goes (%.3f ms, the sum of each step's least):", 1e3 * all);
    for (int op = 0; op < TH_OP_COUNT; op++)
        put_op(out, plan, (enum th_op)op, s.n_steps, seconds);
}

static thaw_status put_plan(const struct output *out, const struct phase *phase,
    const struct th_plan *plan, const double *seconds)
{
    char trained[32];
    th_line(&out->lines,
        "from epoch %d: --thaw %s trains %s values; BatchNorm %s; batch %d",
        phase->epoch, phase->thaw,
        th_text_count(phase->trained, trained, sizeof trained), phase->bn,
        phase->batch);
    put_stats(out, plan);
    if (seconds)
        put_times(out, plan, seconds);
    char *text = th_plan_text(plan);
    if (!text)
        return THAW_E_MEMORY;
    put_lines(out, text);
    th_free(text);
    return THAW_OK;
}

/* ---- JSON ---- */

static void put_pair(struct th_json_out *j, const char *key, int64_t a, int64_t b)
{
    th_json_key(j, key);
    th_json_open(j, '[');
    th_json_whole(j, a);
    th_json_whole(j, b);
    th_json_close(j, ']');
}

static void json_step(
    struct th_json_out *j, const struct th_step_info *s, const double *seconds)
{
    th_json_open(j, '{');
    th_json_put_string(j, "phase", s->phase);
    th_json_put_string(j, "op", s->op);
    th_json_put_string(j, "name", s->name);
    th_json_put_whole(j, "macs", s->macs);
    th_json_put_whole(j, "bytes", (int64_t)s->bytes);
    if (s->weight) {
        put_pair(j, "kernel", s->weight->shape.dim[2], s->weight->shape.dim[3]);
        put_pair(j, "stride", s->attr->conv.stride[0], s->attr->conv.stride[1]);
    }
    if (seconds)
        th_json_put_real(j, "seconds", *seconds);
    th_json_close(j, '}');
}

static void json_stats(struct th_json_out *j, const struct th_plan_stats *s)
{
    const struct {
        const char *key;
        int64_t value;
    } row[] = {{"steps", s->n_steps}, {"forward", s->n_forward},
        {"below_cut", s->n_cut}, {"backward", s->n_backward}, {"commit", s->n_commit},
        {"derived", s->n_derived}, {"gradients_never_built", s->n_dead},
        {"macs", s->macs}, {"moved_bytes", (int64_t)s->moved_bytes},
        {"saved_bytes", (int64_t)s->saved_bytes},
        {"arena_bytes", (int64_t)s->arena_bytes},
        {"live_bytes", (int64_t)s->live_bytes},
        {"derived_bytes", (int64_t)s->derived_bytes},
        {"kept_bytes", (int64_t)s->kept_bytes}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        th_json_put_whole(j, row[i].key, row[i].value);
}

static void json_plan(struct th_json_out *j, const struct phase *phase,
    const struct th_plan *plan, const double *seconds)
{
    struct th_plan_stats stats;
    th_plan_stats(plan, &stats);
    th_json_open(j, '{');
    th_json_put_whole(j, "epoch", phase->epoch);
    th_json_put_string(j, "thaw", phase->thaw);
    th_json_put_string(j, "bn", phase->bn);
    th_json_put_whole(j, "batch", phase->batch);
    th_json_put_whole(j, "trained_values", phase->trained);
    json_stats(j, &stats);
    th_json_key(j, "plan");
    th_json_open(j, '[');
    for (int i = 0; i < stats.n_steps; i++) {
        struct th_step_info step;
        th_plan_step(plan, i, &step);
        json_step(j, &step, seconds ? &seconds[i] : NULL);
    }
    th_json_close(j, ']');
    th_json_close(j, '}');
}

static void json_model(struct th_json_out *j, const thaw_model *m)
{
    const struct th_model *model = &m->net.model;
    th_json_put_string(j, "model", m->path);
    th_json_put_string(j, "backbone", model->variant->name);
    th_json_put_string(j, "head", model->head->name);
    th_json_put_whole(j, "classes", model->n_classes);
    const struct th_sizes sizes = th_input_sizes(&model->input);
    th_json_put_size(j, "image_size", model->input.size);
    if (sizes.n > 1)
        th_json_put_string(j, "image_sizes", th_sizes_text(&sizes).text);
    th_json_put_whole(j, "values", th_model_values(model));
    th_json_put_string(j, "device", m->net.device->backend->describe(m->net.device));
}

/* ---- Both ---- */

static thaw_status show_plan(const struct output *out, thaw_model *m,
    const struct th_freeze *f, const struct phase *phase)
{
    const struct th_optim optim = {.kind = TH_SGD, .momentum = 0.9F};
    const struct th_plan_spec spec = {.model = &m->net.model,
        .freeze = f,
        .mode = TH_TRAIN,
        .batch = m->batch,
        .optim = &optim,
        .keep = phase->keep};
    struct th_plan *plan = NULL;
    TRY(th_plan_new(&spec, &m->net.store, &m->net.arena, &plan));
    struct th_plan_stats stats;
    th_plan_stats(plan, &stats);
    double *seconds = NULL;
    thaw_status status = THAW_OK;
    if (phase->runs) {
        seconds = th_alloc((size_t)stats.n_steps, sizeof *seconds);
        status = seconds ? th_inspect_time(plan, &m->net.store, phase->runs, seconds)
                         : THAW_E_MEMORY;
    }
    if (status == THAW_OK && out->json)
        json_plan(out->json, phase, plan, seconds);
    else if (status == THAW_OK)
        status = put_plan(out, phase, plan, seconds);
    th_free(seconds);
    th_plan_free(plan);
    return status;
}

static thaw_status show_phase(const struct output *out, thaw_model *m,
    const thaw_options *o, int epoch, const char *thaw)
{
    struct th_freeze f;
    TRY(th_freeze_init(&f, &m->net.model, thaw, th_option_text(o, "bn"), m->batch));
    char *text = th_freeze_bn_text(&f, &m->net.model);
    const struct phase phase = {.epoch = epoch,
        .batch = m->batch,
        .thaw = thaw,
        .bn = text && !*text ? "none" : text,
        .keep = th_option_keep(o),
        .runs = (int)th_option_int(o, "time"),
        .trained = th_freeze_trained(&f, &m->net.model)};
    thaw_status status = text ? show_plan(out, m, &f, &phase) : THAW_E_MEMORY;
    th_free(text);
    th_freeze_release(&f);
    return status;
}

static thaw_status show_phases(
    const struct output *out, thaw_model *m, const thaw_options *o)
{
    struct th_timetable table;
    TRY(th_timetable_init(&table, th_option_text(o, "thaw")));
    thaw_status status = THAW_OK;
    for (int i = 0; i < table.n && status == THAW_OK; i++)
        status = show_phase(out, m, o, table.epoch[i], table.spec[i]);
    th_timetable_release(&table);
    return status;
}

static thaw_status inspect_json(
    const struct output *out, thaw_model *m, const thaw_options *o)
{
    th_json_open(out->json, '{');
    json_model(out->json, m);
    th_json_key(out->json, "phases");
    th_json_open(out->json, '[');
    TRY(show_phases(out, m, o));
    th_json_close(out->json, ']');
    th_json_close(out->json, '}');
    TRY(th_json_out_status(out->json));
    out->lines.write(out->lines.context, out->json->text);
    return THAW_OK;
}

thaw_status thaw_model_inspect(thaw_model *m, const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    struct th_json_out json = {0};
    const bool as_json = th_option_flag(o, "json");
    const struct output out = {{write, context}, as_json ? &json : NULL};
    if (!as_json) {
        put_model(&out, m);
        return show_phases(&out, m, o);
    }
    thaw_status status = inspect_json(&out, m, o);
    th_json_out_release(&json);
    return status;
}
