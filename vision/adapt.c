/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_adapt and thaw_model_write: AdaBN (Li et al. 2016, arXiv:1603.04779).
 *
 * Each BatchNorm gets the mean and the unbiased variance of its input over all images,
 * that input being computed with every BatchNorm below already on its new statistics, as
 * inference will compute it. So levels of BatchNorms are done from the image up, one pass
 * over the images each; the result depends on no batch size and no order, but for
 * rounding. Nothing but running means and variances changes. */
#include "calibrate.h"
#include "files.h"
#include "loader.h"
#include "mem.h"
#include "model_file.h"
#include "model_open.h"
#include "options.h"
#include "report.h"

#include <math.h>
#include <string.h>

static const double say_every = 10; /* seconds between lines about passes */

struct adapter {
    thaw_model *model;
    const thaw_events *events;
    struct th_loader *loader;
    struct th_calibration sums;   /* of this pass */
    struct th_bn_place *place;    /* [n_bns] */
    struct th_bn_distance *moved; /* [n_bns] */
    bool *level;                  /* [n_bns]: in this pass */
    float *images;                /* [batch][3][s][s], waiting */
    size_t pixels;                /* of one */
    int n, batch;
    struct th_plan *plan; /* for full batches */
    int64_t seen;         /* images of this pass */
};

/* ---- A pass ---- */

static thaw_status run_waiting(struct adapter *a, struct th_plan *plan)
{
    TRY(th_calibration_run(&a->sums, plan, a->images, a->n));
    a->seen += a->n;
    a->n = 0;
    return THAW_OK;
}

static thaw_status run_full(struct adapter *a)
{
    if (!a->plan)
        TRY(th_calibration_plan(&a->sums, a->batch, &a->plan));
    return run_waiting(a, a->plan);
}

/* What is left when the images end: a smaller batch. */
static thaw_status run_rest(struct adapter *a)
{
    struct th_plan *plan = NULL;
    if (a->n == 0)
        return THAW_OK;
    TRY(th_calibration_plan(&a->sums, a->n, &plan));
    thaw_status status = run_waiting(a, plan);
    th_plan_free(plan);
    return status;
}

/* Images that can be read; what stands in for one that cannot counts for nothing. */
static thaw_status see_all(struct adapter *a)
{
    struct th_batch b;
    a->seen = 0;
    TRY(th_loader_start(a->loader, 0, 0));
    TRY(th_loader_next(a->loader, &b));
    while (b.n) {
        for (int64_t i = 0; i < b.n; i++) {
            if (b.occurrence[i] > 0)
                continue;
            memcpy(a->images + (size_t)a->n++ * a->pixels,
                b.images + (size_t)i * a->pixels, a->pixels * sizeof *a->images);
            if (a->n == a->batch)
                TRY(run_full(a));
        }
        TRY(th_loader_next(a->loader, &b));
    }
    return run_rest(a);
}

/* ---- New statistics ---- */

static thaw_status put_running(
    struct adapter *a, int param, const double *value, double divisor)
{
    struct th_store *s = &a->model->net.store;
    const struct th_param *p = &a->model->net.model.params[param];
    float *into = a->sums.mean; /* as long as the widest */
    for (int64_t i = 0; i < th_shape_count(&p->shape); i++) {
        into[i] = (float)(value[i] / divisor);
        if (!isfinite(into[i]))
            return th_fail(THAW_E_DATA,
                "%s: not finite on these images, the model's values are too large",
                p->name);
    }
    return th_store_put(s, th_store_find(s, p->name), into);
}

/* The variance is the unbiased one, as everywhere that statistics are kept. */
static thaw_status take(struct adapter *a, int bn)
{
    const struct th_bn *row = &a->model->net.model.bns[bn];
    const struct th_bn_moments *m = &a->sums.of[bn];
    if (m->n < 2)
        return th_fail(THAW_E_DATA,
            "%s: one value per channel has no variance: give more images", row->name);
    TRY(th_calibration_distance(&a->sums, bn, a->place[bn].eps, &a->moved[bn]));
    TRY(put_running(a, row->mean, m->mean, 1));
    return put_running(a, row->var, m->m2, m->n - 1);
}

static thaw_status run_level(struct adapter *a, int level)
{
    int n = a->model->net.model.n_bns;
    for (int i = 0; i < n; i++)
        a->level[i] = a->place[i].level == level;
    thaw_status status = th_calibration_init(&a->sums, &a->model->net, a->level);
    if (status == THAW_OK)
        status = see_all(a);
    for (int i = 0; i < n && status == THAW_OK; i++)
        if (a->level[i])
            status = take(a, i);
    th_plan_free(a->plan);
    a->plan = NULL;
    a->n = 0;
    th_calibration_release(&a->sums);
    return status;
}

static thaw_status run_levels(struct adapter *a, int n_levels)
{
    double said = th_seconds();
    for (int level = 0; level < n_levels; level++) {
        TRY(run_level(a, level));
        if (th_seconds() - said < say_every)
            continue;
        said = th_seconds();
        th_say(a->events, "adapt", "pass %d of %d", level + 1, n_levels);
    }
    return THAW_OK;
}

/* ---- Report ---- */

static struct th_bn_distance mean_moved(const struct adapter *a, int stage)
{
    const struct th_model *m = &a->model->net.model;
    struct th_bn_distance sum = {0};
    int n = 0;
    for (int i = 0; i < m->n_bns; i++)
        if (stage < 0 || m->bns[i].stage == stage) {
            sum.shift += a->moved[i].shift;
            sum.scale += a->moved[i].scale;
            n++;
        }
    return n ? (struct th_bn_distance){sum.shift / n, sum.scale / n} : sum;
}

static bool has_bn(const struct th_model *m, int stage)
{
    for (int i = 0; i < m->n_bns; i++)
        if (m->bns[i].stage == stage)
            return true;
    return false;
}

static void say_moved(const struct adapter *a)
{
    const struct th_model *m = &a->model->net.model;
    for (int s = 0; s < m->n_stages; s++) {
        struct th_bn_distance d = mean_moved(a, s);
        if (has_bn(m, s))
            th_say(a->events, "adapt",
                "%-7s means moved by %.2f deviations, deviations by a factor of %.2f",
                m->stages[s], d.shift, exp(d.scale));
    }
}

/* ---- All of it ---- */

static void on_bad_image(void *context, const struct th_bad_image *bad)
{
    th_say(context, "warning", "%s: %s%s", bad->path, bad->reason,
        bad->replaced ? "; left out" : "");
}

static thaw_status adapter_init(struct adapter *a, thaw_model *m,
    const struct th_dataset *d, const thaw_options *o, const thaw_events *events)
{
    size_t n = (size_t)m->net.model.n_bns;
    double max_bad = th_option_real(o, "max-bad");
    const struct th_loader_options options = {.split = TH_SPLIT_TRAIN,
        .batch = m->batch,
        .preprocess = th_network_preprocess(&m->net),
        .workers = m->workers,
        .max_bad = max_bad > 0 ? max_bad : -1,
        .report = events ? on_bad_image : NULL,
        .context = (void *)events};
    *a = (struct adapter){.model = m,
        .events = events,
        .batch = m->batch,
        .pixels = th_input_values(&m->net.model.input)};
    a->place = th_alloc(n, sizeof *a->place);
    a->moved = th_alloc(n, sizeof *a->moved);
    a->level = th_alloc(n, sizeof *a->level);
    a->images = th_alloc((size_t)m->batch, a->pixels * sizeof *a->images);
    if (!a->place || !a->moved || !a->level || !a->images)
        return THAW_E_MEMORY;
    return th_loader_open(d, &options, &a->loader);
}

static void adapter_release(struct adapter *a)
{
    th_loader_close(a->loader);
    th_free(a->place);
    th_free(a->moved);
    th_free(a->level);
    th_free(a->images);
}

thaw_status th_model_adabn(thaw_model *m, const struct th_dataset *d,
    const thaw_options *o, const thaw_events *events, thaw_adaptation *out)
{
    struct adapter a;
    int levels = 0;
    thaw_status status = adapter_init(&a, m, d, o, events);
    if (status == THAW_OK)
        status = th_bn_places(&m->net.model, a.place, &levels);
    if (status == THAW_OK)
        status = run_levels(&a, levels);
    if (status == THAW_OK) {
        struct th_bn_distance all = mean_moved(&a, -1);
        struct th_fingerprint f = th_fingerprint_of(d);
        th_fingerprint_text(&f, m->net.model.adapted_on);
        say_moved(&a);
        *out = (thaw_adaptation){.images = a.seen,
            .unreadable = th_loader_n_unreadable(a.loader),
            .layers = m->net.model.n_bns,
            .passes = levels,
            .shift = all.shift,
            .scale = exp(all.scale)};
    }
    adapter_release(&a);
    return status;
}

/* A data set's training images where DATA names a format or has a train folder, else
 * every image below the folder, whatever it and its folders are called. */
static thaw_status open_images(const char *data, const struct th_head *head,
    struct th_dataset *d, const thaw_events *events)
{
    const struct th_dataset_options as_is = {
        .as_is = true, .many = head->many, .objects = head->detector != NULL};
    char *train = th_format("%s/train", data);
    bool names_format = strchr(data, ':') && !th_is_folder(data);
    bool is_set = names_format || (train && th_is_folder(train));
    th_free(train);
    if (is_set)
        TRY(th_dataset_open(data, &as_is, d));
    else
        TRY(th_dataset_open_unlabelled(data, d));
    th_say(events, "data", "%lld images (%s), their classes are not looked at",
        (long long)d->split[TH_SPLIT_TRAIN].n,
        is_set ? th_split_name(TH_SPLIT_TRAIN) : "all of it");
    return THAW_OK;
}

thaw_status thaw_model_adapt(thaw_model *m, const char *data, const thaw_options *o,
    const thaw_events *events, thaw_adaptation *out)
{
    struct th_dataset d;
    *out = (thaw_adaptation){0};
    if (m->net.model.n_bns == 0)
        return th_fail(THAW_E_USAGE,
            "%s: %s has no BatchNorm, there is nothing to adapt", m->path,
            m->net.model.variant->name);
    TRY(open_images(data, m->net.model.head, &d, events));
    thaw_status status = th_model_adabn(m, &d, o, events, out);
    th_dataset_close(&d);
    return status;
}

thaw_status thaw_model_write(const thaw_model *m, const char *path)
{
    return th_model_file_write(path, &m->net.model, &m->net.store);
}
