/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_doctor: what the machine is, and with "check" whether a device computes what
 * plain C computes, and how long training steps take there; as lines, or as JSON. */
#include "check/check.h"
#include "doctor_steps.h"
#include "json.h"
#include "machine.h"
#include "mem.h"
#include "options.h"
#include "recipe.h"
#include "report.h"

#include <stdio.h>
#include <string.h>

/* Of the time for a check: what ops may take, and what steps may at the most. */
static const double ops_share = 0.7, steps_most = 180;

struct findings {
    struct th_machine machine;
    int threads, n_steps;
    bool checked;
    struct th_check ops;
    struct th_timed_step steps[TH_TIMED_STEPS];
};

/* ---- Lines ---- */

static void put_machine(const struct th_lines *l, const struct th_machine *m)
{
    th_line(l, "thaw     %s", thaw_version());
    th_line(l, "machine  %s, %ld cores, %.1f GB", m->cpu, m->cores, m->memory / 1e9);
    th_line(l, "system   %s", m->system);
    th_line(
        l, "cpu      %s", *m->features ? m->features : "its features are not known");
    th_line(l, "with     %s", m->libraries);
    th_line(l, "device   %s", m->device);
    if (*m->cpu_engine)
        th_line(l, "beside   %s", m->cpu_engine);
    if (*m->cuda)
        th_line(l, "%s   %s", m->has_cuda ? "beside" : "absent", m->cuda);
    th_line(l,
        "speed    matrix product %.0f GF/s (one thread %.0f), memory %.1f GB/s "
        "(one thread %.1f)",
        2 * m->macs / 1e9, 2 * m->macs_one / 1e9, m->bytes / 1e9, m->bytes_one / 1e9);
}

static void put_ops(const struct th_lines *l, const struct th_check *c)
{
    th_line(l, "op                runs  worst error    bound");
    for (int op = 0; op < TH_OP_COUNT; op++) {
        const struct th_check_row *row = &c->row[op];
        const char *name = th_op_rule((enum th_op)op)->name;
        if (row->failed)
            th_line(l, "%-16s %5d  %11.2g %8.0e  FAILED %d: %s", name, row->cases,
                row->worst, row->bound, row->failed, row->why);
        else if (row->cases)
            th_line(l, "%-16s %5d  %11.2g %8.0e  ok", name, row->cases, row->worst,
                row->bound);
    }
    th_line(l, "%d ops in %d runs, %d FAILED%s", c->n_ops, c->cases, c->n_failed,
        c->left_out ? "; no time was left for some cases" : "");
}

static void put_steps(
    const struct th_lines *l, const struct th_timed_step *steps, int n)
{
    th_line(l, "training step          input batch trains                   time   "
               "images/s    arena");
    for (int i = 0; i < n; i++) {
        const struct th_timed_step *s = &steps[i];
        char bytes[32];
        if (*s->why)
            th_line(l, "%-22s %5d %5d %-18s FAILED: %s", s->network, s->size, s->batch,
                s->thaw, s->why);
        else
            th_line(l, "%-22s %5d %5d %-18s %7.1f ms %10.1f %8s", s->network, s->size,
                s->batch, s->thaw, 1e3 * s->seconds, s->batch / s->seconds,
                th_text_bytes((double)s->arena_bytes, bytes, sizeof bytes));
    }
    if (n < TH_TIMED_STEPS)
        th_line(l, "no time was left for %d steps", TH_TIMED_STEPS - n);
}

/* ---- JSON ---- */

static void json_machine(struct th_json_out *j, const struct findings *f)
{
    const struct th_machine *m = &f->machine;
    th_json_put_string(j, "thaw", thaw_version());
    th_json_put_string(j, "cpu", m->cpu);
    th_json_put_string(j, "cpu_features", m->features);
    th_json_put_string(j, "system", m->system);
    th_json_put_string(j, "libraries", m->libraries);
    th_json_put_whole(j, "cores", m->cores);
    th_json_put_whole(j, "memory_bytes", (int64_t)m->memory);
    th_json_put_string(j, "device", m->device);
    if (*m->cuda) {
        th_json_key(j, "has_cuda");
        th_json_bool(j, m->has_cuda);
        th_json_put_string(j, "cuda", m->cuda);
    }
    th_json_put_whole(j, "threads", f->threads);
    th_json_put_real(j, "flops_per_s", 2 * m->macs);
    th_json_put_real(j, "flops_per_s_one_thread", 2 * m->macs_one);
    th_json_put_real(j, "bytes_per_s", m->bytes);
    th_json_put_real(j, "bytes_per_s_one_thread", m->bytes_one);
}

static void json_ops(struct th_json_out *j, const struct th_check *c)
{
    th_json_put_whole(j, "ops_failed", c->n_failed);
    th_json_put_whole(j, "cases_left_out", c->left_out);
    th_json_key(j, "ops");
    th_json_open(j, '[');
    for (int op = 0; op < TH_OP_COUNT; op++) {
        const struct th_check_row *row = &c->row[op];
        if (!row->cases)
            continue;
        th_json_open(j, '{');
        th_json_put_string(j, "op", th_op_rule((enum th_op)op)->name);
        th_json_put_whole(j, "runs", row->cases);
        th_json_put_whole(j, "failed", row->failed);
        th_json_put_real(j, "worst_error", row->worst);
        th_json_put_real(j, "bound", row->bound);
        if (row->failed)
            th_json_put_string(j, "why", row->why);
        th_json_close(j, '}');
    }
    th_json_close(j, ']');
}

static void json_steps(struct th_json_out *j, const struct th_timed_step *steps, int n)
{
    th_json_key(j, "steps");
    th_json_open(j, '[');
    for (int i = 0; i < n; i++) {
        const struct th_timed_step *s = &steps[i];
        th_json_open(j, '{');
        th_json_put_string(j, "network", s->network);
        th_json_put_whole(j, "image_size", s->size);
        th_json_put_whole(j, "batch", s->batch);
        th_json_put_string(j, "thaw", s->thaw);
        th_json_put_whole(j, "trained_values", s->trained);
        if (*s->why) {
            th_json_put_string(j, "why", s->why);
        } else {
            th_json_put_whole(j, "runs", s->runs);
            th_json_put_real(j, "seconds", s->seconds);
            th_json_put_whole(j, "arena_bytes", s->arena_bytes);
        }
        th_json_close(j, '}');
    }
    th_json_close(j, ']');
}

static thaw_status write_json(const struct findings *f, const struct th_lines *l)
{
    struct th_json_out j = {0};
    th_json_open(&j, '{');
    json_machine(&j, f);
    if (f->checked) {
        json_ops(&j, &f->ops);
        json_steps(&j, f->steps, f->n_steps);
    }
    th_json_close(&j, '}');
    thaw_status status = th_json_out_status(&j);
    if (status == THAW_OK)
        l->write(l->context, j.text);
    th_json_out_release(&j);
    return status;
}

/* ---- Finding out ---- */

static thaw_status check_ops(
    const char *name, int threads, double until, struct th_check *check)
{
    struct th_device *device = NULL;
    const struct th_check_time time = {.now = th_seconds, .until = until};
    TRY(th_device_open(name, threads, &device));
    thaw_status status = th_check_device(device, &time, check);
    th_device_close(device);
    return status;
}

/* What is found is written as soon as it is: a device may take the process with it. */
static thaw_status check(const char *device, double seconds, struct findings *f,
    const struct th_lines *l, bool json)
{
    double began = th_seconds(), end = began + seconds;
    TRY(check_ops(device, f->threads, began + ops_share * seconds, &f->ops));
    f->checked = true;
    if (!json)
        put_ops(l, &f->ops);
    double now = th_seconds(), until = now + steps_most;
    TRY(th_time_steps(
        device, f->threads, until < end ? until : end, f->steps, &f->n_steps));
    if (!json)
        put_steps(l, f->steps, f->n_steps);
    return THAW_OK;
}

/* The sentence of a device that cannot be trusted. */
static thaw_status judge(const struct findings *f)
{
    const struct th_check *c = &f->ops;
    if (c->n_failed)
        return th_fail(THAW_E_FAIL,
            "device %s: %d of %d ops do not compute what plain C computes, %s first "
            "(%s): do not train on it, and report all of this",
            f->machine.device, c->n_failed, c->n_ops, th_op_rule(c->first)->name,
            c->row[c->first].why);
    for (int i = 0; i < f->n_steps; i++)
        if (*f->steps[i].why)
            return th_fail(THAW_E_FAIL, "device %s: a training step of %s fails: %s",
                f->machine.device, f->steps[i].network, f->steps[i].why);
    return THAW_OK;
}

static thaw_status examine(
    const thaw_options *o, struct findings *f, const struct th_lines *l)
{
    const struct th_device_name name = th_option_device(o);
    bool json = th_option_flag(o, "json");
    bool checks =
        th_option_flag(o, "check") || strcmp(th_option_text(o, "device"), "cpu");
    f->threads = th_option_threads(o, "threads");
    TRY(th_machine_find(name.text, f->threads, &f->machine));
    if (!json)
        put_machine(l, &f->machine);
    if (checks)
        TRY(check(name.text, (double)th_option_int(o, "limit"), f, l, json));
    if (json)
        TRY(write_json(f, l));
    return judge(f);
}

thaw_status thaw_doctor(const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    const struct th_lines lines = {write, context};
    struct findings *f =
        th_alloc(1, sizeof *f); /* with its rows, too much for a stack */
    thaw_status status = f ? examine(o, f, &lines) : THAW_E_MEMORY;
    th_free(f);
    return status;
}
