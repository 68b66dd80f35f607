/* SPDX-License-Identifier: Apache-2.0
 * coco:DIR and coco:FILE.json: COCO's instances. DIR has annotations/instances_train*.json
 * and instances_val*.json with the images in folders beside, or, as Roboflow writes it,
 * train/_annotations.coco.json with the images around it, and valid and test likewise. One
 * file is one split. The file is read once, value by value, whatever its size; only where
 * annotations come before images, that part is passed and read last. */
#include "box_report.h"
#include "contained.h"
#include "dataset.h"
#include "error.h"
#include "file.h"
#include "json_pull.h"
#include "mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_FOLDERS = 6 };

struct category {
    int64_t id;
    int32_t number;     /* by which objects know it while the file is read */
    char *name;         /* owned; NULL: objects name it, categories not yet */
    int64_t annotation; /* the first that names it; -1: none, and then it is no class */
};

struct picture {
    int64_t id;
    int64_t sample; /* its place in the split */
    double w, h;    /* 0: not said */
};

struct coco {
    struct th_dataset *d;
    enum th_split split;
    struct th_pull json;
    struct th_box_report report;
    struct category *category; /* [n_categories], by id */
    int64_t n_categories, categories_room;
    struct picture *picture; /* [n_pictures], by id once all are there */
    int64_t n_pictures, pictures_room;
    char *stem;         /* owned: "train2017" of ".../instances_train2017.json" */
    char *folder;       /* owned: of the file */
    const char *images; /* the folder of the images: the first that has the first one */
    char *candidate[N_FOLDERS]; /* owned: where images may lie */
    bool has_categories, has_images;
};

static void coco_release(struct coco *c)
{
    for (int64_t i = 0; i < c->n_categories; i++)
        th_free(c->category[i].name);
    for (int i = 0; i < N_FOLDERS; i++)
        th_free(c->candidate[i]);
    th_free(c->category);
    th_free(c->picture);
    th_free(c->stem);
    th_free(c->folder);
    th_pull_close(&c->json);
}

/* Room for one more of n elements; NULL is THAW_E_MEMORY. */
static void *grow(void *old, int64_t n, int64_t *room, size_t bytes)
{
    if (n < *room)
        return old;
    int64_t more = *room ? *room * 2 : 64;
    void *grown = th_realloc(old, (size_t)n, (size_t)more, bytes);
    *room = grown ? more : *room;
    return grown;
}

/* ---- Categories ---- */

/* The category of that id, made where there is none; NULL is THAW_E_MEMORY. */
static struct category *category_of(struct coco *c, int64_t id)
{
    int64_t low = 0, high = c->n_categories;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (c->category[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < c->n_categories && c->category[low].id == id)
        return &c->category[low];
    struct category *grown =
        grow(c->category, c->n_categories, &c->categories_room, sizeof *grown);
    if (!grown)
        return NULL;
    c->category = grown;
    memmove(
        &grown[low + 1], &grown[low], (size_t)(c->n_categories - low) * sizeof *grown);
    grown[low] = (struct category){
        .id = id, .number = (int32_t)c->n_categories++, .annotation = -1};
    return &grown[low];
}

/* `name` is the category's to keep, also after a failure. */
static thaw_status add_category(struct coco *c, int64_t id, char *name)
{
    struct category *category = category_of(c, id);
    if (category && !category->name) {
        category->name = name;
        return THAW_OK;
    }
    th_free(name);
    return category ? th_pull_refuse(&c->json, "two categories above have one id")
                    : THAW_E_MEMORY;
}

static thaw_status read_category(struct coco *c)
{
    struct th_pull *p = &c->json;
    const char *key, *text;
    char *name = NULL;
    int64_t id = 0;
    bool has_id = false;
    thaw_status status = th_pull_enter(p, '{');
    while (status == THAW_OK && (status = th_pull_key(p, &key)) == THAW_OK && key) {
        if (strcmp(key, "id") == 0) {
            status = th_pull_whole(p, &id);
            has_id = true;
        } else if (strcmp(key, "name") == 0 && !name) {
            status = th_pull_string(p, &text);
            name = status == THAW_OK ? th_strdup(text) : NULL;
            status = status == THAW_OK && !name ? THAW_E_MEMORY : status;
        } else {
            status = th_pull_skip(p);
        }
    }
    if (status == THAW_OK && !(has_id && name && *name))
        status = th_pull_refuse(p, "the category that ends here has no id, or no name");
    if (status == THAW_OK)
        return add_category(c, id, name);
    th_free(name);
    return status;
}

/* An array, item by item. */
static thaw_status read_each(struct coco *c, thaw_status (*read)(struct coco *c))
{
    bool more;
    TRY(th_pull_enter(&c->json, '['));
    for (;;) {
        TRY(th_pull_item(&c->json, &more));
        if (!more)
            return THAW_OK;
        TRY(read(c));
    }
}

static thaw_status read_categories(struct coco *c)
{
    TRY(read_each(c, read_category));
    c->has_categories = true;
    return THAW_OK;
}

/* map[number] = class, of those that some object is of. */
static thaw_status make_classes(struct coco *c, int32_t *map)
{
    for (int64_t i = 0; i < c->n_categories; i++) {
        const struct category *category = &c->category[i];
        if (category->annotation >= 0 && !category->name)
            return th_fail(THAW_E_DATA,
                "%s, annotation %lld: no category has the id %lld", c->json.path,
                (long long)category->annotation, (long long)category->id);
        if (category->name)
            TRY(th_dataset_add_category(c->d, c->split, category->name, category->id));
        if (category->annotation >= 0)
            TRY(th_dataset_class(c->d, category->name, &map[category->number]));
    }
    return THAW_OK;
}

/* The objects' classes, once all categories are known. */
static thaw_status give_classes(struct coco *c)
{
    struct th_samples *s = &c->d->split[c->split];
    int32_t *map = th_alloc((size_t)c->n_categories, sizeof *map);
    thaw_status status = map ? make_classes(c, map) : THAW_E_MEMORY;
    for (int64_t i = s->n - c->n_pictures; i < s->n && status == THAW_OK; i++)
        status = th_sample_take_classes(&s->sample[i], map);
    th_free(map);
    return status;
}

/* ---- Images ---- */

/* Where images may lie: beside the file, or in a folder called like what it is about. */
static thaw_status list_candidates(struct coco *c)
{
    const char *f = c->folder;
    char *const all[N_FOLDERS] = {th_format("%s/../%s", f, c->stem),
        th_format("%s/../images/%s", f, c->stem), th_format("%s/%s", f, c->stem),
        th_format("%s/../images", f), th_format("%s/images", f), th_format("%s", f)};
    memcpy(c->candidate, all, sizeof all);
    for (int i = 0; i < N_FOLDERS; i++)
        if (!all[i])
            return THAW_E_MEMORY;
    return THAW_OK;
}

static thaw_status find_folder(struct coco *c, const char *name)
{
    TRY(list_candidates(c));
    for (int i = 0; i < N_FOLDERS && !c->images; i++) {
        char *path = th_format("%s/%s", c->candidate[i], name);
        if (!path)
            return THAW_E_MEMORY;
        c->images = th_file_exists(path) ? c->candidate[i] : NULL;
        th_free(path);
    }
    if (!c->images)
        return th_fail(THAW_E_DATA,
            "%s: there is no image %s in its folder, nor in images or %s there or "
            "beside "
            "that folder",
            c->json.path, name, c->stem);
    return THAW_OK;
}

/* `name` is the image's file. */
static thaw_status add_picture(struct coco *c, struct picture one, const char *name)
{
    struct picture *grown =
        grow(c->picture, c->n_pictures, &c->pictures_room, sizeof *grown);
    if (!grown)
        return THAW_E_MEMORY;
    c->picture = grown;
    char *path;
    if (!c->images && !th_leads_out(name))
        TRY(find_folder(c, name));
    TRY(th_contained(c->images ? c->images : c->folder, name, c->json.path, &path));
    one.sample = c->d->split[c->split].n;
    c->picture[c->n_pictures++] = one;
    thaw_status status = th_dataset_add_file(c->d, c->split, -1, path);
    th_free(path);
    if (status == THAW_OK)
        th_dataset_number_last(c->d, c->split, one.id);
    return status;
}

/* A side of an image, which may be null. */
static thaw_status read_side(struct th_pull *p, double *side)
{
    bool is_null;
    TRY(th_pull_null(p, &is_null));
    return is_null ? THAW_OK : th_pull_number(p, side);
}

static thaw_status read_image(struct coco *c)
{
    struct th_pull *p = &c->json;
    struct picture one = {0};
    const char *key, *text;
    char *name = NULL;
    bool has_id = false;
    thaw_status status = th_pull_enter(p, '{');
    while (status == THAW_OK && (status = th_pull_key(p, &key)) == THAW_OK && key) {
        if (strcmp(key, "id") == 0) {
            status = th_pull_whole(p, &one.id);
            has_id = true;
        } else if (strcmp(key, "width") == 0) {
            status = read_side(p, &one.w);
        } else if (strcmp(key, "height") == 0) {
            status = read_side(p, &one.h);
        } else if (strcmp(key, "file_name") == 0 && !name) {
            status = th_pull_string(p, &text);
            name = status == THAW_OK ? th_strdup(text) : NULL;
            status = status == THAW_OK && !name ? THAW_E_MEMORY : status;
        } else {
            status = th_pull_skip(p);
        }
    }
    if (status == THAW_OK && !(has_id && name))
        status =
            th_pull_refuse(p, "the image that ends here has no id, or no file_name");
    if (status == THAW_OK)
        status = add_picture(c, one, name);
    th_free(name);
    return status;
}

static int by_picture_id(const void *a, const void *b)
{
    const struct picture *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static thaw_status read_images(struct coco *c)
{
    TRY(read_each(c, read_image));
    if (c->n_pictures)
        qsort(c->picture, (size_t)c->n_pictures, sizeof *c->picture, by_picture_id);
    for (int64_t i = 1; i < c->n_pictures; i++)
        if (c->picture[i].id == c->picture[i - 1].id)
            return th_pull_refuse(&c->json, "two images above have one id");
    c->has_images = true;
    return THAW_OK;
}

/* ---- Annotations ---- */

struct annotation {
    int64_t id, image, category;
    double box[4],
        area; /* x, y, width, height as they stand there; area -1: not said */
    bool crowd, has_image, has_category, has_box;
};

static thaw_status read_box(struct th_pull *p, double box[4])
{
    bool more;
    TRY(th_pull_enter(p, '['));
    for (int i = 0; i < 4; i++) {
        TRY(th_pull_item(p, &more));
        if (!more)
            return th_pull_refuse(p, "a bbox of fewer than four numbers");
        TRY(th_pull_number(p, &box[i]));
    }
    TRY(th_pull_item(p, &more));
    return more ? th_pull_refuse(p, "a bbox of more than four numbers") : THAW_OK;
}

/* 0, 1, false or true. */
static thaw_status read_flag(struct th_pull *p, bool *flag)
{
    int64_t place;
    double value = 0;
    TRY(th_pull_tell(p, &place)); /* the value is at p->at */
    if (*p->at == 't' || *p->at == 'f') {
        *flag = *p->at == 't';
        return th_pull_skip(p);
    }
    TRY(th_pull_number(p, &value));
    *flag = value != 0;
    return THAW_OK;
}

static thaw_status read_field(struct th_pull *p, const char *key, struct annotation *a)
{
    bool is_null;
    if (strcmp(key, "bbox") == 0) {
        a->has_box = true;
        return read_box(p, a->box);
    }
    if (strcmp(key, "image_id") == 0) {
        a->has_image = true;
        return th_pull_whole(p, &a->image);
    }
    if (strcmp(key, "category_id") == 0) {
        a->has_category = true;
        return th_pull_whole(p, &a->category);
    }
    if (strcmp(key, "id") == 0)
        return th_pull_whole(p, &a->id);
    if (strcmp(key, "iscrowd") == 0)
        return read_flag(p, &a->crowd);
    if (strcmp(key, "area") == 0) {
        TRY(th_pull_null(p, &is_null));
        return is_null ? THAW_OK : th_pull_number(p, &a->area);
    }
    return th_pull_skip(p);
}

static thaw_status add_annotation(struct coco *c, const struct annotation *a)
{
    const struct picture *picture = bsearch(&(struct picture){.id = a->image},
        c->picture, (size_t)c->n_pictures, sizeof *picture, by_picture_id);
    const char *file = c->json.path;
    if (!picture)
        return th_fail(THAW_E_DATA, "%s, annotation %lld: no image has the id %lld",
            file, (long long)a->id, (long long)a->image);
    struct th_object o = {.crowd = a->crowd};
    const double box[4] = {
        a->box[0], a->box[1], a->box[0] + a->box[2], a->box[1] + a->box[3]};
    bool kept;
    TRY(th_box_fit(&c->report, box, picture->w, picture->h,
        (struct th_place){file, "annotation", a->id}, o.box, &kept));
    if (!kept)
        return THAW_OK;
    struct category *category = category_of(c, a->category);
    if (!category)
        return THAW_E_MEMORY;
    category->annotation = category->annotation < 0 ? a->id : category->annotation;
    o.class = category->number;
    o.area =
        a->area >= 0 && isfinite((float)a->area) ? (float)a->area : th_box_area(o.box);
    return th_sample_put_object(&c->d->split[c->split].sample[picture->sample], &o);
}

static thaw_status read_annotation(struct coco *c)
{
    struct th_pull *p = &c->json;
    struct annotation a = {.area = -1};
    const char *key;
    TRY(th_pull_enter(p, '{'));
    for (;;) {
        TRY(th_pull_key(p, &key));
        if (!key)
            break;
        TRY(read_field(p, key, &a));
    }
    if (!a.has_image || !a.has_category || !a.has_box)
        return th_pull_refuse(p, !a.has_box
                                     ? "the annotation that ends here has no bbox"
                                     : "the annotation that ends here has no "
                                       "image_id, or no category_id");
    return add_annotation(c, &a);
}

static thaw_status read_annotations(struct coco *c)
{
    return read_each(c, read_annotation);
}

/* ---- A file ---- */

/* One member of the outermost object. *later: where annotations begin whose images are not
 * known yet. */
static thaw_status read_member(
    struct coco *c, const char *key, int64_t *later, bool *any)
{
    if (strcmp(key, "images") == 0 && !c->has_images)
        return read_images(c);
    if (strcmp(key, "categories") == 0 && !c->has_categories)
        return read_categories(c);
    if (strcmp(key, "annotations") != 0 || *any)
        return th_pull_skip(&c->json);
    *any = true;
    if (c->has_images)
        return read_annotations(c);
    TRY(th_pull_tell(&c->json, later));
    return th_pull_skip(&c->json);
}

static thaw_status read_json(struct coco *c)
{
    const char *key;
    int64_t later = -1;
    bool any = false;
    TRY(th_pull_enter(&c->json, '{'));
    for (;;) {
        TRY(th_pull_key(&c->json, &key));
        if (!key)
            break;
        TRY(read_member(c, key, &later, &any));
    }
    TRY(th_pull_finish(&c->json));
    if (!c->has_images || !c->has_categories || !any)
        return th_fail(THAW_E_DATA,
            "%s: not COCO's instances: it must have images, annotations and categories",
            c->json.path);
    if (later >= 0) {
        TRY(th_pull_seek(&c->json, later));
        TRY(read_annotations(c));
    }
    return give_classes(c);
}

/* "train2017" of "instances_train2017.json", "" of "instances.json". */
static char *stem_of(const char *path)
{
    static const char prefix[] = "instances_";
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    if (strncmp(name, prefix, sizeof prefix - 1) == 0)
        name += sizeof prefix - 1;
    int n = (int)(dot && dot > name ? dot - name : (ptrdiff_t)strlen(name));
    return th_format("%.*s", n, name);
}

static thaw_status read_file(
    struct th_dataset *d, enum th_split split, const char *path)
{
    struct coco c = {.d = d, .split = split, .json.fd = -1};
    const char *slash = strrchr(path, '/');
    c.report = (struct th_box_report){.d = d, .where = path};
    c.stem = stem_of(path);
    c.folder = slash ? th_format("%.*s", (int)(slash - path), path) : th_strdup(".");
    thaw_status status =
        c.stem && c.folder ? th_pull_open(&c.json, path) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = read_json(&c);
    if (status == THAW_OK)
        status = th_box_report_end(&c.report);
    coco_release(&c);
    return status;
}

/* ---- A folder ---- */

/* The one file FOLDER/STARTS....json, fresh; *path NULL: there is none. */
static thaw_status find_file(const char *folder, const char *starts, char **path)
{
    struct th_names files = {0};
    const char *found = NULL;
    thaw_status status =
        th_is_folder(folder) ? th_list_ending(folder, "json", &files) : THAW_OK;
    *path = NULL;
    for (int64_t i = 0; i < files.n && status == THAW_OK; i++) {
        if (strncmp(files.name[i], starts, strlen(starts)) != 0)
            continue;
        if (found)
            status =
                th_fail(THAW_E_DATA, "%s: has both %s and %s; name one: coco:FILE.json",
                    folder, found, files.name[i]);
        found = files.name[i];
    }
    if (status == THAW_OK && found) {
        *path = th_format("%s/%s", folder, found);
        status = *path ? THAW_OK : THAW_E_MEMORY;
    }
    th_names_release(&files);
    return status;
}

static thaw_status read_found(struct th_dataset *d, enum th_split split,
    const char *folder, const char *starts, bool *there)
{
    char *path;
    *there = false;
    if (!folder)
        return THAW_E_MEMORY;
    TRY(find_file(folder, starts, &path));
    *there = path != NULL;
    thaw_status status = path ? read_file(d, split, path) : THAW_OK;
    th_free(path);
    return status;
}

/* DIR/annotations/instances_NAME*.json, else DIR/NAME/_annotations.coco.json. */
static thaw_status read_split(struct th_dataset *d, enum th_split split,
    const char *dir, const char *name, bool *there)
{
    char *annotations = th_format("%s/annotations", dir);
    char *starts = th_format("instances_%s", name);
    char *folder = th_format("%s/%s", dir, name);
    thaw_status status =
        starts ? read_found(d, split, annotations, starts, there) : THAW_E_MEMORY;
    if (status == THAW_OK && !*there)
        status = read_found(d, split, folder, "_annotations.coco", there);
    th_free(annotations);
    th_free(starts);
    th_free(folder);
    return status;
}

static thaw_status read_folder(struct th_dataset *d, const char *dir)
{
    bool train, val, valid = false, test;
    TRY(read_split(d, TH_SPLIT_TRAIN, dir, "train", &train));
    TRY(read_split(d, TH_SPLIT_VAL, dir, "val", &val));
    if (!val)
        TRY(read_split(d, TH_SPLIT_VAL, dir, "valid", &valid));
    TRY(read_split(d, TH_SPLIT_TEST, dir, "test", &test));
    if (!train && !val && !valid && !test)
        return th_fail(THAW_E_DATA,
            "%s: neither annotations/instances_train*.json nor "
            "train/_annotations.coco.json in it; or give the file: coco:FILE.json",
            dir);
    return THAW_OK;
}

static thaw_status read_coco(const char *where, struct th_dataset *d)
{
    return th_is_folder(where) ? read_folder(d, where)
                               : read_file(d, TH_SPLIT_TRAIN, where);
}

const struct th_format th_format_coco = {
    .name = "coco",
    .help = "coco:FILE.json, or coco:DIR with annotations/instances_train*.json, or "
            "train/_annotations.coco.json",
    .boxes = TH_BOXES_ALWAYS,
    .read = read_coco,
};
