/* SPDX-License-Identifier: Apache-2.0
 * The trainer's public face: new, resume, run, stop, free. */
#include "trainer.h"

#include "mem.h"
#include "options.h"
#include "pretrained.h"
#include "report.h"
#include "run_config.h"

#include <string.h>

/* ---- New ---- */

static thaw_status write_config(const struct thaw_trainer *t)
{
    char *text = th_options_json(t->options);
    thaw_status status =
        text ? th_run_folder_write(&t->folder, "config.json", text) : THAW_E_MEMORY;
    th_free(text);
    return status;
}

static thaw_status write_classes(const struct thaw_trainer *t)
{
    size_t bytes = 1;
    for (int i = 0; i < t->net.model.n_classes; i++)
        bytes += strlen(t->net.model.classes[i]) + 1;
    char *text = th_alloc(bytes, 1), *to = text;
    if (!text)
        return THAW_E_MEMORY;
    for (int i = 0; i < t->net.model.n_classes; i++) {
        to = stpcpy(to, t->net.model.classes[i]);
        *to++ = '\n';
    }
    thaw_status status = th_run_folder_write(&t->folder, "classes.txt", text);
    th_free(text);
    return status;
}

/* The log begins with what the run is made of. Last: a run without config.json has not
 * begun. */
static void write_start(struct thaw_trainer *t)
{
    struct th_device *device = t->net.device;
    const struct th_start_log s = {.backbone = t->net.model.variant->name,
        .device = device->backend->describe(device),
        .convolutions = th_option_text(t->options, "conv-choices"),
        .threads = device->threads,
        .data = &t->net.model.trained_on};
    th_trainer_say_lost_line(t, th_run_log_start(&t->folder, &s));
}

/* What options alone can say wrong, and that there are weights and the device, is known
 * before many images are listed. */
static thaw_status check_options(const thaw_options *o)
{
    const struct th_head *head = NULL;
    const struct th_device_name name = th_option_device(o);
    struct th_device *device = NULL;
    char *path = NULL;
    TRY(th_device_open(name.text, 1, &device));
    th_device_close(device);
    TRY(th_head_find(th_option_text(o, "head"), &head));
    TRY(th_pretrained_find(o, &path));
    th_free(path);
    return THAW_OK;
}

/* A run whose result would not fit must not compute first. That checkpoints may not fit is
 * the forecast's to say. */
static thaw_status check_space(const struct thaw_trainer *t)
{
    enum { MODELS = 3 }; /* best.h5, last.h5, and one that is being written */
    size_t needed = MODELS * (size_t)th_model_values(&t->net.model) * sizeof(float);
    size_t available = th_run_folder_free(&t->folder);
    if (available >= needed)
        return THAW_OK;
    return th_fail(THAW_E_IO,
        "%s: best.h5 and last.h5 need %zu bytes, %zu are free; make room or choose "
        "another "
        "disk",
        t->folder.path, needed, available);
}

/* The folder comes last: a run that cannot begin leaves nothing behind; but one that
 * could not be saved should not compute first. */
static thaw_status begin(struct thaw_trainer *t)
{
    const char *out = th_option_text(t->options, "out");
    if (!out)
        return th_fail(THAW_E_USAGE, "no run folder was given: -o RUN");
    TRY(th_run_folder_check(out));
    TRY(check_options(t->options));
    TRY(th_trainer_build(t, NULL));
    TRY(th_run_folder_create(&t->folder, out));
    TRY(check_space(t));
    TRY(write_classes(t));
    TRY(write_config(t));
    write_start(t);
    return THAW_OK;
}

static thaw_status make(const thaw_events *events, struct thaw_trainer **out)
{
    *out = th_alloc(1, sizeof **out);
    if (!*out)
        return THAW_E_MEMORY;
    (*out)->folder.lock = -1;
    (*out)->saved_at = th_seconds();
    if (events)
        (*out)->events = *events;
    return THAW_OK;
}

thaw_status thaw_trainer_new(
    const thaw_options *o, const thaw_events *events, thaw_trainer **out)
{
    TRY(make(events, out));
    thaw_status status = th_run_config_copy(o, &(*out)->options);
    if (status == THAW_OK)
        status = begin(*out);
    if (status != THAW_OK) {
        th_run_folder_abandon(&(*out)->folder);
        thaw_trainer_free(*out);
        *out = NULL;
    }
    return status;
}

void thaw_trainer_free(thaw_trainer *t)
{
    if (!t)
        return;
    th_trainer_release_phase(t);
    th_loader_close(t->val_loader);
    th_metrics_release(&t->val);
    if (t->shadow.device)
        th_store_release(&t->shadow);
    th_certificate_release(&t->certificate);
    th_network_release(&t->net);
    th_dataset_close(&t->data);
    th_recipe_release(&t->recipe);
    th_tfevents_flush(&t->tfevents); /* of a run that ended in mid-epoch */
    th_tfevents_release(&t->tfevents);
    th_run_folder_close(&t->folder);
    th_free(t->phase_steps);
    th_free(t->class_weight);
    th_free(t->pos_weight);
    th_free(t->target);
    th_free(t->keys);
    th_free(t->weight);
    for (int b = 0; b < t->n_buckets; b++)
        th_reader_release(&t->bucket[b].reader);
    th_free(t->best_image);
    th_free(t->best_adapter);
    th_mixer_release(&t->mixer);
    thaw_options_free(t->options);
    th_free(t);
}

/* ---- Resume ---- */

static thaw_status read_config(struct thaw_trainer *t, const char *run)
{
    char *text = NULL;
    TRY(thaw_options_new(&t->options));
    TRY(th_run_folder_read(&t->folder, "config.json", &text));
    thaw_status status = th_options_from_json(t->options, text, "config.json");
    th_free(text);
    return status == THAW_OK ? thaw_options_set(t->options, "out", run) : status;
}

static bool is_patient(const struct thaw_trainer *t)
{
    return !t->recipe.patience || t->at.best_epoch < 0 ||
           t->at.epoch - t->at.best_epoch <= t->recipe.patience;
}

static void say_position(const struct thaw_trainer *t)
{
    th_say(&t->events, "resume", "from step %lld, epoch %lld", (long long)t->at.global,
        (long long)t->at.epoch + 1);
    if (t->at.epoch >= t->recipe.epochs)
        th_say(
            &t->events, "resume", "nothing is left to train; --epochs +N would go on");
    else if (!is_patient(t))
        th_say(&t->events, "resume",
            "nothing is left to train: --patience %d has ended the run",
            t->recipe.patience);
}

/* Stand where the checkpoint stood. */
static thaw_status take_position(struct thaw_trainer *t, const struct th_checkpoint *c)
{
    if (c->data_hash != t->data_hash)
        return th_fail(THAW_E_DATA,
            "%s: its images are no longer those that the run began with",
            th_option_text(t->options, "data"));
    t->at = c->at;
    if (t->at.epoch + (t->at.step > 0) > t->recipe.epochs)
        return th_fail(THAW_E_USAGE,
            "--epochs %d: the run is already in epoch %lld; give more, or +N",
            t->recipe.epochs, (long long)t->at.epoch + (t->at.step > 0));
    TRY(th_certificate_read(&t->certificate, c->certificate));
    if (t->at.phase >= t->recipe.timetable.n)
        return th_fail(THAW_E_DATA, "the checkpoint is in a phase that --thaw lacks");
    say_position(t);
    return th_run_log_cut(&t->folder, c->log_bytes);
}

static thaw_status continue_run(struct thaw_trainer *t, const char *run,
    const thaw_options *overrides, struct th_weights *w)
{
    struct th_checkpoint c = {0};
    bool found = false;
    TRY(th_run_folder_open(&t->folder, run));
    TRY(read_config(t, run));
    TRY(th_checkpoint_read(&t->folder, &t->events, &c, w, &found));
    thaw_status status =
        found ? th_run_config_compare(t->options, c.config, run) : THAW_OK;
    if (status == THAW_OK)
        status = th_run_config_override(t->options, overrides);
    if (status == THAW_OK)
        status = th_trainer_build(t, found ? w : NULL);
    if (status == THAW_OK && found)
        status = take_position(t, &c);
    th_checkpoint_release(&c);
    TRY(status);
    if (!found) {
        th_say(&t->events, "resume", "there is no checkpoint yet: from the beginning");
        TRY(th_run_log_cut(&t->folder, 0));
        write_start(t);
        TRY(write_classes(t));
    }
    return write_config(t);
}

thaw_status thaw_trainer_resume(const char *run, const thaw_options *overrides,
    const thaw_events *events, thaw_trainer **out)
{
    struct th_weights w;
    TRY(make(events, out));
    th_weights_init(&w);
    thaw_status status = continue_run(*out, run, overrides, &w);
    th_weights_release(&w);
    if (status != THAW_OK) {
        thaw_trainer_free(*out);
        *out = NULL;
    }
    return status;
}

/* ---- Run ---- */

static bool goes_on(const struct thaw_trainer *t)
{
    return t->at.epoch < t->recipe.epochs && is_patient(t) && !atomic_load(&t->stop);
}

/* A run whose last epoch had no finite step did not get well again. */
static thaw_status check_finite(const struct thaw_trainer *t)
{
    const struct th_timetable *timetable = &t->recipe.timetable;
    if (t->at.epoch == 0 || t->at.in_a_row == 0)
        return THAW_OK;
    int last = th_timetable_phase(timetable, (int)t->at.epoch - 1);
    if (t->at.in_a_row < t->phase_steps[last])
        return THAW_OK;
    return th_fail(THAW_E_DIVERGED, "nothing was finite in the whole last epoch");
}

/* What there is to go on with: the newest checkpoint from before the first of the steps
 * that were not finite; the one right before them may be what made them so. */
static thaw_status diverged(const struct thaw_trainer *t)
{
    int64_t first = t->at.global - t->at.in_a_row;
    char *path = th_checkpoint_before(&t->folder, t->at.in_a_row ? first : first + 1);
    if (path)
        th_fail(THAW_E_DIVERGED,
            "%s; the last good state is kept: go on from it in a new run, with "
            "--weights "
            "%s --keep-head and a smaller --lr, or --clip 1",
            thaw_error(), path);
    else
        th_fail(THAW_E_DIVERGED,
            "%s, and there is no checkpoint from before that: try a smaller --lr, or "
            "--clip 1",
            thaw_error());
    th_free(path);
    return THAW_E_DIVERGED;
}

static thaw_status run(thaw_trainer *t, thaw_result *result)
{
    if (goes_on(t))
        th_trainer_begin_events(t);
    while (goes_on(t)) {
        TRY(th_trainer_enter(t));
        th_trainer_forecast(t);
        TRY(th_trainer_steps(t));
        if (t->at.step < th_trainer_steps_per_epoch(t))
            break; /* stopped */
        TRY(th_trainer_end_epoch(t));
    }
    bool stopped = t->at.epoch < t->recipe.epochs && is_patient(t);
    if (!stopped)
        TRY(check_finite(t));
    return th_trainer_finish(t, stopped, result);
}

thaw_status thaw_trainer_run(thaw_trainer *t, thaw_result *result)
{
    *result = (thaw_result){0};
    thaw_status status = run(t, result);
    if (status == THAW_OK)
        status = th_device_wait(t->net.device);
    return status == THAW_E_DIVERGED ? diverged(t) : status;
}

void thaw_trainer_stop(thaw_trainer *t)
{
    if (t)
        atomic_store(&t->stop, true);
}
