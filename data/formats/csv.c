/* SPDX-License-Identifier: Apache-2.0
 * csv:FILE: a header naming a column path (or file_name) and a column label (or class),
 * then a row an image; other columns are ignored, row order is kept. Quoting as in
 * RFC 4180. Labels are names even where they look like numbers. Paths are relative to
 * the file. Where images may have any number of classes, the label is a list of them
 * between | or ;, empty for none, and rows of one path count together. For a detector a
 * row is an object: columns xmin, ymin, xmax, ymax, or x, y, width, height, in pixels; one
 * whose label and box are empty is an image without objects. */
#include "box_report.h"
#include "dataset.h"
#include "decimal.h"
#include "error.h"
#include "file.h"
#include "mem.h"

#include <string.h>

enum { MAX_COLUMNS = 64, MAX_BYTES = 1 << 30 };

struct csv {
    const char *name; /* of the file, for sentences */
    char *at;         /* what is left of its text, in which fields are cut out */
    int line;         /* of the row being read, from 1 */
    int next_line;
    int n_fields;
    char *field[MAX_COLUMNS]; /* of the row being read */
};

/* A quoted field: cut it out in place, "" becoming "; at stands behind it. */
static thaw_status read_quoted(struct csv *csv)
{
    char *from = csv->at + 1, *to = csv->at;
    for (;; from++) {
        if (*from == '\0')
            return th_fail(THAW_E_DATA, "%s, line %d: a quote is never closed",
                csv->name, csv->line);
        if (*from == '"' && from[1] != '"')
            break;
        from += *from == '"';
        csv->next_line += *from == '\n';
        *to++ = *from;
    }
    if (!strchr(",\r\n", from[1])) /* finds '\0' too */
        return th_fail(THAW_E_DATA, "%s, line %d: text after a closing quote",
            csv->name, csv->line);
    *to = '\0';
    csv->at = from + 1;
    return THAW_OK;
}

/* The next row into field[]; n_fields is 0 at the end. Empty lines are skipped. */
static thaw_status read_row(struct csv *csv)
{
    csv->n_fields = 0;
    for (; *csv->at == '\n' || *csv->at == '\r'; csv->at++)
        csv->next_line += *csv->at == '\n';
    csv->line = csv->next_line;
    bool more = *csv->at != '\0';
    while (more) {
        if (csv->n_fields == MAX_COLUMNS)
            return th_fail(THAW_E_DATA, "%s, line %d: more than %d columns", csv->name,
                csv->line, MAX_COLUMNS);
        csv->field[csv->n_fields++] = csv->at;
        if (*csv->at == '"')
            TRY(read_quoted(csv));
        else
            csv->at += strcspn(csv->at, ",\r\n");
        char end = *csv->at;
        more = end == ',';
        if (end) {
            csv->next_line += end == '\n';
            *csv->at++ = '\0';
        }
    }
    return THAW_OK;
}

/* The column called `name` or `other`, or -1. */
static int find_column(const struct csv *csv, const char *name, const char *other)
{
    for (int i = 0; i < csv->n_fields; i++)
        if (!strcmp(csv->field[i], name) || !strcmp(csv->field[i], other))
            return i;
    return -1;
}

/* Add the image, and the class or, with d->many, the classes that the text names. */
static thaw_status add_image(struct th_dataset *d, char *classes, const char *path)
{
    static const char between[] = "|;", blank[] = " \t";
    int32_t label;
    if (!d->many) {
        TRY(th_dataset_class(d, classes, &label));
        return th_dataset_add_file(d, TH_SPLIT_TRAIN, label, path);
    }
    TRY(th_dataset_add_file(d, TH_SPLIT_TRAIN, -1, path));
    for (char *at = classes, *next; at; at = next) {
        size_t n = strcspn(at, between);
        next = at[n] ? at + n + 1 : NULL;
        for (at[n] = '\0'; n && strchr(blank, at[n - 1]); n--)
            at[n - 1] = '\0';
        at += strspn(at, blank);
        if (!*at)
            continue;
        TRY(th_dataset_class(d, at, &label));
        TRY(th_dataset_add_class(d, TH_SPLIT_TRAIN, label));
    }
    return THAW_OK;
}

/* Where the box of a row stands. */
struct box_columns {
    int at[4];      /* corners; or a corner and the sides */
    bool has_sides; /* the latter */
    int w, h;       /* of the image, -1: not there */
};

static bool find_four(const struct csv *csv, const char *const names[4], int at[4])
{
    for (int i = 0; i < 4; i++)
        at[i] = find_column(csv, names[i], names[i]);
    return at[0] >= 0 && at[1] >= 0 && at[2] >= 0 && at[3] >= 0;
}

/* Beside corners, width and height are the image's. */
static thaw_status find_boxes(const struct csv *csv, struct box_columns *b)
{
    static const char *const corners[] = {"xmin", "ymin", "xmax", "ymax"},
                             *const sides[] = {"x", "y", "width", "height"};
    b->w = b->h = -1;
    if (find_four(csv, corners, b->at)) {
        b->has_sides = false;
        b->w = find_column(csv, "width", "width");
        b->h = find_column(csv, "height", "height");
        return THAW_OK;
    }
    b->has_sides = true;
    return find_four(csv, sides, b->at) ? THAW_OK
                                        : th_fail(THAW_E_DATA,
                                              "%s: it has no boxes; a detector wants "
                                              "columns xmin, ymin, xmax and "
                                              "ymax, or x, y, width and height",
                                              csv->name);
}

static thaw_status read_number(const struct csv *csv, int column, double *value)
{
    if (column >= csv->n_fields)
        return th_fail(THAW_E_DATA, "%s, line %d: %d columns, the header has more",
            csv->name, csv->line, csv->n_fields);
    if (!th_decimal_whole(csv->field[column], value))
        return th_fail(THAW_E_DATA, "%s, line %d: \"%s\" is no number", csv->name,
            csv->line, csv->field[column]);
    return THAW_OK;
}

static bool is_empty(const struct csv *csv, const struct box_columns *b)
{
    for (int i = 0; i < 4; i++)
        if (b->at[i] < csv->n_fields && *csv->field[b->at[i]])
            return false;
    return true;
}

/* The image of the row, with its object where it has one. */
static thaw_status add_object(const struct csv *csv, const struct box_columns *b,
    const char *class, const char *path, struct th_box_report *report)
{
    struct th_dataset *d = report->d;
    double box[4], side[2] = {0};
    struct th_object o = {0};
    bool kept;
    TRY(th_dataset_add_file(d, TH_SPLIT_TRAIN, -1, path));
    if (!*class && is_empty(csv, b))
        return THAW_OK;
    if (!*class)
        return th_fail(THAW_E_DATA, "%s, line %d: a box, but the label is empty",
            csv->name, csv->line);
    for (int i = 0; i < 4; i++)
        TRY(read_number(csv, b->at[i], &box[i]));
    if (b->w >= 0 && b->h >= 0) {
        TRY(read_number(csv, b->w, &side[0]));
        TRY(read_number(csv, b->h, &side[1]));
    }
    for (int i = 2; i < 4 && b->has_sides; i++)
        box[i] += box[i - 2];
    TRY(th_box_fit(report, box, side[0], side[1],
        (struct th_place){csv->name, "line", csv->line}, o.box, &kept));
    if (!kept)
        return THAW_OK;
    o.area = th_box_area(o.box);
    TRY(th_dataset_class(d, class, &o.class));
    return th_dataset_add_object(d, TH_SPLIT_TRAIN, &o);
}

/* The columns that count. */
struct columns {
    int path, label;
    struct box_columns box; /* where the dataset has objects */
};

static thaw_status add_row(
    struct csv *csv, const struct columns *c, struct th_box_report *report)
{
    struct th_dataset *d = report->d;
    int wanted = c->path > c->label ? c->path : c->label;
    if (csv->n_fields <= wanted)
        return th_fail(THAW_E_DATA, "%s, line %d: %d columns, the header has more",
            csv->name, csv->line, csv->n_fields);
    char *path = csv->field[c->path], *class = csv->field[c->label];
    if (!*path || (!*class && !d->many))
        return th_fail(THAW_E_DATA, "%s, line %d: the %s is empty%s", csv->name,
            csv->line, *path ? "label" : "path",
            *path ? " (--head multilabel takes images without a class)" : "");
    const char *slash = strrchr(csv->name, '/');
    int folder = *path != '/' && slash ? (int)(slash + 1 - csv->name) : 0;
    char *full = th_format("%.*s%s", folder, csv->name, path);
    thaw_status status = full ? THAW_OK : THAW_E_MEMORY;
    if (status == THAW_OK && d->has_objects)
        status = add_object(csv, &c->box, class, full, report);
    else if (status == THAW_OK)
        status = add_image(d, class, full);
    th_free(full);
    return status;
}

static thaw_status read_rows(struct csv *csv, struct th_dataset *d)
{
    TRY(read_row(csv));
    struct th_box_report report = {.d = d, .where = csv->name};
    struct columns c = {.path = find_column(csv, "path", "file_name"),
        .label = find_column(csv, "label", "class")};
    if (c.path < 0)
        c.path = find_column(csv, "filename", "filename");
    if (c.path < 0 || c.label < 0)
        return th_fail(THAW_E_DATA,
            "%s: its first line must name a column path (or file_name) and a column "
            "label "
            "(or class)",
            csv->name);
    if (d->has_objects)
        TRY(find_boxes(csv, &c.box));
    for (;;) {
        TRY(read_row(csv));
        if (!csv->n_fields)
            return th_box_report_end(&report);
        TRY(add_row(csv, &c, &report));
    }
}

static thaw_status read_csv(const char *where, struct th_dataset *d)
{
    struct csv csv = {.name = where, .next_line = 1};
    unsigned char *bytes;
    size_t n;
    TRY(th_file_read(where, MAX_BYTES, &bytes, &n)); /* a zero byte is behind them */
    csv.at = (char *)bytes;
    if (strncmp(csv.at, "\xEF\xBB\xBF", 3) ==
        0) /* a byte order mark, as Excel writes */
        csv.at += 3;
    thaw_status status =
        memchr(bytes, '\0', n)
            ? th_fail(THAW_E_DATA, "%s: not a text file (zero bytes in it)", where)
            : read_rows(&csv, d);
    th_free(bytes);
    return status;
}

const struct th_format th_format_csv = {
    .name = "csv",
    .help = "csv:FILE with the header path,label (also file_name, class); for --head "
            "multilabel a|b, or none, in a row; for a detector xmin,ymin,xmax,ymax too",
    .boxes = TH_BOXES_WHERE_WANTED,
    .read = read_csv,
};
