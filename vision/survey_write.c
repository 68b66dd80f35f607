/* SPDX-License-Identifier: Apache-2.0
 * Owns what `thaw check` prints: lines, or one JSON object with the same. */
#include "survey.h"

#include "error.h"
#include "report.h"

#include <stdio.h>

/* ---- Findings ---- */

struct row {
    const char *key, *about; /* in JSON; in a line behind the count */
    const struct th_finding *finding;
};

enum { N_ROWS = 6 };

static void list_findings(const struct th_survey *s, struct row row[N_ROWS])
{
    const struct row all[N_ROWS] = {
        {"unreadable", "images cannot be read", &s->unreadable},
        {"damaged", "images are cut off or damaged, but can be used", &s->damaged},
        {"leaks", "images of one split are, byte for byte, in another", &s->leaks},
        {"copies", "images are byte-identical copies in their split", &s->copies},
        {"twins", "boxes lie on another of their class (IoU 0.9)", &s->twins},
        {"outside", "boxes reach over the edge of the image as it is", &s->outside}};
    for (int i = 0; i < N_ROWS; i++)
        row[i] = all[i];
}

static const char *name_of(const struct th_survey_image *x, char text[32])
{
    if (x->sample->path)
        return x->sample->path;
    snprintf(text, 32, "image %lld", (long long)x->sample->id);
    return text;
}

static double share(int64_t part, int64_t all)
{
    return all ? 100 * (double)part / (double)all : 0;
}

/* ---- Lines ---- */

static void put_finding(const struct th_lines *l, const struct row *row)
{
    const struct th_finding *f = row->finding;
    char a[32], b[32];
    if (!f->n)
        return;
    th_line(l, "finding  %lld %s", (long long)f->n, row->about);
    for (int64_t i = 0; i < f->n && i < TH_SURVEY_EXAMPLES; i++) {
        const struct th_survey_example *e = &f->example[i];
        if (e->b)
            th_line(l, "         %s (%s) is %s (%s)", name_of(e->a, a),
                th_split_name(e->a->split), name_of(e->b, b),
                th_split_name(e->b->split));
        else
            th_line(l, "         %s", *e->a->why ? e->a->why : name_of(e->a, a));
    }
}

static void put_classes(const struct th_lines *l, const struct th_survey *s)
{
    bool boxes = s->data.has_objects;
    th_line(l, "%-24s %8s %8s %8s%s", "class", "train", "val", "test",
        boxes ? "  objects     side  w/h   tiny  anchors fit" : "");
    for (int32_t c = 0; c < s->data.n_classes; c++) {
        const struct th_survey_class *k = &s->class[c];
        char more[96] = "";
        if (boxes)
            snprintf(more, sizeof more, " %8lld %8.1f %4.2f %5.1f%% %11.1f%%",
                (long long)k->objects, k->side, k->aspect, share(k->tiny, k->objects),
                share(k->fits, k->objects));
        th_line(l, "%-24s %8lld %8lld %8lld%s%s", s->data.classes[c],
            (long long)k->images[TH_SPLIT_TRAIN], (long long)k->images[TH_SPLIT_VAL],
            (long long)k->images[TH_SPLIT_TEST], more,
            k->images[TH_SPLIT_TRAIN] < TH_SURVEY_FEW ? "  few training images" : "");
    }
}

static void put_boxes(const struct th_lines *l, const struct th_survey *s)
{
    char size[256] = "at the images' own size";
    struct th_size in = s->inputs.at[0];
    if (s->inputs.n > 1)
        snprintf(size, sizeof size, "where they are largest of %s",
            th_sizes_text(&s->inputs).text);
    else if (s->inputs.n && in.w == in.h)
        snprintf(size, sizeof size, "at %d pixels on the longer side", in.w);
    else if (s->inputs.n)
        snprintf(size, sizeof size, "in %d x %d pixels", in.w, in.h);
    th_line(l,
        "boxes    %lld objects; %lld images have none; %s: %.1f %% tiny (below %d "
        "pixels), RetinaNet's anchors fit %.1f %%",
        (long long)s->objects, (long long)s->empty, size, share(s->tiny, s->objects),
        TH_SURVEY_TINY, share(s->fits, s->objects));
}

/* What a detector's input, on which a picture is whole, might be. */
static void put_shapes(const struct th_lines *l, const struct th_survey *s)
{
    const struct th_shapes *p = &s->shapes;
    th_line(l,
        "shapes   %lld images are wider than high, %lld higher than wide, %lld square",
        (long long)p->wide, (long long)p->high, (long long)p->square);
    if (p->sizes.n)
        th_line(l,
            "         --image-size %s shows a detector all as large as %d does, on "
            "%.0f %% fewer "
            "pixels",
            th_sizes_text(&p->sizes).text, p->side, 100 * p->saved);
}

void th_survey_lines(const struct th_survey *s,
    void (*write)(void *context, const char *text), void *context)
{
    const struct th_lines l = {write, context};
    struct row row[N_ROWS];
    list_findings(s, row);
    th_line(&l, "data     %lld images (train %lld, val %lld, test %lld), %d classes",
        (long long)s->n, (long long)s->data.split[TH_SPLIT_TRAIN].n,
        (long long)s->data.split[TH_SPLIT_VAL].n,
        (long long)s->data.split[TH_SPLIT_TEST].n, s->data.n_classes);
    if (s->data.has_objects) {
        put_boxes(&l, s);
        put_shapes(&l, s);
    }
    for (int64_t i = 0; i < s->data.warnings.n; i++)
        th_line(&l, "warning  %s", s->data.warnings.name[i]);
    for (int i = 0; i < N_ROWS; i++)
        put_finding(&l, &row[i]);
    put_classes(&l, s);
}

/* ---- JSON ---- */

static void json_finding(struct th_json_out *j, const struct row *row)
{
    const struct th_finding *f = row->finding;
    char text[32];
    th_json_key(j, row->key);
    th_json_open(j, '{');
    th_json_put_whole(j, "count", f->n);
    th_json_key(j, "examples");
    th_json_open(j, '[');
    for (int64_t i = 0; i < f->n && i < TH_SURVEY_EXAMPLES; i++) {
        const struct th_survey_example *e = &f->example[i];
        th_json_open(j, '{');
        th_json_put_string(j, "image", name_of(e->a, text));
        if (e->b)
            th_json_put_string(j, "copy", name_of(e->b, text));
        if (*e->a->why)
            th_json_put_string(j, "why", e->a->why);
        th_json_close(j, '}');
    }
    th_json_close(j, ']');
    th_json_close(j, '}');
}

static void json_class(struct th_json_out *j, const struct th_survey *s, int32_t c)
{
    const struct th_survey_class *k = &s->class[c];
    th_json_open(j, '{');
    th_json_put_string(j, "class", s->data.classes[c]);
    for (int split = 0; split < TH_N_SPLITS; split++)
        th_json_put_whole(j, th_split_name((enum th_split)split), k->images[split]);
    if (s->data.has_objects) {
        th_json_put_whole(j, "objects", k->objects);
        th_json_put_real(j, "median_side", k->side);
        th_json_put_real(j, "median_aspect", k->aspect);
        th_json_put_whole(j, "tiny", k->tiny);
        th_json_put_whole(j, "anchors_fit", k->fits);
    }
    th_json_close(j, '}');
}

void th_survey_json(const struct th_survey *s, struct th_json_out *j)
{
    struct row row[N_ROWS];
    list_findings(s, row);
    th_json_open(j, '{');
    for (int split = 0; split < TH_N_SPLITS; split++)
        th_json_put_whole(
            j, th_split_name((enum th_split)split), s->data.split[split].n);
    if (s->data.has_objects) {
        th_json_put_whole(j, "objects", s->objects);
        th_json_put_whole(j, "without_objects", s->empty);
        th_json_put_whole(j, "tiny", s->tiny);
        th_json_put_whole(j, "anchors_fit", s->fits);
        th_json_put_whole(j, "wide", s->shapes.wide);
        th_json_put_whole(j, "high", s->shapes.high);
        th_json_put_whole(j, "square", s->shapes.square);
        if (s->shapes.sizes.n)
            th_json_put_string(j, "input", th_sizes_text(&s->shapes.sizes).text);
    }
    th_json_key(j, "warnings");
    th_json_open(j, '[');
    for (int64_t i = 0; i < s->data.warnings.n; i++)
        th_json_string(j, s->data.warnings.name[i]);
    th_json_close(j, ']');
    for (int i = 0; i < N_ROWS; i++)
        json_finding(j, &row[i]);
    th_json_key(j, "classes");
    th_json_open(j, '[');
    for (int32_t c = 0; c < s->data.n_classes; c++)
        json_class(j, s, c);
    th_json_close(j, ']');
    th_json_close(j, '}');
}
