/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_predict: images of a file or folder, read one after the other and run
 * in batches; one that cannot be read is told and left out. */
#include "model_open.h"

#include "file.h"
#include "mem.h"

#include <string.h>

struct predictor {
    thaw_model *model;
    struct th_preprocess preprocess;
    uint8_t *pixels;                  /* [s][s][3] */
    float *images;                    /* [batch][3][s][s] */
    const struct th_sample **waiting; /* [batch], whose images these are */
    struct th_size *size;             /* [batch], theirs */
    thaw_box *boxes;                  /* of detectors, [the most of any] */
    int n, batch;
    int classes;          /* of the head that has most */
    double *p;            /* [classes] */
    float *probabilities; /* [classes] */
    int *labels;          /* [classes] */
    /* [answers][classes], where annotations number them; else NULL */
    int64_t *category;
    void (*each)(void *context, const thaw_prediction *p);
    void *context;
};

/* Whose head answer k is: 0 the model's own, then those that share its backbone. */
static const thaw_model *model_of(const thaw_model *m, int k)
{
    return k ? m->others[k - 1] : m;
}

static thaw_status predictor_init(struct predictor *p, thaw_model *m, int batch)
{
    size_t values = th_input_values(&m->net.model.input), n = (size_t)batch;
    int most = 1;
    for (int k = 0; k <= m->n_others; k++) {
        const struct th_model *model = &model_of(m, k)->net.model;
        const struct th_detector *d = model->head->detector;
        p->classes = model->n_classes > p->classes ? model->n_classes : p->classes;
        most = d && d->most > most ? d->most : most;
    }
    size_t classes = (size_t)p->classes;
    p->model = m;
    p->batch = batch;
    p->preprocess = th_network_preprocess(&m->net);
    p->pixels = th_alloc(values, 1);
    p->images = th_alloc(n, values * sizeof *p->images);
    p->waiting = th_alloc(n, sizeof(void *));
    p->size = th_alloc(n, sizeof *p->size);
    p->boxes = th_alloc((size_t)most, sizeof *p->boxes);
    p->p = th_alloc(classes, sizeof *p->p);
    p->probabilities = th_alloc(classes, sizeof *p->probabilities);
    p->labels = th_alloc(classes, sizeof *p->labels);
    if (!p->size || !p->boxes || !p->pixels || !p->images || !p->waiting || !p->p ||
        !p->probabilities || !p->labels)
        return THAW_E_MEMORY;
    TRY(th_preprocess_check(&p->preprocess));
    return th_model_evaluator(m, batch);
}

static void predictor_release(struct predictor *p)
{
    th_free(p->pixels);
    th_free(p->images);
    th_free(p->waiting);
    th_free(p->size);
    th_free(p->boxes);
    th_free(p->p);
    th_free(p->probabilities);
    th_free(p->labels);
    th_free(p->category);
}

/* The classes from the threshold on, by insertion: the most probable first. */
static int find_labels(struct predictor *p, int n, double threshold)
{
    int found = 0;
    for (int i = 0; i < n; i++) {
        if (!(p->p[i] >= threshold))
            continue;
        int at = found++;
        for (; at > 0 && p->p[p->labels[at - 1]] < p->p[i]; at--)
            p->labels[at] = p->labels[at - 1];
        p->labels[at] = i;
    }
    return found;
}

static void tell(struct predictor *p, const thaw_model *model,
    const struct th_sample *s, const float *logits)
{
    int n = model->net.model.n_classes;
    bool many = model->net.model.head->many;
    if (!many)
        th_softmax(logits, n, p->p);
    for (int i = 0; i < n; i++) {
        p->p[i] = many ? th_sigmoid((double)logits[i]) : p->p[i];
        p->probabilities[i] = (float)p->p[i];
    }
    const thaw_prediction prediction = {.file = s->path,
        .model = model,
        .best = th_argmax(logits, n),
        .probabilities = p->probabilities,
        .logits = logits,
        .labels = many ? p->labels : NULL,
        .n_labels = many ? find_labels(p, n, model->threshold) : 0};
    p->each(p->context, &prediction);
}

/* What detector k found in image i of the last run. */
static void tell_boxes(struct predictor *p, const thaw_model *model,
    const struct th_sample *s, int k, int i)
{
    struct th_evaluator *e = &p->model->evaluator;
    struct th_reader *r = &e->answers[k].reader;
    r->score = (float)model->threshold;
    th_evaluator_read(e, &e->answers[k], i, p->size[i]);
    for (int j = 0; j < r->n_found; j++) {
        const float *box = r->found[j].box;
        p->boxes[j] = (thaw_box){
            box[0], box[1], box[2], box[3], r->found[j].score, r->found[j].class};
    }
    const thaw_prediction prediction = {.file = s->path,
        .model = model,
        .best = -1,
        .boxes = p->boxes,
        .n_boxes = r->n_found,
        .width = p->size[i].w,
        .height = p->size[i].h,
        .image_id = s->number,
        .category_ids =
            s->has_number && p->category ? p->category + k * p->classes : NULL};
    p->each(p->context, &prediction);
}

/* What waits: image by image, head by head. */
static thaw_status flush(struct predictor *p)
{
    const thaw_model *m = p->model;
    int n = p->n;
    p->n = 0;
    if (n == 0)
        return THAW_OK;
    TRY(th_evaluator_run(&p->model->evaluator, p->images, n));
    for (int i = 0; i < n; i++)
        for (int k = 0; k <= m->n_others; k++) {
            const thaw_model *model = model_of(m, k);
            if (model->net.model.head->detector)
                tell_boxes(p, model, p->waiting[i], k, i);
            else
                tell(p, model, p->waiting[i],
                    m->evaluator.answers[k].logits + i * model->net.model.n_classes);
        }
    return THAW_OK;
}

/* The reason without the path, which stands beside it. */
static const char *reason_of(const char *path, const char *why)
{
    size_t n = strlen(path);
    return strncmp(why, path, n) || strncmp(why + n, ": ", 2) ? why : why + n + 2;
}

/* Put an image in the batch; one that cannot be read is told after those before it. */
static thaw_status take(struct predictor *p, const struct th_sample *s)
{
    float *image = p->images + (size_t)p->n * p->model->evaluator.pixels;
    thaw_status status =
        th_read_input(&p->preprocess, s, p->pixels, image, &p->size[p->n]);
    if (status == THAW_E_MEMORY)
        return status;
    if (status == THAW_OK) {
        p->waiting[p->n++] = s;
        return p->n == p->batch ? flush(p) : THAW_OK;
    }
    char *why = th_strdup(thaw_error());
    thaw_status flushed = flush(p);
    const thaw_prediction bad = {.file = s->path,
        .error = why ? reason_of(s->path, why) : "cannot be read",
        .best = -1};
    if (flushed == THAW_OK)
        p->each(p->context, &bad);
    th_free(why);
    return flushed;
}

/* What the split's annotations call the models' classes, if they number them. */
static thaw_status take_categories(
    struct predictor *p, const struct th_dataset *d, enum th_split split)
{
    if (!d->n_categories)
        return THAW_OK;
    size_t answers = (size_t)p->model->n_others + 1, n = (size_t)p->classes;
    p->category = th_alloc(answers, n * sizeof *p->category);
    if (!p->category)
        return THAW_E_MEMORY;
    for (size_t k = 0; k < answers; k++) {
        const struct th_model *model = &model_of(p->model, (int)k)->net.model;
        for (int i = 0; i < model->n_classes; i++) {
            const struct th_category *c =
                th_dataset_category(d, split, model->classes[i]);
            p->category[k * n + (size_t)i] = c ? c->number : -1;
        }
    }
    return THAW_OK;
}

/* Images of a path, or of data in some format, and which split of them. */
static thaw_status open_images(
    const thaw_model *m, const char *path, struct th_dataset *d, enum th_split *split)
{
    const struct th_head *head = m->net.model.head;
    const struct th_dataset_options as_is = {
        .as_is = true, .many = head->many, .objects = head->detector != NULL};
    *split = TH_SPLIT_TRAIN;
    if (th_file_exists(path) || !th_dataset_is_named(path))
        return m->split_said
                   ? th_fail(THAW_E_USAGE,
                         "--split: %s is images, which have no splits; of data "
                         "it would say which, as in coco:DIR",
                         path)
                   : th_dataset_open_unlabelled(path, d);
    TRY(th_dataset_open(path, &as_is, d));
    thaw_status status = th_split_choose(d, m->split, split);
    if (status == THAW_OK && !d->split[*split].sample->path)
        status = th_fail(
            THAW_E_USAGE, "%s: its images are no files: convert them first", path);
    if (status != THAW_OK)
        th_dataset_close(d);
    return status;
}

thaw_status thaw_model_predict(thaw_model *m, const char *path,
    void (*each)(void *context, const thaw_prediction *p), void *context)
{
    struct th_dataset d;
    struct predictor p = {.each = each, .context = context};
    enum th_split split;
    TRY(open_images(m, path, &d, &split));
    const struct th_samples *all = &d.split[split];
    thaw_status status =
        all->n ? predictor_init(&p, m, all->n < m->batch ? (int)all->n : m->batch)
               : th_fail(THAW_E_DATA, "%s: no images", path);
    if (status == THAW_OK)
        status = take_categories(&p, &d, split);
    for (int64_t i = 0; i < all->n && status == THAW_OK; i++)
        status = take(&p, &all->sample[i]);
    if (status == THAW_OK)
        status = flush(&p);
    predictor_release(&p);
    th_dataset_close(&d);
    return status;
}

bool thaw_model_is_detector(const thaw_model *m)
{
    return m->net.model.head->detector != NULL;
}
