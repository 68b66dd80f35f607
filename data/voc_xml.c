/* SPDX-License-Identifier: Apache-2.0
 * Owns the way from XML to a VOC annotation. Entities cannot be declared, since a DOCTYPE
 * ends the parse. */
#include "voc_xml.h"

#include "decimal.h"
#include "error.h"
#include "file.h"
#include "mem.h"

#include <string.h>

#include <expat.h>

enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 16, MAX_TEXT = 4096 };

enum element {
    NOTHING, /* above the root */
    OTHER,
    ANNOTATION,
    FILENAME,
    SIZE,
    WIDTH,
    HEIGHT,
    OBJECT,
    NAME,
    DIFFICULT,
    BNDBOX,
    XMIN, /* the four in the order of th_voc_object.box */
    YMIN,
    XMAX,
    YMAX
};

/* What counts, by where it stands: <part> in <object> has a name and a box of its own. */
static const struct {
    enum element parent;
    const char *tag;
    enum element element;
} rows[] = {
    {NOTHING, "annotation", ANNOTATION},
    {ANNOTATION, "filename", FILENAME},
    {ANNOTATION, "size", SIZE},
    {SIZE, "width", WIDTH},
    {SIZE, "height", HEIGHT},
    {ANNOTATION, "object", OBJECT},
    {OBJECT, "name", NAME},
    {OBJECT, "difficult", DIFFICULT},
    {OBJECT, "bndbox", BNDBOX},
    {BNDBOX, "xmin", XMIN},
    {BNDBOX, "ymin", YMIN},
    {BNDBOX, "xmax", XMAX},
    {BNDBOX, "ymax", YMAX},
};

struct reader {
    XML_Parser xml;
    const char *path;
    struct th_voc *voc;
    thaw_status status;
    int depth;
    enum element open[MAX_DEPTH + 1]; /* open[0] is NOTHING */
    unsigned found;                   /* of the object: bits of elements */
    size_t n_text;
    char text[MAX_TEXT]; /* of the element that is open */
};

static int64_t line_of(const struct reader *r)
{
    return (int64_t)XML_GetCurrentLineNumber(r->xml);
}

/* Ends the parse; the first reason counts. */
static void refuse(struct reader *r, const char *why, const char *what)
{
    if (r->status == THAW_OK)
        r->status = th_fail(THAW_E_DATA, "%s, line %lld: %s%s", r->path,
            (long long)line_of(r), why, what);
    XML_StopParser(r->xml, XML_FALSE);
}

static void run_out(struct reader *r)
{
    r->status = THAW_E_MEMORY;
    XML_StopParser(r->xml, XML_FALSE);
}

static void open_object(struct reader *r)
{
    struct th_voc *v = r->voc;
    if (v->n == v->capacity) {
        int64_t more = v->capacity ? v->capacity * 2 : 8;
        struct th_voc_object *grown =
            th_realloc(v->object, (size_t)v->n, (size_t)more, sizeof *grown);
        if (!grown) {
            run_out(r);
            return;
        }
        v->object = grown;
        v->capacity = more;
    }
    v->object[v->n++] = (struct th_voc_object){.line = line_of(r)};
    r->found = 0;
}

static void XMLCALL on_open(
    void *data, const XML_Char *tag, const XML_Char **attributes)
{
    struct reader *r = data;
    (void)attributes;
    enum element element = OTHER;
    if (r->status != THAW_OK)
        return;
    if (r->depth == MAX_DEPTH) {
        refuse(r, "more than 16 levels", "");
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].parent == r->open[r->depth] && strcmp(rows[i].tag, tag) == 0)
            element = rows[i].element;
    if (r->depth == 0 && element != ANNOTATION) {
        refuse(r, "not a VOC annotation: the root is not <annotation>", "");
        return;
    }
    r->open[++r->depth] = element;
    r->n_text = 0;
    if (element == OBJECT)
        open_object(r);
}

static void XMLCALL on_text(void *data, const XML_Char *text, int n)
{
    struct reader *r = data;
    enum element element = r->open[r->depth];
    bool wanted = element == FILENAME || element == WIDTH || element == HEIGHT ||
                  element == NAME || element == DIFFICULT || element >= XMIN;
    if (!wanted || r->status != THAW_OK)
        return;
    if ((size_t)n >= MAX_TEXT - r->n_text) {
        refuse(r, "a text of more than 4 KiB", "");
        return;
    }
    memcpy(r->text + r->n_text, text, (size_t)n);
    r->n_text += (size_t)n;
}

/* The text of the element that ends, without blanks around it. */
static char *take_text(struct reader *r)
{
    static const char blank[] = " \t\r\n";
    while (r->n_text && strchr(blank, r->text[r->n_text - 1]))
        r->n_text--;
    r->text[r->n_text] = '\0';
    r->n_text = 0;
    return r->text + strspn(r->text, blank);
}

static void take_string(struct reader *r, const char *text, char **to)
{
    th_free(*to);
    *to = th_strdup(text);
    if (!*to)
        run_out(r);
}

static void take_number(struct reader *r, const char *text, double *to)
{
    if (!th_decimal_whole(text, to))
        refuse(r, "not a number: ", text);
}

static void close_object(struct reader *r, const struct th_voc_object *o)
{
    const unsigned corners = 1u << XMIN | 1u << YMIN | 1u << XMAX | 1u << YMAX;
    if (!o->name || !*o->name)
        refuse(r, "the object that ends here has no name", "");
    else if ((r->found & corners) != corners)
        refuse(r, "the object that ends here has no whole bndbox: ", o->name);
}

static void XMLCALL on_close(void *data, const XML_Char *tag)
{
    struct reader *r = data;
    struct th_voc *v = r->voc;
    double value = 0;
    (void)tag;
    if (r->status != THAW_OK)
        return;
    enum element element = r->open[r->depth--];
    struct th_voc_object *o = v->n ? &v->object[v->n - 1] : NULL;
    char *text = take_text(r);
    if (element == FILENAME) {
        v->filename_line = line_of(r);
        take_string(r, text, &v->filename);
    } else if (element == WIDTH || element == HEIGHT) {
        take_number(r, text, element == WIDTH ? &v->w : &v->h);
    } else if (element == NAME) {
        take_string(r, text, &o->name);
    } else if (element == DIFFICULT) {
        take_number(r, text, &value);
        o->difficult = value != 0;
    } else if (element >= XMIN) {
        take_number(r, text, &o->box[element - XMIN]);
        r->found |= 1u << element;
    } else if (element == OBJECT) {
        close_object(r, o);
    }
}

static void XMLCALL on_doctype(void *data, const XML_Char *name, const XML_Char *system,
    const XML_Char *public, int has_subset)
{
    (void)name, (void)system, (void)public, (void)has_subset;
    refuse(data, "a DOCTYPE, which annotations have no use for; take it out", "");
}

static thaw_status parse(struct reader *r, const char *bytes, size_t n)
{
    XML_SetUserData(r->xml, r);
    XML_SetElementHandler(r->xml, on_open, on_close);
    XML_SetCharacterDataHandler(r->xml, on_text);
    XML_SetStartDoctypeDeclHandler(r->xml, on_doctype);
    if (XML_Parse(r->xml, bytes, (int)n, XML_TRUE) == XML_STATUS_OK)
        return r->status;
    enum XML_Error error = XML_GetErrorCode(r->xml);
    if (r->status != THAW_OK)
        return r->status;
    if (error == XML_ERROR_NO_MEMORY)
        return th_fail(THAW_E_MEMORY, "%s: out of memory", r->path);
    return th_fail(THAW_E_DATA, "%s, line %lld: not XML: %s", r->path,
        (long long)line_of(r), XML_ErrorString(error));
}

thaw_status th_voc_read(const char *path, struct th_voc *out)
{
    unsigned char *bytes;
    size_t n;
    struct reader r = {.path = path, .voc = out};
    *out = (struct th_voc){0};
    TRY(th_file_read(path, MAX_BYTES, &bytes, &n));
    r.xml = XML_ParserCreate(NULL);
    thaw_status status = r.xml ? parse(&r, (const char *)bytes, n)
                               : th_fail(THAW_E_MEMORY, "%s: out of memory", path);
    if (r.xml)
        XML_ParserFree(r.xml);
    th_free(bytes);
    return status;
}

void th_voc_release(struct th_voc *voc)
{
    for (int64_t i = 0; i < voc->n; i++)
        th_free(voc->object[i].name);
    th_free(voc->object);
    th_free(voc->filename);
    *voc = (struct th_voc){0};
}
