/* SPDX-License-Identifier: Apache-2.0
 * yolo:data.yaml, or the folder that has it: train, val and test are folders of images or
 * lists of them below that folder; of DIR/images/.../a.jpg the boxes stand in
 * DIR/labels/.../a.txt, of others beside the image. A line is an object: its class's
 * number, centre and size, or the corners of a polygon, as parts of the image's sides. An
 * image without such a file has no objects. */
#include "box_report.h"
#include "contained.h"
#include "dataset.h"
#include "decimal.h"
#include "error.h"
#include "file.h"
#include "image_size.h"
#include "mem.h"
#include "yolo_yaml.h"

#include <math.h>
#include <string.h>

enum { MAX_LABEL_BYTES = 1 << 26, MAX_LIST_BYTES = 1 << 30 };

struct yolo {
    struct th_dataset *d;
    struct th_yolo file;
    struct th_box_report report;
    const char *yaml; /* its path */
    char *base;       /* owned: the folder that everything is below */
    int64_t n_images, n_unlabelled;
};

/* ---- The objects of one image ---- */

/* A file of labels, line by line. */
struct labels {
    const char *path;
    int64_t line;
    int w, h; /* of the image */
};

static thaw_status refuse(const struct labels *l, const char *why)
{
    return th_fail(THAW_E_DATA, "%s, line %lld: %s", l->path, (long long)l->line, why);
}

/* "c x y w h" or "c x0 y0 x1 y1 x2 y2 ..." to a box in pixels. */
static thaw_status read_line(
    const struct labels *l, const char *text, double *class, double box[4])
{
    static const char blank[] = " \t\r";
    double v[4] = {0};
    int64_t n = 0;
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (text += strspn(text, blank); *text; text += strspn(text, blank), n++) {
        const char *end;
        double value = th_decimal(text, &end);
        if (end == text || !strchr(" \t\r", *end)) /* finds the end, too */
            return refuse(l, "not a number");
        text = end;
        if (n == 0) {
            *class = value;
            continue;
        }
        if (n <= 4)
            v[n - 1] = value;
        int axis = (int)((n - 1) % 2);
        low[axis] = isnan(value) ? value : fmin(low[axis], value);
        high[axis] = isnan(value) ? value : fmax(high[axis], value);
    }
    bool polygon = n >= 7 && n % 2 == 1;
    if (n != 5 && !polygon)
        return refuse(l, "neither a class and four numbers nor a class and a polygon");
    for (int axis = 0; axis < 2; axis++) {
        double side = axis ? l->h : l->w;
        box[axis] = side * (polygon ? low[axis] : v[axis] - v[axis + 2] / 2);
        box[axis + 2] = side * (polygon ? high[axis] : v[axis] + v[axis + 2] / 2);
    }
    return THAW_OK;
}

static thaw_status add_line(
    struct yolo *y, enum th_split split, const struct labels *l, const char *text)
{
    double class = -1, box[4];
    struct th_object o = {0};
    bool kept;
    if (!text[strspn(text, " \t\r")])
        return THAW_OK;
    TRY(read_line(l, text, &class, box));
    if (!(class >= 0 && class < (double)y->file.names.n && floor(class) == class))
        return th_fail(THAW_E_DATA,
            "%s, line %lld: class %g, but %s names %lld, from 0 on", l->path,
            (long long)l->line, class, y->yaml, (long long)y->file.names.n);
    TRY(th_box_fit(&y->report, box, l->w, l->h,
        (struct th_place){l->path, "line", l->line}, o.box, &kept));
    if (!kept)
        return THAW_OK;
    o.area = th_box_area(o.box);
    TRY(th_dataset_class(y->d, y->file.names.name[(int64_t) class], &o.class));
    return th_dataset_add_object(y->d, split, &o);
}

static thaw_status add_lines(
    struct yolo *y, enum th_split split, struct labels *l, char *text)
{
    thaw_status status = THAW_OK;
    for (char *line; status == THAW_OK && (line = th_next_line(&text)); l->line++)
        status = add_line(y, split, l, line);
    return status;
}

/* Where the labels of an image stand. Fresh; NULL is THAW_E_MEMORY. */
static char *labels_of(const struct yolo *y, const char *image)
{
    static const char images[] = "/images/";
    const char *dot = strrchr(image, '.'), *found = NULL;
    const char *at = image + strlen(y->base);
    while ((at = strstr(at, images)) != NULL)
        found = at++;
    if (!found)
        return th_format("%.*s.txt", (int)(dot - image), image);
    const char *rest = found + strlen(images);
    return th_format(
        "%.*s/labels/%.*s.txt", (int)(found - image), image, (int)(dot - rest), rest);
}

/* `image` was checked to lie below the base. */
static thaw_status add_image(struct yolo *y, enum th_split split, const char *image)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    TRY(th_dataset_add_file(y->d, split, -1, image));
    y->n_images++;
    char *path = labels_of(y, image);
    if (!path)
        return THAW_E_MEMORY;
    struct labels l = {.path = path, .line = 1};
    thaw_status status = THAW_OK;
    if (!th_file_exists(path))
        y->n_unlabelled++;
    else
        status = th_file_read(path, MAX_LABEL_BYTES, &bytes, &n);
    if (status == THAW_OK && n)
        status = th_image_size(image, &l.w, &l.h);
    if (status == THAW_OK && n)
        status = add_lines(y, split, &l, (char *)bytes);
    th_free(bytes);
    th_free(path);
    return status;
}

/* ---- Which images ---- */

/* Image `name` of a folder or list, which `said` names. */
static thaw_status add_named(struct yolo *y, enum th_split split, const char *folder,
    const char *name, const char *said)
{
    char *path;
    if (!th_is_image_name(name))
        return th_fail(THAW_E_DATA, "%s: %s is no name of an image", said, name);
    TRY(th_contained(folder, name, said, &path));
    thaw_status status = add_image(y, split, path);
    th_free(path);
    return status;
}

static thaw_status add_folder(struct yolo *y, enum th_split split, const char *folder)
{
    struct th_names images = {0};
    thaw_status status = th_list_images(folder, &images, NULL);
    for (int64_t i = 0; i < images.n && status == THAW_OK; i++)
        status = add_named(y, split, folder, images.name[i], folder);
    th_names_release(&images);
    return status;
}

static thaw_status add_listed(
    struct yolo *y, enum th_split split, char *line, const char *list, int64_t number)
{
    static const char blank[] = " \t\r";
    const char *slash = strrchr(list, '/');
    line += strspn(line, blank);
    for (size_t n = strlen(line); n && strchr(blank, line[n - 1]); n--)
        line[n - 1] = '\0';
    line += strncmp(line, "./", 2) ? 0 : 2;
    if (!*line)
        return THAW_OK;
    char *said = th_format("%s, line %lld", list, (long long)number);
    char *folder = th_format("%.*s", (int)(slash - list), list);
    thaw_status status =
        said && folder ? add_named(y, split, folder, line, said) : THAW_E_MEMORY;
    th_free(folder);
    th_free(said);
    return status;
}

static thaw_status add_list(struct yolo *y, enum th_split split, const char *list)
{
    unsigned char *bytes;
    size_t n;
    thaw_status status = THAW_OK;
    TRY(th_file_read(list, MAX_LIST_BYTES, &bytes, &n));
    char *rest = (char *)bytes, *line;
    for (int64_t number = 1; status == THAW_OK && (line = th_next_line(&rest));
         number++)
        status = add_listed(y, split, line, list, number);
    th_free(bytes);
    return status;
}

/* A folder or list below the base. Roboflow writes ../train/images where train/images is
 * meant. */
static thaw_status add_part(struct yolo *y, enum th_split split, const char *entry)
{
    const char *name = entry;
    name += strncmp(name, "../", 3) ? 0 : 3;
    name += strncmp(name, "./", 2) ? 0 : 2;
    if (th_leads_out(name))
        return th_fail(THAW_E_DATA,
            "%s: %s: %s leads out of its folder; put data.yaml above the images and "
            "name "
            "them from there",
            y->yaml, th_split_name(split), entry);
    char *path = th_format("%s/%s", y->base, name);
    if (!path)
        return THAW_E_MEMORY;
    size_t n = strlen(path);
    thaw_status status;
    if (th_is_folder(path))
        status = add_folder(y, split, path);
    else if (n > 4 && strcmp(path + n - 4, ".txt") == 0 && th_file_exists(path))
        status = add_list(y, split, path);
    else
        status = th_fail(THAW_E_DATA, "%s: %s: there is no folder %s", y->yaml,
            th_split_name(split), path);
    th_free(path);
    return status;
}

static thaw_status find_base(struct yolo *y)
{
    const char *slash = strrchr(y->yaml, '/'), *path = y->file.path;
    char *folder =
        slash ? th_format("%.*s", (int)(slash - y->yaml), y->yaml) : th_strdup(".");
    if (!folder)
        return THAW_E_MEMORY;
    y->base = folder;
    if (!path || !*path || th_leads_out(path))
        return THAW_OK; /* written for another machine: what it names must be here */
    char *below = th_format("%s/%s", folder, path);
    if (below && th_is_folder(below)) {
        y->base = below;
        th_free(folder);
        return THAW_OK;
    }
    th_free(below);
    return below ? THAW_OK : THAW_E_MEMORY;
}

static thaw_status read_yaml(struct yolo *y)
{
    TRY(th_yolo_read(y->yaml, &y->file));
    if (!y->file.names.n)
        return th_fail(THAW_E_DATA, "%s: no names: in it", y->yaml);
    TRY(find_base(y));
    for (int split = 0; split < TH_N_SPLITS; split++)
        for (int64_t i = 0; i < y->file.part[split].n; i++)
            TRY(add_part(y, (enum th_split)split, y->file.part[split].name[i]));
    if (y->n_unlabelled && y->n_unlabelled == y->n_images)
        return th_fail(THAW_E_DATA,
            "%s: no image has a file of labels; those of images/a.jpg belong in "
            "labels/a.txt",
            y->yaml);
    if (y->n_unlabelled)
        TRY(th_dataset_warn(y->d, "%s: %lld images have no file of labels: no objects",
            y->yaml, (long long)y->n_unlabelled));
    return th_box_report_end(&y->report);
}

/* data.yaml in the folder, else its only .yaml or .yml; fresh. */
static thaw_status find_yaml(const char *folder, char **path)
{
    static const char *const names[] = {"data.yaml", "data.yml", "dataset.yaml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *path = th_format("%s/%s", folder, names[i]);
        if (!*path)
            return THAW_E_MEMORY;
        if (th_file_exists(*path))
            return THAW_OK;
        th_free(*path);
    }
    *path = NULL;
    return th_fail(THAW_E_DATA,
        "%s: no data.yaml in it; or give the file: yolo:FILE.yaml", folder);
}

static thaw_status read_yolo(const char *where, struct th_dataset *d)
{
    struct yolo y = {.d = d, .yaml = where, .report = {.d = d, .where = where}};
    char *found = NULL;
    if (th_is_folder(where)) {
        TRY(find_yaml(where, &found));
        y.yaml = found;
    }
    thaw_status status = read_yaml(&y);
    th_yolo_release(&y.file);
    th_free(y.base);
    th_free(found);
    return status;
}

const struct th_format th_format_yolo = {
    .name = "yolo",
    .help = "yolo:data.yaml, or the folder that has it, with images/ and labels/",
    .boxes = TH_BOXES_ALWAYS,
    .read = read_yolo,
};
