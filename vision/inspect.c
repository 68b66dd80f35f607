/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_inspect: a model in words, and the plan of each phase of a timetable. */
#include "freeze.h"
#include "mem.h"
#include "model_open.h"
#include "options.h"
#include "report.h"
#include "schedule.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct output {
    void (*write)(void *context, const char *text);
    void *context;
};

static void put(const struct output *out, const char *fmt, ...) TH_PRINTF(2, 3);
static void put(const struct output *out, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    out->write(out->context, line);
}

/* Lines of a text, which is cut up. */
static void put_lines(const struct output *out, char *text)
{
    for (char *line = text; line && *line;) {
        char *end = strchr(line, '\n');
        if (end)
            *end = 0;
        out->write(out->context, line);
        line = end ? end + 1 : NULL;
    }
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
        put(out, "  %-8s %4d tensors %14s values", m->stages[s], tensors,
            th_text_count(values, text, sizeof text));
    }
}

static void put_origin(const struct output *out, const struct th_model *m)
{
    const struct th_fingerprint *f = &m->trained_on;
    char text[TH_FINGERPRINT_TEXT], train[32], val[32], test[32];
    if (f->images[TH_SPLIT_TRAIN])
        put(out, "data %s: trained on %s images, %s to validate, %s to test",
            th_fingerprint_text(f, text),
            th_text_count(f->images[TH_SPLIT_TRAIN], train, sizeof train),
            th_text_count(f->images[TH_SPLIT_VAL], val, sizeof val),
            th_text_count(f->images[TH_SPLIT_TEST], test, sizeof test));
    if (*m->adapted_on)
        put(out, "BatchNorm statistics adapted to data %s", m->adapted_on);
}

static void put_model(const struct output *out, const thaw_model *m)
{
    const struct th_model *model = &m->net.model;
    const struct th_input *in = &model->input;
    char values[32];
    put(out, "%s: %s, head %s, %d classes (%s ... %s)", m->path, model->variant->name,
        model->head->name, model->n_classes, model->classes[0],
        model->classes[model->n_classes - 1]);
    put(out, "input %d x %d, crop %.3g, %s, mean %.3g %.3g %.3g, std %.3g %.3g %.3g",
        in->size, in->size, (double)in->crop, in->bicubic ? "bicubic" : "bilinear",
        (double)in->mean[0], (double)in->mean[1], (double)in->mean[2],
        (double)in->std[0], (double)in->std[1], (double)in->std[2]);
    put_origin(out, model);
    put(out, "%s values in %d stages:",
        th_text_count(th_model_values(model), values, sizeof values), model->n_stages);
    put_stages(out, model);
}

static void put_stats(const struct output *out, const struct th_plan *plan)
{
    struct th_plan_stats s;
    char macs[32], arena[32], saved[32];
    th_plan_stats(plan, &s);
    put(out,
        "  %d steps: %d forward (%d below the cut), %d backward, %d commit; %d "
        "derived; "
        "%d gradients never built",
        s.n_steps, s.n_forward, s.n_cut, s.n_backward, s.n_commit, s.n_derived,
        s.n_dead);
    put(out, "  %sMAC a step, arena %s, saved for backward %s",
        th_text_short((double)s.macs, macs, sizeof macs),
        th_text_bytes((double)s.arena_bytes, arena, sizeof arena),
        th_text_bytes((double)s.saved_bytes, saved, sizeof saved));
}

static thaw_status put_plan(
    const struct output *out, thaw_model *m, const struct th_freeze *f)
{
    const struct th_optim optim = {.kind = TH_SGD, .momentum = 0.9F};
    const struct th_plan_spec spec = {.model = &m->net.model,
        .freeze = f,
        .mode = TH_TRAIN,
        .batch = m->batch,
        .optim = &optim};
    struct th_plan *plan = NULL;
    TRY(th_plan_new(&spec, &m->net.store, &m->net.arena, &plan));
    put_stats(out, plan);
    char *text = th_plan_text(plan);
    if (text)
        put_lines(out, text);
    th_free(text);
    th_plan_free(plan);
    return THAW_OK;
}

static thaw_status put_phase(const struct output *out, thaw_model *m, int epoch,
    const char *thaw, const char *bn)
{
    struct th_freeze f;
    char trained[32];
    TRY(th_freeze_init(&f, &m->net.model, thaw, bn, m->batch));
    char *text = th_freeze_bn_text(&f, &m->net.model);
    put(out, "from epoch %d: --thaw %s trains %s values; BatchNorm %s; batch %d", epoch,
        thaw,
        th_text_count(th_freeze_trained(&f, &m->net.model), trained, sizeof trained),
        text ? text : "", m->batch);
    th_free(text);
    thaw_status status = put_plan(out, m, &f);
    th_freeze_release(&f);
    return status;
}

thaw_status thaw_model_inspect(thaw_model *m, const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    const struct output out = {write, context};
    struct th_timetable table;
    TRY(th_timetable_init(&table, th_option_text(o, "thaw")));
    put_model(&out, m);
    thaw_status status = THAW_OK;
    for (int i = 0; i < table.n && status == THAW_OK; i++)
        status =
            put_phase(&out, m, table.epoch[i], table.spec[i], th_option_text(o, "bn"));
    th_timetable_release(&table);
    return status;
}
