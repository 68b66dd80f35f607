/* SPDX-License-Identifier: Apache-2.0
 * Owns thaw_check: every image of a data set is read and decoded, by several threads that
 * each take the next one; what is said of them does not depend on which. */
#include "survey.h"

#include "error.h"
#include "file.h"
#include "mem.h"
#include "network.h"
#include "options.h"
#include "recipe.h"
#include "tensor.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 1 << 30, MOST_WORKERS = 256 };

void th_finding_add(struct th_finding *f, const struct th_survey_image *a,
    const struct th_survey_image *b)
{
    if (f->n < TH_SURVEY_EXAMPLES)
        f->example[f->n] = (struct th_survey_example){a, b};
    f->n++;
}

/* ---- Reading ---- */

static void hash_bytes(struct th_survey_image *x, const void *bytes, size_t n)
{
    x->hash[0] = th_hash(bytes, n, 1);
    x->hash[1] = th_hash(bytes, n, 2);
}

static thaw_status look_at(struct th_survey_image *x, struct th_image_reader *reader)
{
    const struct th_sample *s = x->sample;
    unsigned char *bytes;
    size_t n;
    if (!s->path) {
        x->w = s->w;
        x->h = s->h;
        hash_bytes(x, s->pixels, (size_t)s->w * (size_t)s->h);
        return THAW_OK;
    }
    TRY(th_file_read_into(s->path, MAX_BYTES, &reader->file, &bytes, &n));
    hash_bytes(x, bytes, n);
    TRY(th_picture_decode(bytes, n, NULL, &reader->picture, &x->damaged));
    x->w = reader->picture.w;
    x->h = reader->picture.h;
    return THAW_OK;
}

/* A decoder does not know the file's name. */
static void say_why(struct th_survey_image *x)
{
    const char *why = thaw_error(), *path = x->sample->path;
    bool named = strncmp(why, path, strlen(path)) == 0;
    snprintf(
        x->why, sizeof x->why, "%s%s%s", named ? "" : path, named ? "" : ": ", why);
}

struct reading {
    struct th_survey *s;
    atomic_llong next;
};

static void *read_images(void *context)
{
    struct reading *r = context;
    struct th_image_reader reader = {0};
    for (;;) {
        int64_t i = (int64_t)atomic_fetch_add(&r->next, 1);
        if (i >= r->s->n)
            break;
        struct th_survey_image *x = &r->s->image[i];
        x->status = look_at(x, &reader);
        if (x->status != THAW_OK)
            say_why(x);
    }
    th_image_reader_release(&reader);
    return NULL;
}

/* With no more threads than could be had; this one reads, too. */
static void read_all(struct th_survey *s, int workers)
{
    struct reading r = {.s = s};
    pthread_t thread[MOST_WORKERS];
    int n = 0;
    while (n + 1 < workers && n < MOST_WORKERS &&
           pthread_create(&thread[n], NULL, read_images, &r) == 0)
        n++;
    read_images(&r);
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
}

/* ---- What is wrong with images ---- */

static int by_hash(const void *a, const void *b)
{
    const struct th_survey_image *x = *(const struct th_survey_image *const *)a;
    const struct th_survey_image *y = *(const struct th_survey_image *const *)b;
    int order = (x->hash[0] > y->hash[0]) - (x->hash[0] < y->hash[0]);
    order = order ? order : (x->hash[1] > y->hash[1]) - (x->hash[1] < y->hash[1]);
    return order ? order : (x > y) - (x < y);
}

static bool same_bytes(const struct th_survey_image *x, const struct th_survey_image *y)
{
    return x->hash[0] == y->hash[0] && x->hash[1] == y->hash[1];
}

/* Each image that is a copy of one before it, once. */
static thaw_status find_copies(struct th_survey *s)
{
    int64_t n = 0;
    struct th_survey_image **order = th_alloc((size_t)s->n, sizeof *order);
    if (!order)
        return THAW_E_MEMORY;
    for (int64_t i = 0; i < s->n; i++)
        if (s->image[i].status == THAW_OK)
            order[n++] = &s->image[i];
    if (n)
        qsort(order, (size_t)n, sizeof *order, by_hash);
    for (int64_t i = 1, first = 0; i < n; i++) {
        if (!same_bytes(order[first], order[i])) {
            first = i;
            continue;
        }
        th_finding_add(order[i]->split == order[first]->split ? &s->copies : &s->leaks,
            order[first], order[i]);
    }
    th_free(order);
    return THAW_OK;
}

static thaw_status count_classes(struct th_survey *s)
{
    for (int split = 0; split < TH_N_SPLITS; split++) {
        int64_t *count = th_dataset_count(&s->data, &s->data.split[split]);
        if (!count)
            return THAW_E_MEMORY;
        for (int32_t c = 0; c < s->data.n_classes; c++)
            s->class[c].images[split] = count[c];
        th_free(count);
    }
    return THAW_OK;
}

static thaw_status survey(struct th_survey *s, int workers)
{
    for (int split = 0; split < TH_N_SPLITS; split++)
        s->n += s->data.split[split].n;
    s->image = th_alloc((size_t)s->n, sizeof *s->image);
    s->class = th_alloc((size_t)s->data.n_classes, sizeof *s->class);
    if (!s->image || !s->class)
        return THAW_E_MEMORY;
    for (int64_t split = 0, i = 0; split < TH_N_SPLITS; split++)
        for (int64_t k = 0; k < s->data.split[split].n; k++, i++) {
            s->image[i].sample = &s->data.split[split].sample[k];
            s->image[i].split = (enum th_split)split;
        }
    read_all(s, workers);
    for (int64_t i = 0; i < s->n; i++) {
        const struct th_survey_image *x = &s->image[i];
        if (x->status == THAW_E_MEMORY)
            return th_fail(THAW_E_MEMORY, "%s", x->why);
        if (x->status != THAW_OK)
            th_finding_add(&s->unreadable, x, NULL);
        else if (x->damaged)
            th_finding_add(&s->damaged, x, NULL);
    }
    TRY(find_copies(s));
    TRY(count_classes(s));
    th_survey_shapes(s);
    return s->data.has_objects ? th_survey_boxes(s) : THAW_OK;
}

/* ---- The call ---- */

/* As training opens it. Whether that is for a detector the format says; of csv: the
 * header. */
static thaw_status open_data(const thaw_options *o, struct th_dataset *d)
{
    const char *data = th_option_text(o, "data");
    const struct th_head *head;
    struct th_dataset_options options = th_recipe_data(o);
    if (!data)
        return th_fail(THAW_E_USAGE, "no data was given: a folder, or FORMAT:PATH");
    TRY(th_head_find(th_option_text(o, "head"), &head));
    options.many = head->many;
    options.objects = th_dataset_boxes(data) != TH_BOXES_NEVER;
    thaw_status status = th_dataset_open(data, &options, d);
    bool may_do_without = th_dataset_boxes(data) == TH_BOXES_WHERE_WANTED;
    if (status != THAW_E_DATA || !may_do_without || !strstr(thaw_error(), "no boxes"))
        return status;
    options.objects = false;
    return th_dataset_open(data, &options, d);
}

static thaw_status judge(const thaw_options *o, const struct th_survey *s)
{
    double most = th_option_real(o, "max-bad");
    if ((double)s->unreadable.n <= most * (double)s->n)
        return THAW_OK;
    return th_fail(THAW_E_DATA,
        "%lld of %lld images cannot be read: training ends above %g %% (--max-bad)",
        (long long)s->unreadable.n, (long long)s->n, most * 100);
}

static thaw_status write_json(const struct th_survey *s,
    void (*write)(void *context, const char *text), void *context)
{
    struct th_json_out j = {0};
    th_survey_json(s, &j);
    thaw_status status = th_json_out_status(&j);
    if (status == THAW_OK)
        write(context, j.text);
    th_json_out_release(&j);
    return status;
}

thaw_status thaw_check(const thaw_options *o,
    void (*write)(void *context, const char *text), void *context)
{
    struct th_survey s = {.inputs = th_option_sizes(o, "image-size")};
    TRY(open_data(o, &s.data));
    thaw_status status = survey(&s, th_option_threads(o, "workers"));
    if (status == THAW_OK && th_option_flag(o, "json"))
        status = write_json(&s, write, context);
    else if (status == THAW_OK)
        th_survey_lines(&s, write, context);
    if (status == THAW_OK)
        status = judge(o, &s);
    th_free(s.image);
    th_free(s.class);
    th_dataset_close(&s.data);
    return status;
}
