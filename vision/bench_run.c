/* SPDX-License-Identifier: Apache-2.0
 * Owns one training of a bench: its options, its process, what its best.h5 makes of each
 * validation image, and the record by which a later bench knows all that. The record is written
 * last: until then the training is gone on with. */
#include "bench.h"

#include "file.h"
#include "labels.h"
#include "mem.h"
#include "model_open.h"
#include "options.h"
#include "recipe.h"
#include "report.h"
#include "run_history.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *th_bench_path(const struct thaw_bench *b, const struct th_bench_entry *e,
    int seed, const char *suffix)
{
    long long number = (long long)th_option_int(b->options, "seed") + seed;
    return th_format(
        "%s/runs/%s-seed%lld%s", b->folder.path, e->settings.name, number, suffix);
}

/* ---- Options ---- */

static thaw_status set_whole(thaw_options *o, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return thaw_options_set(o, name, text);
}

/* What `thaw train` takes of the user's options; what it prints goes into a file. */
static thaw_status copy_options(const thaw_options *from, thaw_options *to)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    for (size_t i = 0; i < n; i++) {
        const char *name = table[i].name;
        bool taken = (table[i].commands & THAW_CMD_TRAIN) || !strcmp(name, "data");
        bool ours = !strcmp(name, "out") || !strcmp(name, "config") ||
                    !strcmp(name, "quiet") || !strcmp(name, "json") ||
                    !strcmp(name, "forecast") || !strcmp(name, "lora");
        if (taken && !ours && thaw_options_is_set(from, name))
            TRY(thaw_options_set(to, name, thaw_options_get(from, name)));
    }
    return THAW_OK;
}

/* Where a training would keep features in memory, all of them share what is kept on disk. */
static thaw_status share_cache(const struct thaw_bench *b, thaw_options *o)
{
    bool repeats = !strcmp(th_option_text(o, "augment"), "none") ||
                   thaw_options_is_set(o, "views");
    if (repeats && !strcmp(th_option_text(o, "cache"), "auto"))
        TRY(thaw_options_set(o, "cache", "disk"));
    if (strcmp(th_option_text(o, "cache"), "disk") ||
        thaw_options_is_set(o, "cache-dir"))
        return THAW_OK;
    char *dir = th_run_folder_path(&b->folder, "cache");
    thaw_status status = dir ? thaw_options_set(o, "cache-dir", dir) : THAW_E_MEMORY;
    th_free(dir);
    return status;
}

static thaw_status set_options(const struct thaw_bench *b,
    const struct th_bench_settings *s, int seed, thaw_options *o)
{
    int64_t first = th_option_int(b->options, "seed");
    TRY(copy_options(b->options, o));
    if (s->thaw)
        TRY(thaw_options_set(o, "thaw", s->thaw));
    if (s->bn)
        TRY(thaw_options_set(o, "bn", s->bn));
    if (s->lora)
        TRY(thaw_options_set(o, "lora", s->lora));
    if (s->lr_schedule)
        TRY(thaw_options_set(o, "lr-schedule", s->lr_schedule));
    TRY(set_whole(o, "seed", first + seed));
    if (!thaw_options_is_set(o, "val-seed"))
        TRY(set_whole(o, "val-seed", first));
    TRY(share_cache(b, o));
    return thaw_options_set(o, "no-test", "1");
}

thaw_status th_bench_options(const struct thaw_bench *b,
    const struct th_bench_settings *s, int seed, thaw_options **out)
{
    TRY(thaw_options_new(out));
    thaw_status status = set_options(b, s, seed, *out);
    if (status != THAW_OK) {
        thaw_options_free(*out);
        *out = NULL;
    }
    return status;
}

/* What changes no result: a bench may go on elsewhere. */
static bool may_differ(const char *name)
{
    static const char *const names[] = {
        "threads", "workers", "cache", "cache-dir", "cache-limit"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(name, names[i]))
            return true;
    return false;
}

static thaw_status compare(
    const thaw_options *now, const thaw_options *then, const char *path)
{
    size_t n = 0;
    const thaw_option *table = thaw_option_table(&n);
    for (size_t i = 0; i < n; i++) {
        const char *name = table[i].name;
        const char *a = thaw_options_get(now, name), *b = thaw_options_get(then, name);
        if (may_differ(name) || (!a && !b) || (a && b && !strcmp(a, b)))
            continue;
        return th_fail(THAW_E_USAGE,
            "%s: --%s is %s in this bench, and was %s when it began: give the same "
            "options, or choose another folder",
            path, name, a ? a : "not set", b ? b : "not set");
    }
    return THAW_OK;
}

static thaw_status write_options(const thaw_options *o, const char *path)
{
    char *text = th_options_json(o);
    thaw_status status =
        text ? th_file_write_atomic(path, text, strlen(text), NULL) : THAW_E_MEMORY;
    th_free(text);
    return status;
}

/* The options of before must agree; where there are none, these are written. */
static thaw_status agree_on_options(const thaw_options *o, const char *path)
{
    thaw_options *then = NULL;
    if (!th_file_exists(path))
        return write_options(o, path);
    TRY(thaw_options_new(&then));
    thaw_status status = th_options_load(then, path);
    if (status == THAW_OK)
        status = compare(o, then, path);
    thaw_options_free(then);
    return status;
}

/* ---- The record ---- */

enum { RECORD_LIMIT = 64 << 20 };

static const char *text_of(const struct th_json *object, const char *key)
{
    const struct th_json *x = th_json_get(object, key);
    return x && x->kind == TH_JSON_STRING ? x->text : NULL;
}

static double real_of(const struct th_json *object, const char *key)
{
    const struct th_json *x = th_json_get(object, key);
    return x && x->kind == TH_JSON_NUMBER ? x->real : (double)NAN;
}

static thaw_status take_record(const struct thaw_bench *b, const struct th_json *json,
    const char *path, struct th_bench_run *r)
{
    const char *data = text_of(json, "data"), *marks = text_of(json, "marks");
    const char *reason = text_of(json, "reason");
    double code = real_of(json, "code"), peak = real_of(json, "peak_bytes");
    bool whole = code >= 0 && code < 256 && peak >= 0 && peak < 1e18;
    bool fits = marks && strspn(marks, "01-") == strlen(marks) &&
                (int64_t)strlen(marks) == b->data.split[TH_SPLIT_VAL].n;
    if (!data || !whole || (code > 0 ? !reason : !fits))
        return th_fail(THAW_E_DATA, "%s: is damaged; remove it", path);
    if (strcmp(data, b->fingerprint))
        return th_fail(THAW_E_DATA,
            "%s: its images are no longer those of %s; put them back, or choose "
            "another "
            "folder",
            path, th_option_text(b->options, "data"));
    r->code = (int)code;
    r->reason = th_strdup(code > 0 ? reason : NULL);
    r->marks = th_strdup(code > 0 ? NULL : marks);
    r->score = b->boxes ? real_of(json, "ap") : marks ? th_bench_accuracy(marks) : 0;
    if (b->boxes && code <= 0 && !isfinite(r->score))
        return th_fail(THAW_E_DATA, "%s: is damaged; remove it", path);
    r->seconds = real_of(json, "seconds");
    r->peak_bytes = (int64_t)peak;
    r->warm = real_of(json, "warm") > 0;
    r->done = true;
    return r->reason || r->marks ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status read_record(
    const struct thaw_bench *b, const char *path, struct th_bench_run *r)
{
    unsigned char *text = NULL;
    size_t n = 0;
    struct th_json *json = NULL;
    if (!th_file_exists(path))
        return THAW_OK;
    TRY(th_file_read(path, RECORD_LIMIT, &text, &n));
    thaw_status status = th_json_parse((const char *)text, n, path, &json);
    if (status == THAW_OK)
        status = take_record(b, json, path, r);
    th_json_free(json);
    th_free(text);
    return status;
}

/* A failure that would come again is remembered; what a full disk or another process did
 * is tried again by the next bench. */
static bool comes_again(int code)
{
    return code == 0 || code == -THAW_E_DIVERGED || code == -THAW_E_DATA;
}

static thaw_status write_record(
    const struct thaw_bench *b, const char *path, const struct th_bench_run *r)
{
    struct th_json_out o = {0};
    if (!comes_again(r->code))
        return THAW_OK;
    th_json_open(&o, '{');
    th_json_put_whole(&o, "code", r->code);
    if (r->reason)
        th_json_put_string(&o, "reason", r->reason);
    th_json_put_string(&o, "data", b->fingerprint);
    if (r->marks)
        th_json_put_string(&o, "marks", r->marks);
    if (r->marks && b->boxes)
        th_json_put_real(&o, "ap", r->score);
    th_json_put_real(&o, "seconds", r->seconds);
    th_json_put_whole(&o, "peak_bytes", r->peak_bytes);
    th_json_put_whole(&o, "warm", r->warm);
    th_json_close(&o, '}');
    thaw_status status = th_json_out_status(&o);
    if (status == THAW_OK)
        status = th_file_write_atomic(path, o.text, strlen(o.text), NULL);
    th_json_out_release(&o);
    return status;
}

/* ---- Judging ---- */

static int64_t largest_id(const struct th_samples *all)
{
    int64_t most = 0;
    for (int64_t i = 0; i < all->n; i++)
        most = all->sample[i].id > most ? all->sample[i].id : most;
    return most;
}

static char *marks_of(const struct th_samples *all, const enum th_verdict *verdicts)
{
    static const char letters[] = {
        [TH_UNSEEN] = '-', [TH_WRONG] = '0', [TH_RIGHT] = '1'};
    char *marks = th_alloc((size_t)all->n + 1, 1);
    for (int64_t i = 0; marks && i < all->n; i++)
        marks[i] = letters[verdicts[all->sample[i].id]];
    return marks;
}

static thaw_status evaluate(struct thaw_bench *b, thaw_model *m,
    enum th_verdict *verdicts, int32_t *map, double *ap, bool *stopped)
{
    struct th_metrics metrics;
    struct th_loader *loader = NULL;
    const struct th_loader_options o = {.split = TH_SPLIT_VAL,
        .batch = m->batch,
        .preprocess = th_network_preprocess(&m->net),
        .sizes = th_input_sizes(&m->net.model.input),
        .workers = m->workers,
        .max_bad = 1}; /* the training has judged how many may be bad */
    th_labels_map(&b->data, (const char *const *)m->net.model.classes,
        m->net.model.n_classes, map);
    if (m->net.model.input.others.n)
        TRY(th_dataset_measure(&b->data));
    TRY(th_model_evaluators(m, m->batch));
    for (int k = 0; k < m->evaluators.n; k++)
        m->evaluators.of[k].verdicts = verdicts;
    thaw_status status = th_network_metrics(&m->net, &metrics);
    if (status == THAW_OK)
        status = th_loader_open(&b->data, &o, &loader);
    if (status == THAW_OK)
        status = th_evaluate(&m->evaluators, loader, map, &b->stop, &metrics, stopped);
    if (status == THAW_OK && !*stopped)
        status = th_metrics_rank(&metrics);
    *ap = metrics.map;
    th_loader_close(loader);
    th_metrics_release(&metrics);
    return status;
}

/* What the best model of a run makes of each validation image, marks, and its score; no
 * marks where the bench was stopped. */
static thaw_status judge(struct thaw_bench *b, const char *run, const thaw_options *o,
    struct th_bench_run *r)
{
    const struct th_samples *val = &b->data.split[TH_SPLIT_VAL];
    thaw_model *m = NULL;
    bool stopped = false;
    double ap = 0;
    TRY(thaw_model_open(run, o, &m));
    enum th_verdict *verdicts = th_alloc((size_t)largest_id(val) + 1, sizeof *verdicts);
    int32_t *map = th_alloc((size_t)b->data.n_classes, sizeof *map);
    thaw_status status = verdicts && map ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = evaluate(b, m, verdicts, map, &ap, &stopped);
    if (status == THAW_OK && !stopped) {
        r->marks = marks_of(val, verdicts);
        status = r->marks ? THAW_OK : THAW_E_MEMORY;
    }
    if (status == THAW_OK && r->marks)
        r->score = b->boxes ? ap : th_bench_accuracy(r->marks);
    th_free(map);
    th_free(verdicts);
    thaw_model_free(m);
    return status;
}

/* ---- The training ---- */

/* The sentence after the last "thaw: " at the beginning of a line; fresh. */
static char *last_words(const char *log, int code)
{
    unsigned char *text = NULL;
    size_t n = 0;
    const char *found = NULL;
    if (th_file_read(log, RECORD_LIMIT, &text, &n) == THAW_OK)
        for (const char *at = (const char *)text; at && *at;) {
            found = strncmp(at, "thaw: ", 6) ? found : at + 6;
            at = strchr(at, '\n');
            at = at ? at + 1 : NULL;
        }
    char *words = found && code < 128
                      ? th_format("%.*s", (int)strcspn(found, "\n"), found)
                  : code == 128 + 9
                      ? th_strdup("it was killed, as by a system without memory left")
                      : th_format("it ended with exit code %d", code);
    th_free(text);
    return words;
}

/* Whether the training says that its features were there when it began. */
static bool was_warm(const char *log)
{
    unsigned char *text = NULL;
    size_t n = 0;
    bool warm = th_file_read(log, RECORD_LIMIT, &text, &n) == THAW_OK &&
                strstr((const char *)text, " are there\n");
    th_free(text);
    return warm;
}

/* All paths of one training. */
struct paths {
    char *run, *options, *log, *record, *metrics;
};

static thaw_status make_paths(const struct thaw_bench *b,
    const struct th_bench_entry *e, int seed, struct paths *p)
{
    p->run = th_bench_path(b, e, seed, "");
    p->options = th_bench_path(b, e, seed, ".json");
    p->log = th_bench_path(b, e, seed, ".log");
    p->record = th_bench_path(b, e, seed, ".result.json");
    p->metrics = th_bench_path(b, e, seed, "/metrics.jsonl");
    return p->run && p->options && p->log && p->record && p->metrics ? THAW_OK
                                                                     : THAW_E_MEMORY;
}

static void free_paths(struct paths *p)
{
    th_free(p->run);
    th_free(p->options);
    th_free(p->log);
    th_free(p->record);
    th_free(p->metrics);
}

/* What metrics.jsonl says; *ended: that the run did. */
static thaw_status read_history(
    const struct paths *p, struct th_bench_run *r, bool *ended)
{
    const struct th_run_folder folder = {.metrics = p->metrics};
    struct th_run_history h;
    thaw_status status = th_run_history_read(&folder, &h);
    r->seconds = 0;
    for (int i = 0; i < h.epochs.n; i++)
        r->seconds += isfinite(h.epochs.seconds[i]) ? h.epochs.seconds[i] : 0;
    r->peak_bytes = (int64_t)h.peak_bytes;
    *ended = h.ended;
    th_run_history_release(&h);
    return status;
}

/* From the beginning, or on from where an earlier process was. */
static thaw_status start(struct thaw_bench *b, const struct paths *p, int *code)
{
    char *config = th_format("%s/config.json", p->run);
    if (!config)
        return THAW_E_MEMORY;
    bool begun = th_file_exists(config);
    th_free(config);
    const char *threads = th_option_text(b->options, "threads");
    const char *const train[] = {
        b->program, "train", "--config", p->options, "-o", p->run, NULL};
    const char *const resume[] = {
        b->program, "resume", p->run, "--threads", threads, NULL};
    b->n_trainings++;
    return th_bench_process(
        (char *const *)(begun ? resume : train), p->log, &b->stop, code);
}

/* Until the run has ended well, has failed, or the bench is stopped. */
static thaw_status train(
    struct thaw_bench *b, const struct paths *p, struct th_bench_run *r)
{
    bool ended = false;
    TRY(read_history(p, r, &ended));
    if (ended)
        return THAW_OK;
    TRY(start(b, p, &r->code));
    if (atomic_load(&b->stop))
        return THAW_OK;
    TRY(read_history(p, r, &ended));
    if (r->code == 0 && ended)
        return THAW_OK;
    r->code = r->code ? r->code : -THAW_E_FAIL;
    r->reason = last_words(p->log, r->code);
    return r->reason ? THAW_OK : THAW_E_MEMORY;
}

static void say_run(
    const struct thaw_bench *b, const char *path, const struct th_bench_run *r)
{
    char took[32], peak[32];
    const char *name = strrchr(path, '/') + 1;
    if (r->code) {
        th_say(&b->events, "bench", "%s: failed: %s", name, r->reason);
        return;
    }
    th_say(&b->events, "bench", "%s: %s%.2f %%, %s, %s", name, b->boxes ? "AP " : "",
        100 * r->score, th_text_seconds(r->seconds, took, sizeof took),
        th_text_bytes((double)r->peak_bytes, peak, sizeof peak));
}

static thaw_status bring_about(struct thaw_bench *b, const struct paths *p,
    const thaw_options *o, struct th_bench_run *r)
{
    TRY(agree_on_options(o, p->options));
    TRY(read_record(b, p->record, r));
    if (!r->done) {
        TRY(train(b, p, r));
        if (!atomic_load(&b->stop) && !r->code)
            TRY(judge(b, p->run, o, r));
        r->warm = was_warm(p->log);
        r->done = (r->code && r->reason) || r->marks;
        if (!r->done) /* stopped */
            return THAW_OK;
        TRY(write_record(b, p->record, r));
    }
    say_run(b, p->run, r);
    return THAW_OK;
}

thaw_status th_bench_train(struct thaw_bench *b, struct th_bench_entry *e, int seed)
{
    struct paths p = {0};
    thaw_options *o = NULL;
    thaw_status status = make_paths(b, e, seed, &p);
    if (status == THAW_OK)
        status = th_bench_options(b, &e->settings, seed, &o);
    if (status == THAW_OK)
        status = bring_about(b, &p, o, &e->runs[seed]);
    thaw_options_free(o);
    free_paths(&p);
    return status;
}

/* ---- Forecast ---- */

/* The last line of `log` that is a forecast. */
static thaw_status read_forecast(const char *log, struct th_bench_run *r)
{
    static const char begin[] = "{\"event\":\"forecast\"";
    unsigned char *text = NULL;
    struct th_json *json = NULL;
    size_t n = 0;
    const char *found = NULL;
    TRY(th_file_read(log, RECORD_LIMIT, &text, &n));
    for (const char *at = (const char *)text; (at = strstr(at, begin)); at++)
        found = at;
    thaw_status status =
        found ? th_json_parse(found, strcspn(found, "\n"), log, &json)
              : th_fail(THAW_E_FAIL, "%s: there is no forecast in it", log);
    if (status == THAW_OK) {
        r->seconds = real_of(json, "seconds");
        r->peak_bytes = (int64_t)real_of(json, "peak_bytes");
        r->done = true;
    }
    th_json_free(json);
    th_free(text);
    return status;
}

static thaw_status forecast(
    struct thaw_bench *b, const struct paths *p, struct th_bench_run *r)
{
    const char *const argv[] = {b->program, "train", "--config", p->options, "-o",
        p->run, "--forecast", "--json", NULL};
    TRY(th_bench_process((char *const *)argv, p->log, &b->stop, &r->code));
    if (atomic_load(&b->stop))
        return THAW_OK;
    if (r->code == 0)
        return read_forecast(p->log, r);
    r->done = true;
    r->reason = last_words(p->log, r->code);
    return r->reason ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status make_forecast_paths(
    const struct thaw_bench *b, const struct th_bench_entry *e, struct paths *p)
{
    const char *dir = b->folder.path, *name = e->settings.name;
    p->run = th_format("%s/runs/%s-forecast", dir, name);
    p->options = th_format("%s/runs/%s-forecast.json", dir, name);
    p->log = th_format("%s/runs/%s-forecast.log", dir, name);
    return p->run && p->options && p->log ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_bench_forecast(struct thaw_bench *b, struct th_bench_entry *e)
{
    struct paths p = {0};
    thaw_options *o = NULL;
    thaw_status status = make_forecast_paths(b, e, &p);
    if (status == THAW_OK)
        status = th_bench_options(b, &e->settings, 0, &o);
    if (status == THAW_OK)
        status = write_options(o, p.options);
    if (status == THAW_OK)
        status = forecast(b, &p, &e->runs[0]);
    if (status == THAW_OK && e->runs[0].done && !e->runs[0].code) {
        unlink(p.options);
        unlink(p.log);
    }
    thaw_options_free(o);
    free_paths(&p);
    return status;
}
