/* SPDX-License-Identifier: Apache-2.0
 * Owns datasets: the choice of the format, the order of classes, and what is held back
 * for validation. Knows no format; decodes nothing but on request.
 *
 * Invariants after th_dataset_open: classes are unique and in byte order; every label is
 * in [0, n_classes), or -1 where images may have no class; ids are unique; what is held
 * back depends on the seed and the listing only, keeps the listing's order, and leaves
 * each class at least one training image. */
#include "dataset.h"

#include "error.h"
#include "file.h"
#include "image_size.h"
#include "mem.h"
#include "rng.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const double DEFAULT_VAL = 0.2;

const char *th_split_name(enum th_split split)
{
    static const char *const names[TH_N_SPLITS] = {"train", "val", "test"};
    return names[split];
}

/* Where `name` is, or would be, among the classes in byte order. */
static int32_t find_class(const struct th_dataset *d, const char *name, bool *found)
{
    int32_t low = 0, high = (int32_t)d->names.n;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        int order = strcmp(name, d->names.name[d->order[middle]]);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *found = false;
    return low;
}

thaw_status th_dataset_class(struct th_dataset *d, const char *name, int32_t *label)
{
    bool found;
    int32_t at = find_class(d, name, &found), n = (int32_t)d->names.n;
    if (found) {
        *label = d->order[at];
        return THAW_OK;
    }
    if (n == d->order_capacity) {
        int32_t more = n ? n * 2 : 16;
        int32_t *grown = th_realloc(d->order, (size_t)n, (size_t)more, sizeof *grown);
        if (!grown)
            return THAW_E_MEMORY;
        d->order = grown;
        d->order_capacity = more;
    }
    TRY(th_names_add(&d->names, name));
    memmove(d->order + at + 1, d->order + at, (size_t)(n - at) * sizeof *d->order);
    d->order[at] = *label = n;
    return THAW_OK;
}

static thaw_status append(struct th_samples *s, const struct th_sample *sample)
{
    if (s->n == s->capacity) {
        int64_t more = s->capacity ? s->capacity * 2 : 64;
        struct th_sample *grown =
            th_realloc(s->sample, (size_t)s->n, (size_t)more, sizeof *grown);
        if (!grown)
            return THAW_E_MEMORY;
        s->sample = grown;
        s->capacity = more;
    }
    s->sample[s->n++] = *sample;
    return THAW_OK;
}

thaw_status th_dataset_add_pixels(
    struct th_dataset *d, enum th_split split, const struct th_sample *sample)
{
    struct th_sample own = *sample;
    own.id = d->n_samples;
    TRY(append(&d->split[split], &own));
    d->n_samples++;
    return THAW_OK;
}

thaw_status th_dataset_add_file(
    struct th_dataset *d, enum th_split split, int32_t label, const char *path)
{
    struct th_sample sample = {.path = th_strdup(path), .label = label, .bytes = -1};
    if (!sample.path)
        return THAW_E_MEMORY;
    thaw_status status = th_dataset_add_pixels(d, split, &sample);
    if (status != THAW_OK)
        th_free(sample.path);
    return status;
}

thaw_status th_dataset_warn(struct th_dataset *d, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return th_names_add(&d->warnings, text);
}

static void samples_release(struct th_samples *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        th_free(s->sample[i].path);
        th_free(s->sample[i].classes);
        th_free(s->sample[i].objects);
    }
    th_free(s->sample);
    *s = (struct th_samples){0};
}

void th_dataset_close(struct th_dataset *d)
{
    for (int split = 0; split < TH_N_SPLITS; split++) {
        samples_release(&d->split[split]);
        th_free(d->memory[split]);
    }
    for (int64_t i = 0; i < d->n_categories; i++)
        th_free(d->category[i].name);
    th_free(d->category);
    th_free(d->classes); /* its strings are those of names */
    th_names_release(&d->names);
    th_names_release(&d->warnings);
    th_free(d->order);
    *d = (struct th_dataset){0};
}

/* "foo:photos" that is no folder is a format that does not exist. */
static thaw_status check_prefix(const char *data)
{
    size_t n = strspn(data, "abcdefghijklmnopqrstuvwxyz0123456789");
    struct stat st;
    char known[64] = "";
    if (n < 2 || data[n] != ':' || stat(data, &st) == 0)
        return THAW_OK;
    for (const struct th_format *const *f = th_format_list; *f; f++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, " %s:", (*f)->name);
    }
    return th_fail(THAW_E_USAGE,
        "%s: no format of data is called '%.*s:'; there are%s, and a folder needs none",
        data, (int)n, data, known);
}

/* A detector cannot do without boxes, and nothing else can do with them. */
static thaw_status read_with(const struct th_format *f, const char *data,
    const char *where, struct th_dataset *d)
{
    if (d->has_objects && f->boxes == TH_BOXES_NEVER)
        return th_fail(THAW_E_DATA,
            "%s: a %s has no boxes; a detector wants voc:, coco:, yolo: or csv: with "
            "boxes",
            data, strcmp(f->name, "folder") ? f->name : "folder of classes");
    if (!d->has_objects && f->boxes == TH_BOXES_ALWAYS)
        return th_fail(THAW_E_DATA,
            "%s: %s: has boxes, which a detector learns from (--head fcos); a "
            "classifier "
            "wants DIR/CLASS/image.jpg or another of `thaw list formats`",
            data, f->name);
    return f->read(where, d);
}

/* The format that DATA names, and what stands behind its colon; else the folder. */
static const struct th_format *find_format(const char *data, const char **where)
{
    const char *colon = strchr(data, ':');
    const struct th_format *folder = NULL;
    for (const struct th_format *const *f = th_format_list; *f; f++) {
        size_t n = strlen((*f)->name);
        if (colon && (size_t)(colon - data) == n && memcmp(data, (*f)->name, n) == 0) {
            *where = colon + 1;
            return *f;
        }
        if (strcmp((*f)->name, "folder") == 0)
            folder = *f;
    }
    *where = data;
    return folder;
}

bool th_dataset_is_named(const char *data)
{
    const char *where;
    find_format(data, &where);
    return where != data;
}

enum th_boxes th_dataset_boxes(const char *data)
{
    const char *unused;
    return find_format(data, &unused)->boxes;
}

static thaw_status read_format(const char *data, struct th_dataset *d)
{
    const char *where;
    const struct th_format *f = find_format(data, &where);
    if (where == data)
        TRY(check_prefix(data));
    return read_with(f, data, where, d);
}

static thaw_status read_data(const char *data, struct th_dataset *d)
{
    TRY(read_format(data, d));
    return d->many ? th_dataset_join_repeats(d) : THAW_OK;
}

/* Classes and labels in byte order. */
static thaw_status sort_classes(struct th_dataset *d)
{
    size_t n = (size_t)d->names.n;
    int32_t *rank = th_alloc(n, sizeof *rank);
    d->classes = th_alloc(n, sizeof *d->classes);
    if (!rank || !d->classes) {
        th_free(rank);
        return THAW_E_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        rank[d->order[i]] = (int32_t)i;
        d->classes[i] = d->names.name[d->order[i]];
    }
    d->n_classes = (int32_t)n;
    for (int split = 0; split < TH_N_SPLITS; split++)
        th_samples_relabel(&d->split[split], rank);
    th_free(rank);
    return d->many ? th_dataset_label_by_rarest(d) : THAW_OK;
}

/* Whether every class of the image has another one left; then it has one less. */
static bool can_go(const struct th_sample *s, int64_t *left)
{
    const int32_t *class;
    int32_t n = th_sample_classes(s, &class);
    for (int32_t k = 0; k < n; k++)
        if (left[class[k]] < 2)
            return false;
    for (int32_t k = 0; k < n; k++)
        left[class[k]]--;
    return true;
}

/* held[i] = whether training image i is held back: of each label, -1 being one too, the
 * nearest whole number to its fraction, at least one and never all, and of no class all. */
static thaw_status draw_held_back(
    const struct th_dataset *d, double fraction, uint64_t seed, bool *held)
{
    const struct th_samples *train = &d->split[TH_SPLIT_TRAIN];
    int64_t *left = th_dataset_count(d, train);
    int64_t *count = th_alloc((size_t)d->n_classes + 1, sizeof *count);
    int64_t *order = th_alloc((size_t)train->n, sizeof *order);
    thaw_status status = left && count && order ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK) {
        th_rng_permutation(th_rng_mix_name(seed, "val"), train->n, order);
        for (int64_t i = 0; i < train->n; i++)
            count[train->sample[i].label + 1]++;
        for (int32_t c = 0; c <= d->n_classes; c++) {
            int64_t wanted = llrint(fraction * (double)count[c]);
            wanted = wanted < 1 ? 1 : wanted;
            count[c] = wanted < count[c] ? wanted : count[c] - 1;
        }
        for (int64_t i = 0; i < train->n; i++) {
            const struct th_sample *s = &train->sample[order[i]];
            held[order[i]] = count[s->label + 1] > 0 && can_go(s, left);
            count[s->label + 1] -= held[order[i]];
        }
    }
    th_free(order);
    th_free(count);
    th_free(left);
    return status;
}

static thaw_status hold_back(struct th_dataset *d, double fraction, uint64_t seed)
{
    struct th_samples *train = &d->split[TH_SPLIT_TRAIN];
    bool *held = th_alloc((size_t)train->n, sizeof *held);
    if (!held)
        return THAW_E_MEMORY;
    thaw_status status = draw_held_back(d, fraction, seed, held);
    int64_t kept = 0, n = train->n;
    for (int64_t i = 0; i < n; i++)
        if (status == THAW_OK && held[i])
            status = append(&d->split[TH_SPLIT_VAL], &train->sample[i]);
        else
            train->sample[kept++] = train->sample[i];
    train->n = kept;
    th_free(held);
    return status;
}

/* map[class of the other] = ours of that name, -1: none; indices of names. Fresh. */
static int32_t *match_names(const struct th_dataset *d, const struct th_dataset *other)
{
    int32_t *map = th_alloc((size_t)other->names.n, sizeof *map);
    for (int64_t c = 0; map && c < other->names.n; c++) {
        bool found;
        int32_t at = find_class(d, other->names.name[c], &found);
        map[c] = found ? d->order[at] : -1;
    }
    return map;
}

/* Of the images' classes one that is not ours, -1: none. */
static int32_t find_stranger(const struct th_samples *s, const int32_t *map)
{
    const int32_t *class;
    for (int64_t i = 0; i < s->n; i++)
        for (int32_t k = th_sample_classes(&s->sample[i], &class); k > 0; k--)
            if (map[class[k - 1]] < 0)
                return class[k - 1];
    return -1;
}

/* Their labels as ours. */
static thaw_status translate(const struct th_dataset *d, const struct th_dataset *other,
    struct th_samples *from, const char *data)
{
    int32_t *map = match_names(d, other);
    int32_t stranger = map ? find_stranger(from, map) : -1;
    thaw_status status = map ? THAW_OK : THAW_E_MEMORY;
    if (stranger >= 0)
        status = th_fail(THAW_E_DATA,
            "%s: class \"%s\" is not among the training classes; take it out, or add "
            "training images",
            data, other->names.name[stranger]);
    if (status == THAW_OK)
        th_samples_relabel(from, map);
    th_free(map);
    return status;
}

/* Move the validation images out of another dataset; its classes must be known here. */
static thaw_status take_val(
    struct th_dataset *d, struct th_dataset *other, const char *data)
{
    /* A folder with train/ and val/ gives its val, any other all it has. */
    enum th_split split = other->split[TH_SPLIT_VAL].n ? TH_SPLIT_VAL : TH_SPLIT_TRAIN;
    struct th_samples *from = &other->split[split];
    samples_release(&d->split[TH_SPLIT_VAL]);
    TRY(translate(d, other, from, data));
    for (int64_t i = 0; i < from->n; i++) {
        struct th_sample *sample = &from->sample[i];
        TRY(th_dataset_add_pixels(d, TH_SPLIT_VAL, sample));
        sample->path = NULL; /* now owned there */
        sample->classes = NULL;
        sample->objects = NULL;
    }
    if (!d->split[TH_SPLIT_VAL].n)
        return th_fail(THAW_E_DATA, "%s: no validation images in it", data);
    th_free(d->memory[TH_SPLIT_VAL]);
    d->memory[TH_SPLIT_VAL] = other->memory[split];
    other->memory[split] = NULL;
    return THAW_OK;
}

/* Whether the text of --val is a number; one outside [0,1) is refused by the caller. */
static bool is_fraction(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return end != text && *end == '\0';
}

static thaw_status apply_val(struct th_dataset *d, const struct th_dataset_options *o)
{
    double fraction = DEFAULT_VAL;
    if (o->as_is || (!o->val && d->split[TH_SPLIT_VAL].n))
        return THAW_OK;
    if (o->val && !is_fraction(o->val, &fraction)) {
        struct th_dataset other = {.many = d->many, .has_objects = d->has_objects};
        thaw_status status = read_data(o->val, &other);
        if (status == THAW_OK)
            status = take_val(d, &other, o->val);
        th_dataset_close(&other);
        return status;
    }
    if (!(fraction >= 0 && fraction < 1))
        return th_fail(THAW_E_USAGE,
            "--val %s: give a fraction from 0 to below 1, or a folder", o->val);
    if (d->split[TH_SPLIT_VAL].n)
        TRY(th_dataset_warn(d,
            "the data's own validation images are not used: --val %s was given",
            o->val));
    samples_release(&d->split[TH_SPLIT_VAL]);
    return fraction > 0 ? hold_back(d, fraction, o->seed) : THAW_OK;
}

/* One class cannot be learnt; a class without images is a mistake in train, and worth a
 * line elsewhere. */
static thaw_status check(
    struct th_dataset *d, const struct th_dataset_options *o, const char *data)
{
    int64_t n = 0;
    for (int split = 0; split < TH_N_SPLITS; split++)
        n += d->split[split].n;
    if (n == 0)
        return th_fail(THAW_E_DATA, "%s: no images in it", data);
    if (d->n_classes == 0)
        return th_fail(THAW_E_DATA, "%s: no image has a class", data);
    if (o->as_is)
        return THAW_OK;
    if (d->split[TH_SPLIT_TRAIN].n == 0)
        return th_fail(THAW_E_DATA, "%s: no training images in it", data);
    if (d->n_classes < 2 && !d->many)
        return th_fail(THAW_E_DATA,
            "%s: only one class, \"%s\"; a classifier needs two: DIR/CLASS/image.jpg",
            data, d->classes[0]);
    for (int split = 0; split < TH_N_SPLITS; split++) {
        int64_t *count = th_dataset_count(d, &d->split[split]);
        thaw_status status = count ? THAW_OK : THAW_E_MEMORY;
        for (int32_t c = 0; status == THAW_OK && c < d->n_classes; c++)
            if (!count[c] && split == TH_SPLIT_TRAIN)
                status = th_fail(THAW_E_DATA,
                    "%s: class \"%s\" has no training images; add some or remove it",
                    data, d->classes[c]);
            else if (!count[c] && d->split[split].n)
                status = th_dataset_warn(d, "class \"%s\" has no image in %s",
                    d->classes[c], th_split_name((enum th_split)split));
        th_free(count);
        TRY(status);
    }
    return THAW_OK;
}

static int64_t change_time(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* What each file is now, so that another one in its place is noticed. One that is not
 * there is found out when it is read. */
static void stamp_files(struct th_dataset *d)
{
    struct stat st;
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < d->split[split].n; i++) {
            struct th_sample *s = &d->split[split].sample[i];
            if (!s->path || stat(s->path, &st) || !S_ISREG(st.st_mode))
                continue;
            s->bytes = (int64_t)st.st_size;
            s->time = change_time(&st);
        }
}

static thaw_status check_stamp(const struct th_sample *s)
{
    struct stat st;
    if (s->bytes < 0 || stat(s->path, &st)) /* reading it says why not */
        return THAW_OK;
    if ((int64_t)st.st_size != s->bytes)
        return th_fail(THAW_E_DATA,
            "%s: changed since it was listed: %lld bytes, now %lld", s->path,
            (long long)s->bytes, (long long)st.st_size);
    if (change_time(&st) != s->time)
        return th_fail(
            THAW_E_DATA, "%s: changed since it was listed (written again)", s->path);
    return THAW_OK;
}

/* After read: labels index names. Validation is arranged before the classes are sorted,
 * so that a second dataset's labels map by name. */
static thaw_status finish(
    struct th_dataset *d, const struct th_dataset_options *o, const char *data)
{
    double unused;
    bool from_elsewhere = o->val && !is_fraction(o->val, &unused);
    if (from_elsewhere)
        TRY(apply_val(d, o));
    TRY(sort_classes(d));
    TRY(check(d, o, data));
    return from_elsewhere ? THAW_OK : apply_val(d, o);
}

thaw_status th_dataset_open(
    const char *data, const struct th_dataset_options *options, struct th_dataset *out)
{
    *out = (struct th_dataset){
        .many = options->many || options->objects, .has_objects = options->objects};
    thaw_status status = read_data(data, out);
    if (status == THAW_OK)
        status = finish(out, options, data);
    if (status == THAW_OK)
        stamp_files(out);
    else
        th_dataset_close(out);
    return status;
}

static thaw_status add_unlabelled(struct th_dataset *d, const char *path)
{
    if (!th_is_folder(path)) {
        TRY(th_file_check(path));
        return th_dataset_add_file(d, TH_SPLIT_TRAIN, -1, path);
    }
    struct th_names names = {0};
    thaw_status status = th_list_images(path, &names, NULL);
    for (int64_t i = 0; status == THAW_OK && i < names.n; i++) {
        char *file = th_format("%s/%s", path, names.name[i]);
        status =
            file ? th_dataset_add_file(d, TH_SPLIT_TRAIN, -1, file) : THAW_E_MEMORY;
        th_free(file);
    }
    if (status == THAW_OK && names.n == 0)
        status = th_fail(THAW_E_DATA, "%s: no images in it", path);
    th_names_release(&names);
    return status;
}

thaw_status th_dataset_open_unlabelled(const char *path, struct th_dataset *out)
{
    *out = (struct th_dataset){0};
    thaw_status status = add_unlabelled(out, path);
    if (status == THAW_OK)
        stamp_files(out);
    else
        th_dataset_close(out);
    return status;
}

thaw_status th_dataset_measure(struct th_dataset *d)
{
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < d->split[split].n; i++) {
            struct th_sample *s = &d->split[split].sample[i];
            thaw_status status =
                s->path && !s->w ? th_image_size(s->path, &s->w, &s->h) : THAW_OK;
            if (status == THAW_E_MEMORY)
                return status;
            if (status != THAW_OK)
                s->w = s->h = 0;
        }
    return THAW_OK;
}

thaw_status th_sample_read_part(const struct th_sample *sample,
    struct th_image_reader *reader, const struct th_wanted *wanted, bool *damaged)
{
    struct th_image *image = &reader->picture.held;
    if (sample->path) {
        TRY(check_stamp(sample));
        return th_image_read_part(reader, sample->path, wanted, damaged);
    }
    TRY(th_image_reuse(image, sample->w, sample->h));
    size_t n = (size_t)sample->w * (size_t)sample->h;
    for (size_t i = 0; i < n; i++)
        memset(image->rgb + i * 3, sample->pixels[i], 3);
    reader->picture = th_picture_of(image);
    *damaged = false;
    return THAW_OK;
}

thaw_status th_sample_read(
    const struct th_sample *sample, struct th_image *image, bool *damaged)
{
    bool unused;
    struct th_image_reader reader = {0};
    thaw_status status =
        th_sample_read_part(sample, &reader, NULL, damaged ? damaged : &unused);
    th_block_release(&reader.file);
    *image = reader.picture.held;
    return status;
}
