/* SPDX-License-Identifier: Apache-2.0
 * csv:FILE: a header naming a column path (or file_name) and a column label (or class),
 * then a row an image; other columns are ignored, row order is kept. Quoting as in
 * RFC 4180. Labels are names even where they look like numbers. Paths are relative to
 * the file. Where images may have any number of classes, the label is a list of them
 * between | or ;, empty for none, and rows of one path count together. */
#include "dataset.h"
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

static thaw_status add_row(
    struct csv *csv, int path_column, int label_column, struct th_dataset *d)
{
    int wanted = path_column > label_column ? path_column : label_column;
    if (csv->n_fields <= wanted)
        return th_fail(THAW_E_DATA, "%s, line %d: %d columns, the header has more",
            csv->name, csv->line, csv->n_fields);
    char *path = csv->field[path_column], *class = csv->field[label_column];
    if (!*path || (!*class && !d->many))
        return th_fail(THAW_E_DATA, "%s, line %d: the %s is empty%s", csv->name,
            csv->line, *path ? "label" : "path",
            *path ? " (--head multilabel takes images without a class)" : "");
    const char *slash = strrchr(csv->name, '/');
    int folder = *path != '/' && slash ? (int)(slash + 1 - csv->name) : 0;
    char *full = th_format("%.*s%s", folder, csv->name, path);
    thaw_status status = full ? add_image(d, class, full) : THAW_E_MEMORY;
    th_free(full);
    return status;
}

static thaw_status read_rows(struct csv *csv, struct th_dataset *d)
{
    TRY(read_row(csv));
    int path = find_column(csv, "path", "file_name");
    int label = find_column(csv, "label", "class");
    if (path < 0 || label < 0)
        return th_fail(THAW_E_DATA,
            "%s: its first line must name a column path (or file_name) and a column "
            "label "
            "(or class)",
            csv->name);
    for (;;) {
        TRY(read_row(csv));
        if (!csv->n_fields)
            return THAW_OK;
        TRY(add_row(csv, path, label, d));
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
            "multilabel a|b, or none, in a row",
    .read = read_csv,
};
