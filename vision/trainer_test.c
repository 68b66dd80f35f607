/* SPDX-License-Identifier: Apache-2.0
 * Owns the test split: the best model is evaluated on it once, after training, and what
 * it scored is recorded in RUN/test.json under the hash of that model. A finished run
 * that is resumed says what is recorded; one that trained on and found a better model is
 * evaluated again, with a warning. */
#include "trainer.h"

#include "file.h"
#include "mem.h"
#include "options.h"
#include "report.h"
#include "scores.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char record[] = "test.json";

/* ---- The best model ---- */

thaw_status th_trainer_read_best(struct thaw_trainer *t, struct th_store *into)
{
    struct th_weights w;
    char *path = th_run_folder_path(&t->folder, "best.h5");
    th_weights_init(&w);
    thaw_status status = path ? th_weights_read(path, &w) : THAW_E_MEMORY;
    for (int i = 0; i < t->net.model.n_params && status == THAW_OK; i++) {
        const char *name = t->net.model.params[i].name;
        const struct th_weight *found = th_weights_find(&w, name);
        if (th_param_is_lora(&t->net.model.params[i]))
            continue; /* it is merged, and zero in the mirror */
        status = found
                     ? th_store_put(into, th_store_find(into, name), found->tensor.data)
                     : th_fail(THAW_E_DATA, "%s: %s is not in it", path, name);
    }
    th_weights_release(&w);
    th_free(path);
    return status;
}

enum { KEY_TEXT = 40 };

/* Hash of the model's values and of the test images: what a record is valid for. */
static thaw_status key_of(
    const struct thaw_trainer *t, const struct th_store *best, char key[KEY_TEXT])
{
    uint64_t all = 0;
    for (int i = 0; i < best->n; i++) {
        uint64_t hash = 0;
        TRY(th_store_hash(best, i, &hash));
        all = th_hash(&hash, sizeof hash, all);
    }
    snprintf(key, KEY_TEXT, "%016" PRIx64 "-%016" PRIx64, all,
        t->net.model.trained_on.split[TH_SPLIT_TEST]);
    return THAW_OK;
}

thaw_status th_trainer_judge(struct thaw_trainer *t, struct th_store *values,
    enum th_split split, thaw_evaluation *e, bool *stopped)
{
    struct th_evaluators all = {0};
    struct th_loader *loader = NULL;
    struct th_metrics m;
    const struct th_loader_options o = th_trainer_judge_options(t, split);
    thaw_status status = th_network_metrics(&t->net, &m);
    if (status == THAW_OK)
        status = th_evaluators_init(&all, &t->net, values, t->recipe.batch);
    if (status == THAW_OK)
        status = th_loader_open(&t->data, &o, &loader);
    if (status == THAW_OK)
        status = th_evaluate(&all, loader, NULL, &t->stop, &m, stopped);
    if (status == THAW_OK && !*stopped) {
        e->unreadable = th_loader_n_unreadable(loader);
        status = th_scores_take(&m, t->net.model.classes, e);
    }
    th_loader_close(loader);
    th_evaluators_release(&all);
    th_metrics_release(&m);
    return status;
}

/* ---- The record ---- */

static double real_of(const struct th_json *object, const char *key)
{
    const struct th_json *x = th_json_get(object, key);
    return x && x->kind == TH_JSON_NUMBER ? x->real : (double)NAN;
}

static double item_of(const struct th_json *object, const char *key, size_t i)
{
    const struct th_json *list = th_json_get(object, key),
                         *x = list ? list->first : NULL;
    while (x && i--)
        x = x->next;
    return x && x->kind == TH_JSON_NUMBER ? x->real : (double)NAN;
}

/* What is recorded, and the key that it is valid for; false: nothing that can be used. */
static bool read_record(
    const struct thaw_trainer *t, struct th_test_log *log, char key[KEY_TEXT])
{
    char *text = NULL;
    struct th_json *json = NULL;
    bool found = th_run_folder_read(&t->folder, record, &text) == THAW_OK &&
                 th_json_parse(text, strlen(text), record, &json) == THAW_OK;
    const struct th_json *of = found ? th_json_get(json, "of") : NULL;
    found = of && of->kind == TH_JSON_STRING && strlen(of->text) < KEY_TEXT;
    if (found) {
        snprintf(key, KEY_TEXT, "%s", of->text);
        *log = (struct th_test_log){.images = (int64_t)real_of(json, "images"),
            .loss = real_of(json, "loss"),
            .top1 = real_of(json, "top1"),
            .top1_low = item_of(json, "top1_interval", 0),
            .top1_high = item_of(json, "top1_interval", 1),
            .macro_f1 = real_of(th_json_get(json, "macro"), "f1"),
            .ece = real_of(json, "ece"),
            .map = real_of(json, t->val.boxes ? "ap" : "map"),
            .ap50 = real_of(json, "ap50")};
        found = isfinite(real_of(json, "images"));
    }
    th_json_free(json);
    th_free(text);
    return found;
}

static thaw_status write_record(
    const struct thaw_trainer *t, const thaw_evaluation *e, const char *key)
{
    struct th_json_out o = {0};
    th_json_open(&o, '{');
    th_json_key(&o, "of");
    th_json_string(&o, key);
    th_scores_json(e, &o);
    th_json_close(&o, '}');
    thaw_status status = th_json_out_status(&o);
    if (status == THAW_OK)
        status = th_run_folder_write(&t->folder, record, o.text);
    th_json_out_release(&o);
    return status;
}

/* ---- Once ---- */

static bool has_record(const struct thaw_trainer *t)
{
    char *path = th_run_folder_path(&t->folder, record);
    bool exists = path && th_file_exists(path);
    th_free(path);
    return exists;
}

static thaw_status evaluate_anew(struct thaw_trainer *t, struct th_store *best,
    const char *key, struct th_test_log *log, bool *stopped)
{
    thaw_evaluation e = {0};
    thaw_status status = th_trainer_judge(t, best, TH_SPLIT_TEST, &e, stopped);
    if (status == THAW_OK && !*stopped)
        status = write_record(t, &e, key);
    *log = (struct th_test_log){.images = e.images,
        .loss = e.loss,
        .top1 = e.top1,
        .top1_low = e.top1_interval.low,
        .top1_high = e.top1_interval.high,
        .macro_f1 = e.macro.f1,
        .ece = e.ece,
        .map = e.map,
        .ap50 = e.coco[1]};
    thaw_evaluation_release(&e);
    return status;
}

static thaw_status run(struct thaw_trainer *t, struct th_store *best,
    struct th_test_log *log, bool *stopped)
{
    char key[KEY_TEXT], then[KEY_TEXT] = "";
    TRY(th_trainer_read_best(t, best));
    TRY(key_of(t, best, key));
    bool readable = read_record(t, log, then);
    if (readable && !strcmp(key, then))
        return THAW_OK;
    if (readable)
        th_say(&t->events, "warning",
            "the test images were evaluated before (%s %.2f %%), with another model: "
            "a choice made after seeing that makes what follows too good",
            t->val.boxes  ? "AP"
            : t->val.many ? "mAP"
                          : "top-1",
            100 * (t->val.many ? log->map : log->top1));
    else if (has_record(t))
        th_say(&t->events, "warning",
            "%s/%s cannot be read: the test images are evaluated again", t->folder.path,
            record);
    return evaluate_anew(t, best, key, log, stopped);
}

int64_t th_trainer_n_test(const struct thaw_trainer *t)
{
    return th_option_flag(t->options, "no-test") ? 0 : t->data.split[TH_SPLIT_TEST].n;
}

thaw_status th_trainer_test(
    struct thaw_trainer *t, struct th_test_log *log, bool *stopped)
{
    struct th_store best;
    thaw_status status = th_network_mirror(&t->net, &best);
    if (status == THAW_OK)
        status = run(t, &best, log, stopped);
    th_store_release(&best);
    return status;
}
