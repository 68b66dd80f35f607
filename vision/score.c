/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_score_run: weight files ranked by how well their features may transfer to a
 * data set, before any training. What a score is stands in transfer.c and linear_probe.c.
 *
 * Looked at are the images that `thaw train` would train on: those that are held back for
 * validation, and the test images, have no say. One file is open at a time; memory is
 * bounded by "max-images" times the widest features. */
#include "adapter.h"
#include "feature_rows.h"
#include "linear_probe.h"
#include "mem.h"
#include "metrics.h"
#include "options.h"
#include "pretrained.h"
#include "recipe.h"
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NEIGHBOURS = 5,
    CALIBRATED_ON = 64,    /* images for the BatchNorms of random weights */
    MOST_ANSWERS = 1 << 27 /* of source classes in all, for LEEP: 512 MB */
};

struct scorer {
    const thaw_options *o;
    const thaw_events *events;
    struct th_dataset data;
    struct th_dataset part; /* the images looked at; paths and classes are data's */
    /* Of the first file: what `random` is a network of. */
    struct th_network_spec first;
};

/* ---- Images ---- */

/* About `most` training images, of each class its share, but two where it has them, evenly
 * spaced in the listing; all where there are no more. To be freed: the array of samples. */
static thaw_status take_part(
    const struct th_dataset *d, int64_t most, struct th_dataset *part)
{
    const struct th_samples *from = &d->split[TH_SPLIT_TRAIN];
    struct th_samples *to = &part->split[TH_SPLIT_TRAIN];
    *part = (struct th_dataset){.n_classes = d->n_classes, .classes = d->classes};
    int64_t *count = th_dataset_count(d, from);
    int64_t *seen = th_alloc((size_t)d->n_classes, sizeof *seen);
    to->sample = th_alloc((size_t)from->n, sizeof *to->sample);
    bool room = count && seen && to->sample;
    for (int64_t i = 0; room && i < from->n; i++) {
        int32_t c = from->sample[i].label;
        int64_t quota = from->n > most ? count[c] * most / from->n : count[c];
        quota = quota < 2 ? 2 : quota;
        quota = quota < count[c] ? quota : count[c];
        if ((seen[c] + 1) * quota / count[c] > seen[c] * quota / count[c])
            to->sample[to->n++] = from->sample[i];
        seen[c]++;
    }
    th_free(count);
    th_free(seen);
    return room ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status open_data(struct scorer *s)
{
    const struct th_dataset_options o = th_recipe_data(s->o);
    const char *where = th_option_text(s->o, "data");
    int64_t most = th_option_int(s->o, "max-images");
    char all[32], looked_at[32];
    if (!where)
        return th_fail(THAW_E_USAGE, "no data was given: a folder of images");
    TRY(th_dataset_open(where, &o, &s->data));
    for (int64_t i = 0; i < s->data.warnings.n; i++)
        th_say(s->events, "warning", "%s", s->data.warnings.name[i]);
    TRY(take_part(&s->data, most, &s->part));
    int64_t n = s->data.split[TH_SPLIT_TRAIN].n, k = s->part.split[TH_SPLIT_TRAIN].n;
    th_text_count(n, all, sizeof all);
    th_text_count(k, looked_at, sizeof looked_at);
    if (k < n)
        th_say(s->events, "data", "%d classes; %s of %s training images (--max-images)",
            s->data.n_classes, looked_at, all);
    else
        th_say(s->events, "data", "%d classes; %s training images", s->data.n_classes,
            all);
    return THAW_OK;
}

/* ---- Networks ---- */

static void say_network(const struct scorer *s, const thaw_model *m, bool assumed)
{
    const struct th_input *in = &m->net.model.input;
    th_say(s->events, "weights",
        "%s: %s, %d x %d, crop %.3g, %s, mean %.3g %.3g %.3g, std %.3g %.3g %.3g%s%s%s",
        m->path, m->net.model.variant->name, in->size.w, in->size.h, (double)in->crop,
        in->bicubic ? "bicubic" : "bilinear", (double)in->mean[0], (double)in->mean[1],
        (double)in->mean[2], (double)in->std[0], (double)in->std[1], (double)in->std[2],
        assumed ? " (assumed: the weights do not say)" : "", m->notes ? "; " : "",
        m->notes ? m->notes : "");
}

/* The network without values; w NULL: random ones. Where the file has a head it comes
 * with it, else the data's classes stand in for its. */
static thaw_status init_network(struct scorer *s, const struct th_weights *w,
    thaw_model *m, bool *assumed, bool *head)
{
    const struct th_device_name device = th_option_device(s->o);
    struct th_network_spec spec = {.backbone = NULL};
    char **names = NULL;
    bool named = false;
    if (!w && s->first.backbone)
        spec = s->first;
    else
        TRY(th_pretrained_identify(w, s->o, &spec, assumed));
    if (w && !s->first.backbone)
        s->first = spec;
    spec.device = device.text;
    spec.threads = th_option_threads(s->o, "threads");
    spec.conv_table = th_option_text(s->o, "conv-table");
    spec.plan_cache = th_option_text(s->o, "plan-cache");
    spec.classes = (const char *const *)s->data.classes;
    spec.n_classes = s->data.n_classes;
    *head = w && th_pretrained_has_head(w, &spec);
    if (*head) {
        TRY(th_pretrained_classes(w, &spec, &names, &spec.n_classes, &named));
        spec.classes = (const char *const *)names;
    }
    thaw_status status = th_network_init(&m->net, &spec);
    th_free(names);
    return status;
}

/* Random weights see what training would show them: BatchNorm with the statistics of the
 * data. Initial ones (0 and 1) would make the floor lower than it is. */
static thaw_status fill_random(struct scorer *s, thaw_model *m)
{
    struct th_dataset few;
    thaw_adaptation unused;
    TRY(th_network_randomise(&m->net, (uint64_t)th_option_int(s->o, "seed"), false));
    if (m->net.model.n_bns == 0)
        return THAW_OK;
    thaw_status status = take_part(&s->part, CALIBRATED_ON, &few);
    if (status == THAW_OK)
        status = th_model_adabn(m, &few, s->o, NULL, &unused);
    th_free(few.split[TH_SPLIT_TRAIN].sample);
    return status;
}

static thaw_status fill_from_file(const struct th_weights *w, thaw_model *m, bool head)
{
    const struct th_load_spec load = {.where = m->path, .head = head};
    if (w->notes && !(m->notes = th_strdup(w->notes)))
        return THAW_E_MEMORY;
    return th_pretrained_load(w, &m->net, &load, NULL, 0);
}

static thaw_status open_network(
    struct scorer *s, const char *name, thaw_model *m, bool *head)
{
    bool random = !strcmp(name, "random"), assumed = false;
    struct th_weights w;
    m->batch = (int)th_option_int(s->o, "batch");
    m->workers = th_option_threads(s->o, "workers");
    th_weights_init(&w);
    thaw_status status = THAW_OK;
    if (random)
        m->path = th_strdup(name);
    else
        status = th_pretrained_model_path(name, &m->path);
    if (status == THAW_OK && !m->path)
        status = THAW_E_MEMORY;
    if (status == THAW_OK && !random)
        status = th_weights_read(m->path, &w);
    if (status == THAW_OK)
        status = init_network(s, random ? NULL : &w, m, &assumed, head);
    if (status == THAW_OK)
        status = random ? fill_random(s, m) : fill_from_file(&w, m, *head);
    if (status == THAW_OK)
        say_network(s, m, assumed);
    th_weights_release(&w);
    return status;
}

/* ---- Scores ---- */

struct rows {
    struct th_labelled x;
    int32_t *label;
    int64_t *count;
};

static void rows_release(struct rows *r)
{
    th_free(r->x.x);
    th_free(r->label);
    th_free(r->count);
}

/* The features in double. THAW_E_DATA where there is nothing to tell classes by. */
static thaw_status rows_init(struct rows *r, const struct scorer *s,
    const struct th_features *f, const char *path)
{
    int n_classes = s->part.n_classes;
    *r =
        (struct rows){.x.x = th_alloc((size_t)f->n, (size_t)f->values * sizeof(double)),
            .label = th_alloc((size_t)f->n, sizeof(int32_t)),
            .count = th_alloc((size_t)n_classes, sizeof(int64_t))};
    if (!r->x.x || !r->label || !r->count)
        return THAW_E_MEMORY;
    for (int64_t i = 0; i < f->n * f->values; i++) {
        r->x.x[i] = (double)f->x[i];
        if (!isfinite(r->x.x[i]))
            return th_fail(THAW_E_DATA,
                "%s: its features of these images are not finite: other weights, or "
                "another --mean and --std",
                path);
    }
    for (int64_t i = 0; i < f->n; i++) {
        r->label[i] = f->sample[i]->label;
        r->count[r->label[i]]++;
    }
    for (int c = 0; c < n_classes; c++)
        if (r->count[c] < 2)
            return th_fail(THAW_E_DATA,
                "class \"%s\" has %s to train on: scores want two or more of each "
                "class; add images, or leave the class out",
                s->part.classes[c], r->count[c] ? "one image" : "no readable image");
    r->x.n = f->n;
    r->x.values = f->values;
    r->x.label = r->label;
    r->x.n_classes = n_classes;
    r->x.count = r->count;
    r->x.threads = th_option_threads(s->o, "threads");
    return THAW_OK;
}

static void centre(struct th_labelled *x)
{
    for (int64_t j = 0; j < x->values; j++) {
        double mean = 0;
        for (int64_t i = 0; i < x->n; i++)
            mean += x->x[i * x->values + j];
        mean /= (double)x->n;
        for (int64_t i = 0; i < x->n; i++)
            x->x[i * x->values + j] -= mean;
    }
}

static thaw_status spectrum_of(const struct th_labelled *x, struct th_spectrum *s)
{
    return th_spectrum_init(
        s, x->x, x->n, x->values, x->label, x->n_classes, x->threads);
}

/* What wants features as they are, then what wants them without their mean. */
static thaw_status judge_features(struct th_labelled *x, thaw_score_row *row)
{
    double *score = row->score;
    struct th_spectrum s;
    struct th_linear_probe probe;
    thaw_status status = spectrum_of(x, &s);
    if (status == THAW_OK)
        score[THAW_SCORE_LOGME] = th_logme(&s, x->count);
    th_spectrum_release(&s);
    TRY(status);
    TRY(th_nearest_accuracy(x, NEIGHBOURS, &score[THAW_SCORE_KNN]));
    centre(x);
    status = spectrum_of(x, &s);
    if (status == THAW_OK) {
        score[THAW_SCORE_H] = th_h_score(&s, x->count);
        score[THAW_SCORE_H_SHRUNK] = th_h_score_shrunk(&s, x);
    }
    th_spectrum_release(&s);
    TRY(status);
    TRY(th_linear_probe(x, &probe));
    score[THAW_SCORE_PROBE] = probe.accuracy;
    row->probe_error = probe.error;
    return THAW_OK;
}

/* softmax of each row, in place */
static thaw_status to_probabilities(float *logits, int64_t n, int64_t classes)
{
    double *p = th_alloc((size_t)classes, sizeof *p);
    if (!p)
        return THAW_E_MEMORY;
    for (int64_t i = 0; i < n; i++, logits += classes) {
        th_softmax(logits, (int)classes, p);
        for (int64_t c = 0; c < classes; c++)
            logits[c] = (float)p[c];
    }
    th_free(p);
    return THAW_OK;
}

static thaw_status judge(const struct scorer *s, struct th_features *f,
    const char *path, thaw_score_row *row)
{
    struct rows r;
    thaw_status status = rows_init(&r, s, f, path);
    row->score[THAW_SCORE_LEEP] = (double)NAN;
    if (status == THAW_OK && f->classes) {
        status = to_probabilities(f->logits, f->n, f->classes);
        if (status == THAW_OK)
            status = th_leep(&r.x, f->logits, f->classes, &row->score[THAW_SCORE_LEEP]);
    }
    if (status == THAW_OK)
        status = judge_features(&r.x, row);
    rows_release(&r);
    return status;
}

static thaw_status score_model(
    struct scorer *s, thaw_model *m, bool head, thaw_score_row *row)
{
    int64_t n = s->part.split[TH_SPLIT_TRAIN].n, classes = m->net.model.n_classes;
    bool softmax = head && !m->net.model.head->many; /* LEEP wants a distribution */
    const struct th_features_spec spec = {
        .train_only = true, .logits = softmax && n * classes <= MOST_ANSWERS};
    struct th_features f = {0};
    double began = th_seconds();
    thaw_status status = th_features_compute(m, &s->part, &spec, s->o, s->events, &f);
    double computed = th_seconds();
    row->feature_seconds = computed - began;
    row->images = f.n;
    row->values = f.values;
    row->unreadable = f.unreadable;
    row->network = m->net.model.variant->name;
    memcpy(row->image_size, th_size_text(m->net.model.input.size).text,
        sizeof row->image_size);
    if (status == THAW_OK)
        status = judge(s, &f, m->path, row);
    row->score_seconds = th_seconds() - computed;
    th_features_release(&f);
    if (status == THAW_OK)
        th_say(s->events, "score",
            "%s: %lld values of %lld images in %.1f s, scores in %.1f s", m->path,
            (long long)row->values, (long long)row->images, row->feature_seconds,
            row->score_seconds);
    return status;
}

static thaw_status score_one(struct scorer *s, thaw_score_row *row)
{
    bool head = false;
    thaw_model *m = th_alloc(1, sizeof *m);
    if (!m)
        return THAW_E_MEMORY;
    th_weights_init(&m->base);
    thaw_status status = open_network(s, row->weights, m, &head);
    if (status == THAW_OK)
        status = score_model(s, m, head, row);
    thaw_model_free(m);
    return status;
}

/* ---- Ranks ---- */

static const struct {
    const char *name, *about;
} kinds[THAW_N_SCORES] = {
    [THAW_SCORE_LOGME] = {"logme",
        "log evidence of a Bayesian linear model, per image"},
    [THAW_SCORE_H] = {"h_score", "variance between classes over variance"},
    [THAW_SCORE_H_SHRUNK] = {"h_score_shrunk", "likewise, covariance shrunk"},
    [THAW_SCORE_LEEP] = {"leep", "log likelihood of labels given the head's answers"},
    [THAW_SCORE_KNN] = {"knn", "accuracy of five nearest neighbours, leave one out"},
    [THAW_SCORE_PROBE] = {"probe", "accuracy of logistic regression, five folds"},
};

const char *thaw_score_name(thaw_score_kind kind, const char **about)
{
    if ((unsigned)kind >= THAW_N_SCORES)
        return NULL;
    if (about)
        *about = kinds[kind].about;
    return kinds[kind].name;
}

/* 1 and up, equal scores the same; 0 for what has none. */
static void rank_rows(thaw_score_result *r)
{
    for (int i = 0; i < r->n_rows; i++)
        for (int k = 0; k < THAW_N_SCORES; k++) {
            double own = r->rows[i].score[k];
            r->rows[i].rank[k] = !isnan(own);
            for (int j = 0; j < r->n_rows && !isnan(own); j++)
                r->rows[i].rank[k] += r->rows[j].score[k] > own;
        }
}

/* By LogME, of as good ones the first given. */
static void sort_rows(thaw_score_result *r)
{
    for (int i = 1; i < r->n_rows; i++) {
        thaw_score_row row = r->rows[i];
        int at = i;
        for (; at > 0 &&
               r->rows[at - 1].score[THAW_SCORE_LOGME] < row.score[THAW_SCORE_LOGME];
             at--)
            r->rows[at] = r->rows[at - 1];
        r->rows[at] = row;
    }
}

/* ---- All of it ---- */

void thaw_score_release(thaw_score_result *r)
{
    for (int i = 0; i < r->n_rows; i++)
        th_free(r->rows[i].weights);
    th_free(r->rows);
    *r = (thaw_score_result){0};
}

/* A row for each word of "weights", files first: they say what `random` is of. */
static thaw_status make_rows(const thaw_options *o, thaw_score_result *r)
{
    const char *list = th_option_text(o, "weights");
    char word[4096];
    size_t most = 1;
    if (!list)
        return th_fail(THAW_E_USAGE,
            "no weights were given: --weights FILE, several with commas, 'random' too");
    for (const char *c = list; *c; c++)
        most += *c == ',';
    r->rows = th_alloc(most, sizeof *r->rows);
    if (!r->rows)
        return THAW_E_MEMORY;
    for (int pass = 0; pass < 2; pass++)
        for (const char *at = list; th_next_word(&at, word, sizeof word);) {
            if (!strcmp(word, "random") != (pass == 1))
                continue;
            r->rows[r->n_rows].weights = th_strdup(word);
            if (!r->rows[r->n_rows++].weights)
                return THAW_E_MEMORY;
        }
    return r->n_rows ? THAW_OK : th_fail(THAW_E_USAGE, "--weights: no file is named");
}

/* A mistyped name costs no minutes: all files are there before the first is computed. */
static thaw_status check_files(const thaw_score_result *r)
{
    for (int i = 0; i < r->n_rows; i++) {
        char *path = NULL;
        if (!strcmp(r->rows[i].weights, "random"))
            continue;
        TRY(th_pretrained_model_path(r->rows[i].weights, &path));
        th_free(path);
    }
    return THAW_OK;
}

thaw_status thaw_score_run(
    const thaw_options *o, const thaw_events *events, thaw_score_result *out)
{
    struct scorer s = {.o = o, .events = events};
    *out = (thaw_score_result){0};
    thaw_status status = make_rows(o, out);
    if (status == THAW_OK)
        status = check_files(out);
    if (status == THAW_OK)
        status = open_data(&s);
    for (int i = 0; i < out->n_rows && status == THAW_OK; i++)
        status = score_one(&s, &out->rows[i]);
    th_free(s.part.split[TH_SPLIT_TRAIN].sample);
    th_dataset_close(&s.data);
    if (status != THAW_OK) {
        thaw_score_release(out);
        return status;
    }
    rank_rows(out);
    sort_rows(out);
    return THAW_OK;
}
