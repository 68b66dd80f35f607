/* SPDX-License-Identifier: Apache-2.0
 * Owns what happens between epochs and at the end: validation, the best model,
 * checkpoints, last.h5 and the final proof. */
#include "trainer.h"

#include "adapter.h"
#include "file.h"
#include "mem.h"
#include "model_file.h"
#include "options.h"
#include "report.h"

#include <math.h>
#include <stdio.h>

/* ---- Checkpoints ---- */

/* Saving may cost one part in so many of the time. */
enum { TH_SAVE_SHARE = 30 };
static const double save_interval = 60; /* seconds, at least */

/* Write an image that waits, if one does; it is gone once it is on the disk. */
static thaw_status put_image(
    struct thaw_trainer *t, const char *name, unsigned char **image, size_t bytes)
{
    if (!*image)
        return THAW_OK;
    char *path = th_run_folder_path(&t->folder, name);
    thaw_status status =
        path ? th_file_write_atomic(path, *image, bytes, NULL) : THAW_E_MEMORY;
    th_free(path);
    if (status != THAW_OK)
        return status;
    th_free(*image);
    *image = NULL;
    return THAW_OK;
}

static thaw_status put_best(struct thaw_trainer *t)
{
    TRY(put_image(t, "best.adapter.h5", &t->best_adapter, t->best_adapter_bytes));
    return put_image(t, "best.h5", &t->best_image, t->best_bytes);
}

thaw_status th_trainer_save(struct thaw_trainer *t)
{
    double began = th_seconds();
    TRY(put_best(t));
    th_arena_discard(&t->net.arena); /* an image of all tensors: not on top of a step */
    struct th_checkpoint c = {.at = t->at, .data_hash = t->data_hash};
    c.config = th_options_json(t->options);
    c.certificate = th_certificate_text(&t->certificate);
    thaw_status status = c.config && c.certificate ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_run_log_size(&t->folder, &c.log_bytes);
    if (status == THAW_OK)
        status = th_checkpoint_write(&t->folder, &t->net.model, &t->net.store, &c);
    th_checkpoint_release(&c);
    t->saved_at = th_seconds();
    t->save_took = t->saved_at - began;
    return status;
}

/* A full disk must not end a run that can still compute; one whose values are no longer
 * finite cannot. A step that was not finite says that the state may be beyond help: the
 * checkpoints before it stay. */
static thaw_status save_or_warn(struct thaw_trainer *t)
{
    thaw_status status = t->at.in_a_row ? THAW_OK : th_trainer_save(t);
    if (status == THAW_E_DIVERGED)
        return status;
    if (status != THAW_OK)
        th_say(&t->events, "warning", "no checkpoint was written, going on: %s",
            thaw_error());
    return THAW_OK;
}

thaw_status th_trainer_save_if_due(struct thaw_trainer *t)
{
    double wait = fmax(save_interval, TH_SAVE_SHARE * t->save_took);
    bool due = t->save_every ? t->at.global % t->save_every == 0
                             : th_seconds() - t->saved_at > wait;
    if (due)
        TRY(save_or_warn(t));
    if (t->at.epoch < t->recipe.epochs && !t->probing)
        th_trainer_report(t, -1);
    return THAW_OK;
}

/* ---- Validation and the best ---- */

/* The averages, and what has none, into the shadow store. */
static thaw_status fill_shadow(struct thaw_trainer *t)
{
    const struct th_store *s = &t->net.store;
    for (int i = 0; i < t->net.model.n_params; i++) {
        const struct th_param *p = &t->net.model.params[i];
        char *average = th_format("ema/%s", p->name);
        float *value = th_alloc((size_t)th_shape_count(&p->shape), sizeof *value);
        int id = average ? th_store_find(s, average) : -1;
        id = id < 0 ? th_store_find(s, p->name) : id;
        thaw_status status =
            average && value ? th_store_get(s, id, value) : THAW_E_MEMORY;
        if (status == THAW_OK)
            status =
                th_store_put(&t->shadow, th_store_find(&t->shadow, p->name), value);
        th_free(value);
        th_free(average);
        TRY(status);
    }
    return THAW_OK;
}

/* What is validated and kept as best: EMA's copy where there is one. */
static const struct th_store *judged(const struct thaw_trainer *t)
{
    return t->shadow.device ? &t->shadow : &t->net.store;
}

static thaw_status write_model(
    struct thaw_trainer *t, const char *name, const struct th_store *values)
{
    char *path = th_run_folder_path(&t->folder, name);
    th_arena_discard(&t->net.arena);
    thaw_status status =
        path ? th_model_file_write(path, &t->net.model, values) : THAW_E_MEMORY;
    th_free(path);
    return status;
}

/* Beside a model that is complete: what of it is not the base's. */
static thaw_status write_adapter(
    struct thaw_trainer *t, const char *name, const struct th_store *values)
{
    unsigned char *image = NULL;
    size_t bytes = 0;
    if (!t->net.model.lora.rank)
        return THAW_OK;
    thaw_status status = th_adapter_image(&t->net.model, values, &image, &bytes);
    if (status == THAW_OK)
        status = put_image(t, name, &image, bytes);
    th_free(image);
    return status;
}

/* A full disk must not end a run that can still compute: the model waits in memory. */
static thaw_status keep_best(struct thaw_trainer *t)
{
    th_free(t->best_image);
    th_free(t->best_adapter);
    t->best_image = t->best_adapter = NULL;
    th_arena_discard(&t->net.arena);
    if (t->net.model.lora.rank)
        TRY(th_adapter_image(
            &t->net.model, judged(t), &t->best_adapter, &t->best_adapter_bytes));
    TRY(th_model_file_image(&t->net.model, judged(t), &t->best_image, &t->best_bytes));
    if (put_best(t) != THAW_OK)
        th_say(&t->events, "warning",
            "the best model is kept in memory and tried again later: %s", thaw_error());
    return THAW_OK;
}

static thaw_status validate(struct thaw_trainer *t, bool *stopped)
{
    *stopped = false;
    if (t->shadow.device)
        TRY(fill_shadow(t));
    if (!t->val_loader)
        return THAW_OK;
    t->evaluators.of[0].mistakes = &t->mistakes;
    TRY(th_evaluate(&t->evaluators, t->val_loader, NULL, &t->stop, &t->val, stopped));
    if (*stopped)
        return THAW_OK;
    double score = th_metrics_score(&t->val);
    if (t->at.best_epoch >= 0 && !(score > t->at.best_score))
        return THAW_OK;
    t->at.best_score = score;
    t->at.best_epoch = t->at.epoch;
    return keep_best(t);
}

static void say_scores(const struct th_metrics *m, char *text, size_t size)
{
    char loss[32] = "";
    if (!m->boxes || m->loss_images) /* else nobody counted it */
        snprintf(loss, sizeof loss, ", val loss %.4f", th_metrics_loss(m));
    if (m->boxes)
        snprintf(text, size, "%s, AP %.2f %%, AP50 %.2f %%", loss, 100 * m->map,
            100 * m->found.figure[TH_AP50]);
    else
        snprintf(text, size, "%s, %s %.2f %%", loss, m->many ? "mAP" : "top-1",
            100 * th_metrics_score(m));
}

static void say_epoch(const struct thaw_trainer *t, const struct th_epoch_log *e)
{
    char val[96] = "", train[32] = "not finite";
    if (isfinite(e->train_loss))
        snprintf(train, sizeof train, "%.4f", e->train_loss);
    if (e->val)
        say_scores(e->val, val, sizeof val);
    th_say(&t->events, "epoch", "%lld/%d: train loss %s%s, %.1f images/s, %.1f s%s",
        (long long)e->epoch + 1, t->recipe.epochs, train, val, e->images_per_s,
        e->seconds, e->skipped ? " (steps that were not finite were skipped)" : "");
}

/* A gap that is worth a line: resnet20 has 0.14 and 0.16 on CIFAR images like those it
 * was trained on, 0.23 and 0.50 where darkening them costs 22 points. */
static const struct th_bn_distance notable_gap = {.shift = 0.4, .scale = 0.3};

/* Whether what BatchNorms see, or their statistics, may have moved since the phase began:
 * if not, one measurement is all of them. */
static bool gap_moves(const struct thaw_trainer *t)
{
    const struct th_freeze *f = &t->freeze;
    for (int i = 0; i < f->n_bns; i++)
        if (th_bn_updates(f->bn[i]))
            return true;
    for (int i = 0; i < f->n_params; i++)
        if (f->trainable[i] && !th_network_in_head(&t->net, i))
            return true;
    return false;
}

/* Once a phase: what to do about statistics that do not fit. */
static void say_gap(struct thaw_trainer *t)
{
    bool notable = t->gap.shift > notable_gap.shift || t->gap.scale > notable_gap.scale;
    if (t->gap_said || !notable)
        return;
    t->gap_said = true;
    th_say(&t->events, "bn",
        "BatchNorm's running statistics do not fit these images: means are %.2f "
        "deviations away, deviations a factor of %.2f; thaw adapt before training, or "
        "--bn train, would fit them",
        t->gap.shift, exp(t->gap.scale));
}

static thaw_status measure_gap(struct thaw_trainer *t)
{
    if (t->gap_known && !gap_moves(t))
        return THAW_OK;
    TRY(th_gap_measure(
        &t->net, &t->data.split[TH_SPLIT_TRAIN], t->recipe.batch, &t->gap));
    t->gap_known = true;
    say_gap(t);
    return THAW_OK;
}

static void log_epoch(struct thaw_trainer *t)
{
    const struct th_epoch_log e = {.epoch = t->at.epoch,
        .skipped = t->at.epoch_skipped,
        .train_loss =
            t->at.images ? t->at.loss_sum / (double)t->at.images : (double)NAN,
        .images_per_s =
            t->timed_steps ? (double)t->timed_images / t->train_seconds : (double)NAN,
        .seconds = t->epoch_seconds,
        .val = t->val_loader ? &t->val : NULL,
        .thawed = t->recipe.timetable.spec[t->at.phase],
        .bn_shift = t->gap.shift,
        .bn_scale = t->gap.scale};
    say_epoch(t, &e);
    th_trainer_say_lost_line(t, th_run_log_epoch(&t->folder, &e));
    th_trainer_epoch_events(t, &e);
}

thaw_status th_trainer_end_epoch(struct thaw_trainer *t)
{
    double began = th_seconds();
    bool stopped = false;
    TRY(validate(t, &stopped));
    if (stopped)
        return THAW_OK;
    TRY(measure_gap(t));
    t->epoch_seconds += th_seconds() - began;
    log_epoch(t);
    t->at.epoch++;
    t->at.step = t->at.images = t->at.epoch_skipped = 0;
    t->at.loss_sum = 0;
    return save_or_warn(t);
}

/* ---- The end ---- */

static void say_end(
    const struct thaw_trainer *t, const thaw_result *r, const struct th_test_log *test)
{
    const char *run = t->folder.path;
    th_trainer_compare_forecast(t);
    th_say(&t->events, "frozen", "%d tensors, verified unchanged%s", r->frozen_tensors,
        t->recipe.timetable.n > 1 ? " over the whole run" : "");
    if (t->val_loader && r->best_epoch >= 0)
        th_say(&t->events, "best", "%s%.2f %% in epoch %d -> %s/best.h5",
            t->val.boxes  ? "AP "
            : t->val.many ? "mAP "
                          : "",
            100 * t->at.best_score, r->best_epoch + 1, run);
    else
        th_say(&t->events, "best", "the last model -> %s/best.h5", run);
    if (test && t->val.boxes)
        th_say(&t->events, "test",
            "AP %.2f %%, AP50 %.2f %% of %lld images, with best.h5 -> %s/test.json",
            100 * test->map, 100 * test->ap50, (long long)test->images, run);
    else if (test && t->val.many)
        th_say(&t->events, "test",
            "mAP %.2f %% of %lld images, macro F1 %.4f, with best.h5 -> %s/test.json",
            100 * test->map, (long long)test->images, test->macro_f1, run);
    else if (test)
        th_say(&t->events, "test",
            "%.2f %% (%.1f to %.1f) of %lld images, macro F1 %.4f, ECE %.2f %%, with "
            "best.h5 -> %s/test.json",
            100 * test->top1, 100 * test->top1_low, 100 * test->top1_high,
            (long long)test->images, test->macro_f1, 100 * test->ece, run);
    if (t->net.model.lora.rank)
        th_say(&t->events, "best", "its adapter -> %s/best.adapter.h5", run);
    th_say(&t->events, "next", "thaw predict %s photo.jpg", run);
}

static thaw_status log_end(const struct thaw_trainer *t, const thaw_result *r,
    const struct th_test_log *test, double fp32)
{
    const struct th_trainer_forecast *f = &t->forecast;
    bool made = f->seconds > 0;
    const struct th_end_log e = {.best_top1 = t->val.many ? r->best_map : r->best_top1,
        .many = t->val.many,
        .boxes = t->val.boxes,
        .best_top1_fp32 = fp32,
        .frozen_tensors = r->frozen_tensors,
        .test = test,
        .forecast_seconds = made ? f->seconds : (double)NAN,
        .seconds = made ? th_seconds() - f->began : (double)NAN,
        .forecast_peak_bytes = f->peak_bytes};
    return th_run_log_end(&t->folder, &e);
}

/* A model, and its adapter beside it: all are tried before one's failure ends the run. */
static thaw_status write_pair(
    struct thaw_trainer *t, const char *kind, const struct th_store *values)
{
    char model[32], adapter[32];
    snprintf(model, sizeof model, "%s.h5", kind);
    snprintf(adapter, sizeof adapter, "%s.adapter.h5", kind);
    thaw_status first = write_adapter(t, adapter, values);
    thaw_status second = write_model(t, model, values);
    return first == THAW_OK ? second : first;
}

static thaw_status write_models(struct thaw_trainer *t)
{
    thaw_status last = write_pair(t, "last", &t->net.store);
    if (t->at.best_epoch >= 0) {
        thaw_status best = put_best(t);
        return last == THAW_OK ? best : last;
    }
    if (t->shadow.device)
        TRY(fill_shadow(t));
    thaw_status best = write_pair(t, "best", judged(t));
    return last == THAW_OK ? best : last;
}

/* After the last leave(): nothing moves any more. */
static thaw_status write_end(struct thaw_trainer *t, thaw_result *r)
{
    struct th_test_log test = {0};
    double fp32 = (double)NAN;
    bool has_test = th_trainer_n_test(t) > 0;
    TRY(th_certificate_verify_run(
        &t->certificate, &t->net.model, &t->net.store, &r->frozen_tensors));
    r->frozen_verified = true;
    TRY(write_models(t));
    TRY(th_trainer_best_in_fp32(t, &fp32, &r->stopped));
    if (has_test && !r->stopped)
        TRY(th_trainer_test(t, &test, &r->stopped));
    if (r->stopped) /* the last epoch's checkpoint is there: a resume ends the run */
        return THAW_OK;
    TRY(log_end(t, r, has_test ? &test : NULL, fp32));
    th_trainer_report(t, r->frozen_tensors);
    say_end(t, r, has_test ? &test : NULL);
    return THAW_OK;
}

thaw_status th_trainer_finish(struct thaw_trainer *t, bool stopped, thaw_result *r)
{
    double score = t->at.best_epoch >= 0 ? t->at.best_score : (double)NAN;
    *r = (thaw_result){.best_top1 = t->val.many ? (double)NAN : score,
        .best_map = t->val.many ? score : (double)NAN,
        .last_loss = t->at.last_loss,
        .best_epoch = (int)t->at.best_epoch,
        .epochs = (int)t->at.epoch,
        .steps = t->at.global,
        .skipped = t->at.skipped,
        .stopped = stopped};
    if (!stopped) {
        TRY(th_trainer_leave(t));
        return write_end(t, r);
    }
    TRY(th_trainer_verify(t));
    return th_trainer_save(t);
}
