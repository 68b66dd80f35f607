/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_model_predict: images of a file or folder, read one after the other and run
 * in batches of one input size; one that cannot be read is told and left out. Images are told in
 * their order: what was found waits in a window until all before it is known. */
#include "model_open.h"

#include "file.h"
#include "mem.h"

#include <string.h>

/* Of several sizes, so many batches of each may be in a window. */
enum { WINDOW = 2 };

/* An image of the window, and what the heads said of it. */
struct place {
    const struct th_sample *sample;
    struct th_size size;
    bool done;
    char *why; /* it cannot be read; owned */
};

/* Images that wait for a run, of inputs of one size. */
struct lane {
    struct th_preprocess preprocess;
    float *images; /* [batch][3][h][w] */
    int *place;    /* [batch], whose images these are */
    int n, batch;  /* batch 0: there are no such pictures */
};

struct predictor {
    thaw_model *model;
    struct th_sizes sizes;
    struct lane lane[TH_MAX_SIZES];
    uint8_t *pixels;     /* [h][w][3], of any size */
    struct place *place; /* [window] */
    int n, told, window;
    int answers;          /* heads */
    int classes;          /* of the head that has most */
    int most;             /* boxes of an image, of any head */
    float *logits;        /* [window][answers][classes], of classifiers */
    thaw_box *boxes;      /* [window][answers][most], of detectors */
    int *n_boxes;         /* [window][answers] */
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

static thaw_status lane_init(struct predictor *p, int bucket, int64_t images)
{
    struct lane *l = &p->lane[bucket];
    thaw_model *m = p->model;
    l->preprocess = th_network_preprocess(&m->net);
    l->preprocess.size = p->sizes.at[bucket];
    TRY(th_preprocess_check(&l->preprocess));
    if (!images)
        return THAW_OK;
    l->batch = images < m->batch ? (int)images : m->batch;
    TRY(th_model_evaluator(m, bucket, l->batch));
    l->images =
        th_alloc((size_t)l->batch, m->evaluators.of[bucket].pixels * sizeof *l->images);
    l->place = th_alloc((size_t)l->batch, sizeof *l->place);
    return l->images && l->place ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status init_lanes(struct predictor *p, const struct th_samples *all)
{
    int64_t images[TH_MAX_SIZES];
    size_t pixels = 0;
    th_bucket_count(all, &p->sizes, images);
    for (int b = 0; b < p->sizes.n; b++) {
        TRY(lane_init(p, b, images[b]));
        size_t own = 3 * th_size_pixels(p->sizes.at[b]);
        pixels = own > pixels ? own : pixels;
        p->window += p->lane[b].batch * (p->sizes.n > 1 ? WINDOW : 1);
    }
    p->pixels = th_alloc(pixels, 1);
    return p->pixels ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status predictor_init(
    struct predictor *p, thaw_model *m, const struct th_samples *all)
{
    p->model = m;
    p->sizes = th_input_sizes(&m->net.model.input);
    p->answers = m->n_others + 1;
    p->most = 1;
    for (int k = 0; k < p->answers; k++) {
        const struct th_model *model = &model_of(m, k)->net.model;
        const struct th_detector *d = model->head->detector;
        p->classes = model->n_classes > p->classes ? model->n_classes : p->classes;
        p->most = d && d->most > p->most ? d->most : p->most;
    }
    TRY(init_lanes(p, all));
    size_t classes = (size_t)p->classes;
    size_t answers = (size_t)p->window * (size_t)p->answers;
    p->place = th_alloc((size_t)p->window, sizeof *p->place);
    p->logits = th_alloc(answers, classes * sizeof *p->logits);
    p->boxes = th_alloc(answers, (size_t)p->most * sizeof *p->boxes);
    p->n_boxes = th_alloc(answers, sizeof *p->n_boxes);
    p->p = th_alloc(classes, sizeof *p->p);
    p->probabilities = th_alloc(classes, sizeof *p->probabilities);
    p->labels = th_alloc(classes, sizeof *p->labels);
    bool all_there = p->place && p->logits && p->boxes && p->n_boxes && p->p &&
                     p->probabilities && p->labels;
    return all_there ? THAW_OK : THAW_E_MEMORY;
}

static void predictor_release(struct predictor *p)
{
    for (int b = 0; b < TH_MAX_SIZES; b++) {
        th_free(p->lane[b].images);
        th_free(p->lane[b].place);
    }
    for (int i = 0; p->place && i < p->n; i++)
        th_free(p->place[i].why);
    th_free(p->pixels);
    th_free(p->place);
    th_free(p->logits);
    th_free(p->boxes);
    th_free(p->n_boxes);
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

static void tell_boxes(struct predictor *p, const thaw_model *model,
    const struct place *place, int k, const thaw_box *boxes, int n)
{
    const struct th_sample *s = place->sample;
    const thaw_prediction prediction = {.file = s->path,
        .model = model,
        .best = -1,
        .boxes = boxes,
        .n_boxes = n,
        .width = place->size.w,
        .height = place->size.h,
        .image_id = s->number,
        .category_ids =
            s->has_number && p->category ? p->category + k * p->classes : NULL};
    p->each(p->context, &prediction);
}

/* ---- Images that wait ---- */

/* What detector k found in image i of the evaluator's last run. */
static int copy_boxes(struct predictor *p, struct th_evaluator *e, int k, int i,
    struct th_size size, thaw_box *to)
{
    struct th_reader *r = &e->answers[k].reader;
    r->score = (float)model_of(p->model, k)->threshold;
    th_evaluator_read(e, &e->answers[k], i, size);
    for (int j = 0; j < r->n_found; j++) {
        const float *box = r->found[j].box;
        to[j] = (thaw_box){
            box[0], box[1], box[2], box[3], r->found[j].score, r->found[j].class};
    }
    return r->n_found;
}

/* Image i of the evaluator's last run has its place in the window. */
static void take_answers(struct predictor *p, struct th_evaluator *e, int i, int at)
{
    struct place *place = &p->place[at];
    for (int k = 0; k < p->answers; k++) {
        int answer = at * p->answers + k, n = e->answers[k].model.n_classes;
        if (e->answers[k].model.head->detector)
            p->n_boxes[answer] = copy_boxes(
                p, e, k, i, place->size, p->boxes + (size_t)answer * (size_t)p->most);
        else
            memcpy(p->logits + (size_t)answer * (size_t)p->classes,
                e->answers[k].logits + (size_t)i * (size_t)n,
                (size_t)n * sizeof *p->logits);
    }
    place->done = true;
}

static thaw_status run_lane(struct predictor *p, int bucket)
{
    struct lane *l = &p->lane[bucket];
    struct th_evaluator *e = &p->model->evaluators.of[bucket];
    int n = l->n;
    l->n = 0;
    if (n == 0)
        return THAW_OK;
    TRY(th_evaluator_run(e, l->images, n));
    for (int i = 0; i < n; i++)
        take_answers(p, e, i, l->place[i]);
    return THAW_OK;
}

/* An image of the window, head by head. */
static void tell_place(struct predictor *p, int at)
{
    const struct place *place = &p->place[at];
    if (place->why) {
        const thaw_prediction bad = {
            .file = place->sample->path, .error = place->why, .best = -1};
        p->each(p->context, &bad);
        return;
    }
    for (int k = 0; k < p->answers; k++) {
        int answer = at * p->answers + k;
        const thaw_model *model = model_of(p->model, k);
        if (model->net.model.head->detector)
            tell_boxes(p, model, place, k, p->boxes + (size_t)answer * (size_t)p->most,
                p->n_boxes[answer]);
        else
            tell(p, model, place->sample,
                p->logits + (size_t)answer * (size_t)p->classes);
    }
}

/* As far as all is known; a window that is told begins again. */
static void tell_known(struct predictor *p)
{
    while (p->told < p->n && p->place[p->told].done)
        tell_place(p, p->told++);
    if (p->told < p->window)
        return;
    for (int i = 0; i < p->n; i++)
        th_free(p->place[i].why);
    p->n = p->told = 0;
}

static thaw_status flush(struct predictor *p)
{
    for (int b = 0; b < p->sizes.n; b++)
        TRY(run_lane(p, b));
    tell_known(p);
    return THAW_OK;
}

/* The reason without the path, which stands beside it. */
static const char *reason_of(const char *path, const char *why)
{
    size_t n = strlen(path);
    return strncmp(why, path, n) || strncmp(why + n, ": ", 2) ? why : why + n + 2;
}

/* Read an image into the lane of its size, or why it cannot be read into its place. */
static thaw_status take(struct predictor *p, const struct th_sample *s)
{
    int bucket = th_sizes_choose(&p->sizes, s->w, s->h), at = p->n++;
    struct lane *l = &p->lane[bucket];
    struct place *place = &p->place[at];
    float *image = l->images + (size_t)l->n * p->model->evaluators.of[bucket].pixels;
    *place = (struct place){.sample = s};
    thaw_status status =
        th_read_input(&l->preprocess, s, p->pixels, image, &place->size);
    if (status == THAW_E_MEMORY)
        return status;
    if (status != THAW_OK) {
        place->done = true;
        place->why = th_strdup(reason_of(s->path, thaw_error()));
        if (!place->why)
            return THAW_E_MEMORY;
    } else {
        l->place[l->n++] = at;
    }
    if (l->n == l->batch)
        TRY(run_lane(p, bucket));
    if (p->n == p->window)
        return flush(p);
    tell_known(p);
    return THAW_OK;
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
    thaw_status status = all->n ? THAW_OK : th_fail(THAW_E_DATA, "%s: no images", path);
    if (status == THAW_OK && m->net.model.input.others.n)
        status = th_dataset_measure(&d);
    if (status == THAW_OK)
        status = predictor_init(&p, m, all);
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
