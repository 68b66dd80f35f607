/* SPDX-License-Identifier: Apache-2.0
 * Owns the course of a bench: what trains next, what is dropped, who wins. Successive halving
 * (Jamieson and Talwalkar 2016) by seeds, since a learning rate's schedule belongs to the
 * whole of a training: every strategy has one seed, those that are left have two, then four, until all
 * are used. After each round those in the lower half go whose paired difference to the best has an
 * interval below zero. */
#include "bench.h"

#include "file.h"
#include "mem.h"
#include "model_open.h"
#include "options.h"
#include "pretrained.h"
#include "recipe.h"
#include "report.h"
#include "run_config.h"
#include "scores.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_SEEDS = 3 };

/* ---- New ---- */

static thaw_status open_data(struct thaw_bench *b)
{
    const struct th_head *head = NULL;
    struct th_dataset_options o = th_recipe_data(b->options);
    const char *where = th_option_text(b->options, "data");
    TRY(th_head_find(th_option_text(b->options, "head"), &head));
    o.many = head->many; /* to be refused by look_at_network, not by a file's labels */
    b->boxes = o.objects = head->detector != NULL;
    if (!where)
        return th_fail(THAW_E_USAGE, "no data was given: a folder of images");
    TRY(th_dataset_open(where, &o, &b->data));
    for (int64_t i = 0; i < b->data.warnings.n; i++)
        th_say(&b->events, "warning", "%s", b->data.warnings.name[i]);
    if (b->data.split[TH_SPLIT_VAL].n == 0)
        return th_fail(THAW_E_USAGE,
            "--val: strategies are compared by validation images, and there are none");
    const struct th_fingerprint f = th_fingerprint_of(&b->data);
    th_fingerprint_text(&f, b->fingerprint);
    th_say(&b->events, "data", "%d classes; %lld images to train on, %lld to validate",
        b->data.n_classes, (long long)b->data.split[TH_SPLIT_TRAIN].n,
        (long long)b->data.split[TH_SPLIT_VAL].n);
    return THAW_OK;
}

/* What is asked for by name has to be possible; of the default list some is left out. */
static thaw_status add_entry(
    struct thaw_bench *b, const char *name, const struct th_model *m)
{
    struct th_bench_entry *e = &b->entries[b->n_entries++];
    TRY(th_bench_settings(name, b->options, m, &e->settings));
    e->runs = th_alloc((size_t)b->seeds, sizeof *e->runs);
    if (!e->runs)
        return THAW_E_MEMORY;
    if (e->settings.missing && thaw_options_is_set(b->options, "strategies"))
        return th_fail(THAW_E_USAGE, "--strategies: %s: %s", name, e->settings.missing);
    return THAW_OK;
}

static thaw_status add_entries(struct thaw_bench *b, const struct th_model *m)
{
    char names[TH_MOST_STRATEGIES][TH_BENCH_NAME];
    int n = 0;
    TRY(th_bench_names(b->options, names, &n));
    b->entries = th_alloc((size_t)n, sizeof *b->entries);
    if (!b->entries)
        return THAW_E_MEMORY;
    for (int i = 0; i < n; i++)
        TRY(add_entry(b, names[i], m));
    b->n_values = th_model_values(m);
    b->backbone = th_strdup(m->variant->name);
    return b->backbone ? THAW_OK : THAW_E_MEMORY;
}

/* The network's catalogue says which stages there are; its values are the trainings'. */
static thaw_status look_at_network(struct thaw_bench *b)
{
    struct th_network_spec spec = {0};
    struct th_model m = {0};
    struct th_weights w;
    char *path = NULL;
    bool assumed = false;
    TRY(th_pretrained_find(b->options, &path));
    th_weights_init(&w);
    /* Written down: a file that the environment names now need not be found later. */
    thaw_status status = path ? thaw_options_set(b->options, "weights", path) : THAW_OK;
    if (status == THAW_OK && path)
        status = th_weights_read(path, &w);
    if (status == THAW_OK)
        status = th_pretrained_identify(path ? &w : NULL, b->options, &spec, &assumed);
    if (status == THAW_OK && spec.head->many && !b->boxes)
        status = th_fail(THAW_E_USAGE,
            "--head %s: strategies are compared by top-1, which images with any number "
            "of classes do not have: train each and compare val_map",
            spec.head->name);
    if (status == THAW_OK)
        status =
            th_model_init(&m, spec.backbone, spec.variant, spec.head, spec.head_width,
                &spec.input, (const char *const *)b->data.classes, b->data.n_classes);
    if (status == THAW_OK)
        status = add_entries(b, &m);
    th_model_release(&m);
    th_weights_release(&w);
    th_free(path);
    return status;
}

static thaw_status describe_device(struct thaw_bench *b)
{
    struct th_device *device = NULL;
    const struct th_device_name name = th_option_device(b->options);
    TRY(th_device_open(name.text, th_option_threads(b->options, "threads"), &device));
    b->device = th_strdup(device->backend->describe(device));
    th_device_close(device);
    return b->device ? THAW_OK : THAW_E_MEMORY;
}

/* A folder with something in it must be a bench's. */
static thaw_status claim(struct thaw_bench *b, const char *out)
{
    char *runs = th_format("%s/runs", out);
    if (!runs)
        return THAW_E_MEMORY;
    thaw_status status = THAW_OK;
    if (!th_file_exists(runs) && th_run_folder_check(out) != THAW_OK)
        status = th_fail(
            THAW_E_USAGE, "%s exists and holds no bench: choose another folder", out);
    if (status == THAW_OK)
        status = th_run_folder_claim(&b->folder, out);
    if (status == THAW_OK)
        status = th_file_mkdir(runs);
    th_free(runs);
    return status;
}

/* What options alone can say wrong comes first, the folder last. */
static thaw_status begin(struct thaw_bench *b)
{
    char names[TH_MOST_STRATEGIES][TH_BENCH_NAME];
    struct th_recipe recipe;
    int n = 0;
    const char *out = th_option_text(b->options, "out");
    if (!out)
        return th_fail(THAW_E_USAGE, "no folder was given: -o DIR");
    TRY(th_bench_names(b->options, names, &n));
    TRY(th_recipe_init(&recipe, b->options));
    th_recipe_release(&recipe);
    TRY(open_data(b));
    TRY(look_at_network(b));
    TRY(describe_device(b));
    return claim(b, out);
}

thaw_status thaw_bench_new(const thaw_options *o, const char *program,
    const thaw_events *events, thaw_bench **out)
{
    struct thaw_bench *b = *out = th_alloc(1, sizeof **out);
    if (!b)
        return THAW_E_MEMORY;
    b->folder.lock = -1;
    if (events)
        b->events = *events;
    b->program = th_strdup(program);
    b->threads_given = thaw_options_is_set(o, "threads");
    b->seeds = thaw_options_is_set(o, "seeds") ? (int)th_option_int(o, "seeds")
                                               : DEFAULT_SEEDS;
    thaw_status status =
        b->program ? th_run_config_copy(o, &b->options) : THAW_E_MEMORY;
    if (status == THAW_OK && thaw_options_is_set(o, "out")) /* as it was typed */
        status = thaw_options_set(b->options, "out", thaw_options_get(o, "out"));
    if (status == THAW_OK)
        status = begin(b);
    if (status != THAW_OK) {
        thaw_bench_free(b);
        *out = NULL;
    }
    return status;
}

static void release_entry(struct th_bench_entry *e, int seeds)
{
    for (int s = 0; e->runs && s < seeds; s++) {
        th_free(e->runs[s].reason);
        th_free(e->runs[s].marks);
    }
    th_free(e->runs);
    th_bench_settings_release(&e->settings);
}

void thaw_bench_free(thaw_bench *b)
{
    if (!b)
        return;
    th_bench_result_release(b);
    for (int i = 0; i < b->n_entries; i++)
        release_entry(&b->entries[i], b->seeds);
    th_free(b->entries);
    th_free(b->device);
    th_free(b->backbone);
    th_free(b->program);
    th_dataset_close(&b->data);
    th_run_folder_close(&b->folder);
    thaw_options_free(b->options);
    th_free(b);
}

void thaw_bench_stop(thaw_bench *b)
{
    if (b)
        atomic_store(&b->stop, true);
}

/* ---- What is left ---- */

static bool is_left(const struct th_bench_entry *e)
{
    return !e->settings.missing && !e->failed && !e->dropped;
}

double th_bench_mean(const struct th_bench_entry *e)
{
    double sum = 0;
    for (int s = 0; s < e->n_runs; s++)
        sum += e->runs[s].score;
    return e->n_runs ? sum / e->n_runs : (double)NAN;
}

struct th_difference th_bench_difference(const struct thaw_bench *b,
    const struct th_bench_entry *x, const struct th_bench_entry *y)
{
    enum { MOST_SEEDS = 64 };
    th_marks marks[2][MOST_SEEDS];
    double score[2][MOST_SEEDS];
    int k = x->n_runs < y->n_runs ? x->n_runs : y->n_runs;
    for (int s = 0; s < k; s++) {
        marks[0][s] = x->runs[s].marks;
        marks[1][s] = y->runs[s].marks;
        score[0][s] = x->runs[s].score;
        score[1][s] = y->runs[s].score;
    }
    return b->boxes ? th_paired_scores(score[0], score[1], k)
                    : th_paired(marks[0], marks[1], k);
}

struct th_bench_entry *th_bench_best(const struct thaw_bench *b)
{
    struct th_bench_entry *best = NULL;
    for (int i = 0; i < b->n_entries; i++) {
        struct th_bench_entry *e = &b->entries[i];
        if (is_left(e) && e->n_runs &&
            (!best || e->n_runs > best->n_runs ||
                (e->n_runs == best->n_runs && th_bench_mean(e) > th_bench_mean(best))))
            best = e;
    }
    return best;
}

/* How many are better: those of equal accuracy count by their place in the list. */
static int place_of(const struct thaw_bench *b, int i)
{
    int better = 0;
    double mine = th_bench_mean(&b->entries[i]);
    for (int k = 0; k < b->n_entries; k++) {
        double other = th_bench_mean(&b->entries[k]);
        if (k != i && is_left(&b->entries[k]))
            better += other > mine || (!(mine > other) && k < i);
    }
    return better;
}

/* After a round: of the lower half, what is clearly worse than the best. Places are those
 * at the end of the round. */
static void drop_worse(struct thaw_bench *b, int trained)
{
    const struct th_bench_entry *best = th_bench_best(b);
    int place[TH_MOST_STRATEGIES], left = 0;
    for (int i = 0; i < b->n_entries; i++) {
        left += is_left(&b->entries[i]);
        place[i] = place_of(b, i);
    }
    for (int i = 0; i < b->n_entries; i++) {
        struct th_bench_entry *e = &b->entries[i];
        if (!is_left(e) || place[i] < (left + 1) / 2)
            continue;
        struct th_difference d = th_bench_difference(b, e, best);
        if (!(d.interval.high < 0))
            continue;
        e->dropped = trained;
        th_say(&b->events, "bench",
            "%s is dropped: clearly worse than %s, by %.1f points (%.1f to %.1f)",
            e->settings.name, best->settings.name, -100 * d.mean,
            -100 * d.interval.high, -100 * d.interval.low);
    }
}

/* ---- Training ---- */

static double minutes_spent(const struct thaw_bench *b)
{
    double seconds = 0;
    for (int i = 0; i < b->n_entries; i++)
        for (int s = 0; s < b->seeds; s++)
            seconds += b->entries[i].runs[s].seconds;
    return seconds / 60;
}

/* What is trained already costs nothing: only the next training may be too much. */
static bool may_train(struct thaw_bench *b)
{
    if (!thaw_options_is_set(b->options, "budget"))
        return true;
    double budget = th_option_real(b->options, "budget");
    if (minutes_spent(b) < budget)
        return true;
    if (!b->over_budget)
        th_say(
            &b->events, "bench", "--budget %g is used up: no more is trained", budget);
    b->over_budget = true;
    return false;
}

/* One seed of everything that is left; *whole: all of them were trained. */
static thaw_status train_seed(struct thaw_bench *b, int seed, bool *whole)
{
    for (int i = 0; i < b->n_entries; i++) {
        struct th_bench_entry *e = &b->entries[i];
        if (!is_left(e))
            continue;
        *whole = may_train(b);
        if (!*whole)
            return THAW_OK;
        TRY(th_bench_train(b, e, seed));
        *whole = e->runs[seed].done && !atomic_load(&b->stop);
        e->failed = e->runs[seed].done && e->runs[seed].code;
        e->n_runs += e->runs[seed].done && !e->failed;
        if (!*whole)
            return THAW_OK;
    }
    return THAW_OK;
}

static thaw_status train_all(struct thaw_bench *b)
{
    bool halving = !th_option_flag(b->options, "no-halving"), whole = true;
    int seed = 0;
    for (int round = 1; whole && seed < b->seeds; round *= 2) {
        for (; whole && seed < b->seeds && seed < round; seed++)
            TRY(train_seed(b, seed, &whole));
        if (halving && whole && seed < b->seeds)
            drop_worse(b, seed);
    }
    return THAW_OK;
}

/* ---- The test images ---- */

/* The winner's model, whatever way leads to the folder. */
static const char *tested_model(const struct thaw_bench *b)
{
    return b->result.model + strlen(b->folder.path) + 1;
}

/* What is recorded holds for one model; a bench that went on may have another winner. */
static bool take_test(struct thaw_bench *b, const char *path)
{
    enum { LIMIT = 1 << 20 };
    unsigned char *text = NULL;
    size_t n = 0;
    struct th_json *json = NULL;
    bool same = false;
    if (th_file_exists(path) && th_file_read(path, LIMIT, &text, &n) == THAW_OK &&
        th_json_parse((const char *)text, n, path, &json) == THAW_OK) {
        const struct th_json *of = th_json_get(json, "of"),
                             *images = th_json_get(json, "images"),
                             *top1 = th_json_get(json, b->boxes ? "ap" : "top1"),
                             *both = th_json_get(json, "top1_interval");
        bool interval = both && both->n == 2;
        same = of && of->kind == TH_JSON_STRING && !strcmp(of->text, tested_model(b)) &&
               images && images->is_whole && top1 && (interval || b->boxes);
        if (same) {
            b->result.test_images = images->whole;
            b->result.test_top1 = top1->real;
            b->result.test_interval = (thaw_interval){(double)NAN, (double)NAN};
        }
        if (same && interval)
            b->result.test_interval =
                (thaw_interval){both->first->real, both->first->next->real};
    }
    th_json_free(json);
    th_free(text);
    return same;
}

static thaw_status record_test(
    struct thaw_bench *b, const thaw_evaluation *e, const char *path)
{
    struct th_json_out o = {0};
    th_json_open(&o, '{');
    th_json_put_string(&o, "of", tested_model(b));
    th_scores_json(e, &o);
    th_json_close(&o, '}');
    thaw_status status = th_json_out_status(&o);
    if (status == THAW_OK)
        status = th_file_write_atomic(path, o.text, strlen(o.text), NULL);
    th_json_out_release(&o);
    b->result.test_images = e->images;
    b->result.test_top1 = b->boxes ? e->coco[0] : e->top1;
    b->result.test_interval = e->top1_interval;
    return status;
}

static thaw_status evaluate_test(struct thaw_bench *b, const char *path)
{
    thaw_options *o = NULL;
    thaw_model *m = NULL;
    thaw_evaluation e = {0};
    TRY(th_bench_options(b, &th_bench_best(b)->settings, 0, &o));
    thaw_status status = thaw_options_set(o, "split", "test");
    if (status == THAW_OK)
        status = thaw_model_open(b->result.model, o, &m);
    if (status == THAW_OK)
        status = thaw_model_eval(m, th_option_text(o, "data"), o, &b->events, &e);
    if (status == THAW_OK)
        status = record_test(b, &e, path);
    thaw_evaluation_release(&e);
    thaw_model_free(m);
    thaw_options_free(o);
    return status;
}

static thaw_status test_winner(struct thaw_bench *b)
{
    bool wanted = b->result.model && b->data.split[TH_SPLIT_TEST].n &&
                  !th_option_flag(b->options, "no-test");
    if (!wanted)
        return THAW_OK;
    char *path = th_run_folder_path(&b->folder, "test.json");
    if (!path)
        return THAW_E_MEMORY;
    if (th_file_exists(path) && !take_test(b, path))
        th_say(&b->events, "warning",
            "the test images were evaluated before, with another winner: a choice made "
            "after seeing that makes what follows too good");
    thaw_status status = b->result.test_images ? THAW_OK : evaluate_test(b, path);
    th_free(path);
    return status;
}

/* ---- Run ---- */

static void keep_json(void *context, const char *text)
{
    thaw_status *status = ((void **)context)[1];
    *status = th_run_folder_write(((void **)context)[0], "bench.json", text);
}

static thaw_status write_results(struct thaw_bench *b)
{
    struct th_html h = {0};
    thaw_status written = THAW_OK;
    void *context[] = {&b->folder, &written};
    TRY(thaw_bench_json(b, keep_json, context));
    TRY(written);
    th_bench_html(&h, b);
    thaw_status status = th_html_status(&h);
    if (status == THAW_OK)
        status = th_run_folder_write(&b->folder, "bench.html", h.text);
    th_html_release(&h);
    return status;
}

static thaw_status forecast_all(struct thaw_bench *b)
{
    for (int i = 0; i < b->n_entries && !atomic_load(&b->stop); i++) {
        struct th_bench_entry *e = &b->entries[i];
        if (e->settings.missing)
            continue;
        TRY(th_bench_forecast(b, e));
        e->failed = e->runs[0].done && e->runs[0].code;
        e->forecast = e->runs[0].done && !e->failed;
    }
    return THAW_OK;
}

static thaw_status run_forecast(struct thaw_bench *b, const thaw_bench_result **result)
{
    TRY(forecast_all(b));
    TRY(th_bench_result(b));
    b->result.stopped = atomic_load(&b->stop);
    *result = &b->result;
    return THAW_OK;
}

thaw_status thaw_bench_run(thaw_bench *b, const thaw_bench_result **result)
{
    if (th_option_flag(b->options, "forecast"))
        return run_forecast(b, result);
    TRY(train_all(b));
    TRY(th_bench_result(b));
    *result = &b->result;
    b->result.stopped = atomic_load(&b->stop);
    if (!b->result.stopped)
        TRY(test_winner(b));
    TRY(write_results(b));
    if (!b->result.stopped && !th_bench_best(b))
        return th_fail(THAW_E_FAIL, "no training ended well: %s/bench.html says why",
            b->folder.path);
    return THAW_OK;
}

thaw_status thaw_bench_json(
    const thaw_bench *b, void (*write)(void *context, const char *text), void *context)
{
    struct th_json_out o = {0};
    thaw_status status = th_bench_json(b, &o);
    if (status == THAW_OK)
        write(context, o.text);
    th_json_out_release(&o);
    return status;
}
