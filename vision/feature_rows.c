/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_features: the pooled features of a data set's images, and their files.
 *
 * The plan is the model's with a head in place of its own that answers what it is given;
 * the catalogue of parameters stays the model's, so that nothing is loaded anew. What lies
 * below is the same plan as for any head: its values have the bits that a head reads (P7).
 */
#include "feature_rows.h"

#include "file.h"
#include "files.h"
#include "layers.h"
#include "loader.h"
#include "mem.h"
#include "options.h"
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A head that answers what the model's own reads, or what it makes of that. */
struct reading_head {
    struct th_head head; /* first: the builder sees this */
    const struct th_head *own;
};

static int read_features(struct th_builder *b, const struct th_taps *taps)
{
    const struct reading_head *h = (const void *)b->model->head;
    return h->own->features ? h->own->features(b, taps) : th_pooled(b, taps);
}

static int build_both(struct th_builder *b, const struct th_taps *taps)
{
    const struct reading_head *h = (const void *)b->model->head;
    th_graph_want(b->graph, read_features(b, taps), "features");
    return h->own->build(b, taps);
}

struct reader {
    struct th_plan *plan;
    const struct th_features_spec *spec;
    struct th_features *out;
    const struct th_dataset *data;
    enum th_split split;
    const thaw_events *events;
    float *images; /* [batch][3][s][s], padded */
    float *made;   /* [batch][values] */
    float *logits; /* [batch][classes] */
    size_t pixels; /* values of an image */
    int64_t batch;
};

static void on_bad_image(void *context, const struct th_bad_image *bad)
{
    const struct reader *r = context;
    th_say(r->events, "warning", "%s: %s%s", bad->path, bad->reason,
        bad->replaced ? "; left out" : "");
}

/* What stands in for an image that cannot be read counts for nothing. Batches are padded
 * with repeats, so that a row depends on its image alone. */
static thaw_status take(struct reader *r, const struct th_batch *b)
{
    struct th_features *f = r->out;
    for (int64_t i = 0; i < r->batch; i++)
        memcpy(r->images + (size_t)i * r->pixels,
            b->images + (size_t)(i % b->n) * r->pixels, r->pixels * sizeof *r->images);
    TRY(th_plan_set(r->plan, "image", r->images));
    TRY(th_plan_run(r->plan));
    TRY(th_plan_get(r->plan, r->spec->logits ? "features" : "logits", r->made));
    if (r->spec->logits)
        TRY(th_plan_get(r->plan, "logits", r->logits));
    for (int64_t i = 0; i < b->n; i++) {
        if (b->occurrence[i] > 0)
            continue;
        f->split[f->n] = r->split;
        f->sample[f->n] = &r->data->split[r->split].sample[b->index * r->batch + i];
        memcpy(f->x + f->n * f->values, r->made + i * f->values,
            (size_t)f->values * sizeof *f->x);
        if (r->spec->logits)
            memcpy(f->logits + f->n * f->classes, r->logits + i * f->classes,
                (size_t)f->classes * sizeof *f->logits);
        f->n++;
    }
    return THAW_OK;
}

static thaw_status run_split(struct reader *r, thaw_model *m, const thaw_options *o)
{
    double max_bad = th_option_real(o, "max-bad");
    const struct th_loader_options options = {.split = r->split,
        .batch = m->batch,
        .preprocess = th_network_preprocess(&m->net),
        .workers = m->workers,
        .max_bad = max_bad > 0 ? max_bad : -1,
        .report = on_bad_image,
        .context = r};
    struct th_loader *loader = NULL;
    struct th_batch b = {0};
    TRY(th_loader_open(r->data, &options, &loader));
    thaw_status status = th_loader_start(loader, 0, 0);
    while (status == THAW_OK && (status = th_loader_next(loader, &b)) == THAW_OK && b.n)
        status = take(r, &b);
    r->out->unreadable += th_loader_n_unreadable(loader);
    th_loader_close(loader);
    return status;
}

static thaw_status open_plan(struct reader *r, thaw_model *m, struct th_model *model)
{
    const struct th_plan_spec spec = {
        .model = model, .mode = TH_EVAL, .batch = m->batch};
    TRY(th_plan_new(&spec, &m->net.store, &m->net.arena, &r->plan));
    const struct th_graph *g = th_plan_graph(r->plan);
    int answer = th_graph_find(g, r->spec->logits ? "features" : "logits");
    if (answer < 0)
        return th_fail(THAW_E_FAIL, "%s: no features in the plan", m->path);
    r->out->values = th_shape_count(&g->values[answer].o.shape) / m->batch;
    r->out->classes = r->spec->logits ? model->n_classes : 0;
    return THAW_OK;
}

static thaw_status reader_room(struct reader *r, int64_t n)
{
    struct th_features *f = r->out;
    f->x = th_alloc((size_t)n, (size_t)f->values * sizeof *f->x);
    f->sample = th_alloc((size_t)n, sizeof(void *));
    f->split = th_alloc((size_t)n, sizeof *f->split);
    r->images = th_alloc((size_t)r->batch, r->pixels * sizeof *r->images);
    r->made = th_alloc((size_t)r->batch, (size_t)f->values * sizeof *r->made);
    bool all = f->x && f->sample && f->split && r->images && r->made;
    if (!all || !r->spec->logits)
        return all ? THAW_OK : THAW_E_MEMORY;
    f->logits = th_alloc((size_t)n, (size_t)f->classes * sizeof *f->logits);
    r->logits = th_alloc((size_t)r->batch, (size_t)f->classes * sizeof *r->logits);
    return f->logits && r->logits ? THAW_OK : THAW_E_MEMORY;
}

thaw_status th_features_compute(struct thaw_model *m, const struct th_dataset *d,
    const struct th_features_spec *spec, const thaw_options *o,
    const thaw_events *events, struct th_features *out)
{
    struct th_model model = m->net.model; /* shares all but the head */
    const struct reading_head head = {
        .head = {.name = "features",
            .build = spec->logits ? build_both : read_features,
            .patches = model.head->patches},
        .own = model.head};
    const int n_splits = spec->train_only ? TH_SPLIT_TRAIN + 1 : TH_N_SPLITS;
    struct reader r = {.spec = spec,
        .out = out,
        .data = d,
        .events = events,
        .batch = m->batch,
        .pixels = th_input_values(&model.input)};
    int64_t n = 0;
    *out = (struct th_features){0};
    model.head = &head.head;
    for (int s = 0; s < n_splits; s++)
        n += d->split[s].n;
    thaw_status status = open_plan(&r, m, &model);
    if (status == THAW_OK)
        status = reader_room(&r, n);
    for (int s = 0; s < n_splits && status == THAW_OK; s++) {
        r.split = (enum th_split)s;
        if (d->split[s].n > 0)
            status = run_split(&r, m, o);
    }
    if (status == THAW_OK)
        status = th_plan_verify(r.plan);
    th_plan_free(r.plan);
    th_free(r.images);
    th_free(r.made);
    th_free(r.logits);
    return status;
}

void th_features_release(struct th_features *f)
{
    th_free(f->x);
    th_free(f->logits);
    th_free(f->sample);
    th_free(f->split);
    *f = (struct th_features){0};
}

/* ---- Files ---- */

static bool ends(const char *path, const char *ending)
{
    size_t n = strlen(path), k = strlen(ending);
    return n > k && !strcmp(path + n - k, ending);
}

/* NumPy's format, version 1.0: magic, u16 length of the header, a literal of Python padded
 * with spaces and a newline to a multiple of 64, then the numbers. */
static thaw_status write_npy(const char *path, const struct th_features *f)
{
    enum { HEADER = 128, BEFORE = 10 };
    size_t bytes = (size_t)(f->n * f->values) * sizeof *f->x;
    unsigned char *file = th_alloc(1, HEADER + bytes);
    if (!file)
        return THAW_E_MEMORY;
    memset(file, ' ', HEADER);
    memcpy(file, "\x93NUMPY\x01\x00", 8);
    file[8] = HEADER - BEFORE;
    file[9] = 0;
    int n = snprintf((char *)file + BEFORE, HEADER - BEFORE,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRId64 ", %" PRId64
        "), }",
        f->n, f->values);
    file[BEFORE + n] = ' '; /* in place of the text's zero */
    file[HEADER - 1] = '\n';
    memcpy(file + HEADER, f->x, bytes); /* this machine's order: little endian */
    thaw_status status = th_file_write_atomic(path, file, HEADER + bytes, NULL);
    th_free(file);
    return status;
}

/* [n] indices of classes; of images with any number of them [n][classes], 1 or 0. */
static thaw_status add_labels(
    struct th_weights *w, const struct th_features *f, const struct th_dataset *d)
{
    float *labels = NULL;
    const int32_t *class;
    int64_t k = d->n_classes;
    struct th_shape shape = d->many ? TH_SHAPE(f->n, k) : TH_SHAPE(f->n);
    TRY(th_weights_add(w, "labels", shape, NULL, &labels));
    for (int64_t i = 0; i < f->n; i++) {
        if (!d->many)
            labels[i] = (float)f->sample[i]->label;
        for (int32_t c = th_sample_classes(f->sample[i], &class); d->many && c > 0; c--)
            labels[i * k + class[c - 1]] = 1;
    }
    return THAW_OK;
}

/* "features" [n][values]; "labels", into the attribute "classes". */
static thaw_status write_h5(
    const char *path, const struct th_features *f, const struct th_dataset *d)
{
    struct th_weights w;
    th_weights_init(&w);
    thaw_status status =
        th_weights_add(&w, "features", TH_SHAPE(f->n, f->values), f->x, NULL);
    if (status == THAW_OK && d->n_classes > 0)
        status = add_labels(&w, f, d);
    if (status == THAW_OK && d->n_classes > 0)
        status = th_weights_set_strings(
            &w, "classes", (const char *const *)d->classes, (size_t)d->n_classes);
    if (status == THAW_OK)
        status = th_weights_write(path, "hdf5", &w);
    th_weights_release(&w);
    return status;
}

static void put_quoted(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
}

/* A field of RFC 4180: in quotes, quotes doubled. */
static void put_field(FILE *out, const char *text)
{
    fputc('"', out);
    put_quoted(out, text);
    fputc('"', out);
}

/* The class, or several between |, as csv: reads them. */
static void put_classes(
    FILE *out, const struct th_dataset *d, const struct th_sample *s)
{
    const int32_t *class;
    int32_t n = th_sample_classes(s, &class);
    for (int32_t k = 0; k < n; k++) {
        fputc(k ? '|' : '"', out);
        put_quoted(out, d->classes[class[k]]);
    }
    if (n)
        fputc('"', out);
}

/* PATH.csv: a line for each row, in order. */
static thaw_status write_names(
    const char *path, const struct th_features *f, const struct th_dataset *d)
{
    char *text = NULL, *name = th_format("%s.csv", path);
    size_t bytes = 0;
    FILE *out = name ? open_memstream(&text, &bytes) : NULL;
    if (!out) {
        th_free(name);
        return THAW_E_MEMORY;
    }
    fputs("file,split,class\n", out);
    for (int64_t i = 0; i < f->n; i++) {
        const struct th_sample *s = f->sample[i];
        put_field(out, s->path ? s->path : "");
        fprintf(out, ",%s,", th_split_name(f->split[i]));
        put_classes(out, d, s);
        fputc('\n', out);
    }
    bool whole = !ferror(out);
    whole = fclose(out) == 0 && whole;
    thaw_status status =
        whole ? th_file_write_atomic(name, text, bytes, NULL) : THAW_E_MEMORY;
    free(text);
    th_free(name);
    return status;
}

static thaw_status compute_and_write(thaw_model *m, const struct th_dataset *d,
    const thaw_options *o, const thaw_events *events, const char *path,
    thaw_features *out)
{
    const struct th_features_spec all = {.train_only = false};
    struct th_features f;
    thaw_status status = th_features_compute(m, d, &all, o, events, &f);
    if (status == THAW_OK)
        status = ends(path, ".npy") ? write_npy(path, &f) : write_h5(path, &f, d);
    if (status == THAW_OK)
        status = write_names(path, &f, d);
    *out =
        (thaw_features){.images = f.n, .values = f.values, .unreadable = f.unreadable};
    th_features_release(&f);
    return status;
}

/* A data set, or images without classes: one file, or a folder without folders in it. */
static thaw_status open_images(const thaw_model *m, const char *data,
    const thaw_events *events, struct th_dataset *d)
{
    const struct th_head *head = m->net.model.head;
    const struct th_dataset_options as_is = {
        .as_is = true, .many = head->many, .objects = head->detector != NULL};
    struct th_names folders = {0};
    bool folder = th_is_folder(data);
    bool loose = !folder && th_is_image_name(data) && th_file_exists(data);
    if (folder) {
        TRY(th_list_folders(data, &folders));
        loose = folders.n == 0;
        th_names_release(&folders);
    }
    TRY(loose ? th_dataset_open_unlabelled(data, d) : th_dataset_open(data, &as_is, d));
    if (loose)
        th_say(events, "data", "%lld images without classes",
            (long long)d->split[TH_SPLIT_TRAIN].n);
    for (int64_t i = 0; i < d->warnings.n; i++)
        th_say(events, "warning", "%s", d->warnings.name[i]);
    return THAW_OK;
}

thaw_status thaw_model_features(thaw_model *m, const char *data, const char *path,
    const thaw_options *o, const thaw_events *events, thaw_features *out)
{
    struct th_dataset d;
    *out = (thaw_features){0};
    if (!ends(path, ".npy") && !ends(path, ".h5"))
        return th_fail(THAW_E_USAGE, "%s: features are written as .npy or .h5", path);
    TRY(open_images(m, data, events, &d));
    thaw_status status = compute_and_write(m, &d, o, events, path, out);
    th_dataset_close(&d);
    return status;
}
