/* SPDX-License-Identifier: Apache-2.0
 * voc:DIR: Pascal VOC's annotations, a file of XML an image: DIR/Annotations and
 * DIR/JPEGImages with DIR/ImageSets/Main/{train,val,trainval,test}.txt, or any two folders
 * of XML and of images beside one another, or both kinds in one folder; each also below
 * DIR/train, DIR/val (or valid) and DIR/test. An image is what <filename> says where that
 * is there, else what is called like the XML. Boxes stay as they are written. */
#include "box_report.h"
#include "contained.h"
#include "dataset.h"
#include "error.h"
#include "file.h"
#include "image_index.h"
#include "mem.h"
#include "voc_xml.h"

#include <string.h>
#include <strings.h>

enum { MAX_LIST_BYTES = 1 << 28 };

/* A folder of XML, the folder of its images, and what is known of them. */
struct voc {
    struct th_dataset *d;
    struct th_box_report report;
    char *xml_folder, *image_folder; /* owned; may be one and the same */
    struct th_names xml;             /* relative to xml_folder */
    struct th_image_index images;
};

static void voc_release(struct voc *v)
{
    th_free(v->xml_folder);
    th_free(v->image_folder);
    th_names_release(&v->xml);
    th_image_index_release(&v->images);
}

/* ---- One annotation ---- */

/* The XML's name (relative, without its ending) as a name beside it: "a/1", "x" -> "a/x". */
static char *beside(const char *stem, const char *name)
{
    const char *slash = strrchr(stem, '/');
    return th_format("%.*s%s", slash ? (int)(slash + 1 - stem) : 0, stem, name);
}

/* The image of an annotation, an entry of v->images; `said` is the XML and line. */
static thaw_status find_image(const struct voc *v, const char *stem,
    const struct th_voc *x, const char *said, const char **image)
{
    const char *name = x->filename ? x->filename : "";
    *image = NULL;
    if (th_leads_out(name))
        return th_fail(THAW_E_DATA,
            "%s: an image may not be called \"%s\": it must lie below %s", said, name,
            v->image_folder);
    char *near = beside(stem, name);
    if (!near)
        return THAW_E_MEMORY;
    *image = th_image_index_find(&v->images, near);
    th_free(near);
    if (!*image)
        *image = th_image_index_find(&v->images, name);
    if (!*image)
        *image = th_image_index_find_stem(&v->images, stem);
    if (!*image && *name)
        return th_fail(THAW_E_DATA,
            "%s: there is no image \"%s\" in %s, and no \"%s.*\"", said, name,
            v->image_folder, stem);
    if (!*image)
        return th_fail(THAW_E_DATA, "%s: there is no image \"%s.*\" in %s", said, stem,
            v->image_folder);
    return THAW_OK;
}

static thaw_status add_objects(
    struct voc *v, enum th_split split, const struct th_voc *x, const char *file)
{
    for (int64_t i = 0; i < x->n; i++) {
        const struct th_voc_object *from = &x->object[i];
        struct th_object o = {.crowd = from->difficult};
        bool kept;
        TRY(th_box_fit(&v->report, from->box, x->w, x->h,
            (struct th_place){file, "line", from->line}, o.box, &kept));
        if (!kept)
            continue;
        o.area = th_box_area(o.box);
        TRY(th_dataset_class(v->d, from->name, &o.class));
        TRY(th_dataset_add_object(v->d, split, &o));
    }
    return THAW_OK;
}

static thaw_status add_read(struct voc *v, enum th_split split, const struct th_voc *x,
    const char *stem, const char *file)
{
    const char *image;
    char *path = NULL;
    char *said = th_format(
        "%s, line %lld", file, (long long)(x->filename_line ? x->filename_line : 1));
    thaw_status status = said ? find_image(v, stem, x, said, &image) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = th_contained(v->image_folder, image, said, &path);
    if (status == THAW_OK)
        status = th_dataset_add_file(v->d, split, -1, path);
    if (status == THAW_OK)
        status = add_objects(v, split, x, file);
    th_free(path);
    th_free(said);
    return status;
}

/* An annotation, relative to the folder of XML; its ending is .xml or .XML. */
static thaw_status add_annotation(struct voc *v, enum th_split split, const char *name)
{
    struct th_voc x = {0};
    char *file = th_format("%s/%s", v->xml_folder, name);
    char *stem = th_format("%.*s", (int)(strlen(name) - strlen(".xml")), name);
    thaw_status status = file && stem ? th_voc_read(file, &x) : THAW_E_MEMORY;
    if (status == THAW_OK)
        status = add_read(v, split, &x, stem, file);
    th_voc_release(&x);
    th_free(stem);
    th_free(file);
    return status;
}

static thaw_status add_all(struct voc *v, enum th_split split)
{
    for (int64_t i = 0; i < v->xml.n; i++)
        TRY(add_annotation(v, split, v->xml.name[i]));
    return THAW_OK;
}

/* ---- Lists of a split ---- */

/* A line is a name, perhaps followed by a mark that does not count. */
static thaw_status add_line(
    struct voc *v, enum th_split split, char *line, const char *list, int64_t number)
{
    static const char blank[] = " \t\r";
    char *name = line + strspn(line, blank);
    name[strcspn(name, blank)] = '\0';
    if (!*name)
        return THAW_OK;
    if (th_leads_out(name))
        return th_fail(THAW_E_DATA,
            "%s, line %lld: \"%s\" leads out of the folder of annotations", list,
            (long long)number, name);
    char *file = th_format("%s/%s.xml", v->xml_folder, name);
    thaw_status status = file ? THAW_OK : THAW_E_MEMORY;
    if (file && !th_file_exists(file))
        status = th_fail(THAW_E_DATA, "%s, line %lld: there is no %s", list,
            (long long)number, file);
    if (status == THAW_OK)
        status = add_annotation(v, split, file + strlen(v->xml_folder) + 1);
    th_free(file);
    return status;
}

static thaw_status add_list(struct voc *v, enum th_split split, const char *list)
{
    unsigned char *bytes;
    size_t n;
    thaw_status status = THAW_OK;
    TRY(th_file_read(list, MAX_LIST_BYTES, &bytes, &n));
    char *rest = (char *)bytes, *line;
    for (int64_t number = 1; status == THAW_OK && (line = th_next_line(&rest));
         number++)
        status = add_line(v, split, line, list, number);
    th_free(bytes);
    return status;
}

/* SETS/NAME.txt, where it is there. */
static thaw_status add_list_named(
    struct voc *v, enum th_split split, const char *sets, const char *name, bool *there)
{
    char *list = th_format("%s/%s.txt", sets, name);
    if (!list)
        return THAW_E_MEMORY;
    *there = th_file_exists(list);
    thaw_status status = *there ? add_list(v, split, list) : THAW_OK;
    th_free(list);
    return status;
}

/* trainval.txt counts only where train.txt is not there. *any: there was a list. */
static thaw_status add_lists(struct voc *v, const char *sets, bool *any)
{
    bool train, val, test, both = false;
    TRY(add_list_named(v, TH_SPLIT_TRAIN, sets, "train", &train));
    if (!train)
        TRY(add_list_named(v, TH_SPLIT_TRAIN, sets, "trainval", &both));
    TRY(add_list_named(v, TH_SPLIT_VAL, sets, "val", &val));
    TRY(add_list_named(v, TH_SPLIT_TEST, sets, "test", &test));
    *any = train || both || val || test;
    return THAW_OK;
}

/* ---- Which folders ---- */

/* Whether the first component of the name is the folder's. */
static bool lies_in(const char *name, const char *folder)
{
    size_t n = strlen(folder);
    return strncmp(name, folder, n) == 0 && name[n] == '/';
}

/* The folder directly in DIR, of those that hold one of `names`, that is called like one of
 * the two words, else the first but `other`. NULL: none. An entry of `folders`. */
static const char *choose(const struct th_names *folders, const struct th_names *names,
    const char *const words[2], const char *other)
{
    const char *chosen = NULL;
    for (int64_t i = 0; i < folders->n; i++) {
        const char *folder = folders->name[i];
        bool holds = false;
        for (int64_t at = 0; at < names->n && !holds; at++)
            holds = lies_in(names->name[at], folder);
        if (!holds || (other && strcmp(folder, other) == 0))
            continue;
        if (strcasecmp(folder, words[0]) == 0 || strcasecmp(folder, words[1]) == 0)
            return folder;
        chosen = chosen ? chosen : folder;
    }
    return chosen;
}

static bool any_directly(const struct th_names *names)
{
    for (int64_t i = 0; i < names->n; i++)
        if (!strchr(names->name[i], '/'))
            return true;
    return false;
}

/* The two folders of DIR; `xml` and `images` are all that lie below it. */
static thaw_status choose_folders(struct voc *v, const char *dir,
    const struct th_names *xml, const struct th_names *images)
{
    static const char *const xml_words[] = {"Annotations", "xml"};
    static const char *const image_words[] = {"JPEGImages", "images"};
    struct th_names folders = {0};
    thaw_status status = th_list_folders(dir, &folders);
    const char *from = NULL, *to = NULL;
    bool beside_images = any_directly(images);
    if (status == THAW_OK && !any_directly(xml))
        from = choose(&folders, xml, xml_words, NULL);
    if (status == THAW_OK && (from || !beside_images))
        to = choose(&folders, images, image_words, from);
    if (from && !to && !beside_images) /* both kinds are in one folder */
        to = from;
    if (status == THAW_OK && !images->n)
        status = th_fail(THAW_E_DATA, "%s: no images in it", dir);
    if (status == THAW_OK) {
        v->xml_folder = from ? th_format("%s/%s", dir, from) : th_strdup(dir);
        v->image_folder = to ? th_format("%s/%s", dir, to) : th_strdup(dir);
        status = v->xml_folder && v->image_folder ? THAW_OK : THAW_E_MEMORY;
    }
    th_names_release(&folders);
    return status;
}

static thaw_status find_folders(struct voc *v, const char *dir)
{
    struct th_names xml = {0}, images = {0};
    thaw_status status = th_list_ending(dir, "xml", &xml);
    if (status == THAW_OK && xml.n == 0)
        status = th_fail(THAW_E_DATA,
            "%s: no XML files in it; voc: wants DIR/Annotations/*.xml and "
            "DIR/JPEGImages",
            dir);
    if (status == THAW_OK)
        status = th_list_images(dir, &images, NULL);
    if (status == THAW_OK)
        status = choose_folders(v, dir, &xml, &images);
    th_names_release(&xml);
    th_names_release(&images);
    return status;
}

/* All below DIR, by its lists where it has some, else all in one split. */
static thaw_status add_folder(struct voc *v, const char *dir, enum th_split split)
{
    TRY(find_folders(v, dir));
    TRY(th_image_index_init(&v->images, v->image_folder));
    bool any = false;
    char *sets = th_format("%s/ImageSets/Main", dir);
    if (!sets)
        return THAW_E_MEMORY;
    thaw_status status = th_is_folder(sets) ? add_lists(v, sets, &any) : THAW_OK;
    th_free(sets);
    if (status != THAW_OK || any)
        return status;
    TRY(th_list_ending(v->xml_folder, "xml", &v->xml));
    return add_all(v, split);
}

static thaw_status read_part(struct th_dataset *d, const char *dir, enum th_split split)
{
    struct voc v = {.d = d, .report = {.d = d, .where = dir}};
    thaw_status status = add_folder(&v, dir, split);
    if (status == THAW_OK)
        status = th_box_report_end(&v.report);
    voc_release(&v);
    return status;
}

/* DIR/NAME, where it is there. */
static thaw_status read_split(struct th_dataset *d, const char *dir, const char *name,
    enum th_split split, bool *there)
{
    char *part = th_format("%s/%s", dir, name);
    if (!part)
        return THAW_E_MEMORY;
    *there = th_is_folder(part);
    thaw_status status = *there ? read_part(d, part, split) : THAW_OK;
    th_free(part);
    return status;
}

static thaw_status read_voc(const char *where, struct th_dataset *d)
{
    bool train, val, test;
    if (th_file_check_folder(where) != THAW_OK)
        return th_fail(
            THAW_E_IO, "%s; voc: wants the folder above Annotations", thaw_error());
    TRY(read_split(d, where, "train", TH_SPLIT_TRAIN, &train));
    if (!train)
        return read_part(d, where, TH_SPLIT_TRAIN);
    TRY(read_split(d, where, "val", TH_SPLIT_VAL, &val));
    if (!val)
        TRY(read_split(d, where, "valid", TH_SPLIT_VAL, &val));
    return read_split(d, where, "test", TH_SPLIT_TEST, &test);
}

const struct th_format th_format_voc = {
    .name = "voc",
    .help = "voc:DIR with Annotations/*.xml and JPEGImages, ImageSets/Main or none",
    .boxes = TH_BOXES_ALWAYS,
    .read = read_voc,
};
