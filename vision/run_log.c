/* SPDX-License-Identifier: Apache-2.0
 * Owns metrics.jsonl: one object a line, each written at once. */
#include "run_folder.h"

#include "file.h"
#include "json.h"
#include "report.h"
#include "scores.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

thaw_status th_run_log_size(const struct th_run_folder *f, int64_t *bytes)
{
    struct stat st;
    *bytes = stat(f->metrics, &st) ? 0 : (int64_t)st.st_size;
    return THAW_OK;
}

thaw_status th_run_log_cut(const struct th_run_folder *f, int64_t bytes)
{
    int64_t now = 0;
    TRY(th_run_log_size(f, &now));
    if (now <= bytes)
        return THAW_OK;
    int fd = open(f->metrics, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    thaw_status status = THAW_OK;
    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        status = th_fail_errno(THAW_E_IO, "%s: cannot be shortened", f->metrics);
    if (fd >= 0)
        close(fd); /* what it may still report, the next line's append meets */
    return status;
}

static void begin(struct th_json_out *o, const char *event)
{
    th_json_open(o, '{');
    th_json_put_string(o, "event", event);
}

/* Closes the object, appends it, frees it. */
static thaw_status end(const struct th_run_folder *f, struct th_json_out *o)
{
    th_json_close(o, '}');
    thaw_status status = th_json_out_status(o);
    if (status == THAW_OK)
        status = th_file_append_line(f->metrics, o->text, NULL);
    th_json_out_release(o);
    return status;
}

thaw_status th_run_log_start(
    const struct th_run_folder *f, const struct th_start_log *s)
{
    char text[TH_FINGERPRINT_TEXT];
    struct th_json_out o = {0};
    begin(&o, "start");
    th_json_put_string(&o, "version", thaw_version());
    th_json_put_string(&o, "backbone", s->backbone);
    th_json_put_string(&o, "device", s->device);
    th_json_put_string(&o, "convolutions", s->convolutions);
    th_json_put_whole(&o, "threads", s->threads);
    th_json_put_string(&o, "data_fingerprint", th_fingerprint_text(s->data, text));
    th_json_key(&o, "images");
    th_json_open(&o, '{');
    for (int split = 0; split < TH_N_SPLITS; split++)
        th_json_put_whole(
            &o, th_split_name((enum th_split)split), s->data->images[split]);
    th_json_close(&o, '}');
    return end(f, &o);
}

thaw_status th_run_log_step(
    const struct th_run_folder *f, int64_t epoch, int64_t step, double loss, double lr)
{
    struct th_json_out o = {0};
    begin(&o, "step");
    th_json_put_whole(&o, "epoch", epoch);
    th_json_put_whole(&o, "step", step);
    th_json_put_real(&o, "loss", loss);
    th_json_put_real(&o, "lr", lr);
    return end(f, &o);
}

/* What judges, NULL: no validation. */
static void put_val(struct th_json_out *o, const struct th_metrics *val)
{
    const double nan = (double)NAN;
    if (val && val->boxes) {
        th_json_put_real(o, "val_ap", val->map);
        th_json_put_real(o, "val_ap50", val->found.figure[TH_AP50]);
        return;
    }
    if (val && val->many) {
        th_json_put_real(o, "val_map", val->map);
        return;
    }
    th_json_put_real(o, "val_top1", val ? th_metrics_top1(val) : nan);
    th_json_put_real(o, "val_top5", val ? th_metrics_top5(val) : nan);
    th_json_put_real(o, "val_macro_f1", val ? th_scores_macro_f1(val) : nan);
    th_json_put_real(o, "val_ece", val ? th_scores_ece(val) : nan);
}

thaw_status th_run_log_epoch(
    const struct th_run_folder *f, const struct th_epoch_log *e)
{
    const double nan = (double)NAN;
    struct th_json_out o = {0};
    begin(&o, "epoch");
    th_json_put_whole(&o, "epoch", e->epoch);
    th_json_put_real(&o, "train_loss", e->train_loss);
    th_json_put_real(&o, "val_loss", e->val ? th_metrics_loss(e->val) : nan);
    put_val(&o, e->val);
    th_json_put_real(&o, "images_per_s", e->images_per_s);
    th_json_put_real(&o, "seconds", e->seconds);
    th_json_put_whole(&o, "peak_bytes", th_peak_bytes());
    th_json_put_string(&o, "thawed", e->thawed);
    th_json_put_whole(&o, "skipped", e->skipped);
    th_json_put_real(&o, "bn_gap", e->bn_shift);
    th_json_put_real(&o, "bn_gap_scale", e->bn_scale);
    return end(f, &o);
}

static void put_test_boxes(struct th_json_out *o, const struct th_test_log *t)
{
    th_json_put_real(o, "test_ap", t->map);
    th_json_put_real(o, "test_ap50", t->ap50);
    th_json_put_whole(o, "test_images", t->images);
}

static void put_test(struct th_json_out *o, const struct th_test_log *t, bool many)
{
    th_json_put_real(o, "test_loss", t->loss);
    th_json_put_real(o, many ? "test_map" : "test_top1", many ? t->map : t->top1);
    th_json_put_whole(o, "test_images", t->images);
    if (!many) {
        th_json_put_real(o, "test_top1_low", t->top1_low);
        th_json_put_real(o, "test_top1_high", t->top1_high);
    }
    th_json_put_real(o, "test_macro_f1", t->macro_f1);
    if (!many)
        th_json_put_real(o, "test_ece", t->ece);
}

thaw_status th_run_log_end(const struct th_run_folder *f, const struct th_end_log *e)
{
    struct th_json_out o = {0};
    begin(&o, "end");
    const char *best = e->boxes ? "best_ap" : e->many ? "best_map" : "best_top1";
    th_json_put_real(&o, best, e->best_top1);
    if (!isnan(e->best_top1_fp32))
        th_json_put_real(
            &o, e->many ? "best_map_fp32" : "best_top1_fp32", e->best_top1_fp32);
    th_json_put_whole(&o, "frozen_tensors", e->frozen_tensors);
    th_json_key(&o, "frozen_verified");
    th_json_bool(&o, true); /* a run that is not verified fails before it ends */
    if (e->test && e->boxes)
        put_test_boxes(&o, e->test);
    else if (e->test)
        put_test(&o, e->test, e->many);
    th_json_put_real(&o, "forecast_seconds", e->forecast_seconds);
    th_json_put_real(&o, "seconds", e->seconds);
    th_json_put_whole(&o, "forecast_peak_bytes", e->forecast_peak_bytes);
    th_json_put_whole(&o, "peak_bytes", th_peak_bytes());
    return end(f, &o);
}
