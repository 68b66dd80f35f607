/* SPDX-License-Identifier: Apache-2.0
 * Owns RUN/report.html: when it is written, and the gathering of what it says. */
#include "trainer.h"

#include "file.h"
#include "mem.h"
#include "options.h"
#include "report.h"
#include "report_html.h"
#include "scores.h"

#include <math.h>
#include <string.h>

/* A report may cost one part in so many of the time. */
enum { REPORT_SHARE = 30 };

/* Pixels of a thumbnail's longer side, and bytes of all of them as base64. */
enum { THUMBNAIL = 128, MOST_BYTES = 2000000 };

/* ---- Mistakes ---- */

static const struct th_sample *find_sample(const struct th_samples *all, int64_t id)
{
    for (int64_t i = 0; i < all->n; i++)
        if (all->sample[i].id == id)
            return &all->sample[i];
    return NULL;
}

static thaw_status shrink(const struct th_image *image, struct th_image *small)
{
    int longer = image->w > image->h ? image->w : image->h;
    double factor = longer > THUMBNAIL ? (double)THUMBNAIL / longer : 1;
    int w = (int)fmax(1, floor(image->w * factor + 0.5));
    int h = (int)fmax(1, floor(image->h * factor + 0.5));
    TRY(th_image_init(small, w, h));
    return th_image_resize(image, TH_BILINEAR, small);
}

static thaw_status make_thumbnail(
    const struct th_sample *s, struct th_report_mistake *m)
{
    struct th_image image = {0}, small = {0};
    TRY(th_sample_read(s, &image, NULL));
    thaw_status status = shrink(&image, &small);
    if (status == THAW_OK)
        status = th_image_encode_png(&small, &m->png, &m->n_png);
    m->w = small.w;
    m->h = small.h;
    th_image_release(&image);
    th_image_release(&small);
    return status;
}

/* One that cannot be read any more is listed without its picture. */
static void gather_mistakes(
    const struct thaw_trainer *t, struct th_report_mistake *out, int *n)
{
    size_t bytes = 0;
    for (int i = 0; i < t->mistakes.n; i++) {
        const struct th_mistake *m = &t->mistakes.worst[i];
        const struct th_sample *s = find_sample(&t->data.split[TH_SPLIT_VAL], m->id);
        if (!s)
            continue;
        out[*n] = (struct th_report_mistake){.path = s->path ? s->path : "",
            .label = m->label,
            .predicted = m->predicted,
            .loss = m->loss};
        if (make_thumbnail(s, &out[*n]) == THAW_OK)
            bytes += 4 * (out[*n].n_png / 3 + 1);
        if (bytes > MOST_BYTES) {
            th_free(out[*n].png);
            out[*n].png = NULL;
        }
        ++*n;
    }
}

/* ---- Facts ---- */

struct gathered {
    struct th_report_facts facts;
    struct th_run_history history;
    thaw_evaluation val;
    struct th_report_mistake mistakes[TH_MOST_MISTAKES];
    int64_t *counts;
    char *config, *unreadable;
};

static thaw_status count_images(const struct thaw_trainer *t, int64_t **counts)
{
    size_t n = (size_t)t->net.model.n_classes;
    *counts = th_alloc(n * TH_N_SPLITS, sizeof **counts);
    if (!*counts)
        return THAW_E_MEMORY;
    const int32_t *class;
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < t->data.split[split].n; i++) {
            const struct th_sample *s = &t->data.split[split].sample[i];
            for (int32_t k = th_sample_classes(s, &class); k > 0; k--)
                (*counts)[(size_t)split * n + (size_t) class[k - 1]]++;
        }
    return THAW_OK;
}

/* Scores take the counts with them: of a copy. */
static thaw_status score(const struct thaw_trainer *t, thaw_evaluation *e)
{
    struct th_metrics copy = t->val;
    size_t n = (size_t)t->val.n_classes;
    if (copy.many) /* keeps what it has */
        return th_scores_take(&copy, t->net.model.classes, e);
    copy.confusion = th_alloc(n * n, sizeof *copy.confusion);
    if (!copy.confusion)
        return THAW_E_MEMORY;
    memcpy(copy.confusion, t->val.confusion, n * n * sizeof *copy.confusion);
    thaw_status status = th_scores_take(&copy, t->net.model.classes, e);
    th_metrics_release(&copy);
    return status;
}

static void take_plain_facts(
    const struct thaw_trainer *t, int frozen_tensors, struct th_report_facts *f)
{
    f->run = t->folder.path;
    f->backbone = t->net.model.variant->name;
    f->device = t->net.device->backend->describe(t->net.device);
    f->classes = t->net.model.classes;
    f->n_classes = t->net.model.n_classes;
    f->seed = t->recipe.seed;
    th_fingerprint_text(&t->net.model.trained_on, f->data);
    f->threads = t->net.device->threads;
    f->workers = t->recipe.workers;
    f->epochs_done = (int)t->at.epoch;
    f->epochs = t->recipe.epochs;
    f->best_epoch = (int)t->at.best_epoch;
    f->many = t->val.many;
    f->boxes = t->val.boxes;
    f->best_top1 = t->at.best_score;
    f->finished = frozen_tensors >= 0;
    f->frozen_tensors = frozen_tensors;
    f->forecast_seconds = f->finished ? t->forecast.seconds : 0;
    f->seconds = th_seconds() - t->forecast.began;
    f->forecast_peak_bytes = t->forecast.peak_bytes;
    f->peak_bytes = th_peak_bytes();
}

static thaw_status read_unreadable(const struct thaw_trainer *t, char **text)
{
    char *path = th_run_folder_path(&t->folder, "unreadable.txt");
    bool is_there = path && th_file_exists(path);
    th_free(path);
    return is_there ? th_run_folder_read(&t->folder, "unreadable.txt", text) : THAW_OK;
}

static thaw_status gather(
    const struct thaw_trainer *t, int frozen_tensors, struct gathered *g)
{
    struct th_report_facts *f = &g->facts;
    take_plain_facts(t, frozen_tensors, f);
    TRY(th_run_history_read(&t->folder, &g->history));
    TRY(count_images(t, &g->counts));
    g->config = th_options_json(t->options);
    TRY(read_unreadable(t, &g->unreadable));
    if (t->val.images) {
        TRY(score(t, &g->val));
        f->val = &g->val;
        gather_mistakes(t, g->mistakes, &f->n_mistakes);
    }
    f->history = &g->history;
    f->counts = g->counts;
    f->config = g->config;
    f->unreadable = g->unreadable;
    f->mistakes = g->mistakes;
    return THAW_OK;
}

static void release(struct gathered *g)
{
    for (int i = 0; i < TH_MOST_MISTAKES; i++)
        th_free(g->mistakes[i].png);
    th_run_history_release(&g->history);
    thaw_evaluation_release(&g->val);
    th_free(g->counts);
    th_free(g->config);
    th_free(g->unreadable);
}

/* ---- Writing ---- */

static thaw_status write_report(struct thaw_trainer *t, int frozen_tensors)
{
    struct gathered g = {0};
    struct th_html h = {0};
    thaw_status status = gather(t, frozen_tensors, &g);
    if (status == THAW_OK) {
        th_report_html(&h, &g.facts);
        status = th_html_status(&h);
    }
    if (status == THAW_OK)
        status = th_run_folder_write(&t->folder, "report.html", h.text);
    th_html_release(&h);
    release(&g);
    return status;
}

/* The one that stands is better than one without a validation's results. */
static bool knows_less(const struct thaw_trainer *t)
{
    return t->val_loader && !t->val.images;
}

void th_trainer_report(struct thaw_trainer *t, int frozen_tensors)
{
    double began = th_seconds();
    bool due =
        frozen_tensors >= 0 || began - t->reported_at >= REPORT_SHARE * t->report_took;
    if (!due || knows_less(t))
        return;
    if (write_report(t, frozen_tensors) != THAW_OK)
        th_say(&t->events, "warning", "no report.html was written, going on: %s",
            thaw_error());
    t->reported_at = th_seconds();
    t->report_took = t->reported_at - began;
}
